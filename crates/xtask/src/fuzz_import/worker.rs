//! The process that meets the hostile inputs; its parent watches it.

use std::collections::BTreeMap;
use std::panic::{self, AssertUnwindSafe};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::mutate;
use crate::engine::{self, Imported};

/// How the parent starts a worker.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct WorkerOptions {
    #[arg(long)]
    seed: u64,
    #[arg(long)]
    first: u64,
    #[arg(long)]
    seconds: u64,
    #[arg(long)]
    memory_mib: usize,
    #[arg(long)]
    cases: PathBuf,
}

/// Imports inputs from `first` on until the time is over; says on stdout which, and what came of
/// each.
pub(crate) fn run(options: &WorkerOptions) -> Result<()> {
    let corpus = super::corpus(&options.cases)?;
    let limit = options.memory_mib.checked_mul(1 << 20).context("--memory-mib is too large")?;
    if crate::ALLOCATOR.set_limit(limit).is_err() {
        bail!("--memory-mib {} is less than the models alone need", options.memory_mib);
    }
    panic::set_hook(Box::new(|_| ()));
    let deadline = Instant::now() + Duration::from_secs(options.seconds);
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    let mut iteration = options.first;
    while Instant::now() < deadline {
        println!("start {iteration}");
        let (_, bytes) = mutate::input(&corpus, options.seed, iteration);
        let outcome = match panic::catch_unwind(AssertUnwindSafe(|| engine::import(&bytes))) {
            Ok(Imported::Accepted) => "accepted",
            Ok(Imported::Refused) => "refused",
            Ok(Imported::Inconsistent(what)) => broken(iteration, &what),
            Err(payload) => {
                broken(iteration, &format!("panic: {}", engine::panic_text(payload.as_ref())))
            }
        };
        *counts.entry(outcome).or_default() += 1;
        iteration += 1;
    }
    println!("counts {}", serde_json::to_string(&counts)?);
    Ok(())
}

fn broken(iteration: u64, what: &str) -> &'static str {
    println!("broken {iteration} {}", what.replace('\n', " "));
    "broken"
}
