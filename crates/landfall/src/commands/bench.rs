//! `landfall bench`: how fast a model is on this machine.

mod measure;
mod profile;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Args;
use landfall_runtime::Model;
use landfall_tensor::{Precision, Shape, Tensor, TensorView};
use serde::Serialize;

use super::Failure;
use super::arguments::{positive, precision, seconds, threads};
use super::output::print;
use crate::engine::{self, EngineOptions};
use crate::sample::{self, Extents, is_length, parse_extent};
pub(super) use measure::Latency;
use measure::peak_rss_bytes;
use profile::Profile;

const EXAMPLES: &str = "\
Examples:
  landfall bench resnet50.onnx --batch 8 --threads 2
  landfall bench minilm.onnx --seq-len 128 --profile
  landfall bench model.onnx --shape height=480 --shape width=640 --json

Inputs are made up: numbers from -1 to 1, small indices, masks of ones. Declared steps are not part
of what is measured. Loading ends when the weights are packed and the shapes are planned for.";

/// Length of free axes named as one, unless a length is given.
const DEFAULT_LENGTH: usize = 128;
/// The fewest runs that are measured by time.
const MIN_ITERATIONS: usize = 5;
/// Runs before the first that is measured.
const WARM_UP_ITERATIONS: usize = 3;

/// Measure how fast a model is.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct BenchArguments {
    /// A model file: .onnx or .landfall
    model: PathBuf,
    /// Extent of free batch axes
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = positive)]
    batch: usize,
    /// Extent of all other free axes [default: 128 for sequence lengths, 1 for others]
    #[arg(long, value_name = "N", value_parser = positive)]
    seq_len: Option<usize>,
    /// Extent of a free axis by name; repeatable
    #[arg(long, value_name = "AXIS=N", value_parser = parse_extent)]
    shape: Vec<(String, usize)>,
    /// Threads of one run; 0 for one per core
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = threads)]
    threads: usize,
    /// Precision of matrix products and convolutions: f32 or bf16 [default: what the model's author
    /// declares, or f32]
    #[arg(long, value_name = "NAME", value_parser = precision)]
    precision: Option<Precision>,
    /// Runs to measure, in place of a time
    #[arg(long, value_name = "N", conflicts_with = "seconds", value_parser = positive)]
    iterations: Option<usize>,
    /// How long to measure, at least five runs
    #[arg(long, value_name = "S", default_value = "1", value_parser = seconds)]
    seconds: Duration,
    /// Show the time of every node and operator
    #[arg(long)]
    profile: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct Figures {
    model: String,
    batch: usize,
    threads: usize,
    precision: &'static str,
    isa: &'static str,
    iterations: usize,
    load_ms: f64,
    latency_ms: Latency,
    throughput_per_s: f64,
    /// Absent where the system does not tell.
    peak_rss_bytes: Option<u64>,
    inputs: Vec<Input>,
    #[serde(skip_serializing_if = "Option::is_none")]
    profile: Option<Profile>,
}

#[derive(Debug, Serialize)]
struct Input {
    name: String,
    datatype: &'static str,
    shape: Vec<usize>,
}

pub(super) fn run(arguments: &BenchArguments) -> Result<(), Failure> {
    let figures = measured(arguments).map_err(Failure::Input)?;
    if !arguments.json {
        return print(&report(&figures)).map_err(Failure::No);
    }
    let json = serde_json::to_string(&figures).context("cannot write JSON");
    json.and_then(|json| print(&format!("{json}\n"))).map_err(Failure::No)
}

fn measured(arguments: &BenchArguments) -> Result<Figures> {
    let name = arguments.model.display().to_string();
    ensure!(
        arguments.iterations.is_some() || arguments.seconds > Duration::ZERO,
        "--seconds: expected above 0"
    );
    let options = EngineOptions {
        precision: arguments.precision,
        ..EngineOptions::from_environment(arguments.threads)?
    };
    let begun = Instant::now();
    let model = engine::open_unchecked(&arguments.model, &options)?.model;
    let opened = begun.elapsed();
    let extents = extents(arguments, &model).with_context(|| name.clone())?;
    let shapes = extents.shapes(model.signature())?;
    // Before the plan, whose error would not name the input that is too large.
    let inputs = sample::inputs(model.signature(), &extents, options.run_memory_bytes)?;
    let begun = Instant::now();
    model.prepare(&shapes).with_context(|| name.clone())?;
    let load = opened + begun.elapsed();
    let inputs: Vec<Tensor> = inputs.iter().map(Tensor::aligned).collect();
    let times = times(arguments, &model, &inputs).with_context(|| name.clone())?;
    let profile = match arguments.profile {
        true => Some(profile::measure(&model, &shapes, &inputs)?),
        false => None,
    };
    let total: Duration = times.iter().sum();
    let rows = arguments.batch * times.len();
    Ok(Figures {
        model: name,
        batch: arguments.batch,
        threads: options.threads,
        precision: model.precision().name(),
        isa: options.cpu.isa().name(),
        iterations: times.len(),
        load_ms: load.as_secs_f64() * 1e3,
        throughput_per_s: rows as f64 / total.as_secs_f64().max(f64::MIN_POSITIVE),
        latency_ms: Latency::of(times),
        peak_rss_bytes: peak_rss_bytes(),
        inputs: described(&model, &shapes),
        profile,
    })
}

fn extents(arguments: &BenchArguments, model: &Model) -> Result<Extents> {
    let named = arguments.shape.iter().cloned().collect();
    let asked = Extents { named, batch: Some(arguments.batch), length: arguments.seq_len };
    asked.check(model.signature())?;
    let mut named = asked.named;
    if arguments.seq_len.is_some() {
        sample::check_lengths(model.signature())?;
    } else {
        let dims = model.signature().inputs.iter().flat_map(|spec| spec.dims.iter().flatten());
        for dim in dims {
            if let landfall_graph::DimSpec::Symbol(axis) = dim
                && is_length(&axis.to_lowercase())
            {
                named.entry(axis.clone()).or_insert(DEFAULT_LENGTH);
            }
        }
    }
    Ok(Extents { named, ..asked })
}

fn described(model: &Model, shapes: &[Shape]) -> Vec<Input> {
    let inputs = model.signature().inputs.iter().zip(shapes);
    let input = |(spec, shape): (&landfall_graph::TensorSpec, &Shape)| Input {
        name: spec.name.clone(),
        datatype: spec.dtype.protocol_name(),
        shape: shape.to_vec(),
    };
    inputs.map(input).collect()
}

/// The time of every measured run. Outputs stay where the model computed them.
fn times(arguments: &BenchArguments, model: &Model, inputs: &[Tensor]) -> Result<Vec<Duration>> {
    let views: Vec<TensorView<'_>> = inputs.iter().map(Tensor::view).collect();
    let once = || model.run_views(&views, None, &mut |_, _| Ok(()));
    for _ in 0..WARM_UP_ITERATIONS {
        once()?;
    }
    let mut times = Vec::with_capacity(arguments.iterations.unwrap_or(1 << 16));
    let begun = Instant::now();
    let is_over = |done: usize| match arguments.iterations {
        Some(wanted) => done >= wanted,
        None => done >= MIN_ITERATIONS && begun.elapsed() >= arguments.seconds,
    };
    while !is_over(times.len()) {
        let start = Instant::now();
        once()?;
        times.push(start.elapsed());
    }
    Ok(times)
}

fn report(figures: &Figures) -> String {
    let mut text = format!("{}\n", figures.model);
    for input in &figures.inputs {
        let shape = Shape::from(input.shape.as_slice());
        text.push_str(&format!("  input       {} {} {shape}\n", input.name, input.datatype));
    }
    let latency = &figures.latency_ms;
    let threads = figures.threads;
    text.push_str(&format!(
        "  machine     {}, {threads} thread{}, {}\n  load        {:.1} ms\n  \
         latency     p50 {:.4} ms, p90 {:.4}, p99 {:.4}, min {:.4} ({} runs)\n  \
         throughput  {:.1} rows/s\n",
        figures.isa,
        if threads == 1 { "" } else { "s" },
        figures.precision,
        figures.load_ms,
        latency.p50,
        latency.p90,
        latency.p99,
        latency.min,
        figures.iterations,
        figures.throughput_per_s,
    ));
    if let Some(bytes) = figures.peak_rss_bytes {
        text.push_str(&format!("  memory      {:.1} MB at most\n", bytes as f64 / 1e6));
    }
    if let Some(profile) = &figures.profile {
        text.push_str(&format!("\n{profile}"));
    }
    text
}
