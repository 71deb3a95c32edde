//! Operators that read, write or find positions: gather, scatter, top-k, one-hot, selection.

use landfall_tensor::DType;

use super::context::{InferError, Operands, resolve_axis};
use super::{Fact, Int};
use crate::{Dim, Op};

type Dims = Option<Vec<Dim>>;

pub(super) fn infer(operands: &Operands<'_>) -> Option<Result<Vec<Fact>, InferError>> {
    let dtype = operands.dtype(0);
    let dims = match operands.op {
        Op::GatherElements(op) => gather_elements(operands, op.axis),
        Op::GatherNd(op) => gather_nd(operands, op.batch_dims),
        Op::ScatterElements(_) | Op::ScatterNd(_) => scattered(operands, 2),
        Op::TensorScatter(_) => scattered(operands, 1),
        Op::ReverseSequence(_) => Ok(operands.dims(0).map(<[Dim]>::to_vec)),
        Op::Compress(op) => compress(operands, op.axis),
        Op::TopK(op) => return Some(top_k(operands, op.axis)),
        Op::OneHot(op) => {
            let dims = one_hot(operands, op.axis);
            return Some(dims.map(|dims| vec![Fact::new(operands.dtype(2), dims)]));
        }
        Op::NonZero => {
            let dims = operands.rank(0).map(|rank| vec![Dim::Known(rank), Dim::Unknown]);
            return Some(Ok(vec![Fact::new(Some(DType::I64), dims)]));
        }
        Op::NonMaxSuppression(_) => {
            let dims = Some(vec![Dim::Unknown, Dim::Known(3)]);
            return Some(Ok(vec![Fact::new(Some(DType::I64), dims)]));
        }
        Op::Unique(op) => return Some(unique(operands, op.axis)),
        _ => return None,
    };
    Some(dims.map(|dims| vec![Fact::new(dtype, dims)]))
}

/// Operand 0 with elements of operand `updates` in it.
fn scattered(operands: &Operands<'_>, updates: usize) -> Result<Dims, InferError> {
    operands.expect_dtype_of_first(updates)?;
    Ok(operands.dims(0).map(<[Dim]>::to_vec))
}

fn gather_elements(operands: &Operands<'_>, axis: i64) -> Result<Dims, InferError> {
    if let (Some(data), Some(index)) = (operands.dims(0), operands.dims(1)) {
        resolve_axis(axis, data.len())?;
        if data.len() != index.len() {
            return InferError::because(format!(
                "data of rank {} and indices of rank {}, expected the same",
                data.len(),
                index.len()
            ));
        }
    }
    Ok(operands.dims(1).map(<[Dim]>::to_vec))
}

fn gather_nd(operands: &Operands<'_>, batch_axes: i64) -> Result<Dims, InferError> {
    let (Some(data), Some(index)) = (operands.dims(0), operands.dims(1)) else { return Ok(None) };
    let Some((length, tuples)) = index.split_last() else {
        return InferError::because("indices are a scalar, expected at least one axis");
    };
    let Some(length) = length.known() else { return Ok(None) };
    let after = usize::try_from(batch_axes)
        .ok()
        .filter(|&axes| axes <= tuples.len())
        .and_then(|axes| data.get(axes.checked_add(length)?..));
    let Some(after) = after else {
        return InferError::because(format!(
            "tuples of {length} positions after {batch_axes} batch axes, for data of rank {}",
            data.len()
        ));
    };
    Ok(Some([tuples, after].concat()))
}

fn compress(operands: &Operands<'_>, axis: Option<i64>) -> Result<Dims, InferError> {
    let (Some(axis), Some(dims)) = (axis, operands.dims(0)) else {
        return Ok(if axis.is_none() { Some(vec![Dim::Unknown]) } else { None });
    };
    let mut dims = dims.to_vec();
    let axis = resolve_axis(axis, dims.len())?;
    dims[axis] = Dim::Unknown;
    Ok(Some(dims))
}

fn top_k(operands: &Operands<'_>, axis: i64) -> Result<Vec<Fact>, InferError> {
    let dims = match operands.dims(0) {
        None => None,
        Some(dims) => {
            let axis = resolve_axis(axis, dims.len())?;
            let k = match operands.partial_ints(1) {
                Some([Int::Known(k)]) if *k < 0 => {
                    return InferError::because(format!("k is {k}, expected 0 or more"));
                }
                Some([k]) => Dim::from(k),
                Some(other) => {
                    return InferError::because(format!("k has {} elements, not 1", other.len()));
                }
                None => Dim::Unknown,
            };
            if let (Some(k), Some(extent)) = (k.known(), dims[axis].known())
                && k > extent
            {
                return InferError::because(format!("k is {k}, axis {axis} has extent {extent}"));
            }
            let mut dims = dims.to_vec();
            dims[axis] = k;
            Some(dims)
        }
    };
    Ok(vec![Fact::new(operands.dtype(0), dims.clone()), Fact::new(Some(DType::I64), dims)])
}

/// Classes of a one-hot encoding; the operand may be of any numeric type.
fn depth(operands: &Operands<'_>) -> Result<Dim, InferError> {
    let real = |tensor: &landfall_tensor::Tensor| {
        let tensor = tensor.aligned();
        let of_f32 = tensor.item::<f32>().map(f64::from);
        of_f32.or_else(|_| tensor.item::<f64>()).ok()
    };
    let depth = match (operands.partial_ints(1), operands.tensor(1)) {
        (Some([Int::Known(n)]), _) => *n,
        (Some([other]), _) => return Ok(Dim::from(other)),
        (None, Some(tensor)) => match real(tensor) {
            Some(depth) => depth as i64,
            None => return Ok(Dim::Unknown),
        },
        _ => return Ok(Dim::Unknown),
    };
    match usize::try_from(depth) {
        Ok(depth) => Ok(Dim::Known(depth)),
        Err(_) => InferError::because(format!("the depth is {depth}, expected 0 or more")),
    }
}

fn one_hot(operands: &Operands<'_>, axis: i64) -> Result<Dims, InferError> {
    let Some(dims) = operands.dims(0) else { return Ok(None) };
    let mut dims = dims.to_vec();
    let axis = resolve_axis(axis, dims.len() + 1)?;
    dims.insert(axis, depth(operands)?);
    Ok(Some(dims))
}

fn unique(operands: &Operands<'_>, axis: Option<i64>) -> Result<Vec<Fact>, InferError> {
    let (mut values, mut slices) = (Some(vec![Dim::Unknown]), Dim::Unknown);
    match (axis, operands.dims(0)) {
        (Some(_), None) => values = None,
        (Some(axis), Some(dims)) => {
            let axis = resolve_axis(axis, dims.len())?;
            slices = dims[axis].clone();
            let mut dims = dims.to_vec();
            dims[axis] = Dim::Unknown;
            values = Some(dims);
        }
        (None, Some(dims)) => slices = super::context::product(dims),
        (None, None) => (),
    }
    let positions = |dim: Dim| Fact::new(Some(DType::I64), Some(vec![dim]));
    Ok(vec![
        Fact::new(operands.dtype(0), values),
        positions(Dim::Unknown),
        positions(slices),
        positions(Dim::Unknown),
    ])
}
