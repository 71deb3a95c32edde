//! Fuzzing of the importer with a stable toolchain: `cargo xtask fuzz-import`.
//!
//! Inputs are the conformance cases' models, mutated; input `i` of seed `s` is always the same. A
//! worker process imports, verifies and optimises them under a memory cap; this process watches it:
//! an abort (memory cap, stack overflow), a panic or an input that takes too long is reported with
//! the input saved, and a fresh worker goes on after it. An error is the right answer to a bad
//! model; a graph that the verifier refuses is not.

mod mutate;
mod random;
mod wire;
mod worker;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, IsTerminal, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::onnx_support;
use mutate::Corpus;

pub(crate) use worker::{WorkerOptions, run as work};

const INPUT_SECONDS_MAX: u64 = 10;
const REPORTS_MAX: usize = 50;

/// What a fuzzing run is asked to do.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Options {
    /// How long to run.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Where the sequence of inputs starts.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Bytes a worker may hold, in MiB; an input that needs more is reported.
    #[arg(long, default_value_t = 512)]
    memory_mib: usize,
    /// Folder of conformance cases, instead of target/onnx-cases.
    #[arg(long, value_name = "DIR")]
    cases: Option<PathBuf>,
}

/// An input that brought the importer down.
struct Report {
    iteration: u64,
    what: String,
}

/// What the worker says, line by line.
enum Event {
    /// It starts on this input.
    Started(u64),
    /// The input made it panic or break an invariant; it goes on.
    Broken(u64, String),
    /// Outcomes so far, when it ends by itself.
    Counts(BTreeMap<String, u64>),
}

/// Fuzzes for the time asked; fails if any input brought the importer down.
pub(crate) fn run(root: &Path, options: &Options) -> Result<()> {
    let folder = match &options.cases {
        Some(folder) => folder.clone(),
        None => onnx_support::dump(root)?,
    };
    let corpus = corpus(&folder)?;
    let deadline = Instant::now() + Duration::from_secs(options.seconds);
    let mut reports: Vec<Report> = Vec::new();
    let mut next = 0;
    while Instant::now() < deadline && reports.len() < REPORTS_MAX {
        let before = reports.len();
        next = supervise(options, &folder, next, deadline, &mut reports)?;
        for report in &reports[before..] {
            save(root, &corpus, options.seed, report)?;
        }
    }
    println!("fuzz-import: {next} inputs of seed {}, {} reports", options.seed, reports.len());
    if !reports.is_empty() {
        bail!("{} inputs brought the importer down; see target/fuzz-import", reports.len());
    }
    Ok(())
}

/// Runs one worker until it ends; returns the number of the next input.
fn supervise(
    options: &Options,
    folder: &Path,
    first: u64,
    deadline: Instant,
    reports: &mut Vec<Report>,
) -> Result<u64> {
    let mut child = spawn(options, folder, first, deadline)?;
    let events = listen(&mut child)?;
    let mut stderr = child.stderr.take().context("worker without stderr")?;
    let mut current = first;
    let mut finished = false;
    loop {
        match events.recv_timeout(Duration::from_secs(INPUT_SECONDS_MAX)) {
            Ok(Event::Started(iteration)) => {
                current = iteration;
                show_progress(iteration);
            }
            Ok(Event::Broken(iteration, what)) => reports.push(Report { iteration, what }),
            Ok(Event::Counts(counts)) => {
                finished = true;
                println!("fuzz-import: from {first}: {counts:?}");
            }
            Err(RecvTimeoutError::Timeout) => {
                child.kill().context("ending a worker that hangs")?;
                child.wait()?;
                let what = format!("no answer in {INPUT_SECONDS_MAX} s");
                reports.push(Report { iteration: current, what });
                return Ok(current + 1);
            }
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    let status = child.wait()?;
    if !finished {
        let mut text = String::new();
        stderr.read_to_string(&mut text)?;
        let first_line = text.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
        reports.push(Report { iteration: current, what: format!("{status}: {first_line}") });
    }
    Ok(current + 1)
}

fn spawn(options: &Options, folder: &Path, first: u64, deadline: Instant) -> Result<Child> {
    let seconds = deadline.saturating_duration_since(Instant::now()).as_secs() + 1;
    Command::new(std::env::current_exe()?)
        .args(["fuzz-worker", "--seed", &options.seed.to_string()])
        .args(["--first", &first.to_string(), "--seconds", &seconds.to_string()])
        .args(["--memory-mib", &options.memory_mib.to_string()])
        .arg("--cases")
        .arg(folder)
        .env("RUST_BACKTRACE", "0")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("starting a worker")
}

/// Reads the worker's lines in a thread, so that waiting for them can have a limit.
fn listen(child: &mut Child) -> Result<Receiver<Event>> {
    let stdout = child.stdout.take().context("worker without stdout")?;
    let (send, receive) = mpsc::sync_channel(64);
    thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            if let Some(event) = parse_event(&line)
                && send.send(event).is_err()
            {
                break;
            }
        }
    });
    Ok(receive)
}

fn parse_event(line: &str) -> Option<Event> {
    let (word, rest) = line.split_once(' ')?;
    match word {
        "start" => Some(Event::Started(rest.parse().ok()?)),
        "broken" => {
            let (iteration, what) = rest.split_once(' ')?;
            Some(Event::Broken(iteration.parse().ok()?, what.to_owned()))
        }
        "counts" => Some(Event::Counts(serde_json::from_str(rest).ok()?)),
        _ => None,
    }
}

fn show_progress(iteration: u64) {
    if iteration.is_multiple_of(1000) && std::io::stderr().is_terminal() {
        eprint!("\r{iteration}");
    }
}

fn save(root: &Path, corpus: &Corpus, seed: u64, report: &Report) -> Result<()> {
    let folder = crate::target_folder(root).join("fuzz-import");
    std::fs::create_dir_all(&folder)?;
    let (base, bytes) = mutate::input(corpus, seed, report.iteration);
    let path = folder.join(format!("{seed}-{}.onnx", report.iteration));
    std::fs::write(&path, bytes).with_context(|| path.display().to_string())?;
    println!("{} (from {base}): {}", path.display(), report.what);
    Ok(())
}

/// The models of a folder of conformance cases.
fn corpus(folder: &Path) -> Result<Corpus> {
    let cases = onnx_support::read_cases(folder)?;
    let models: Result<Corpus> =
        cases.iter().map(|case| Ok((case.name.clone(), case.model()?))).collect();
    let models = models?;
    if models.is_empty() {
        bail!("no cases in {}", folder.display());
    }
    Ok(models)
}
