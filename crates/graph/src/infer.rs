//! Datatype and shape inference.
//!
//! [`infer_node`] maps what is known of an operator's operands (a [`Fact`] each) to what is known
//! of its results. Extents may be symbolic; with concrete operands the results are concrete too,
//! unless they depend on the data (`NonZero`, `Loop`). Small integer tensors that compute shapes
//! are followed element by element, so that `Shape → Gather → Concat → Reshape` resolves.
//!
//! A rule that cannot say anything returns unknown facts; a rule that sees operands which no model
//! may combine returns an error. Each file holds one family of operators.

mod attention;
mod classical;
mod context;
mod control;
mod convolution;
mod einsum;
mod elementwise;
mod generation;
mod indexing;
mod matmul;
mod movement;
mod normalization;
mod quantization;
mod recurrent;
mod reduction;
mod resize;
mod sampling;
mod shape_values;
mod signal;
#[cfg(test)]
mod tests;
mod text;
mod transposed;

use landfall_tensor::{DType, Shape, Tensor};

pub use context::{InferError, Operands, resolve_axis};
pub use convolution::{Window, WindowAxis};
pub use einsum::{Equation, Label};
pub use movement::slice_range;
pub use resize::{ResizedAxis, resized_axes};
pub use sampling::unpooled_extents;
pub use transposed::{TransposedAxis, transposed_axis};

use crate::{Dim, Graph, NodeId, Op, Origin, ValueId};

/// What is known of a value.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Fact {
    /// Element type.
    pub dtype: Option<DType>,
    /// Extent of every axis; `None` if the rank is not known.
    pub dims: Option<Vec<Dim>>,
    /// The elements, if they are known.
    pub tensor: Option<Tensor>,
    /// The elements of an integer scalar or vector, as far as they are known; follows shape
    /// computations.
    pub ints: Option<Vec<Int>>,
}

/// One element of an integer tensor that computes shapes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Int {
    /// Known.
    Known(i64),
    /// The extent of that name.
    Symbol(std::sync::Arc<str>),
    /// Not known.
    Unknown,
}

impl From<&Dim> for Int {
    fn from(dim: &Dim) -> Int {
        match dim {
            Dim::Known(n) => i64::try_from(*n).map_or(Int::Unknown, Int::Known),
            Dim::Symbol(name) => Int::Symbol(name.clone()),
            Dim::Unknown => Int::Unknown,
        }
    }
}

impl From<&Int> for Dim {
    fn from(int: &Int) -> Dim {
        match int {
            Int::Known(n) => usize::try_from(*n).map_or(Dim::Unknown, Dim::Known),
            Int::Symbol(name) => Dim::Symbol(name.clone()),
            Int::Unknown => Dim::Unknown,
        }
    }
}

impl Fact {
    /// A value of known type and extents.
    pub fn new(dtype: Option<DType>, dims: Option<Vec<Dim>>) -> Fact {
        Fact { dtype, dims, tensor: None, ints: None }
    }

    /// A value of known type and concrete shape.
    pub fn concrete(dtype: DType, shape: &[usize]) -> Fact {
        Fact::new(Some(dtype), Some(shape.iter().map(|&n| Dim::Known(n)).collect()))
    }

    /// A known constant.
    pub fn constant(tensor: &Tensor) -> Fact {
        let ints = (tensor.shape().rank() <= 1).then(|| known_ints(tensor)).flatten();
        let tensor = tensor.clone();
        Fact {
            tensor: Some(tensor.clone()),
            ints,
            ..Fact::concrete(tensor.dtype(), tensor.shape())
        }
    }

    /// The shape, if every extent is known.
    pub fn shape(&self) -> Option<Shape> {
        self.dims.as_ref()?.iter().map(Dim::known).collect()
    }
}

fn known_ints(tensor: &Tensor) -> Option<Vec<Int>> {
    const LIMIT: usize = 256;
    if tensor.elements() > LIMIT {
        return None;
    }
    let tensor = tensor.aligned();
    match tensor.dtype() {
        DType::I64 => Some(tensor.as_slice::<i64>().ok()?.iter().map(|&n| Int::Known(n)).collect()),
        DType::I32 => {
            Some(tensor.as_slice::<i32>().ok()?.iter().map(|&n| Int::Known(n.into())).collect())
        }
        _ => None,
    }
}

type Rule = fn(&Operands<'_>) -> Option<Result<Vec<Fact>, InferError>>;

/// The families; the first that knows the operator answers.
const RULES: &[Rule] = &[
    elementwise::infer,
    matmul::infer,
    convolution::infer,
    transposed::infer,
    resize::infer,
    sampling::infer,
    movement::infer,
    normalization::infer,
    reduction::infer,
    indexing::infer,
    generation::infer,
    quantization::infer,
    attention::infer,
    control::infer,
    recurrent::infer,
    classical::infer,
    text::infer,
    einsum::infer,
    signal::infer,
];

/// What is known of the results of `op`, given what is known of its operands (`None` for one left
/// out). Always `outputs` facts.
pub fn infer_node(
    op: &Op,
    inputs: &[Option<&Fact>],
    outputs: usize,
) -> Result<Vec<Fact>, InferError> {
    let operands = Operands::new(op, inputs, outputs);
    let mut facts = RULES
        .iter()
        .find_map(|rule| rule(&operands))
        .unwrap_or_else(|| Ok(vec![Fact::default(); outputs]))?;
    facts.resize(outputs, Fact::default());
    if let [first, ..] = facts.as_mut_slice()
        && first.ints.is_none()
    {
        first.ints = shape_values::infer(&operands, first);
    }
    Ok(facts)
}

/// An inference error, with the node it happened at.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("node {id:?} '{name}' ({op}): {error}")]
pub struct NodeInferError {
    /// The node.
    pub id: NodeId,
    /// Its name.
    pub name: String,
    /// Its operator.
    pub op: &'static str,
    /// What is wrong.
    pub error: InferError,
}

/// What is known of every value of a graph, by value index.
pub fn infer_graph(graph: &Graph) -> Result<Vec<Fact>, NodeInferError> {
    infer_graph_with(graph, &[])
}

/// The same, with more known of the inputs than the graph declares.
pub(crate) fn infer_graph_with(
    graph: &Graph,
    inputs: &[Fact],
) -> Result<Vec<Fact>, NodeInferError> {
    infer_values(graph, inputs, |_| ())
}

/// The same; `complete` adds to what is known of every result before it is used.
fn infer_values(
    graph: &Graph,
    inputs: &[Fact],
    mut complete: impl FnMut(&mut Fact),
) -> Result<Vec<Fact>, NodeInferError> {
    let mut facts: Vec<Fact> = graph
        .values()
        .map(|(_, value)| match &value.origin {
            Origin::Constant(tensor) => Fact::constant(tensor),
            _ => Fact::new(value.dtype, value.dims.clone()),
        })
        .collect();
    for (&id, fact) in graph.inputs.iter().zip(inputs) {
        let dtype = fact.dtype.or(facts[id.index()].dtype);
        facts[id.index()] = Fact { dtype, ..fact.clone() };
    }
    let order = graph.schedule().unwrap_or_default();
    for id in order {
        let Some(node) = graph.node(id) else { continue };
        let inputs: Vec<Option<&Fact>> =
            node.inputs.iter().map(|input| input.map(|v| &facts[v.index()])).collect();
        let results = infer_node(&node.op, &inputs, node.outputs.len()).map_err(|error| {
            NodeInferError { id, name: node.name.clone(), op: node.op.name(), error }
        })?;
        for (&output, result) in node.outputs.iter().zip(results) {
            merge(&mut facts[output.index()], result);
            complete(&mut facts[output.index()]);
        }
    }
    Ok(facts)
}

/// Infers, and writes datatypes and extents into the graph's values. Declared output extents keep
/// the author's symbol names where inference knows no better. An extent of a node's result of which
/// nothing is known becomes a symbol of its own: what is computed from it element by element is
/// then known to be as long.
pub fn annotate(graph: &mut Graph) -> Result<(), NodeInferError> {
    let dims = graph.values().filter_map(|(_, value)| value.dims.as_ref());
    let last = dims.flatten().filter_map(Dim::given_number).max();
    let mut next = last.map_or(0, |last| last + 1);
    let name = |fact: &mut Fact| {
        for dim in fact.dims.iter_mut().flatten().filter(|dim| **dim == Dim::Unknown) {
            *dim = Dim::given(next);
            next += 1;
        }
    };
    let facts = infer_values(graph, &[], name)?;
    for (index, fact) in facts.into_iter().enumerate() {
        let value = graph.value_mut(ValueId::new(index));
        if !matches!(value.origin, Origin::Constant(_)) {
            value.dtype = fact.dtype;
            value.dims = fact.dims;
        }
    }
    Ok(())
}

/// Adds what inference found to what was declared. A found extent wins over a declared symbol; a
/// declared extent fills in where inference found none.
fn merge(declared: &mut Fact, found: Fact) {
    declared.dtype = found.dtype.or(declared.dtype);
    declared.tensor = found.tensor;
    declared.ints = found.ints;
    declared.dims = match (declared.dims.take(), found.dims) {
        (Some(old), Some(new)) if old.len() == new.len() => Some(
            old.into_iter()
                .zip(new)
                .map(|(old, new)| if matches!(new, Dim::Unknown) { old } else { new })
                .collect(),
        ),
        (old, new) => new.or(old),
    };
}
