//! Everything that can be said about a model file.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};
use landfall_graph::{DimSpec, Graph, Origin, TensorSpec, cost, infer};
use landfall_onnx::{ImportError, Metadata};
use landfall_package::{Package, TuningRecord};
use landfall_runtime::{CompileError, Model, NodeError, Options, RunError};
use landfall_tensor::Shape;
use serde::Serialize;

use crate::declared;
use crate::engine::{self, EngineOptions, FileKind};
use crate::sample::Extents;

/// What `--json` prints.
#[derive(Debug, Default, Serialize)]
pub(super) struct Inspection {
    pub(super) model: String,
    pub(super) inputs: Vec<Spec>,
    pub(super) outputs: Vec<Spec>,
    /// Supported nodes of each operator, in the file as it is.
    pub(super) operators: BTreeMap<&'static str, usize>,
    /// Elements of all constants.
    pub(super) parameters: usize,
    /// Operations of one run on inputs of [`Inspection::shapes`]; `null` if unknown.
    pub(super) flops: Option<u64>,
    /// Size of the file.
    pub(super) bytes: u64,
    pub(super) unsupported: Vec<Unsupported>,
    /// How each node runs, in order.
    pub(super) nodes: Vec<Lowering>,
    /// Shapes that operations, nodes and memory are given for, by input.
    pub(super) shapes: BTreeMap<String, Vec<usize>>,
    pub(super) memory: Option<Memory>,
    pub(super) passes: Option<Passes>,
    /// What the file says about itself.
    pub(super) metadata: BTreeMap<String, String>,
}

#[derive(Debug, Serialize)]
pub(super) struct Spec {
    pub(super) name: String,
    pub(super) datatype: &'static str,
    /// `null` if even the rank is unknown.
    pub(super) shape: Option<Vec<Extent>>,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(super) enum Extent {
    Known(usize),
    /// A free axis by name, `?` if it has none.
    Free(String),
}

#[derive(Debug, Serialize)]
pub(super) struct Unsupported {
    pub(super) name: String,
    pub(super) operator: String,
    pub(super) reason: String,
}

#[derive(Debug, Serialize)]
pub(super) struct Lowering {
    pub(super) name: String,
    pub(super) operator: &'static str,
    pub(super) kernel: &'static str,
    pub(super) isa: &'static str,
    pub(super) precision: &'static str,
    /// Slices of the batch that it runs in.
    pub(super) slices: usize,
    pub(super) reason: String,
}

#[derive(Debug, Serialize)]
pub(super) struct Memory {
    /// Working memory of one run.
    pub(super) arena_bytes: usize,
    /// The least that any plan could need.
    pub(super) lower_bound_bytes: usize,
    /// Weights in kernels' own layouts.
    pub(super) packed_bytes: usize,
}

#[derive(Debug, Serialize)]
pub(super) struct Passes {
    pub(super) nodes_before: usize,
    pub(super) nodes_after: usize,
    /// Rewrites by pass.
    pub(super) changes: Vec<(&'static str, usize)>,
}

/// Inspects a file. Fails only if it cannot be read as a model.
pub(super) fn inspect(
    path: &Path,
    options: &EngineOptions,
    extents: &Extents,
) -> Result<Inspection> {
    let bytes = std::fs::metadata(path).with_context(|| path.display().to_string())?.len();
    let model = path.display().to_string();
    let mut inspection = Inspection { model, bytes, ..Inspection::default() };
    let graph = match FileKind::of(path)? {
        FileKind::Onnx => match inspection.import(path, options)? {
            Some(graph) => {
                let serving = declared::beside(path, &graph.signature())?.serving;
                Some((options.declared_runtime(&serving), graph))
            }
            None => None,
        },
        FileKind::Package => Some(inspection.unpack(path, options)?),
    };
    if let Some((runtime, graph)) = graph {
        extents.check(&graph.signature())?;
        inspection.lower(graph, &runtime, extents);
    }
    Ok(inspection)
}

impl Inspection {
    /// Reads an ONNX file. The graph that comes back is optimised; `None` if it cannot run.
    fn import(&mut self, path: &Path, options: &EngineOptions) -> Result<Option<Graph>> {
        let imported = match landfall_onnx::import_file(path) {
            Ok(imported) => imported,
            Err(ImportError::Unsupported { nodes, rest }) => {
                let unsupported = nodes.into_iter().map(|node| Unsupported {
                    name: node.name,
                    operator: format!("{}.{}", node.domain, node.operator),
                    reason: match node.opset {
                        Some(opset) => format!("opset {opset}: {}", node.reason),
                        None => node.reason,
                    },
                });
                self.unsupported = unsupported.collect();
                self.quote(&rest.metadata);
                self.describe(&rest.graph);
                return Ok(None);
            }
            Err(error) => return Err(engine::located(path, FileKind::Onnx, error.into())),
        };
        self.quote(&imported.metadata);
        let mut graph = imported.graph;
        if let Err(error) = infer::annotate(&mut graph) {
            self.describe(&graph);
            let (name, operator) = (error.name, error.op.to_owned());
            self.unsupported.push(Unsupported { name, operator, reason: error.error.to_string() });
            return Ok(None);
        }
        self.describe(&graph);
        let optimized =
            engine::optimize(graph, options).with_context(|| path.display().to_string())?;
        if let Some(report) = &optimized.1 {
            self.passes = Some(Passes {
                nodes_before: report.nodes_before,
                nodes_after: report.nodes_after,
                changes: report.passes.iter().map(|pass| (pass.name, pass.changes)).collect(),
            });
        }
        Ok(Some(optimized.0))
    }

    /// Takes over what an ONNX file says about itself.
    fn quote(&mut self, metadata: &Metadata) {
        let opset = |(domain, version): (&String, &i64)| format!("{domain} {version}");
        let opsets: Vec<String> = metadata.opsets.iter().map(opset).collect();
        let producer = format!("{} {}", metadata.producer, metadata.producer_version);
        self.metadata.insert("opsets".to_owned(), opsets.join(", "));
        self.metadata.insert("producer".to_owned(), producer.trim().to_owned());
        self.metadata.extend(metadata.properties.clone());
    }

    /// Reads a package, whose graph is optimised already, and how to compile it.
    fn unpack(&mut self, path: &Path, options: &EngineOptions) -> Result<(Options, Graph)> {
        let package = Package::open(path)
            .map_err(|error| engine::located(path, FileKind::Package, error.into()))?;
        let graph = package.graph().with_context(|| path.display().to_string())?;
        self.describe(&graph);
        let outer = &package.steps().outer;
        (self.inputs, self.outputs) = (specs(&outer.inputs), specs(&outer.outputs));
        let manifest = package.manifest();
        self.metadata.insert("name".to_owned(), manifest.model.name.clone());
        self.metadata.insert("description".to_owned(), manifest.model.description.clone());
        self.metadata.insert("tool".to_owned(), manifest.provenance.tool.clone());
        self.metadata.insert("digest".to_owned(), package.digest().to_string());
        let tuned: Vec<String> = manifest.tuning.iter().map(tuned_for).collect();
        if !tuned.is_empty() {
            self.metadata.insert("tuned for".to_owned(), tuned.join("; "));
        }
        Ok((options.package_runtime(&package), graph))
    }

    fn describe(&mut self, graph: &Graph) {
        let signature = graph.signature();
        (self.inputs, self.outputs) = (specs(&signature.inputs), specs(&signature.outputs));
        for (_, node) in graph.nodes() {
            *self.operators.entry(node.op.name()).or_default() += 1;
        }
        let constants = graph.values().filter_map(|(_, value)| match &value.origin {
            Origin::Constant(tensor) => Some(tensor.elements()),
            _ => None,
        });
        self.parameters = constants.sum();
    }

    /// Plans a graph for some input shapes.
    fn lower(&mut self, graph: Graph, options: &Options, extents: &Extents) {
        let signature = graph.signature();
        let Ok(shapes) = extents.shapes(&signature) else { return };
        let named = signature.inputs.iter().zip(&shapes);
        self.shapes = named.map(|(spec, shape)| (spec.name.clone(), shape.to_vec())).collect();
        self.flops = cost::of_graph(&graph, &shapes).ok().map(|cost| cost.flops);
        match Model::compile(graph, options) {
            Ok(model) => self.plan(&model, &shapes),
            Err(CompileError::Unsupported(nodes)) => {
                self.unsupported.extend(nodes.into_iter().map(unsupported));
            }
            Err(error) => self.unsupported.push(anonymous(error.to_string())),
        }
    }

    fn plan(&mut self, model: &Model, shapes: &[Shape]) {
        let report = match model.report(shapes) {
            Ok(report) => report,
            Err(RunError::Node(node)) => return self.unsupported.push(unsupported(*node)),
            Err(error) => return self.unsupported.push(anonymous(error.to_string())),
        };
        self.memory = Some(Memory {
            arena_bytes: report.arena_bytes,
            lower_bound_bytes: report.lower_bound_bytes,
            packed_bytes: report.packed_bytes,
        });
        let lowering = report.steps.into_iter().map(|step| Lowering {
            name: step.node,
            operator: step.op,
            kernel: step.kernel.kernel,
            isa: step.kernel.isa,
            precision: step.kernel.precision,
            slices: step.slices,
            reason: step.kernel.reason,
        });
        self.nodes = lowering.collect();
    }
}

fn unsupported(node: NodeError) -> Unsupported {
    let reason = node.error.to_string();
    Unsupported { name: node.node, operator: node.op.to_owned(), reason }
}

/// A reason that belongs to no node.
fn anonymous(reason: String) -> Unsupported {
    Unsupported { name: String::new(), operator: String::new(), reason }
}

/// What a package's tuning holds for, in words.
fn tuned_for(record: &TuningRecord) -> String {
    let threads: Vec<String> = record.threads.keys().map(|threads| threads.to_string()).collect();
    let limits = match threads.as_slice() {
        [] => String::new(),
        _ => format!(", limits of steps in runs on {} threads", threads.join(" and ")),
    };
    let (cpu, precision) = (&record.cpu, record.precision.0.name());
    let algorithms = record.algorithms.len();
    format!("{cpu} in {precision} ({algorithms} algorithms{limits})")
}

fn specs(specs: &[TensorSpec]) -> Vec<Spec> {
    let extent = |dim: &DimSpec| match dim {
        DimSpec::Known(extent) => Extent::Known(*extent),
        DimSpec::Symbol(name) if name.is_empty() => Extent::Free("?".to_owned()),
        DimSpec::Symbol(name) => Extent::Free(name.clone()),
    };
    let spec = |spec: &TensorSpec| Spec {
        name: spec.name.clone(),
        datatype: spec.dtype.protocol_name(),
        shape: spec.dims.as_ref().map(|dims| dims.iter().map(extent).collect()),
    };
    specs.iter().map(spec).collect()
}
