//! Operators that move elements without computing: reshape, transpose, slice, concatenate, gather.

use landfall_tensor::{DType, MAX_RANK};

use super::context::{InferError, Operands, add_dims, broadcast_dims, product, resolve_axis};
use super::{Fact, Int};
use crate::{Dim, Op};

type Dims = Option<Vec<Dim>>;

pub(super) fn infer(operands: &Operands<'_>) -> Option<Result<Vec<Fact>, InferError>> {
    let dtype = operands.dtype(0);
    let dims = match operands.op {
        Op::Reshape(op) => reshape(operands, op.allowzero),
        Op::Transpose(op) => transpose(operands, &op.perm),
        Op::Flatten(op) => flatten(operands, op.axis),
        Op::Squeeze => squeeze(operands),
        Op::Unsqueeze => unsqueeze(operands),
        Op::Concat(op) => concat(operands, op.axis),
        Op::Slice => slice(operands),
        Op::Gather(op) => gather(operands, op.axis),
        Op::Expand => expand(operands),
        Op::Tile => tile(operands),
        Op::Pad(_) => pad(operands),
        Op::Split(op) => return Some(split(operands, op.axis, op.num_outputs)),
        Op::Shape(op) => {
            let extent = operands.rank(0).map(|rank| {
                let (start, end) = shape_range(op.start, op.end, rank);
                vec![Dim::Known(end.saturating_sub(start))]
            });
            let dims = extent.or_else(|| Some(vec![Dim::Unknown]));
            return Some(Ok(vec![Fact::new(Some(DType::I64), dims)]));
        }
        Op::Size => return Some(Ok(vec![Fact::new(Some(DType::I64), Some(Vec::new()))])),
        Op::ConstantOfShape(op) => {
            let dtype = op.value.as_ref().map_or(DType::F32, landfall_tensor::Tensor::dtype);
            let dims = extents(operands, 0);
            return Some(dims.map(|dims| vec![Fact::new(Some(dtype), dims)]));
        }
        _ => return None,
    };
    Some(dims.map(|dims| vec![Fact::new(dtype, dims)]))
}

/// First and one-past-last axis that `Shape` reports.
pub(super) fn shape_range(start: i64, end: Option<i64>, rank: usize) -> (usize, usize) {
    let signed = i64::try_from(rank).unwrap_or(i64::MAX);
    let clamp = |axis: i64| {
        let axis = if axis < 0 { axis.saturating_add(signed) } else { axis };
        usize::try_from(axis.clamp(0, signed)).unwrap_or(0)
    };
    (clamp(start), end.map_or(rank, clamp))
}

/// An integer operand read as extents; where only its length is known, the extents are unknown.
fn extents(operands: &Operands<'_>, index: usize) -> Result<Dims, InferError> {
    if let Some(ints) = operands.partial_ints(index) {
        if let Some(Int::Known(n)) = ints.iter().find(|i| matches!(i, Int::Known(n) if *n < 0)) {
            return InferError::because(format!("{n} is not a possible extent"));
        }
        return Ok(Some(ints.iter().map(Dim::from).collect()));
    }
    let length = operands.dims(index).and_then(|dims| match dims {
        [Dim::Known(n)] => Some(*n),
        _ => None,
    });
    match length {
        Some(n) if n > MAX_RANK => {
            InferError::because(format!("{n} extents, the limit is {MAX_RANK}"))
        }
        length => Ok(length.map(|n| vec![Dim::Unknown; n])),
    }
}

fn reshape(operands: &Operands<'_>, allowzero: bool) -> Result<Dims, InferError> {
    let Some(target) = operands.partial_ints(1) else { return extents(operands, 1) };
    let input = operands.dims(0);
    let mut dims = Vec::with_capacity(target.len());
    let mut inferred = None;
    for (axis, int) in target.iter().enumerate() {
        dims.push(match int {
            Int::Known(0) if !allowzero => match input.map(|dims| dims.get(axis)) {
                None => Dim::Unknown,
                Some(Some(dim)) => dim.clone(),
                Some(None) => {
                    return InferError::because(format!("no input axis {axis} to copy"));
                }
            },
            Int::Known(-1) => {
                if inferred.replace(axis).is_some() {
                    return InferError::because("more than one extent is -1");
                }
                Dim::Unknown
            }
            Int::Known(n) if *n < 0 => {
                return InferError::because(format!("{n} is not a possible extent"));
            }
            other => Dim::from(other),
        });
    }
    if let (Some(axis), Some(input)) = (inferred, input) {
        dims[axis] = quotient(input, &dims, axis)?;
    } else if let Some(input) = input
        && let (Dim::Known(have), Dim::Known(want)) = (product(input), product(&dims))
        && have != want
    {
        return InferError::because(format!("{have} elements cannot be reshaped to {want}"));
    }
    Ok(Some(dims))
}

/// The extent at `axis` that makes `dims` hold as many elements as `input`.
fn quotient(input: &[Dim], dims: &[Dim], axis: usize) -> Result<Dim, InferError> {
    let mut numerator: Vec<&Dim> = input.iter().collect();
    let mut denominator = Vec::new();
    for (_, dim) in dims.iter().enumerate().filter(|&(i, _)| i != axis) {
        match numerator.iter().position(|n| n.same(dim)) {
            Some(found) => {
                numerator.swap_remove(found);
            }
            None => denominator.push(dim),
        }
    }
    let known = |dims: &[&Dim]| product(dims.iter().copied().filter(|d| d.known().is_some()));
    let (Dim::Known(have), Dim::Known(per)) = (known(&numerator), known(&denominator)) else {
        return Ok(Dim::Unknown);
    };
    numerator.retain(|dim| dim.known().is_none());
    if denominator.iter().any(|dim| dim.known().is_none()) {
        return Ok(Dim::Unknown);
    }
    Ok(match numerator.as_slice() {
        [] if have == 0 && per == 0 => Dim::Known(0),
        [] if per != 0 && have % per == 0 => Dim::Known(have / per),
        [] => {
            return InferError::because(format!(
                "{have} elements do not divide into rows of {per}"
            ));
        }
        [symbol] if have == per && have != 0 => (*symbol).clone(),
        _ => Dim::Unknown,
    })
}

fn transpose(operands: &Operands<'_>, perm: &[i64]) -> Result<Dims, InferError> {
    let Some(dims) = operands.dims(0) else { return Ok(None) };
    if perm.is_empty() {
        return Ok(Some(dims.iter().rev().cloned().collect()));
    }
    let mut seen = vec![false; dims.len()];
    let axes: Vec<usize> =
        perm.iter().map(|&axis| resolve_axis(axis, dims.len())).collect::<Result<_, _>>()?;
    for &axis in &axes {
        seen[axis] = true;
    }
    if axes.len() != dims.len() || seen.contains(&false) {
        return InferError::because(format!(
            "perm {perm:?} is no permutation of {} axes",
            dims.len()
        ));
    }
    Ok(Some(axes.into_iter().map(|axis| dims[axis].clone()).collect()))
}

fn flatten(operands: &Operands<'_>, axis: i64) -> Result<Dims, InferError> {
    let Some(dims) = operands.dims(0) else {
        return Ok(Some(vec![Dim::Unknown, Dim::Unknown]));
    };
    // One past the last axis is allowed.
    let axis = resolve_axis(if axis < 0 { axis - 1 } else { axis }, dims.len() + 1)?;
    Ok(Some(vec![product(&dims[..axis]), product(&dims[axis..])]))
}

fn squeeze(operands: &Operands<'_>) -> Result<Dims, InferError> {
    let Some(dims) = operands.dims(0) else { return Ok(None) };
    if !operands.has(1) {
        let kept = dims.iter().filter(|dim| **dim != Dim::Known(1)).cloned().collect();
        let certain = dims.iter().all(|dim| dim.known().is_some());
        return Ok(certain.then_some(kept));
    }
    let Some(axes) = operands.ints(1) else { return Ok(None) };
    let axes: Vec<usize> =
        axes.iter().map(|&axis| resolve_axis(axis, dims.len())).collect::<Result<_, _>>()?;
    if let Some(&axis) = axes.iter().find(|&&axis| dims[axis].known().is_some_and(|n| n != 1)) {
        return InferError::because(format!("axis {axis} has extent {}, not 1", dims[axis]));
    }
    let kept = dims.iter().enumerate().filter(|(axis, _)| !axes.contains(axis));
    Ok(Some(kept.map(|(_, dim)| dim.clone()).collect()))
}

fn unsqueeze(operands: &Operands<'_>) -> Result<Dims, InferError> {
    let (Some(dims), Some(axes)) = (operands.dims(0), operands.ints(1)) else { return Ok(None) };
    let rank = dims.len() + axes.len();
    let mut axes: Vec<usize> =
        axes.iter().map(|&axis| resolve_axis(axis, rank)).collect::<Result<_, _>>()?;
    axes.sort_unstable();
    axes.dedup();
    if dims.len() + axes.len() != rank {
        return InferError::because("an axis is inserted twice");
    }
    let mut out = dims.to_vec();
    for axis in axes {
        out.insert(axis, Dim::Known(1));
    }
    Ok(Some(out))
}

fn concat(operands: &Operands<'_>, axis: i64) -> Result<Dims, InferError> {
    (1..operands.len()).try_for_each(|index| operands.expect_dtype_of_first(index))?;
    let Some(first) = operands.dims(0) else { return Ok(None) };
    let axis = resolve_axis(axis, first.len())?;
    let mut out = first.to_vec();
    for index in 1..operands.len() {
        let Some(dims) = operands.dims(index) else { return Ok(None) };
        if dims.len() != out.len() {
            return InferError::because(format!("operand {index} has another rank"));
        }
        for (i, (a, b)) in out.iter_mut().zip(dims).enumerate() {
            if i == axis {
                *a = add_dims(a, b);
            } else if let (Some(x), Some(y)) = (a.known(), b.known()) {
                if x != y {
                    return InferError::because(format!(
                        "operand {index} has extent {y} at axis {i}, others {x}"
                    ));
                }
            } else if b.known().is_some() {
                *a = b.clone();
            }
        }
    }
    Ok(Some(out))
}

/// First index and number of elements of a slice, bounds clamped as ONNX `Slice` does.
pub fn slice_range(start: i64, end: i64, step: i64, extent: usize) -> (i64, usize) {
    let n = i64::try_from(extent).unwrap_or(i64::MAX);
    let shift = |index: i64| if index < 0 { index.saturating_add(n) } else { index };
    let (start, end) = if step > 0 {
        (shift(start).clamp(0, n), shift(end).clamp(0, n))
    } else {
        (shift(start).clamp(0.min(n - 1), n - 1), shift(end).clamp(-1, n - 1))
    };
    let span = if step > 0 { end - start } else { start - end };
    let count = if span <= 0 { 0 } else { 1 + (span - 1) / step.saturating_abs() };
    (start, usize::try_from(count).unwrap_or(0))
}

fn slice(operands: &Operands<'_>) -> Result<Dims, InferError> {
    let Some(dims) = operands.dims(0) else { return Ok(None) };
    let mut out = dims.to_vec();
    let axes: Vec<i64> = match (operands.has(3), operands.ints(3)) {
        (true, Some(axes)) => axes,
        (true, None) => return Ok(Some(vec![Dim::Unknown; dims.len()])),
        (false, _) => {
            let length = operands.dims(1).and_then(|d| d.first()).and_then(Dim::known);
            let length = length.unwrap_or(dims.len());
            if length > dims.len() {
                return InferError::because(format!("{length} starts for {} axes", dims.len()));
            }
            (0..i64::try_from(length).unwrap_or(0)).collect()
        }
    };
    let steps = match (operands.has(4), operands.ints(4)) {
        (true, None) => None,
        (true, Some(steps)) => Some(steps),
        (false, _) => Some(vec![1; axes.len()]),
    };
    let known = |index: usize, i: usize| {
        operands.partial_ints(index).and_then(|ints| match ints.get(i) {
            Some(Int::Known(n)) => Some(*n),
            _ => None,
        })
    };
    let symbol = |index: usize, i: usize| match operands.partial_ints(index)?.get(i)? {
        Int::Symbol(name) => Some(name),
        _ => None,
    };
    for (i, &axis) in axes.iter().enumerate() {
        let axis = resolve_axis(axis, dims.len())?;
        let step = steps.as_ref().and_then(|steps| steps.get(i)).copied();
        if step == Some(0) {
            return InferError::because("a slice's step is 0");
        }
        out[axis] = match (known(1, i), known(2, i), step, dims[axis].known()) {
            (Some(start), Some(end), Some(step), Some(extent)) => {
                Dim::Known(slice_range(start, end, step, extent).1)
            }
            (Some(0), Some(end), Some(1), None) if end >= i64::from(i32::MAX) => dims[axis].clone(),
            (Some(0), None, Some(1), Some(extent)) => match symbol(2, i) {
                Some(name) => Dim::at_most(extent, name),
                None => Dim::Unknown,
            },
            _ => Dim::Unknown,
        };
    }
    Ok(Some(out))
}

fn gather(operands: &Operands<'_>, axis: i64) -> Result<Dims, InferError> {
    let (Some(data), Some(indices)) = (operands.dims(0), operands.dims(1)) else { return Ok(None) };
    let axis = resolve_axis(axis, data.len())?;
    let parts = [&data[..axis], indices, &data[axis + 1..]];
    Ok(Some(parts.into_iter().flatten().cloned().collect()))
}

fn expand(operands: &Operands<'_>) -> Result<Dims, InferError> {
    match (operands.dims(0), extents(operands, 1)?) {
        (Some(dims), Some(target)) => broadcast_dims(dims, &target).map(Some),
        _ => Ok(None),
    }
}

fn tile(operands: &Operands<'_>) -> Result<Dims, InferError> {
    let Some(dims) = operands.dims(0) else { return Ok(None) };
    let Some(repeats) = operands.ints(1) else { return Ok(Some(vec![Dim::Unknown; dims.len()])) };
    if repeats.len() != dims.len() || repeats.iter().any(|&n| n < 0) {
        return InferError::because(format!("repeats {repeats:?} for {} axes", dims.len()));
    }
    let scaled = dims
        .iter()
        .zip(&repeats)
        .map(|(dim, &n)| product([dim, &Dim::Known(usize::try_from(n).unwrap_or(0))]));
    Ok(Some(scaled.collect()))
}

fn pad(operands: &Operands<'_>) -> Result<Dims, InferError> {
    let Some(dims) = operands.dims(0) else { return Ok(None) };
    let unknown = Ok(Some(vec![Dim::Unknown; dims.len()]));
    let Some(pads) = operands.ints(1) else { return unknown };
    let axes: Vec<usize> = match (operands.has(3), operands.ints(3)) {
        (true, None) => return unknown,
        (true, Some(axes)) => {
            axes.iter().map(|&axis| resolve_axis(axis, dims.len())).collect::<Result<_, _>>()?
        }
        (false, _) => (0..dims.len()).collect(),
    };
    if pads.len() != 2 * axes.len() {
        return InferError::because(format!("{} pads for {} axes", pads.len(), axes.len()));
    }
    let mut out = dims.to_vec();
    for (i, &axis) in axes.iter().enumerate() {
        let total = pads[i].saturating_add(pads[i + axes.len()]);
        out[axis] = match dims[axis].known().and_then(|n| i64::try_from(n).ok()) {
            Some(extent) => match usize::try_from(extent.saturating_add(total)) {
                Ok(n) => Dim::Known(n),
                Err(_) => return InferError::because(format!("axis {axis} would become negative")),
            },
            None if total == 0 => dims[axis].clone(),
            None => Dim::Unknown,
        };
    }
    Ok(Some(out))
}

fn split(operands: &Operands<'_>, axis: i64, parts: Option<i64>) -> Result<Vec<Fact>, InferError> {
    let dtype = operands.dtype(0);
    let Some(dims) = operands.dims(0) else {
        return Ok(vec![Fact::new(dtype, None); operands.outputs]);
    };
    let axis = resolve_axis(axis, dims.len())?;
    let count = parts.and_then(|n| usize::try_from(n).ok()).unwrap_or(operands.outputs).max(1);
    let sizes: Vec<Dim> = match (operands.has(1), operands.ints(1), dims[axis].known()) {
        (true, Some(sizes), extent) => {
            let sizes: Option<Vec<usize>> =
                sizes.iter().map(|&n| usize::try_from(n).ok()).collect();
            let sizes = sizes.ok_or_else(|| InferError("a part's extent is negative".into()))?;
            let total = sizes.iter().fold(0usize, |total, &size| total.saturating_add(size));
            if extent.is_some_and(|extent| extent != total) {
                return InferError::because(format!(
                    "parts add up to {total}, axis {axis} has extent {}",
                    dims[axis]
                ));
            }
            sizes.into_iter().map(Dim::Known).collect()
        }
        (false, _, Some(extent)) => {
            let each = extent.div_ceil(count);
            let part = |i: usize| each.min(extent.saturating_sub(i.saturating_mul(each)));
            (0..operands.outputs).map(|i| Dim::Known(part(i))).collect()
        }
        _ => vec![Dim::Unknown; operands.outputs],
    };
    let fact = |size: &Dim| {
        let mut dims = dims.to_vec();
        dims[axis] = size.clone();
        Fact::new(dtype, Some(dims))
    };
    Ok(sizes.iter().take(operands.outputs).map(fact).collect())
}
