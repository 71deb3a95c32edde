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
        _ => return None,
    };
    Some(Ok(facts))
}
