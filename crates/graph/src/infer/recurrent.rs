//! Recurrent layers.

use super::Fact;
use super::context::{InferError, Operands};
use crate::{Dim, Direction, Op};

pub(super) fn infer(operands: &Operands<'_>) -> Option<Result<Vec<Fact>, InferError>> {
    let (direction, batch_first) = match operands.op {
        Op::Rnn(op) => (op.direction, op.layout),
        Op::Gru(op) => (op.direction, op.layout),
        Op::Lstm(op) => (op.direction, op.layout),
        _ => return None,
    };
    Some(layer(operands, direction, batch_first))
}

/// `Y [steps, directions, batch, hidden]`, then the last states `[directions, batch, hidden]`; with
/// the batch first `[batch, steps, directions, hidden]` and `[batch, directions, hidden]`.
fn layer(
    operands: &Operands<'_>,
    direction: Direction,
    batch_first: bool,
) -> Result<Vec<Fact>, InferError> {
    let dtype = operands.dtype(0);
    let (Some(x), Some(weights)) = (operands.dims(0), operands.dims(2)) else {
        return Ok(vec![Fact::new(dtype, None); operands.outputs]);
    };
    let ([first, second, _], [_, _, hidden]) = (x, weights) else {
        return InferError::because(format!(
            "inputs and weights have rank {} and {}, not 3",
            x.len(),
            weights.len()
        ));
    };
    let count = Dim::Known(if direction == Direction::Bidirectional { 2 } else { 1 });
    let hidden = hidden.clone();
    let (all, last) = if batch_first {
        let (batch, steps) = (first.clone(), second.clone());
        let last = vec![batch.clone(), count.clone(), hidden.clone()];
        (vec![batch, steps, count, hidden], last)
    } else {
        let (steps, batch) = (first.clone(), second.clone());
        let last = vec![count.clone(), batch.clone(), hidden.clone()];
        (vec![steps, count, batch, hidden], last)
    };
    let last = Fact::new(dtype, Some(last));
    Ok(vec![Fact::new(dtype, Some(all)), last.clone(), last])
}
