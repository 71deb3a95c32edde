//! The contract with whoever can compute: constant folding asks for values through it.

use landfall_graph::Op;
use landfall_tensor::Tensor;

/// Computes one operator on constant operands, which may lie across their alignment.
pub trait Evaluate {
    /// The first `outputs` results in the operator's order, or `None` if the operator is not
    /// supported or fails; the node is then left for the runtime, which reports the failure.
    fn evaluate(&self, op: &Op, inputs: &[Option<Tensor>], outputs: usize) -> Option<Vec<Tensor>>;
}

/// Computes nothing: folding that needs values is then left out.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoEvaluator;

impl Evaluate for NoEvaluator {
    fn evaluate(&self, _: &Op, _: &[Option<Tensor>], _: usize) -> Option<Vec<Tensor>> {
        None
    }
}
