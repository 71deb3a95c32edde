//! `landfall tune`: measure how each step runs fastest here, and keep it in the package.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Args;
use landfall_package::PackageBuilder;
use landfall_runtime::{Candidate, Choice, Model, Options, Tuned, TunedStep, Tuning, tune};
use landfall_tensor::{Precision, Shape, Tensor};
use serde::Serialize;

use super::Failure;
use super::arguments::{positive, precision, seconds, threads};
use super::output::print;
use super::paths::Paths;
use super::table::Table;
use crate::engine::{self, EngineOptions, FileKind, Opened};
use crate::sample::{self, Extents, is_length, parse_extent};

const EXAMPLES: &str = "\
Examples:
  landfall tune resnet50.landfall --threads 2
      measures batches of 1 and 8 and keeps what is fastest in the package
  landfall tune minilm.landfall --batch 1 --seq-len 16 --seq-len 128 -o tuned.landfall
  landfall tune model.onnx --explain
      shows what was measured; an .onnx file has no place to keep it

Every distinct step (operator, attributes, shapes) is measured inside whole runs with each of its
algorithms and with fewer threads. What is faster than the cost model's own choice is kept for this
kind of processor, number of threads and precision, beside what was kept for others; loading uses
what fits. Other shapes than those measured are left to the cost model.";

/// Batches that are measured unless told.
const DEFAULT_BATCHES: [usize; 2] = [1, 8];
/// Lengths of sequences that are measured unless told.
const DEFAULT_LENGTHS: [usize; 1] = [128];

/// Measure how each step runs fastest on this machine, and keep it in the package.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct TuneArguments {
    /// A package; or an .onnx model, to see what would be kept
    model: PathBuf,
    /// Where to write the tuned package [default: the package itself]
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Extent of free batch axes; repeatable [default: 1 and 8]
    #[arg(long, value_name = "N", value_parser = positive)]
    batch: Vec<usize>,
    /// Extent of all other free axes; repeatable [default: 128 for sequence lengths, 1 for others]
    #[arg(long, value_name = "N", value_parser = positive)]
    seq_len: Vec<usize>,
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
    /// How long to measure each set of shapes, about
    #[arg(long, value_name = "S", default_value = "6", value_parser = seconds)]
    seconds: Duration,
    /// Show what was measured of every step
    #[arg(long)]
    explain: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// What was found for one set of shapes.
#[derive(Debug, Serialize)]
struct Case {
    shapes: Vec<Vec<usize>>,
    untuned_ms: f64,
    tuned_ms: f64,
    /// Distinct steps that differ from the cost model's choice.
    changed: usize,
    steps: Vec<Step>,
}

#[derive(Debug, Serialize)]
struct Step {
    step: String,
    count: usize,
    candidates: Vec<Timed>,
    chosen: usize,
}

#[derive(Debug, Serialize)]
struct Timed {
    #[serde(skip_serializing_if = "Option::is_none")]
    algorithm: Option<&'static str>,
    threads: usize,
    ms: f64,
}

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct Figures {
    model: String,
    cpu: String,
    threads: usize,
    precision: &'static str,
    /// Where it was kept; absent if there was no place.
    #[serde(skip_serializing_if = "Option::is_none")]
    kept_in: Option<String>,
    /// Whether other algorithms were left out because golden outputs did not allow them.
    algorithms_refused: bool,
    cases: Vec<Case>,
}

pub(super) fn run(arguments: &TuneArguments) -> Result<(), Failure> {
    let figures = tuned(arguments).map_err(Failure::Input)?;
    let text = match arguments.json {
        true => serde_json::to_string(&figures).context("cannot write JSON").map(|t| t + "\n"),
        false => Ok(report(&figures, arguments.explain)),
    };
    text.and_then(|text| print(&text)).map_err(Failure::No)
}

fn tuned(arguments: &TuneArguments) -> Result<Figures> {
    let name = arguments.model.display().to_string();
    ensure!(arguments.seconds > Duration::ZERO, "--seconds: expected above 0");
    let kept_in = target(arguments)?;
    let options = EngineOptions {
        precision: arguments.precision,
        ..EngineOptions::from_environment(arguments.threads)?
    };
    let opened = engine::open(&arguments.model, &options)?;
    let runtime = options.declared_runtime(&opened.serving);
    let precision = runtime.precision;
    let (mut tuning, mut cases, mut all_shapes) = (Tuning::default(), Vec::new(), Vec::new());
    for extents in all_extents(arguments, &opened.model).with_context(|| name.clone())? {
        let signature = opened.model.signature();
        let inputs = sample::inputs(signature, &extents, options.run_memory_bytes)?;
        let begun = Instant::now();
        let mut found = tune(&opened.model, &inputs, arguments.seconds, &|| begun.elapsed())
            .with_context(|| name.clone())?;
        let shapes: Vec<Shape> = inputs.iter().map(|input| input.shape().clone()).collect();
        cases.push(case(&found, &shapes));
        all_shapes.push(shapes);
        // What an earlier set of shapes said of a step stays.
        found.tuning.choices.append(&mut tuning.choices);
        tuning = found.tuning;
    }
    let algorithms_refused = match &kept_in {
        Some(output) => keep(opened, tuning, &all_shapes, &runtime, output)?,
        None => false,
    };
    Ok(Figures {
        model: name,
        cpu: options.cpu.signature(),
        threads: options.threads,
        precision: precision.name(),
        kept_in: kept_in.map(|path| path.display().to_string()),
        algorithms_refused,
        cases,
    })
}

/// Where the tuned package goes, if the model is a package.
fn target(arguments: &TuneArguments) -> Result<Option<PathBuf>> {
    let TuneArguments { model, output, .. } = arguments;
    if FileKind::of(model)? == FileKind::Onnx {
        ensure!(
            output.is_none(),
            "--output: {} is not a package; make one first with `landfall package`",
            model.display()
        );
        return Ok(None);
    }
    let Some(output) = output else { return Ok(Some(model.clone())) };
    ensure!(
        matches!(FileKind::of(output), Ok(FileKind::Package)),
        "--output: expected a file name that ends in .landfall, found '{}'",
        output.display()
    );
    Paths::default().read("the package", model).write("--output", output)?;
    Ok(Some(output.clone()))
}

/// Every combination of the batches and lengths asked for.
fn all_extents(arguments: &TuneArguments, model: &Model) -> Result<Vec<Extents>> {
    let signature = model.signature();
    let named = arguments.shape.iter().cloned().collect();
    Extents { named, ..Extents::default() }.check(signature)?;
    if !arguments.seq_len.is_empty() {
        sample::check_lengths(signature)?;
    }
    let has = |wanted: &dyn Fn(usize, &str) -> bool| {
        let inputs = signature.inputs.iter();
        let mut axes = inputs.flat_map(|spec| spec.dims.iter().flatten().enumerate());
        axes.any(|(axis, dim)| match dim {
            landfall_graph::DimSpec::Symbol(name) => wanted(axis, name),
            landfall_graph::DimSpec::Known(_) => false,
        })
    };
    let given = |given: &[usize], default: &[usize], free: bool| match (given, free) {
        ([], true) => default.to_vec(),
        ([], false) => vec![1],
        (given, _) => given.to_vec(),
    };
    let batches = given(&arguments.batch, &DEFAULT_BATCHES, has(&sample::is_rows));
    let lengths = given(
        &arguments.seq_len,
        &DEFAULT_LENGTHS,
        has(&|_, name| is_length(&name.to_lowercase())),
    );
    let pairs = batches.iter().flat_map(|&batch| lengths.iter().map(move |&len| (batch, len)));
    let extents = pairs.map(|(batch, length)| Extents {
        named: arguments.shape.iter().cloned().collect(),
        batch: Some(batch),
        length: Some(length),
    });
    Ok(extents.collect())
}

/// Writes the package with the choices, in place of earlier ones for this processor, and with the
/// weights in the layouts that they need. Whether other algorithms had to be left out, because
/// golden outputs do not allow what they round differently.
fn keep(
    opened: Opened,
    mut tuning: Tuning,
    shapes: &[Vec<Shape>],
    runtime: &Options,
    output: &Path,
) -> Result<bool> {
    let Some(package) = &opened.package else { return Ok(false) };
    let mut builder = PackageBuilder::from_package(package)?;
    let golden = package.golden()?;
    let compile = |tuning: &Tuning, packed: &BTreeMap<String, Tensor>| -> Result<Model> {
        let runtime = Options { tuning: Some(Arc::new(tuning.clone())), ..runtime.clone() };
        let model = Model::compile_with(package.graph()?, &runtime, packed.clone())?;
        shapes.iter().try_for_each(|shapes| model.prepare(shapes))?;
        Ok(model)
    };
    let model = Arc::new(compile(&tuning, &builder.packed)?);
    let tuned = Opened {
        model: model.clone(),
        steps: opened.steps.clone(),
        platform: opened.platform,
        serving: opened.serving,
        package: None,
    };
    let refused = engine::check_golden(&tuned, &golden).is_err();
    if refused {
        tuning.choices.values_mut().for_each(|choice| choice.algorithm = None);
        tuning.choices.retain(|_, choice| *choice != Choice::default());
    } else if !builder.packed.is_empty() {
        builder.packed.extend(model.packed());
    }
    let record = engine::record_of(&tuning, runtime);
    builder.tuning.retain(|known| known.key() != record.key());
    builder.tuning.push(record);
    builder.tuning.sort_by(|a, b| a.key().cmp(&b.key()));
    builder.write(output)?;
    Ok(refused)
}

fn case(found: &Tuned, shapes: &[Shape]) -> Case {
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    let timed = |candidate: &Candidate| Timed {
        algorithm: candidate.algorithm,
        threads: candidate.threads,
        ms: ms(candidate.time),
    };
    let step = |step: &TunedStep| Step {
        step: step.signature.clone(),
        count: step.steps,
        candidates: step.candidates.iter().map(timed).collect(),
        chosen: step.chosen,
    };
    Case {
        shapes: shapes.iter().map(|shape| shape.to_vec()).collect(),
        untuned_ms: ms(found.untuned),
        tuned_ms: ms(found.tuned),
        changed: found.tuning.choices.len(),
        steps: found.steps.iter().map(step).collect(),
    }
}

fn report(figures: &Figures, explain: bool) -> String {
    let Figures { model, cpu, threads, precision, .. } = figures;
    let plural = if *threads == 1 { "" } else { "s" };
    let mut text = format!("{model}\n  {cpu}, {threads} thread{plural}, {precision}\n");
    for case in &figures.cases {
        let shapes: Vec<String> = case.shapes.iter().map(|shape| format!("{shape:?}")).collect();
        let (shapes, steps) = (shapes.join(" "), case.steps.len());
        let without = case.untuned_ms;
        text.push_str(&match case.changed {
            0 => format!("  {shapes}: {without:.4} ms; none of {steps} distinct steps changes\n"),
            changed => format!(
                "  {shapes}: {:.4} ms with {changed} of {steps} distinct steps changed, \
                 {without:.4} without\n",
                case.tuned_ms
            ),
        });
        if explain {
            text.push_str(&format!("\n{}\n", table(&case.steps)));
        }
    }
    if figures.algorithms_refused {
        text.push_str("  other algorithms were left out: golden outputs do not allow them\n");
    }
    match &figures.kept_in {
        Some(path) => text.push_str(&format!("  kept in {path}\n")),
        None => text.push_str("  not kept: an .onnx file has no place for it\n"),
    }
    text
}

/// What was measured of every step, one line for each candidate.
fn table(steps: &[Step]) -> Table {
    let mut table = Table::new(&["step", "steps", "algorithm", "threads", "ms", "chosen"]);
    for step in steps {
        for (index, candidate) in step.candidates.iter().enumerate() {
            let (name, count) = match index {
                0 => (step.step.clone(), step.count.to_string()),
                _ => (String::new(), String::new()),
            };
            let algorithm = candidate.algorithm.unwrap_or("").to_owned();
            let chosen = if index == step.chosen { "chosen" } else { "" };
            let (threads, ms) = (candidate.threads.to_string(), format!("{:.4}", candidate.ms));
            table.row([name, count, algorithm, threads, ms, chosen.to_owned()]);
        }
    }
    table
}
