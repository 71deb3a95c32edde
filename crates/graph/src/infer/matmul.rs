//! Matrix products.

use landfall_tensor::DType;

use super::Fact;
use super::context::{InferError, Operands, broadcast_dims};
use crate::{Dim, Op};

pub(super) fn infer(operands: &Operands<'_>) -> Option<Result<Vec<Fact>, InferError>> {
    let dtype = operands.dtype(0);
    let result = match operands.op {
        Op::MatMul | Op::DynamicQuantMatMul(_) | Op::DynamicQuantizeMatMul => {
            matmul(operands, (0, 1), false, dtype)
        }
        Op::FusedMatMul(op) => matmul(operands, (0, 1), op.trans_b, dtype),
        Op::QuantizedMatMul(_) => {
            let dtype = if operands.has(7) { operands.dtype(7) } else { Some(DType::F32) };
            matmul(operands, (0, 3), false, dtype)
        }
        Op::FusedAttention(_) => Ok(attention(operands, dtype)),
        Op::MatMulInteger => matmul(operands, (0, 1), false, Some(DType::I32)),
        Op::QLinearMatMul => matmul(operands, (0, 3), false, operands.dtype(7)),
        Op::Gemm(op) => gemm(operands, op.trans_a, op.trans_b),
        _ => return None,
    };
    Some(result.map(|fact| vec![fact]))
}

/// `[B, Sq, heads Dv]`, from `q [B, Sq, heads Dk]` and `v [B, Skv, heads Dv]`.
fn attention(operands: &Operands<'_>, dtype: Option<DType>) -> Fact {
    let dims = match (operands.dims(0), operands.dims(2)) {
        (Some([batch, rows, _]), Some([_, _, columns])) => {
            Some(vec![batch.clone(), rows.clone(), columns.clone()])
        }
        _ => None,
    };
    Fact::new(dtype, dims)
}

fn inner(a: &Dim, b: &Dim) -> Result<(), InferError> {
    match (a.known(), b.known()) {
        (Some(x), Some(y)) if x != y => {
            InferError::because(format!("inner extents {x} and {y} differ"))
        }
        _ => Ok(()),
    }
}

fn matmul(
    operands: &Operands<'_>,
    (left, right): (usize, usize),
    trans_b: bool,
    dtype: Option<DType>,
) -> Result<Fact, InferError> {
    let (Some(a), Some(b)) = (operands.dims(left), operands.dims(right)) else {
        return Ok(Fact::new(dtype, None));
    };
    if a.is_empty() || b.is_empty() {
        return InferError::because("a scalar cannot be an operand of a matrix product");
    }
    let (a_batch, a_tail) = a.split_at(a.len().saturating_sub(2));
    let (b_batch, b_tail) = b.split_at(b.len().saturating_sub(2));
    let (rows, k_a) = match a_tail {
        [rows, k] => (Some(rows), k),
        tail => (None, &tail[0]),
    };
    let (k_b, columns) = match b_tail {
        [columns, k] if trans_b => (k, Some(columns)),
        [k, columns] => (k, Some(columns)),
        tail => (&tail[0], None),
    };
    inner(k_a, k_b)?;
    let mut dims = broadcast_dims(a_batch, b_batch)?;
    dims.extend(rows.into_iter().chain(columns).cloned());
    Ok(Fact::new(dtype, Some(dims)))
}

fn gemm(operands: &Operands<'_>, trans_a: bool, trans_b: bool) -> Result<Fact, InferError> {
    let dtype = operands.dtype(0);
    let (Some(a), Some(b)) = (operands.dims(0), operands.dims(1)) else {
        return Ok(Fact::new(dtype, None));
    };
    let ([a0, a1], [b0, b1]) = (a, b) else {
        return InferError::because(format!(
            "operands have rank {} and {}, not 2",
            a.len(),
            b.len()
        ));
    };
    let (rows, k_a) = if trans_a { (a1, a0) } else { (a0, a1) };
    let (k_b, columns) = if trans_b { (b1, b0) } else { (b0, b1) };
    inner(k_a, k_b)?;
    Ok(Fact::new(dtype, Some(vec![rows.clone(), columns.clone()])))
}
