//! Integer vectors that compute shapes, followed element by element.

use super::context::{Operands, resolve_axis};
use super::movement::{shape_range, slice_range};
use super::{Fact, Int};
use crate::Op;

/// The elements of the node's first result, as far as they follow from the operands'.
pub(super) fn infer(operands: &Operands<'_>, result: &Fact) -> Option<Vec<Int>> {
    match operands.op {
        Op::Shape(op) => {
            let dims = operands.dims(0)?;
            let (start, end) = shape_range(op.start, op.end, dims.len());
            Some(dims.get(start..end.max(start))?.iter().map(Int::from).collect())
        }
        Op::Size => {
            let size = super::context::product(operands.dims(0)?);
            Some(vec![Int::from(&size)])
        }
        Op::Identity | Op::Squeeze | Op::Unsqueeze | Op::Reshape(_) | Op::Flatten(_) => {
            let vector = result.dims.as_ref().is_some_and(|dims| dims.len() <= 1);
            vector.then(|| operands.partial_ints(0).map(<[Int]>::to_vec)).flatten()
        }
        Op::Gather(op) => gather(operands, op.axis),
        Op::Concat(_) => {
            let parts: Option<Vec<&[Int]>> =
                (0..operands.len()).map(|i| operands.partial_ints(i)).collect();
            Some(parts?.concat())
        }
        Op::Slice => slice(operands),
        Op::Add => zip(operands, i64::checked_add),
        Op::Sub => zip(operands, i64::checked_sub),
        Op::Mul => zip(operands, i64::checked_mul),
        Op::Div => zip(operands, i64::checked_div),
        _ => None,
    }
}

fn gather(operands: &Operands<'_>, axis: i64) -> Option<Vec<Int>> {
    let data = operands.partial_ints(0)?;
    if operands.rank(0)? != 1 || operands.rank(1)? > 1 || resolve_axis(axis, 1).is_err() {
        return None;
    }
    operands
        .ints(1)?
        .into_iter()
        .map(|index| data.get(resolve_axis(index, data.len()).ok()?).cloned())
        .collect()
}

fn slice(operands: &Operands<'_>) -> Option<Vec<Int>> {
    let data = operands.partial_ints(0)?;
    let single = |index: usize, default: i64| match operands.has(index) {
        false => Some(default),
        true => match operands.ints(index)?.as_slice() {
            [value] => Some(*value),
            _ => None,
        },
    };
    let (start, end) = (single(1, 0)?, single(2, i64::MAX)?);
    let step = single(4, 1).filter(|&step| step != 0)?;
    let (first, count) = slice_range(start, end, step, data.len());
    (0..count)
        .map(|i| {
            let index = first + i64::try_from(i).ok()? * step;
            data.get(usize::try_from(index).ok()?).cloned()
        })
        .collect()
}

fn zip(operands: &Operands<'_>, f: fn(i64, i64) -> Option<i64>) -> Option<Vec<Int>> {
    let (a, b) = (operands.partial_ints(0)?, operands.partial_ints(1)?);
    if a.len() != b.len() && a.len() != 1 && b.len() != 1 {
        return None;
    }
    let at = |ints: &[Int], i: usize| ints[if ints.len() == 1 { 0 } else { i }].clone();
    let combine = |i: usize| match (at(a, i), at(b, i), operands.op) {
        (Int::Known(x), Int::Known(y), _) => f(x, y).map_or(Int::Unknown, Int::Known),
        (symbol, Int::Known(1), Op::Mul | Op::Div) | (Int::Known(1), symbol, Op::Mul) => symbol,
        (symbol, Int::Known(0), Op::Add | Op::Sub) | (Int::Known(0), symbol, Op::Add) => symbol,
        _ => Int::Unknown,
    };
    if a.is_empty() || b.is_empty() {
        return Some(Vec::new());
    }
    Some((0..a.len().max(b.len())).map(combine).collect())
}
