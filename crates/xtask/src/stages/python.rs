//! The virtual environment `.venv` of the Python tests, and the tests that run in it.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::execute;

const REQUIREMENTS: &str = "tests/requirements.txt";
/// Copy of the requirements that the environment was made from.
const STAMP: &str = ".venv/requirements.txt";

/// Creates `.venv` from the pinned requirements, unless it already is of those.
pub(super) fn prepare(root: &Path) -> Result<()> {
    let wanted = std::fs::read_to_string(root.join(REQUIREMENTS)).context(REQUIREMENTS)?;
    let interpreter_works = Command::new(root.join(".venv/bin/python"))
        .args(["-c", ""])
        .status()
        .is_ok_and(|status| status.success());
    let installed = std::fs::read_to_string(root.join(STAMP)).ok();
    if interpreter_works && installed.as_deref() == Some(wanted.as_str()) {
        println!(".venv is of {REQUIREMENTS}");
        return Ok(());
    }
    execute(Command::new("python3").args(["-m", "venv", "--clear", ".venv"]).current_dir(root))?;
    let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"];
    execute(
        Command::new(root.join(".venv/bin/python"))
            .args(pip)
            .args(["--requirement", REQUIREMENTS])
            .current_dir(root),
    )?;
    std::fs::write(root.join(STAMP), wanted).context(STAMP)
}

/// The environment's interpreter, made ready if it is not.
pub(crate) fn interpreter(root: &Path) -> Result<PathBuf> {
    prepare(root)?;
    Ok(root.join(".venv/bin/python"))
}

/// Names of the folders of `tests/` that hold `test_*.py` files, sorted.
pub(super) fn suites(root: &Path) -> Result<Vec<String>> {
    let mut suites = Vec::new();
    for entry in std::fs::read_dir(root.join("tests")).context("reading tests/")? {
        let folder = entry?.path();
        let Some(name) = folder.file_name().and_then(|name| name.to_str()) else { continue };
        if folder.is_dir() && has_python_tests(&folder)? {
            suites.push(name.to_owned());
        }
    }
    suites.sort();
    Ok(suites)
}

fn has_python_tests(folder: &Path) -> Result<bool> {
    for entry in std::fs::read_dir(folder)? {
        let name = entry?.file_name();
        let name = name.to_string_lossy();
        if name.starts_with("test_") && name.ends_with(".py") {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Runs one folder of Python tests. They find the release binary in `LANDFALL_BIN`.
pub(super) fn test(root: &Path, suite: &str) -> Result<()> {
    let binary = crate::target_folder(root).join("release/landfall");
    if !binary.exists() {
        bail!("{} is missing; run `cargo xtask test --only build`", binary.display());
    }
    execute(
        Command::new(interpreter(root)?)
            .args(["-m", "pytest", "-q", "--durations=5"])
            .arg(format!("tests/{suite}"))
            .env("LANDFALL_BIN", binary)
            .current_dir(root),
    )
}
