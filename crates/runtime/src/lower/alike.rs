//! Operators that treat every image of a batch alike, so that they may run image by image.

use landfall_graph::Op;
use landfall_graph::infer::{Fact, resolve_axis};
use landfall_tensor::Tensor;

use super::elementwise::{arithmetic, unary_function};

/// Whether result rows (along the leading axis) of the operator depend only on the same rows of the
/// operands that are not constant, all of which have as many. A constant belongs to every row.
pub(crate) fn rows_are_alike(op: &Op, inputs: &[Option<&Fact>], results: &[Fact]) -> bool {
    let Some(result) = results.first().and_then(Fact::shape) else { return false };
    let rank = result.rank();
    let along_rows = |axis: i64| resolve_axis(axis, rank).is_ok_and(|axis| axis == 0);
    let only = |allowed: &[usize]| {
        let varies = |fact: &Option<&Fact>| fact.is_some_and(|fact| fact.tensor.is_none());
        let mut varying = (0..inputs.len()).filter(|&i| varies(&inputs[i]));
        varying.all(|i| allowed.contains(&i))
    };
    match op {
        Op::Conv(_) | Op::ConvInteger(_) | Op::QLinearConv(_) | Op::QuantizedConv(_) => only(&[0]),
        Op::FusedConv(_) => only(&[0, 3]),
        // Places of the largest elements are counted over the whole batch.
        Op::MaxPool(_) => results.len() == 1,
        Op::AveragePool(_)
        | Op::LpPool(_)
        | Op::ChannelsLastPool(_)
        | Op::GlobalAveragePool
        | Op::GlobalMaxPool
        | Op::GlobalLpPool(_) => true,
        Op::BatchNormalization(op) => !op.training_mode && results.len() == 1 && only(&[0]),
        Op::Lrn(_) => only(&[0]),
        Op::Clip => only(&[0]),
        Op::Cast(_) => true,
        Op::Concat(op) => inputs.len() > 1 && only_broadcast(inputs, 0) && !along_rows(op.axis),
        Op::Split(op) => only(&[0]) && !along_rows(op.axis),
        Op::Softmax(op) => !along_rows(op.axis),
        Op::Transpose(op) => op.perm.first() == Some(&0),
        Op::QuantizedAdd(_) => only(&[0, 3]),
        Op::QuantizeLinear(_) | Op::DequantizeLinear(_) => only(&[0]) && one_scale(inputs),
        Op::ReduceMean(_) | Op::ReduceSum(_) | Op::ReduceMax(_) | Op::ReduceMin(_) => {
            only(&[0]) && reduces_inside_rows(inputs)
        }
        op if unary_function(op).is_some() => only(&[0]),
        Op::Sum | Op::Mean | Op::Max | Op::Min | Op::Where => only_broadcast(inputs, rank),
        op if arithmetic(op).is_some() => only_broadcast(inputs, rank),
        _ => false,
    }
}

/// Whether every constant is the same for all rows of a result of `rank` axes, and every other
/// operand has all of its axes. Rank 0 allows no constants.
fn only_broadcast(inputs: &[Option<&Fact>], rank: usize) -> bool {
    inputs.iter().flatten().all(|fact| {
        let Some(shape) = fact.shape() else { return false };
        match fact.tensor {
            Some(_) => shape.rank() < rank || (rank > 0 && shape.first() == Some(&1)),
            None => rank == 0 || shape.rank() == rank,
        }
    })
}

fn one_scale(inputs: &[Option<&Fact>]) -> bool {
    let scale = inputs.get(1).copied().flatten().and_then(Fact::shape);
    scale.is_some_and(|shape| shape.elements() == 1)
}

/// Whether the axes to reduce are known and the leading one is not among them.
fn reduces_inside_rows(inputs: &[Option<&Fact>]) -> bool {
    let rank = inputs[0].and_then(Fact::shape).map_or(0, |shape| shape.rank());
    let axes = inputs.get(1).copied().flatten().and_then(|fact| fact.tensor.as_ref());
    let Some(axes) = axes.map(Tensor::aligned) else { return false };
    let Ok(axes) = axes.as_slice::<i64>() else { return false };
    let inside = |&axis: &i64| resolve_axis(axis, rank).is_ok_and(|axis| axis != 0);
    !axes.is_empty() && axes.iter().all(inside)
}
