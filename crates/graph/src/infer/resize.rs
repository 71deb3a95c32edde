//! Resizing: output extents and scales.

use landfall_tensor::Tensor;

use super::context::{InferError, Operands, resolve_axis};
use super::{Fact, Int};
use crate::{AspectRatioPolicy, Dim, Op, ops};

/// One axis of a resize.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ResizedAxis {
    /// Which axis of the tensor.
    pub axis: usize,
    /// Output extent.
    pub output: usize,
    /// Output extent over input extent, before rounding.
    pub scale: f64,
}

/// The axes that a resize names, in its order: all if it names none.
fn named_axes(op: &ops::Resize, rank: usize) -> Result<Vec<usize>, InferError> {
    if op.axes.is_empty() {
        return Ok((0..rank).collect());
    }
    let axes: Vec<usize> =
        op.axes.iter().map(|&axis| resolve_axis(axis, rank)).collect::<Result<_, _>>()?;
    match (1..axes.len()).find(|&i| axes[..i].contains(&axes[i])) {
        Some(i) => InferError::because(format!("axis {} is named twice", axes[i])),
        None => Ok(axes),
    }
}

/// Scales as f32; `None` if the operand is absent or empty.
fn scales(tensor: Option<&Tensor>, axes: usize) -> Result<Option<Vec<f32>>, InferError> {
    let Some(tensor) = tensor.filter(|tensor| tensor.elements() > 0) else { return Ok(None) };
    let tensor = tensor.aligned();
    let Ok(list) = tensor.as_slice::<f32>() else {
        return InferError::because(format!("scales are {}, expected f32", tensor.dtype()));
    };
    if list.len() != axes {
        return InferError::because(format!("{} scales for {axes} axes", list.len()));
    }
    match list.iter().find(|scale| !(scale.is_finite() && **scale > 0.0)) {
        Some(scale) => InferError::because(format!("a scale of {scale}")),
        None => Ok(Some(list.to_vec())),
    }
}

/// The extent that a scale gives; in single precision, as scales are given.
fn scaled(input: usize, scale: f32) -> Result<usize, InferError> {
    let output = (input as f32 * scale).floor();
    if output > i32::MAX as f32 {
        return InferError::because(format!("scaling an extent {input} by {scale}"));
    }
    Ok(output as usize)
}

/// Resolves a resize of a tensor of shape `shape` by `scales` or to `sizes`, whichever is present.
pub fn resized_axes(
    op: &ops::Resize,
    shape: &[usize],
    scale_operand: Option<&Tensor>,
    sizes: Option<&[i64]>,
) -> Result<Vec<ResizedAxis>, InferError> {
    let axes = named_axes(op, shape.len())?;
    if let Some(scales) = scales(scale_operand, axes.len())? {
        let axis = |(&axis, scale): (&usize, f32)| {
            let output = scaled(shape[axis], scale)?;
            Ok(ResizedAxis { axis, output, scale: f64::from(scale) })
        };
        return axes.iter().zip(scales).map(axis).collect();
    }
    let Some(sizes) = sizes.filter(|sizes| sizes.len() == axes.len()) else {
        return InferError::because(format!("neither scales nor sizes for {} axes", axes.len()));
    };
    let mut found = Vec::with_capacity(axes.len());
    for (&axis, &size) in axes.iter().zip(sizes) {
        let output = usize::try_from(size).ok().filter(|&n| n <= i32::MAX as usize);
        let Some(output) = output else {
            return InferError::because(format!("{size} is not a possible extent"));
        };
        let scale = if shape[axis] == 0 { 1.0 } else { output as f64 / shape[axis] as f64 };
        found.push(ResizedAxis { axis, output, scale });
    }
    let all = found.iter().map(|axis| axis.scale);
    let common = match op.keep_aspect_ratio_policy {
        AspectRatioPolicy::Stretch => return Ok(found),
        AspectRatioPolicy::NotLarger => all.fold(f64::INFINITY, f64::min),
        AspectRatioPolicy::NotSmaller => all.fold(0.0, f64::max),
    };
    for axis in &mut found {
        axis.scale = common;
        axis.output = (common * shape[axis.axis] as f64 + 0.5).floor() as usize;
    }
    Ok(found)
}

pub(super) fn infer(operands: &Operands<'_>) -> Option<Result<Vec<Fact>, InferError>> {
    let Op::Resize(op) = operands.op else { return None };
    let dims = operands.dims(0).map(|dims| extents(operands, op, dims)).transpose();
    Some(dims.map(|dims| vec![Fact::new(operands.dtype(0), dims)]))
}

fn extents(
    operands: &Operands<'_>,
    op: &ops::Resize,
    input: &[Dim],
) -> Result<Vec<Dim>, InferError> {
    let mut dims = input.to_vec();
    let axes = named_axes(op, dims.len())?;
    let concrete: Option<Vec<usize>> = input.iter().map(Dim::known).collect();
    let sizes = operands.ints(3);
    let known = operands.tensor(2).is_some_and(|t| t.elements() > 0) || sizes.is_some();
    if let (Some(shape), true) = (concrete, known) {
        for found in resized_axes(op, &shape, operands.tensor(2), sizes.as_deref())? {
            dims[found.axis] = Dim::Known(found.output);
        }
        return Ok(dims);
    }
    let scales = scales(operands.tensor(2), axes.len())?;
    let sizes = operands.partial_ints(3).filter(|sizes| sizes.len() == axes.len());
    let stretched = op.keep_aspect_ratio_policy == AspectRatioPolicy::Stretch;
    for (i, &axis) in axes.iter().enumerate() {
        dims[axis] = match (&scales, sizes) {
            (Some(scales), _) if scales[i] == 1.0 => dims[axis].clone(),
            (Some(scales), _) => match &dims[axis] {
                Dim::Known(n) => Dim::Known(scaled(*n, scales[i])?),
                _ => Dim::Unknown,
            },
            (None, Some(sizes)) if stretched && !matches!(sizes[i], Int::Known(n) if n < 0) => {
                Dim::from(&sizes[i])
            }
            _ => Dim::Unknown,
        };
    }
    Ok(dims)
}
