//! ONNX conformance: `cargo xtask onnx-support`.
//!
//! `tests/conformance/dump_cases.py` writes every backend test case of the pinned `onnx` package to
//! `target/onnx-cases`; each is imported, optimised, compiled and run in this process and judged by
//! ONNX's own rule. Two committed files hold what is claimed: `docs/onnx-support.md` is the table,
//! `tests/conformance/expected.txt` names the cases that pass. A check fails if a named case stops
//! passing, if any case gives a wrong answer, or if the files no longer say what is measured.

mod case;
mod compare;
mod expected;
mod peer;
mod report;
mod runner;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::stages;
pub(crate) use case::Case;
use peer::Peer;
use runner::{Outcome, Verdict};

const DUMP_SCRIPT: &str = "tests/conformance/dump_cases.py";
const REQUIREMENTS: &str = "tests/requirements.txt";
const TABLE: &str = "docs/onnx-support.md";

/// What a run of the conformance cases is asked to do.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Options {
    /// Write the table and the list of passing cases.
    #[arg(long, conflicts_with_all = ["check", "filter"])]
    write: bool,
    /// Fail unless the committed table and list say what is measured.
    #[arg(long, conflicts_with = "filter")]
    check: bool,
    /// Run only the cases whose name contains this text, and print each one that does not pass.
    #[arg(long, value_name = "TEXT")]
    filter: Option<String>,
    /// Folder of cases written earlier by the script, instead of target/onnx-cases.
    #[arg(long, value_name = "DIR")]
    cases: Option<PathBuf>,
}

/// One case and what came of it.
struct Judged {
    case: Case,
    verdict: Verdict,
}

/// Runs the cases and prints, writes or checks the result.
pub(crate) fn run(root: &Path, options: &Options) -> Result<()> {
    let folder = match &options.cases {
        Some(folder) => folder.clone(),
        None => dump(root)?,
    };
    let cases = case::read_all(&folder, options.filter.as_deref())?;
    if cases.is_empty() {
        bail!("no case in {} has that text in its name", folder.display());
    }
    let judged = runner::run_all(cases)?;
    if options.filter.is_some() {
        for Judged { case, verdict } in &judged {
            println!("{:<11} {} {}", verdict.outcome.name(), case.name, verdict.reason);
        }
    }
    println!("{}", report::summary_line(&judged));
    let onnx_version = case::onnx_version(&folder)?;
    let table = report::table(&judged, &onnx_version, &Peer::read(root, &onnx_version)?);
    if options.write {
        std::fs::create_dir_all(root.join("docs"))?;
        std::fs::write(root.join(TABLE), &table).context(TABLE)?;
        expected::write(root, &judged)?;
        println!("wrote {TABLE} and {}", expected::PATH);
    } else if options.check {
        expected::check(root, &judged)?;
        let committed = std::fs::read_to_string(root.join(TABLE)).unwrap_or_default();
        if committed != table {
            bail!("{TABLE} is stale; run `cargo xtask onnx-support --write` and commit it");
        }
    }
    Ok(())
}

/// The check that `cargo xtask test` makes.
pub(crate) fn check(root: &Path) -> Result<()> {
    run(root, &Options { write: false, check: true, filter: None, cases: None })
}

/// Writes the cases to the target folder unless they are there; returns that folder.
pub(crate) fn dump(root: &Path) -> Result<PathBuf> {
    let folder = crate::target_folder(root).join("onnx-cases");
    let stamp = folder.join("stamp.txt");
    let mut wanted = std::fs::read_to_string(root.join(DUMP_SCRIPT)).context(DUMP_SCRIPT)?;
    wanted += &std::fs::read_to_string(root.join(REQUIREMENTS)).context(REQUIREMENTS)?;
    if std::fs::read_to_string(&stamp).is_ok_and(|found| found == wanted) {
        return Ok(folder);
    }
    let python = stages::interpreter(root)?;
    stages::execute(Command::new(python).arg(DUMP_SCRIPT).arg(&folder).current_dir(root))?;
    std::fs::write(&stamp, wanted).context("writing the stamp of the cases")?;
    Ok(folder)
}

/// Every case of a folder.
pub(crate) fn read_cases(folder: &Path) -> Result<Vec<Case>> {
    case::read_all(folder, None)
}
