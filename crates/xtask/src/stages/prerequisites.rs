//! What a machine must have before any stage runs, and how to install what it lacks.

use std::process::{Command, Stdio};

use anyhow::{Result, bail};

/// A command that works where the prerequisite is installed, and the command that installs it.
struct Prerequisite {
    what: &'static str,
    program: &'static str,
    arguments: &'static [&'static str],
    install: &'static str,
}

const PREREQUISITES: [Prerequisite; 6] = [
    Prerequisite {
        what: "git",
        program: "git",
        arguments: &["--version"],
        install: "apt-get install git",
    },
    Prerequisite {
        what: "a C compiler",
        program: "cc",
        arguments: &["--version"],
        install: "apt-get install build-essential",
    },
    Prerequisite {
        what: "rustfmt",
        program: "cargo",
        arguments: &["fmt", "--version"],
        install: "rustup component add rustfmt",
    },
    Prerequisite {
        what: "clippy",
        program: "cargo",
        arguments: &["clippy", "--version"],
        install: "rustup component add clippy",
    },
    Prerequisite {
        what: "Python 3.10 or newer",
        program: "python3",
        arguments: &["-c", "import sys; sys.exit(sys.version_info < (3, 10))"],
        install: "apt-get install python3",
    },
    Prerequisite {
        what: "Python's venv module",
        program: "python3",
        arguments: &["-c", "import ensurepip, venv"],
        install: "apt-get install python3-venv",
    },
];

/// Fails with the install command of everything that is missing.
pub(super) fn check() -> Result<()> {
    let missing: Vec<String> = PREREQUISITES
        .iter()
        .filter(|prerequisite| !works(prerequisite))
        .map(|prerequisite| format!("{}: {}", prerequisite.what, prerequisite.install))
        .collect();
    if !missing.is_empty() {
        bail!("missing on this machine:\n  {}", missing.join("\n  "));
    }
    Ok(())
}

fn works(prerequisite: &Prerequisite) -> bool {
    Command::new(prerequisite.program)
        .args(prerequisite.arguments)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}
