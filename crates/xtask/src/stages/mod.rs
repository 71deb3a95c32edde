//! Everything that must hold, stage by stage: `cargo xtask test`.
//!
//! Cheap checks come first, so that a slip is told in seconds. The run stops at the first stage
//! that fails unless told to go on, and always ends with the time each stage took.

mod prerequisites;
mod python;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::{layers, onnx_support, tidy};

/// What a run of the stages is asked to do.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Options {
    /// Run only these stages, separated by commas; `list` names them all.
    #[arg(long, value_name = "STAGE", value_delimiter = ',')]
    only: Vec<String>,
    /// Run the remaining stages after one has failed.
    #[arg(long)]
    keep_going: bool,
}

type Run = Box<dyn Fn(&Path) -> Result<()>>;

struct Stage {
    name: String,
    what: &'static str,
    run: Run,
}

impl Stage {
    fn new(name: &str, what: &'static str, run: impl Fn(&Path) -> Result<()> + 'static) -> Stage {
        Stage { name: name.to_owned(), what, run: Box::new(run) }
    }
}

struct Timing {
    name: String,
    elapsed: Duration,
    error: Option<String>,
}

/// Runs the stages chosen by `options` in the repository at `root`.
pub(crate) fn run(root: &Path, options: &Options) -> Result<()> {
    let stages = all(root)?;
    if options.only.iter().any(|name| name == "list") {
        for stage in &stages {
            println!("{:<10} {}", stage.name, stage.what);
        }
        return Ok(());
    }
    for name in &options.only {
        if !stages.iter().any(|stage| stage.name == *name) {
            bail!("no stage `{name}`; `--only list` names them all");
        }
    }
    prerequisites::check()?;
    let chosen =
        stages.iter().filter(|stage| options.only.is_empty() || options.only.contains(&stage.name));
    let mut timings = Vec::new();
    for stage in chosen {
        println!("==> {}: {}", stage.name, stage.what);
        let start = Instant::now();
        let error = (stage.run)(root).err().map(|error| format!("{error:#}"));
        if let Some(error) = &error {
            eprintln!("error: stage {}: {error}", stage.name);
        }
        let failed = error.is_some();
        timings.push(Timing { name: stage.name.clone(), elapsed: start.elapsed(), error });
        if failed && !options.keep_going {
            break;
        }
    }
    report(&timings, stages.len())
}

/// Every stage, in order. Each folder of `tests/` with `test_*.py` files is a stage of its own.
fn all(root: &Path) -> Result<Vec<Stage>> {
    let mut stages = vec![
        Stage::new("fmt", "cargo fmt --check", |root| cargo(root, &["fmt", "--all", "--check"])),
        Stage::new("tidy", "house rules", tidy::run),
        Stage::new("layers", "crate dependencies", |root| layers::run(root, false)),
        Stage::new("clippy", "lints, all targets", |root| {
            cargo(root, &["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"])
        }),
        Stage::new("unit", "cargo test, all crates", |root| cargo(root, &["test", "--workspace"])),
        Stage::new("build", "release build of the binary", |root| {
            cargo(root, &["build", "--release", "--package", "landfall"])
        }),
        Stage::new("python", "virtual environment of the Python tests", python::prepare),
        Stage::new("onnx", "ONNX conformance, against the published table", |root| {
            onnx_support::check(root)
        }),
    ];
    for suite in python::suites(root)? {
        let what = "Python tests against the release binary";
        stages.push(Stage::new(&suite.clone(), what, move |root| python::test(root, &suite)));
    }
    Ok(stages)
}

fn report(timings: &[Timing], stages: usize) -> Result<()> {
    println!();
    for timing in timings {
        let verdict = if timing.error.is_some() { "FAILED" } else { "ok" };
        println!("{:<10} {:>8.1} s  {verdict}", timing.name, timing.elapsed.as_secs_f64());
    }
    let total: Duration = timings.iter().map(|timing| timing.elapsed).sum();
    println!("{:<10} {:>8.1} s", "total", total.as_secs_f64());
    let failed: Vec<&str> = timings
        .iter()
        .filter(|timing| timing.error.is_some())
        .map(|timing| timing.name.as_str())
        .collect();
    if failed.is_empty() {
        println!("\n{} of {stages} stages run, all passed", timings.len());
        return Ok(());
    }
    bail!("{} of {stages} stages run, failed: {}", timings.len(), failed.join(", "))
}

fn cargo(root: &Path, arguments: &[&str]) -> Result<()> {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    execute(Command::new(program).args(arguments).current_dir(root))
}

/// Runs a command with this process's output; fails unless it exits with 0.
pub(crate) fn execute(command: &mut Command) -> Result<()> {
    let shown = shown(command);
    let status = command.status().with_context(|| format!("starting `{shown}`"))?;
    if !status.success() {
        bail!("`{shown}` failed ({status})");
    }
    Ok(())
}

fn shown(command: &Command) -> String {
    let program = PathBuf::from(command.get_program());
    let name = program.file_name().unwrap_or(program.as_os_str()).to_string_lossy().into_owned();
    std::iter::once(name)
        .chain(command.get_args().map(|argument| argument.to_string_lossy().into_owned()))
        .collect::<Vec<_>>()
        .join(" ")
}

pub(crate) use prerequisites::{Prerequisite, check_all};
pub(crate) use python::interpreter;
