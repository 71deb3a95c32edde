//! Runs cases one by one, each in a thread of its own with a time limit, and judges the answers.

use std::io::IsTerminal;
use std::panic::{self, AssertUnwindSafe};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use anyhow::{Result, bail};

use super::Judged;
use super::case::{Case, Kind, Stored};
use super::compare::{Tolerance, difference};
use crate::engine::{self, Failure, Value};

/// Long enough for the largest whole model under a debug build.
const CASE_SECONDS_MAX: u64 = 120;
const STACK_BYTES: usize = 16 << 20;

/// What can come of a case, best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Outcome {
    /// The answer is right.
    Passed,
    /// It ran; shape and type are right, the values are random by specification.
    Random,
    /// Refused with an error that says what is not supported.
    Unsupported,
    /// An error, a panic or no answer in time.
    Failed,
    /// An answer that is not the expected one.
    Wrong,
}

impl Outcome {
    pub(crate) const ALL: [Outcome; 5] =
        [Outcome::Passed, Outcome::Random, Outcome::Unsupported, Outcome::Failed, Outcome::Wrong];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Outcome::Passed => "passed",
            Outcome::Random => "random",
            Outcome::Unsupported => "unsupported",
            Outcome::Failed => "failed",
            Outcome::Wrong => "wrong",
        }
    }
}

/// An outcome and, unless the case passed, why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) outcome: Outcome,
    pub(crate) reason: String,
}

impl Verdict {
    fn new(outcome: Outcome, reason: impl Into<String>) -> Verdict {
        Verdict { outcome, reason: reason.into() }
    }
}

/// Judges every case. Panics of the engine are caught and reported with their case.
pub(crate) fn run_all(cases: Vec<Case>) -> Result<Vec<Judged>> {
    let previous = panic::take_hook();
    panic::set_hook(Box::new(|_| ()));
    let total = cases.len();
    let show_progress = std::io::stderr().is_terminal();
    let mut judged = Vec::with_capacity(total);
    for (index, case) in cases.into_iter().enumerate() {
        if show_progress && index % 50 == 0 {
            eprint!("\r{index}/{total}");
        }
        let verdict = judge_with_limit(&case);
        judged.push(Judged { case, verdict });
    }
    if show_progress {
        eprint!("\r");
    }
    panic::set_hook(previous);
    Ok(judged)
}

fn judge_with_limit(case: &Case) -> Verdict {
    let (send, receive) = mpsc::sync_channel(1);
    let owned = case.clone();
    let worker = thread::Builder::new().stack_size(STACK_BYTES).spawn(move || {
        let verdict =
            panic::catch_unwind(AssertUnwindSafe(|| judge(&owned))).unwrap_or_else(|payload| {
                let text = engine::panic_text(payload.as_ref());
                Verdict::new(Outcome::Failed, format!("panic: {text}"))
            });
        // The receiver is gone only if the time limit has passed.
        let _ = send.send(verdict);
    });
    if let Err(error) = worker {
        return Verdict::new(Outcome::Failed, format!("no thread: {error}"));
    }
    match receive.recv_timeout(Duration::from_secs(CASE_SECONDS_MAX)) {
        Ok(verdict) => verdict,
        Err(RecvTimeoutError::Timeout) => {
            Verdict::new(Outcome::Failed, format!("no answer in {CASE_SECONDS_MAX} s"))
        }
        Err(RecvTimeoutError::Disconnected) => Verdict::new(Outcome::Failed, "thread died"),
    }
}

fn judge(case: &Case) -> Verdict {
    match outputs(case) {
        Ok((got, expected)) => compare(case, &got, &expected),
        Err(Failure::Unsupported(reason)) => Verdict::new(Outcome::Unsupported, reason),
        Err(Failure::Failed(reason)) => Verdict::new(Outcome::Failed, reason),
    }
}

/// What the engine answers, and what it should.
fn outputs(case: &Case) -> Result<(Vec<Value>, Vec<Value>), Failure> {
    let failed = |error: anyhow::Error| Failure::Failed(format!("{error:#}"));
    let expected = values(case, &case.outputs)?;
    let inputs = values(case, &case.inputs)?;
    let model = case.model().map_err(failed)?;
    Ok((engine::execute(&model, inputs)?, expected))
}

fn values(case: &Case, stored: &[Stored]) -> Result<Vec<Value>, Failure> {
    stored.iter().map(|entry| value(case, entry)).collect()
}

fn value(case: &Case, stored: &Stored) -> Result<Value, Failure> {
    let mut tensors = Vec::new();
    for file in &stored.files {
        let bytes = case.read(file).map_err(|error| Failure::Failed(format!("{error:#}")))?;
        tensors.push(engine::tensor(&bytes)?);
    }
    Ok(match (stored.kind, tensors.pop()) {
        (Kind::Tensor, Some(tensor)) => Value::Tensor(tensor),
        (Kind::Sequence, last) => Value::Sequence(tensors.into_iter().chain(last).collect()),
        _ => Value::Absent,
    })
}

fn compare(case: &Case, got: &[Value], expected: &[Value]) -> Verdict {
    if got.len() != expected.len() {
        let reason = format!("{} outputs, expected {}", got.len(), expected.len());
        return Verdict::new(Outcome::Wrong, reason);
    }
    for ((got, expected), stored) in got.iter().zip(expected).zip(&case.outputs) {
        if let Err(reason) = compare_value(case, got, expected) {
            return Verdict::new(Outcome::Wrong, format!("output {}: {reason}", stored.name));
        }
    }
    match &case.random {
        Some(reason) => Verdict::new(Outcome::Random, reason.clone()),
        None => Verdict::new(Outcome::Passed, ""),
    }
}

fn compare_value(case: &Case, got: &Value, expected: &Value) -> Result<()> {
    let tolerance = Tolerance { rtol: case.rtol, atol: case.atol };
    let (got, expected) = match (got, expected) {
        (Value::Tensor(got), Value::Tensor(expected)) => {
            (std::slice::from_ref(got), std::slice::from_ref(expected))
        }
        (Value::Sequence(got), Value::Sequence(expected)) => (&got[..], &expected[..]),
        (Value::Absent, Value::Absent) => return Ok(()),
        (got, expected) => bail!("{}, expected {}", got.kind_name(), expected.kind_name()),
    };
    if got.len() != expected.len() {
        bail!("sequence of {}, expected {}", got.len(), expected.len());
    }
    for (got, expected) in got.iter().zip(expected) {
        if let Some(reason) = difference(got, expected, tolerance, case.random.is_none()) {
            bail!(reason);
        }
    }
    Ok(())
}
