//! Attention and what surrounds it in language models.

use super::Fact;
use super::context::{InferError, Operands, add_dims};
use crate::{Dim, Op, ops};

pub(super) fn infer(operands: &Operands<'_>) -> Option<Result<Vec<Fact>, InferError>> {
    Some(match operands.op {
        Op::Attention(op) => attention(operands, op),
        Op::RotaryEmbedding(_) => {
            Ok(vec![Fact::new(operands.dtype(0), operands.dims(0).map(<[Dim]>::to_vec))])
        }
        Op::LinearAttention(op) => linear(operands, op),
        Op::CausalConvWithState(_) => Ok(causal_conv(operands)),
        _ => return None,
    })
}

/// `[batch, heads, rows, columns]` of an operand of rank 3 or 4.
fn by_heads(dims: &[Dim], heads: Option<i64>) -> Result<[Dim; 4], InferError> {
    match dims {
        [batch, heads, rows, columns] => {
            Ok([batch.clone(), heads.clone(), rows.clone(), columns.clone()])
        }
        [batch, rows, hidden] => {
            let count = heads.and_then(|n| usize::try_from(n).ok()).filter(|&n| n > 0);
            let Some(count) = count else {
                return InferError::because("operands of rank 3 need the numbers of heads");
            };
            let columns = match hidden.known() {
                Some(n) if n.is_multiple_of(count) => Dim::Known(n / count),
                Some(n) => return InferError::because(format!("{n} columns, {count} heads")),
                None => Dim::Unknown,
            };
            Ok([batch.clone(), Dim::Known(count), rows.clone(), columns])
        }
        other => InferError::because(format!("an operand of rank {}, not 3 or 4", other.len())),
    }
}

fn attention(operands: &Operands<'_>, op: &ops::Attention) -> Result<Vec<Fact>, InferError> {
    let dtype = operands.dtype(0);
    let (Some(q), Some(k), Some(v)) = (operands.dims(0), operands.dims(1), operands.dims(2)) else {
        return Ok(vec![Fact::new(dtype, None); operands.outputs]);
    };
    if k.len() != q.len() || v.len() != q.len() {
        return InferError::because("query, key and value differ in rank");
    }
    let flat = q.len() == 3;
    let [batch, heads, rows, _] = by_heads(q, op.q_num_heads)?;
    let [_, kv_heads, keys, depth] = by_heads(k, op.kv_num_heads)?;
    let [.., columns] = by_heads(v, op.kv_num_heads)?;
    let total = match operands.dims(4) {
        Some([_, _, past, _]) => add_dims(past, &keys),
        None if !operands.has(4) => keys,
        _ => Dim::Unknown,
    };
    let out = if flat {
        let hidden = super::context::product([&heads, &columns]);
        vec![batch.clone(), rows.clone(), hidden]
    } else {
        vec![batch.clone(), heads.clone(), rows.clone(), columns.clone()]
    };
    let present = |last: Dim| vec![batch.clone(), kv_heads.clone(), total.clone(), last];
    let scores = vec![batch.clone(), heads, rows, total.clone()];
    let dims = [out, present(depth), present(columns), scores];
    let dtypes = [dtype, operands.dtype(1), operands.dtype(2), dtype];
    Ok(dims.into_iter().zip(dtypes).map(|(dims, t)| Fact::new(t, Some(dims))).collect())
}

/// `[B, T, q_heads columns]` and the state `[B, kv_heads, depth, columns]`.
fn linear(operands: &Operands<'_>, op: &ops::LinearAttention) -> Result<Vec<Fact>, InferError> {
    let dtype = operands.dtype(0);
    let (Some(q), Some(k), Some(v)) = (operands.dims(0), operands.dims(1), operands.dims(2)) else {
        return Ok(vec![Fact::new(dtype, None); operands.outputs]);
    };
    if [q.len(), k.len(), v.len()] != [3; 3] {
        return InferError::because("query, key and value must have rank 3");
    }
    let [batch, heads, rows, _] = by_heads(q, Some(op.q_num_heads))?;
    let [_, kv_heads, _, depth] = by_heads(k, Some(op.kv_num_heads))?;
    let [.., columns] = by_heads(v, Some(op.kv_num_heads))?;
    let hidden = super::context::product([&heads, &columns]);
    let state_type = operands.dtype(3).or(dtype);
    Ok(vec![
        Fact::new(dtype, Some(vec![batch.clone(), rows, hidden])),
        Fact::new(state_type, Some(vec![batch, kv_heads, depth, columns])),
    ])
}

/// `[N, C, L]` and the state `[N, C, k - 1]`.
fn causal_conv(operands: &Operands<'_>) -> Vec<Fact> {
    let dtype = operands.dtype(0);
    let dims = operands.dims(0);
    let state = match (dims, operands.dims(1)) {
        (Some([batch, channels, _]), Some([_, _, kernel])) => {
            let kept = kernel.known().map_or(Dim::Unknown, |k| Dim::Known(k.saturating_sub(1)));
            Some(vec![batch.clone(), channels.clone(), kept])
        }
        _ => None,
    };
    vec![Fact::new(dtype, dims.map(<[Dim]>::to_vec)), Fact::new(dtype, state)]
}
