//! The engine as these tasks use it: import, optimise, compile, run.

use std::any::Any;

use landfall_graph::{Graph, Op, verify};
use landfall_onnx::{ImportError, import_bytes, tensor_from_proto};
use landfall_optimize::{Evaluate, OptimizeError, optimize};
use landfall_runtime::{CompileError, Cpu, Evaluator, KernelError, Model, Options, RunError};
use landfall_tensor::{Buffer, Tensor};

/// An input or output of a model.
#[derive(Debug, Clone)]
pub(crate) enum Value {
    Tensor(Tensor),
    Sequence(Vec<Tensor>),
    /// An optional that holds nothing.
    Absent,
}

impl Value {
    pub(crate) fn kind_name(&self) -> &'static str {
        match self {
            Value::Tensor(_) => "tensor",
            Value::Sequence(_) => "sequence",
            Value::Absent => "absent",
        }
    }
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Failure {
    /// Refused with an error that says what is not supported.
    Unsupported(String),
    /// Any other error.
    Failed(String),
}

/// What the importer made of some bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Imported {
    /// A graph that the verifier accepts, before and after optimisation.
    Accepted,
    /// An error.
    Refused,
    /// A graph that breaks the verifier's rules; says which.
    Inconsistent(String),
}

/// Reads a TensorProto of test data. It is valid by construction, so that an error means that its
/// element type is not supported.
pub(crate) fn tensor(bytes: &[u8]) -> Result<Tensor, Failure> {
    tensor_from_proto(bytes)
        .map_err(|error| Failure::Unsupported(format!("an element type of the test data: {error}")))
}

/// Runs a model once on one thread.
pub(crate) fn execute(model: &[u8], inputs: Vec<Value>) -> Result<Vec<Value>, Failure> {
    let imported = import_bytes(Buffer::copy_of(model)).map_err(import_failure)?;
    let graph = optimized(imported.graph)
        .map_err(|error| Failure::Failed(format!("optimisation: {error}")))?;
    let model = Model::compile(graph, &Options::default()).map_err(compile_failure)?;
    let inputs: Result<Vec<Tensor>, Failure> = inputs.into_iter().map(plain).collect();
    let outputs = model.run(&inputs?).map_err(run_failure)?;
    Ok(outputs.into_iter().map(Value::Tensor).collect())
}

/// Imports, verifies and optimises.
pub(crate) fn import(bytes: &[u8]) -> Imported {
    let Ok(imported) = import_bytes(Buffer::copy_of(bytes)) else { return Imported::Refused };
    if let Err(error) = verify(&imported.graph) {
        return Imported::Inconsistent(format!("after import: {error}"));
    }
    match optimized(imported.graph) {
        Ok(graph) => match verify(&graph) {
            Ok(()) => Imported::Accepted,
            Err(error) => Imported::Inconsistent(format!("after optimisation: {error}")),
        },
        Err(error @ OptimizeError::Broken { .. }) => Imported::Inconsistent(error.to_string()),
        Err(_) => Imported::Refused,
    }
}

/// Constant folding by the runtime's own kernels.
struct Folding(Evaluator);

impl Evaluate for Folding {
    fn evaluate(&self, op: &Op, inputs: &[Option<Tensor>], outputs: usize) -> Option<Vec<Tensor>> {
        self.0.evaluate(op, inputs, outputs).ok()
    }
}

fn optimized(graph: Graph) -> Result<Graph, OptimizeError> {
    let folding = Folding(Evaluator::new(Cpu::detect()));
    Ok(optimize(graph, &landfall_optimize::Options::default(), &folding)?.graph)
}

fn plain(value: Value) -> Result<Tensor, Failure> {
    match value {
        Value::Tensor(tensor) => Ok(tensor),
        other => Err(Failure::Unsupported(format!("an input that is {}", other.kind_name()))),
    }
}

fn import_failure(error: ImportError) -> Failure {
    match error {
        ImportError::Unsupported { nodes, .. } => Failure::Unsupported(list(&nodes)),
        other => Failure::Failed(format!("import: {other}")),
    }
}

fn compile_failure(error: CompileError) -> Failure {
    match error {
        CompileError::Unsupported(nodes) => Failure::Unsupported(list(&nodes)),
        other => Failure::Failed(format!("compilation: {other}")),
    }
}

fn run_failure(error: RunError) -> Failure {
    match &error {
        RunError::Node(node) if matches!(node.error, KernelError::Unsupported(_)) => {
            Failure::Unsupported(error.to_string())
        }
        _ => Failure::Failed(format!("run: {error}")),
    }
}

fn list(nodes: &[impl ToString]) -> String {
    nodes.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// The message of a panic.
pub(crate) fn panic_text(payload: &(dyn Any + Send)) -> String {
    payload
        .downcast_ref::<String>()
        .cloned()
        .or_else(|| payload.downcast_ref::<&str>().map(|text| (*text).to_owned()))
        .unwrap_or_else(|| "of unknown content".to_owned())
}
