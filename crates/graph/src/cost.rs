//! How much arithmetic an operator and a graph are.
//!
//! A multiplication and an addition are one operation each. Products, convolutions, attention and
//! recurrent layers are counted by their definition; other arithmetic counts one operation an
//! element of its result, movement of data and comparisons down trees none. The bodies of control
//! flow are not counted.

use landfall_tensor::Shape;

use crate::infer::{Fact, NodeInferError, infer_graph};
use crate::{Dim, Graph, Op};

/// Arithmetic operations of a graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Cost {
    /// Operations of every node whose shapes are known.
    pub flops: u64,
    /// Nodes whose shapes depend on data, and which are therefore not counted.
    pub uncounted: usize,
}

/// Operations of one run of `graph` on inputs of these shapes, in the graph's order.
pub fn of_graph(graph: &Graph, inputs: &[Shape]) -> Result<Cost, NodeInferError> {
    let mut graph = graph.clone();
    for (id, shape) in graph.inputs.clone().into_iter().zip(inputs) {
        graph.value_mut(id).dims = Some(shape.iter().copied().map(Dim::Known).collect());
    }
    let facts = infer_graph(&graph)?;
    let mut cost = Cost::default();
    for (_, node) in graph.nodes() {
        let operands: Vec<Option<&Fact>> =
            node.inputs.iter().map(|input| input.map(|id| &facts[id.index()])).collect();
        let result = node.outputs.first().map(|id| &facts[id.index()]);
        match result.and_then(|result| flops(&node.op, &operands, result)) {
            Some(flops) => cost.flops = cost.flops.saturating_add(flops),
            None => cost.uncounted += 1,
        }
    }
    Ok(cost)
}

/// Operations of one operator; `None` if a shape that they depend on is not known.
pub fn flops(op: &Op, inputs: &[Option<&Fact>], output: &Fact) -> Option<u64> {
    let shape = |index: usize| inputs.get(index).copied().flatten()?.shape();
    let elements = |shape: Shape| shape.elements() as u64;
    // Twice as many operations as multiplications: each is followed by an addition.
    let depth = |depth: usize| Some(2 * elements(output.shape()?) * depth as u64);
    // Elements of a filter for one output channel.
    let filter = |w: Shape| w.elements().checked_div(*w.first()?);
    match op {
        Op::MatMul
        | Op::FusedMatMul(_)
        | Op::MatMulInteger
        | Op::QLinearMatMul
        | Op::QuantizedMatMul(_)
        | Op::DynamicQuantMatMul(_)
        | Op::DynamicQuantizeMatMul
        | Op::MatMulNBits(_) => depth(*shape(0)?.last()?),
        Op::Gemm(gemm) => depth(*shape(0)?.get(usize::from(!gemm.trans_a))?),
        Op::Conv(_) | Op::FusedConv(_) | Op::ConvInteger(_) => depth(filter(shape(1)?)?),
        Op::QLinearConv(_) | Op::QuantizedConv(_) => depth(filter(shape(3)?)?),
        Op::ConvTranspose(_) => Some(2 * elements(shape(0)?) * filter(shape(1)?)? as u64),
        Op::Attention(_) | Op::FusedAttention(_) => {
            let keys = shape(1)?;
            let length = *keys.get(keys.rank().checked_sub(2)?)?;
            Some(2 * elements(shape(0)?) * length as u64 + depth(length)?)
        }
        Op::Lstm(_) | Op::Gru(_) | Op::Rnn(_) => {
            let x = shape(0)?;
            let rows = x.first()?.saturating_mul(*x.get(1)?) as u64;
            Some(2 * rows * (elements(shape(1)?) + elements(shape(2)?)))
        }
        op if moves(op) => Some(0),
        _ => output.shape().map(elements),
    }
}

/// Whether the operator only moves, selects or compares elements.
fn moves(op: &Op) -> bool {
    matches!(
        op,
        Op::Cast(_)
            | Op::Concat(_)
            | Op::ConstantOfShape(_)
            | Op::DepthToSpace(_)
            | Op::Expand
            | Op::Flatten(_)
            | Op::Gather(_)
            | Op::GatherElements(_)
            | Op::GatherNd(_)
            | Op::Identity
            | Op::LabelEncoder(_)
            | Op::OneHot(_)
            | Op::Pad(_)
            | Op::Reshape(_)
            | Op::Shape(_)
            | Op::Size
            | Op::Slice
            | Op::SpaceToDepth(_)
            | Op::Split(_)
            | Op::Squeeze
            | Op::Tile
            | Op::Transpose(_)
            | Op::TreeEnsemble(_)
            | Op::TreeEnsembleClassifier(_)
            | Op::TreeEnsembleRegressor(_)
            | Op::Unsqueeze
            | Op::ZipMap(_)
    )
}

#[cfg(test)]
mod tests {
    use landfall_tensor::Tensor;

    use super::*;

    fn cost(text: &str, constants: &[Tensor], inputs: &[Shape]) -> Cost {
        of_graph(&crate::text::parse(text, constants).unwrap(), inputs).unwrap()
    }

    #[test]
    fn products_count_twice_their_multiplications() {
        let text = "graph \"g\" {\n  input %x: f32[n,3]\n  const %w: f32[3,5] = @0\n  \
                    %y: f32[n,5] = MatMul(%x, %w)\n  %z: f32[n,5] = Relu(%y)\n  output %z\n}\n";
        let w = Tensor::zeros(landfall_tensor::DType::F32, Shape::from([3, 5])).unwrap();
        let found = cost(text, &[w], &[Shape::from([4, 3])]);
        assert_eq!(found, Cost { flops: 2 * 4 * 3 * 5 + 4 * 5, uncounted: 0 });
    }

    #[test]
    fn attention_counts_scores_and_sums() {
        let text = "graph \"g\" {\n  input %q: f32[1,s,8]\n  \
                    %y: f32[1,s,8] = landfall.FusedAttention(%q, %q, %q) {heads=2}\n  \
                    output %y\n}\n";
        let found = cost(text, &[], &[Shape::from([1, 6, 8])]);
        assert_eq!(found.flops, 2 * (2 * 6 * 6 * 8));
    }
}
