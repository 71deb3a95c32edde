//! Times one model in tract or RTen; prints the JSON object that `landfall bench --json` prints.
//!
//! A process of its own for each measurement, like `peer.py`, whose protocol this follows: three
//! runs to warm up, then runs for some seconds, at least five. `--answers` writes what the engine
//! answered, so that a comparison can be made before its times are believed.

mod arrays;
mod report;
#[cfg(feature = "rten")]
mod rten;
#[cfg(feature = "tract")]
mod tract;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Result;
use clap::{Parser, ValueEnum};

use arrays::{Answers, Inputs};
use report::Measured;

const WARM_UP_RUNS: usize = 3;
const RUNS_MIN: usize = 5;

/// The command line.
#[derive(Debug, Parser)]
#[command(about = "Times one model in an engine written in Rust.")]
struct Arguments {
    engine: Engine,
    model: PathBuf,
    /// NPZ archive named as the model's inputs.
    inputs: PathBuf,
    #[arg(long, default_value_t = 1)]
    threads: usize,
    #[arg(long, default_value_t = 1.0)]
    seconds: f64,
    /// Also writes the answers as an NPZ archive: `0`, `1`, … in the order of the model's outputs.
    #[arg(long)]
    answers: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Engine {
    #[cfg(feature = "tract")]
    Tract,
    #[cfg(feature = "rten")]
    Rten,
}

/// A model that is ready to run on inputs it holds.
trait Loaded {
    /// Runs the model once and drops the answers.
    fn run(&mut self) -> Result<()>;
    /// Runs the model once and returns the answers that are floats.
    fn answers(&mut self) -> Result<Answers>;
}

fn load(arguments: &Arguments, inputs: Inputs) -> Result<Box<dyn Loaded>> {
    match arguments.engine {
        #[cfg(feature = "tract")]
        Engine::Tract => tract::load(&arguments.model, inputs, arguments.threads),
        #[cfg(feature = "rten")]
        Engine::Rten => rten::load(&arguments.model, inputs, arguments.threads),
    }
}

fn time_runs(model: &mut dyn Loaded, seconds: f64) -> Result<Vec<Duration>> {
    for _ in 0..WARM_UP_RUNS {
        model.run()?;
    }
    let mut times = Vec::new();
    let until = Instant::now() + Duration::from_secs_f64(seconds);
    while times.len() < RUNS_MIN || Instant::now() < until {
        let start = Instant::now();
        model.run()?;
        times.push(start.elapsed());
    }
    Ok(times)
}

fn measure(arguments: &Arguments) -> Result<()> {
    let inputs = arrays::read(&arguments.inputs)?;
    let batch = inputs.batch();
    let start = Instant::now();
    let mut model = load(arguments, inputs)?;
    let load = start.elapsed();
    let times = time_runs(model.as_mut(), arguments.seconds)?;
    let measured = Measured { batch, threads: arguments.threads, load, times };
    println!("{}", report::json(&arguments.model, measured)?);
    if let Some(path) = &arguments.answers {
        arrays::write(path, &model.answers()?)?;
    }
    Ok(())
}

/// Errors and panics take one line each, the last one of standard error, which `compare.py` shows.
fn main() -> ExitCode {
    std::panic::set_hook(Box::new(|panic| {
        eprintln!("panic: {}", panic.to_string().replace('\n', " "));
    }));
    match measure(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{}", format!("{error:#}").replace('\n', " "));
            ExitCode::FAILURE
        }
    }
}
