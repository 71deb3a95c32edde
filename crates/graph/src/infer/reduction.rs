//! Reductions and running sums.

use landfall_tensor::DType;

use super::Fact;
use super::context::{InferError, Operands, resolve_axis};
use crate::{Dim, Op};

pub(super) fn infer(operands: &Operands<'_>) -> Option<Result<Vec<Fact>, InferError>> {
    let dtype = operands.dtype(0);
    macro_rules! reduce {
        ($op:expr) => {
            reduce(operands, $op.keepdims, $op.noop_with_empty_axes)
        };
    }
    let dims = match operands.op {
        Op::ReduceL1(op) => reduce!(op),
        Op::ReduceL2(op) => reduce!(op),
        Op::ReduceLogSum(op) => reduce!(op),
        Op::ReduceLogSumExp(op) => reduce!(op),
        Op::ReduceMax(op) => reduce!(op),
        Op::ReduceMean(op) => reduce!(op),
        Op::ReduceMin(op) => reduce!(op),
        Op::ReduceProd(op) => reduce!(op),
        Op::ReduceSum(op) => reduce!(op),
        Op::ReduceSumSquare(op) => reduce!(op),
        Op::ArgMax(op) => return Some(arg(operands, op.axis, op.keepdims)),
        Op::ArgMin(op) => return Some(arg(operands, op.axis, op.keepdims)),
        Op::CumProd(_) | Op::CumSum(_) => Ok(operands.dims(0).map(<[Dim]>::to_vec)),
        _ => return None,
    };
    Some(dims.map(|dims| vec![Fact::new(dtype, dims)]))
}

fn reduce(
    operands: &Operands<'_>,
    keep: bool,
    empty_is_none: bool,
) -> Result<Option<Vec<Dim>>, InferError> {
    let Some(dims) = operands.dims(0) else { return Ok(None) };
    let axes: Vec<usize> = match (operands.has(1), operands.ints(1)) {
        (true, None) => return Ok(keep.then(|| vec![Dim::Unknown; dims.len()])),
        (true, Some(axes)) if !axes.is_empty() => {
            axes.iter().map(|&axis| resolve_axis(axis, dims.len())).collect::<Result<_, _>>()?
        }
        _ if empty_is_none => Vec::new(),
        _ => (0..dims.len()).collect(),
    };
    Ok(Some(without(dims, &axes, keep)))
}

fn arg(operands: &Operands<'_>, axis: i64, keep: bool) -> Result<Vec<Fact>, InferError> {
    let dims = match operands.dims(0) {
        Some(dims) => Some(without(dims, &[resolve_axis(axis, dims.len())?], keep)),
        None => None,
    };
    Ok(vec![Fact::new(Some(DType::I64), dims)])
}

/// The extents with `axes` reduced: to 1 if kept, else gone.
fn without(dims: &[Dim], axes: &[usize], keep: bool) -> Vec<Dim> {
    let reduced =
        dims.iter().enumerate().filter_map(|(axis, dim)| match (axes.contains(&axis), keep) {
            (false, _) => Some(dim.clone()),
            (true, true) => Some(Dim::Known(1)),
            (true, false) => None,
        });
    reduced.collect()
}
