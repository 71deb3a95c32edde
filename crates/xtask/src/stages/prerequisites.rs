//! What a machine must have before any stage runs, and how to install what it lacks.

use std::process::{Command, Stdio};

use anyhow::{Result, bail};

/// A command that works where the prerequisite is installed, and the command that installs it.
pub(crate) struct Prerequisite {
    pub(crate) what: &'static str,
    pub(crate) program: &'static str,
    pub(crate) arguments: &'static [&'static str],
    pub(crate) install: &'static str,
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

/// What the stages need.
pub(super) fn check() -> Result<()> {
    check_all(&PREREQUISITES)
}

/// Fails with the install command of everything that is missing.
pub(crate) fn check_all(prerequisites: &[Prerequisite]) -> Result<()> {
    let missing: Vec<String> = prerequisites
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
