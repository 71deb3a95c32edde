//! Operators that work element by element, with or without broadcasting.

use landfall_tensor::DType;

use super::Fact;
use super::context::{InferError, Operands, broadcast_dims};
use crate::{Dim, Op};

pub(super) fn infer(operands: &Operands<'_>) -> Option<Result<Vec<Fact>, InferError>> {
    let first = operands.dtype(0);
    let dtype = match operands.op {
        Op::QuantizedAdd(_) => return Some(Ok(vec![same_as_first(operands, operands.dtype(7))])),
        op if is_unary(op) => return Some(Ok(vec![same_as_first(operands, first)])),
        Op::IsNan | Op::IsInf(_) | Op::Not => {
            return Some(Ok(vec![same_as_first(operands, Some(DType::Bool))]));
        }
        Op::Cast(op) => return Some(Ok(vec![cast(operands, Some(op.to))])),
        Op::BitCast(op) => return Some(Ok(vec![same_as_first(operands, Some(op.to))])),
        Op::CastLike(_) => return Some(Ok(vec![cast(operands, operands.dtype(1))])),
        Op::Dropout(_) => {
            let mask = same_as_first(operands, Some(DType::Bool));
            return Some(Ok(vec![same_as_first(operands, first), mask]));
        }
        Op::Equal
        | Op::Greater
        | Op::GreaterOrEqual
        | Op::Less
        | Op::LessOrEqual
        | Op::And
        | Op::Or
        | Op::Xor => Some(DType::Bool),
        Op::Where => operands.dtype(1).or(operands.dtype(2)),
        op if is_binary(op) => first,
        _ => return None,
    };
    Some(broadcast_all(operands).map(|dims| vec![Fact::new(dtype, dims)]))
}

fn same_as_first(operands: &Operands<'_>, dtype: Option<DType>) -> Fact {
    Fact::new(dtype, operands.dims(0).map(<[Dim]>::to_vec))
}

fn cast(operands: &Operands<'_>, to: Option<DType>) -> Fact {
    let mut fact = same_as_first(operands, to);
    if matches!(to, Some(DType::I64 | DType::I32)) {
        fact.ints = operands.partial_ints(0).map(<[_]>::to_vec);
    }
    fact
}

fn broadcast_all(operands: &Operands<'_>) -> Result<Option<Vec<Dim>>, InferError> {
    let mut dims: Option<Vec<Dim>> = Some(Vec::new());
    for index in (0..operands.len()).filter(|&i| operands.has(i)) {
        dims = match (dims, operands.dims(index)) {
            (Some(a), Some(b)) => Some(broadcast_dims(&a, b)?),
            _ => None,
        };
    }
    Ok(dims)
}

fn is_unary(op: &Op) -> bool {
    matches!(
        op,
        Op::Abs
            | Op::Acos
            | Op::Acosh
            | Op::Asin
            | Op::Asinh
            | Op::Atan
            | Op::Atanh
            | Op::BitwiseNot
            | Op::Ceil
            | Op::Celu(_)
            | Op::Clip
            | Op::Cos
            | Op::Cosh
            | Op::Elu(_)
            | Op::Erf
            | Op::Exp
            | Op::Floor
            | Op::Gelu(_)
            | Op::HardSigmoid(_)
            | Op::HardSwish
            | Op::Hardmax(_)
            | Op::Identity
            | Op::LeakyRelu(_)
            | Op::Log
            | Op::LogSoftmax(_)
            | Op::Mish
            | Op::Neg
            | Op::Reciprocal
            | Op::Relu
            | Op::Round
            | Op::Selu(_)
            | Op::Shrink(_)
            | Op::Sigmoid
            | Op::Sign
            | Op::Sin
            | Op::Sinh
            | Op::Softmax(_)
            | Op::Softplus
            | Op::Softsign
            | Op::Sqrt
            | Op::Swish(_)
            | Op::Tan
            | Op::Tanh
            | Op::ThresholdedRelu(_)
    )
}

fn is_binary(op: &Op) -> bool {
    matches!(
        op,
        Op::Add
            | Op::Sub
            | Op::Mul
            | Op::Div
            | Op::Pow
            | Op::Mod(_)
            | Op::PRelu
            | Op::Max
            | Op::Min
            | Op::Mean
            | Op::Sum
            | Op::BitShift(_)
            | Op::BitwiseAnd
            | Op::BitwiseOr
            | Op::BitwiseXor
    )
}
