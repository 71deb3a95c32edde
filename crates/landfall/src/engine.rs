//! From a model file to a compiled model with its declared steps: import, optimise, compile.

mod assets;
mod content;
mod golden;
mod tuning;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use landfall_graph::{Graph, Op, Signature, infer};
use landfall_onnx::{ImportError, Imported, Metadata};
use landfall_optimize::{Evaluate, Report};
use landfall_package::{Package, ServingDefaults};
use landfall_predict::pipeline::{Limits, Pipeline};
use landfall_runtime::{Cpu, Evaluator, Isa, Model, Options};
use landfall_tensor::{Buffer, FileAccess, Precision, Tensor};

pub use assets::AssetFolder;
pub use content::located;
pub use golden::{Excess, check_golden, excess, floats};
pub use tuning::record_of;

use crate::declared::{self, Declared};
use crate::machine::{cores, default_run_memory};

/// How to prepare a model.
#[derive(Debug, Clone)]
pub struct EngineOptions {
    /// The instruction sets to use.
    pub cpu: Cpu,
    /// Threads that one run uses.
    pub threads: usize,
    /// The precision asked for; `None` for what the model's author declared, or else f32.
    pub precision: Option<Precision>,
    /// Whether the number of threads that the model's author declared wins.
    pub prefer_declared_threads: bool,
    /// Whether the optimiser runs.
    pub optimize: bool,
    /// How model files come into memory.
    pub files: FileAccess,
    /// Working memory that one run may use, in bytes.
    pub run_memory_bytes: usize,
}

impl EngineOptions {
    /// The best instruction sets of this machine, or the ones that `LANDFALL_ISA` names. 0 threads
    /// stand for one per core; a run may use a quarter of the
    /// memory.
    pub fn from_environment(threads: usize) -> Result<EngineOptions> {
        let cpu = match std::env::var("LANDFALL_ISA") {
            Ok(name) if !name.is_empty() => {
                let isa = Isa::from_name(&name).context("LANDFALL_ISA")?;
                Cpu::with_isa(isa).context("LANDFALL_ISA")?
            }
            _ => Cpu::detect(),
        };
        let threads = if threads == 0 { cores() } else { threads };
        Ok(EngineOptions {
            cpu,
            threads,
            precision: None,
            prefer_declared_threads: false,
            optimize: true,
            files: FileAccess::default(),
            run_memory_bytes: default_run_memory(),
        })
    }

    /// How to compile.
    pub fn runtime(&self) -> Options {
        Options {
            cpu: self.cpu,
            threads: self.threads,
            precision: self.precision.unwrap_or_default(),
            memory_limit_bytes: self.run_memory_bytes,
            ..Options::default()
        }
    }

    /// How to compile a model with declared serving defaults.
    pub fn declared_runtime(&self, serving: &ServingDefaults) -> Options {
        let declared = serving.threads.filter(|_| self.prefer_declared_threads);
        let threads = declared.map_or(self.threads, |threads| threads.clamp(1, cores()));
        let precision = self.precision.unwrap_or_else(|| declared_precision(serving));
        Options { threads, precision, ..self.runtime() }
    }

    /// How to compile a package: as its author declares, with what it keeps of tuning for this
    /// processor.
    pub fn package_runtime(&self, package: &Package) -> Options {
        let runtime = self.declared_runtime(&package.manifest().model.serving);
        Options { tuning: tuning::of_package(package, &runtime), ..runtime }
    }
}

/// The precision that a model's author declares.
pub fn declared_precision(serving: &ServingDefaults) -> Precision {
    serving.precision.map_or(Precision::F32, |declared| declared.0)
}

/// A model's graph, ready to compile or to package.
pub struct Prepared {
    /// The graph, optimised unless that was switched off.
    pub graph: Graph,
    /// What the file says about itself.
    pub metadata: Metadata,
    /// What every pass changed; `None` if the optimiser did not run.
    pub report: Option<Report>,
}

struct Folding(Evaluator);

impl Evaluate for Folding {
    fn evaluate(&self, op: &Op, inputs: &[Option<Tensor>], outputs: usize) -> Option<Vec<Tensor>> {
        self.0.evaluate(op, inputs, outputs).ok()
    }
}

/// Imports an ONNX file and optimises it.
pub fn prepare(path: &Path, options: &EngineOptions) -> Result<Prepared> {
    let imported = landfall_onnx::import_file_with(path, options.files);
    prepared(imported, options).map_err(|error| located(path, FileKind::Onnx, error))
}

fn prepared(imported: Result<Imported, ImportError>, options: &EngineOptions) -> Result<Prepared> {
    let Imported { mut graph, metadata } = imported?;
    infer::annotate(&mut graph)?;
    let (graph, report) = optimize(graph, options)?;
    Ok(Prepared { graph, metadata, report })
}

/// Optimises an annotated graph, unless the options say not to.
pub fn optimize(graph: Graph, options: &EngineOptions) -> Result<(Graph, Option<Report>)> {
    if !options.optimize {
        return Ok((graph, None));
    }
    let folding = Folding(Evaluator::new(options.cpu));
    let optimized =
        landfall_optimize::optimize(graph, &landfall_optimize::Options::default(), &folding)?;
    Ok((optimized.graph, Some(optimized.report)))
}

/// Which kind of model file a path names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileKind {
    /// An ONNX model.
    Onnx,
    /// A Landfall package.
    Package,
}

impl FileKind {
    /// The kind that the file name's ending says.
    pub fn of(path: &Path) -> Result<FileKind> {
        ensure!(!path.is_dir(), "{}: is a folder, not a model file", path.display());
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("onnx") => Ok(FileKind::Onnx),
            Some("landfall") => Ok(FileKind::Package),
            _ => bail!("{}: expected a model file that ends in .onnx or .landfall", path.display()),
        }
    }
}

/// A compiled model with its declared steps.
pub struct Opened {
    /// The compiled graph.
    pub model: Arc<Model>,
    /// Declared pre- and post-processing, if there is any.
    pub steps: Option<Arc<Pipeline>>,
    /// What the protocol calls the platform.
    pub platform: &'static str,
    /// What the author declares about serving it.
    pub serving: ServingDefaults,
    /// The package, if it is one.
    pub package: Option<Package>,
}

impl Opened {
    /// What callers send and get.
    pub fn signature(&self) -> &Signature {
        match &self.steps {
            Some(steps) => steps.outer_signature(),
            None => self.model.signature(),
        }
    }

    /// Predicts once. Inputs and outputs are in the order of [`Opened::signature`].
    pub fn predict(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>> {
        let Some(steps) = &self.steps else { return Ok(self.model.run(inputs)?) };
        let made = steps.preprocess(inputs)?;
        let outputs = self.model.run(&made)?;
        Ok(steps.postprocess(&made, outputs)?)
    }
}

/// Opens a model file, compiles it, and for a package checks its golden cases, unless another
/// precision is asked for than the package was made for.
pub fn open(path: &Path, options: &EngineOptions) -> Result<Opened> {
    let opened = open_unchecked(path, options)?;
    if let Some(package) = &opened.package {
        let cases = package.golden().with_context(|| path.display().to_string())?;
        check_golden(&opened, &cases).with_context(|| path.display().to_string())?;
    }
    Ok(opened)
}

/// Opens and compiles a model file without running anything.
pub fn open_unchecked(path: &Path, options: &EngineOptions) -> Result<Opened> {
    match FileKind::of(path)? {
        FileKind::Onnx => open_onnx(path, options),
        FileKind::Package => open_package(path, options),
    }
}

fn open_onnx(path: &Path, options: &EngineOptions) -> Result<Opened> {
    let graph = prepare(path, options)?.graph;
    let declared = declared::beside(path, &graph.signature())?;
    compiled(graph, declared, options).with_context(|| path.display().to_string())
}

/// Opens an ONNX model that is part of this binary; `name` is how errors call it.
pub fn open_embedded(name: &Path, bytes: &[u8], options: &EngineOptions) -> Result<Opened> {
    let imported = landfall_onnx::import_bytes(Buffer::copy_of(bytes));
    prepared(imported, options)
        .and_then(|prepared| compiled(prepared.graph, Declared::default(), options))
        .with_context(|| name.display().to_string())
}

fn compiled(graph: Graph, declared: Declared, options: &EngineOptions) -> Result<Opened> {
    let Declared { steps, serving } = declared;
    Ok(Opened {
        model: Arc::new(Model::compile(graph, &options.declared_runtime(&serving))?),
        steps,
        platform: "onnx",
        serving,
        package: None,
    })
}

fn open_package(path: &Path, options: &EngineOptions) -> Result<Opened> {
    let package = Package::open_with(path, options.files)
        .map_err(|error| located(path, FileKind::Package, error.into()))?;
    let here = || path.display().to_string();
    // Every byte is in memory then; of a mapped file, weights would have to be read first.
    if options.files == FileAccess::Copied {
        package.verify_digests().with_context(here)?;
    }
    let graph = package.graph().with_context(here)?;
    let pipeline = Pipeline::of_package(&package, Limits::default()).with_context(here)?;
    let keys = package.manifest().packed.keys();
    let packed = keys.filter_map(|key| Some((key.clone(), package.packed(key)?)));
    let packed: BTreeMap<String, Tensor> = packed
        .map(|(key, tensor)| Ok((key, tensor?)))
        .collect::<Result<_, landfall_package::PackageError>>()
        .with_context(here)?;
    let runtime = options.package_runtime(&package);
    let model = Model::compile_with(graph, &runtime, packed).with_context(here)?;
    Ok(Opened {
        model: Arc::new(model),
        steps: (!pipeline.is_identity()).then(|| Arc::new(pipeline)),
        platform: "landfall",
        serving: package.manifest().model.serving,
        package: Some(package),
    })
}
