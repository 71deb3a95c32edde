//! Normalisations: results of the input's shape, and the statistics that some also give.

use landfall_tensor::DType;

use super::Fact;
use super::context::{InferError, Operands, resolve_axis};
use crate::{Dim, Op};

pub(super) fn infer(operands: &Operands<'_>) -> Option<Result<Vec<Fact>, InferError>> {
    let dtype = operands.dtype(0);
    let whole = |dtype| Fact::new(dtype, operands.dims(0).map(<[Dim]>::to_vec));
    Some(Ok(match operands.op {
        Op::BatchNormalization(_) => {
            let list = |index: usize| {
                Fact::new(operands.dtype(index), operands.dims(index).map(<[Dim]>::to_vec))
            };
            vec![whole(dtype), list(3), list(4)]
        }
        Op::LayerNormalization(op) => {
            let stash = Some(op.stash_type.unwrap_or(DType::F32));
            let dims = match operands.dims(0).map(|dims| statistics(dims, op.axis)).transpose() {
                Ok(dims) => dims,
                Err(error) => return Some(Err(error)),
            };
            vec![whole(dtype), Fact::new(stash, dims.clone()), Fact::new(stash, dims)]
        }
        Op::RmsNormalization(_) => vec![whole(operands.dtype(1))],
        Op::GroupNormalization(_)
        | Op::InstanceNormalization(_)
        | Op::LpNormalization(_)
        | Op::Lrn(_)
        | Op::MeanVarianceNormalization(_) => vec![whole(dtype)],
        _ => return None,
    }))
}

/// The extents with those from `axis` on reduced to 1.
fn statistics(dims: &[Dim], axis: i64) -> Result<Vec<Dim>, InferError> {
    let axis = resolve_axis(axis, dims.len())?;
    let ones = dims[axis..].iter().map(|_| Dim::Known(1));
    Ok(dims[..axis].iter().cloned().chain(ones).collect())
}
