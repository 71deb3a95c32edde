//! From a model file to a compiled model: import, optimise, compile.

use std::path::Path;

use anyhow::{Context, Result, anyhow};
use landfall_graph::{Graph, Op, infer};
use landfall_onnx::Metadata;
use landfall_optimize::{Evaluate, Report};
use landfall_runtime::{Cpu, Evaluator, Isa, Model, Options};
use landfall_tensor::Tensor;

/// How to prepare a model.
#[derive(Debug, Clone)]
pub struct EngineOptions {
    /// The instruction sets to use.
    pub cpu: Cpu,
    /// Threads that one run uses.
    pub threads: usize,
    /// Whether the optimiser runs.
    pub optimize: bool,
}

impl EngineOptions {
    /// The best instruction sets of this machine, or the ones that `LANDFALL_ISA` names.
    pub fn from_environment(threads: usize) -> Result<EngineOptions> {
        let cpu = match std::env::var("LANDFALL_ISA") {
            Ok(name) if !name.is_empty() => {
                let isa = Isa::from_name(&name).context("LANDFALL_ISA")?;
                Cpu::with_isa(isa).context("LANDFALL_ISA")?
            }
            _ => Cpu::detect(),
        };
        Ok(EngineOptions { cpu, threads: threads.max(1), optimize: true })
    }
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
    let imported = landfall_onnx::import_file(path).with_context(|| path.display().to_string())?;
    let mut graph = imported.graph;
    infer::annotate(&mut graph).with_context(|| path.display().to_string())?;
    let mut report = None;
    if options.optimize {
        let folding = Folding(Evaluator::new(options.cpu));
        let optimized =
            landfall_optimize::optimize(graph, &landfall_optimize::Options::default(), &folding)
                .map_err(|error| anyhow!("{}: {error}", path.display()))?;
        graph = optimized.graph;
        report = Some(optimized.report);
    }
    Ok(Prepared { graph, metadata: imported.metadata, report })
}

/// Compiles a prepared model.
pub fn compile(prepared: Prepared, path: &Path, options: &EngineOptions) -> Result<Model> {
    let runtime = Options { cpu: options.cpu, threads: options.threads, ..Options::default() };
    Model::compile(prepared.graph, &runtime).with_context(|| path.display().to_string())
}
