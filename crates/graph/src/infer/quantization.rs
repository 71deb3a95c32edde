//! Quantisation, and products of quantised operands.

use landfall_tensor::DType;

use super::Fact;
use super::context::{InferError, Operands};
use crate::{Dim, Op};

pub(super) fn infer(operands: &Operands<'_>) -> Option<Result<Vec<Fact>, InferError>> {
    let dims = || operands.dims(0).map(<[Dim]>::to_vec);
    let facts = match operands.op {
        Op::QuantizeLinear(op) => {
            let dtype = op.output_dtype.or(match operands.has(2) {
                true => operands.dtype(2),
                false => Some(DType::U8),
            });
            vec![Fact::new(dtype, dims())]
        }
        Op::DequantizeLinear(op) => {
            vec![Fact::new(op.output_dtype.or(operands.dtype(1)), dims())]
        }
        Op::DynamicQuantizeLinear => vec![
            Fact::new(Some(DType::U8), dims()),
            Fact::new(Some(DType::F32), Some(Vec::new())),
            Fact::new(Some(DType::U8), Some(Vec::new())),
        ],
        Op::MatMulNBits(op) => return Some(nbits(operands, op.k, op.n)),
        _ => return None,
    };
    Some(Ok(facts))
}

/// `[..., N]` of `[..., K]`.
fn nbits(operands: &Operands<'_>, k: i64, n: i64) -> Result<Vec<Fact>, InferError> {
    let mut dims = operands.dims(0).map(<[Dim]>::to_vec);
    let n = usize::try_from(n).map_err(|_| InferError(format!("N is {n}, not an extent")))?;
    match dims.as_deref_mut() {
        Some([.., last]) => {
            if last.known().is_some_and(|extent| usize::try_from(k) != Ok(extent)) {
                return InferError::because(format!("an operand of {last:?} columns, K is {k}"));
            }
            *last = Dim::Known(n);
        }
        Some([]) => return InferError::because("a scalar cannot be an operand of a product"),
        None => (),
    }
    Ok(vec![Fact::new(operands.dtype(0), dims)])
}
