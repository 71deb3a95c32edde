//! `landfall tune`: measure how each step runs fastest here, and keep it in the package.

use std::collections::BTreeMap;
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use landfall_package::{Package, PackageBuilder};
use landfall_runtime::{Candidate, Model, Options, TuneCase, TunedCase, TunedStep, Tuning, tune};
use landfall_tensor::{Precision, Shape, Tensor};
use serde::Serialize;

use super::Failure;
use super::arguments::{positive, precision, seconds, threads};
use super::output::print;
use super::paths::writable;
use super::table::Table;
use crate::engine::{self, EngineOptions, FileKind, Opened};
use crate::machine::cores;
use crate::sample::{self, Extents, is_length, parse_extent};

const EXAMPLES: &str = "\
Examples:
  landfall tune resnet50.landfall --threads 1 --threads 2
      measures batches of 1 and 8 on one and two threads and keeps what is fastest in the package
  landfall tune minilm.landfall --batch 1 --seq-len 16 --seq-len 128 -o tuned.landfall
  landfall tune model.onnx --explain
      shows what was measured; an .onnx file has no place to keep it

Every distinct step (operator, attributes, shapes) is measured inside whole runs with each of its
algorithms and with fewer threads. Algorithms round differently, so a step gets one for all batches
and numbers of threads, the fastest on the mean of what was measured: answers depend on neither.
Threads are chosen for each set of shapes measured; others are left to the cost model.

What is faster than the cost model's own choice is kept for this kind of processor and precision, in
place of what an earlier run kept for them and beside what was kept for others; loading uses what
fits. A choice that this version does not know is left to the cost model.";

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
    /// Threads of one run; 0 for one per core; repeatable
    #[arg(long, value_name = "N", default_value = "0", value_parser = threads)]
    threads: Vec<usize>,
    /// Precision of matrix products and convolutions: f32 or bf16 [default: what the model's author
    /// declares, or f32]
    #[arg(long, value_name = "NAME", value_parser = precision)]
    precision: Option<Precision>,
    /// How long to measure each set of shapes on each number of threads, about; every way is
    /// measured three times at least
    #[arg(long, value_name = "S", default_value = "6", value_parser = seconds)]
    seconds: Duration,
    /// Show what was measured of every step
    #[arg(long)]
    explain: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// What was found for one set of shapes on one number of threads.
#[derive(Debug, Serialize)]
struct Case {
    shapes: Vec<Vec<usize>>,
    threads: usize,
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
    let target = target(arguments)?;
    let mut options =
        EngineOptions { precision: arguments.precision, ..EngineOptions::from_environment(0)? };
    let threads = distinct(arguments.threads.iter().map(|&n| if n == 0 { cores() } else { n }));
    options.threads = threads.iter().copied().max().unwrap_or(1);
    let opened = engine::open(&arguments.model, &options)?;
    let runtime = options.declared_runtime(&opened.serving);
    let precision = runtime.precision.name();
    let signature = opened.model.signature();
    let sets = all_extents(arguments, &opened.model).with_context(|| name.clone())?;
    let mut sets: Vec<Vec<Tensor>> = sets
        .iter()
        .map(|extents| sample::inputs(signature, extents, options.run_memory_bytes))
        .collect::<Result<_>>()?;
    // Extents that no axis takes make no difference.
    sets.dedup_by_key(|inputs| shapes_of(inputs));
    let with =
        |threads| sets.iter().map(move |inputs| TuneCase { inputs: inputs.clone(), threads });
    let measured: Vec<TuneCase> = threads.iter().copied().flat_map(with).collect();
    let begun = Instant::now();
    let found = tune(&opened.model, &measured, arguments.seconds, &|| begun.elapsed())
        .with_context(|| name.clone())?;
    let cases = measured.iter().zip(&found.cases).map(|(measured, found)| case(measured, found));
    let cases = cases.collect();
    let all_shapes: Vec<Vec<Shape>> = sets.iter().map(|inputs| shapes_of(inputs)).collect();
    let algorithms_refused = match &target {
        Some(target) => keep(opened, found.tuning, &all_shapes, &runtime, target)?,
        None => false,
    };
    let kept_in = target.map(|target| target.path.display().to_string());
    let cpu = options.cpu.signature();
    Ok(Figures { model: name, cpu, precision, kept_in, algorithms_refused, cases })
}

fn shapes_of(inputs: &[Tensor]) -> Vec<Shape> {
    inputs.iter().map(|input| input.shape().clone()).collect()
}

/// Each once, in the order given.
fn distinct(given: impl Iterator<Item = usize>) -> Vec<usize> {
    let mut distinct = Vec::new();
    for one in given {
        if !distinct.contains(&one) {
            distinct.push(one);
        }
    }
    distinct
}

/// Where the tuned package goes.
struct Target {
    path: PathBuf,
    /// The package itself if that is where it goes, locked so that no other tuning of it is lost.
    lock: Option<File>,
}

/// Where the tuned package goes, if the model is a package.
fn target(arguments: &TuneArguments) -> Result<Option<Target>> {
    let TuneArguments { model, output, .. } = arguments;
    if FileKind::of(model)? == FileKind::Onnx {
        ensure!(
            output.is_none(),
            "--output: {} is not a package; make one first with `landfall package`",
            model.display()
        );
        return Ok(None);
    }
    let path = output.as_ref().unwrap_or(model).clone();
    ensure!(
        matches!(FileKind::of(&path), Ok(FileKind::Package)),
        "--output: expected a file name that ends in .landfall, found '{}'",
        path.display()
    );
    let resolved = writable("--output", &path)?;
    let in_place = model.canonicalize().is_ok_and(|model| model == resolved);
    let lock = if in_place { Some(locked(model)?) } else { None };
    Ok(Some(Target { path, lock }))
}

/// Locks a package that will be replaced.
fn locked(path: &Path) -> Result<File> {
    let file = File::open(path).with_context(|| path.display().to_string())?;
    match file.try_lock() {
        Err(TryLockError::WouldBlock) => bail!(
            "{}: another `landfall tune` is at work on it; wait for it, or write elsewhere with \
             --output",
            path.display()
        ),
        // Where files cannot be locked, `keep` still finds out if the package has changed.
        Ok(()) | Err(TryLockError::Error(_)) => Ok(file),
    }
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
        (given, _) => distinct(given.iter().copied()),
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
    target: &Target,
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
        tuning.algorithms.clear();
    } else if !builder.packed.is_empty() {
        builder.packed.extend(model.packed());
    }
    let record = engine::record_of(tuning, runtime);
    builder.tuning.retain(|known| known.key() != record.key());
    builder.tuning.push(record);
    builder.tuning.sort_by(|a, b| a.key().cmp(&b.key()));
    if target.lock.is_some() {
        let now = Package::open(&target.path)?.digest();
        let path = target.path.display();
        ensure!(now == package.digest(), "{path}: it changed while it was measured; run again");
    }
    builder.write(&target.path)?;
    Ok(refused)
}

fn case(measured: &TuneCase, found: &TunedCase) -> Case {
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
        shapes: measured.inputs.iter().map(|input| input.shape().to_vec()).collect(),
        threads: measured.threads,
        untuned_ms: ms(found.untuned),
        tuned_ms: ms(found.tuned),
        changed: found.steps.iter().filter(|step| step.chosen > 0).count(),
        steps: found.steps.iter().map(step).collect(),
    }
}

fn report(figures: &Figures, explain: bool) -> String {
    let Figures { model, cpu, precision, .. } = figures;
    let mut text = format!("{model}\n  {cpu}, {precision}\n");
    for case in &figures.cases {
        let shapes: Vec<String> = case.shapes.iter().map(|shape| format!("{shape:?}")).collect();
        let plural = if case.threads == 1 { "" } else { "s" };
        let shapes = format!("{} on {} thread{plural}", shapes.join(" "), case.threads);
        let steps = case.steps.len();
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
