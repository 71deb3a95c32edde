//! Transposed convolution: the window arithmetic read backwards.

use super::Fact;
use super::context::{InferError, Operands};
use super::convolution::at;
use crate::{AutoPad, Dim, Op, ops};

/// One spatial axis of a transposed convolution, resolved for a known extent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TransposedAxis {
    /// Step.
    pub stride: usize,
    /// Distance between kernel elements.
    pub dilation: usize,
    /// Output elements cut off before the first.
    pub pad_begin: usize,
    /// Output extent.
    pub output: usize,
}

/// Resolves spatial axis `axis` for an input and a kernel extent. Source: the equations of the ONNX
/// operator; where an output larger than the windows reach is asked for, nothing is cut off.
pub fn transposed_axis(
    op: &ops::ConvTranspose,
    [axis, rank]: [usize; 2],
    input: usize,
    kernel: usize,
) -> Result<TransposedAxis, InferError> {
    let stride = at(&op.strides, axis, 1, 1)?;
    let dilation = at(&op.dilations, axis, 1, 1)?;
    let added = at(&op.output_padding, axis, 0, 0)?;
    let reach = kernel.checked_sub(1).and_then(|n| n.checked_mul(dilation));
    let whole = input
        .checked_sub(1)
        .and_then(|n| n.checked_mul(stride))
        .zip(reach)
        .and_then(|(windows, reach)| windows.checked_add(reach)?.checked_add(1 + added))
        .filter(|&n| n <= isize::MAX as usize / 2);
    let Some(whole) = whole else {
        return InferError::because(format!(
            "an input extent {input} with a kernel extent {kernel} is not possible"
        ));
    };
    // The shape may be given for the spatial axes only, or for all.
    let given = op.output_shape.len().checked_sub(rank).map(|lead| lead + axis);
    let wanted = match (given.filter(|_| !op.output_shape.is_empty()), op.auto_pad) {
        (Some(index), _) => Some(at(&op.output_shape, index, 0, 0)?),
        (None, AutoPad::SameUpper | AutoPad::SameLower) => Some(input * stride),
        (None, _) => None,
    };
    let (pad_begin, output) = match wanted {
        Some(output) => {
            let total = whole.saturating_sub(output);
            let less = total / 2;
            (if op.auto_pad == AutoPad::SameUpper { less } else { total - less }, output)
        }
        None if op.auto_pad == AutoPad::Valid => (0, whole),
        None => {
            let (begin, end) = (at(&op.pads, axis, 0, 0)?, at(&op.pads, axis + rank, 0, 0)?);
            let Some(output) = whole.checked_sub(begin + end) else {
                return InferError::because(format!(
                    "pads {begin} and {end} cut more than the {whole} elements of spatial axis \
                     {axis}"
                ));
            };
            (begin, output)
        }
    };
    Ok(TransposedAxis { stride, dilation, pad_begin, output })
}

pub(super) fn infer(operands: &Operands<'_>) -> Option<Result<Vec<Fact>, InferError>> {
    let Op::ConvTranspose(op) = operands.op else { return None };
    let dims = extents(operands, op);
    Some(dims.map(|dims| vec![Fact::new(operands.dtype(0), dims)]))
}

fn extents(
    operands: &Operands<'_>,
    op: &ops::ConvTranspose,
) -> Result<Option<Vec<Dim>>, InferError> {
    let (Some(x), Some(w)) = (operands.dims(0), operands.dims(1)) else { return Ok(None) };
    let ([batch, _, spatial @ ..], [_, features, kernel @ ..]) = (x, w) else {
        return InferError::because("input and weights need a batch and a channel axis");
    };
    if spatial.len() != kernel.len() {
        return InferError::because(format!(
            "input has rank {}, weights have rank {}",
            x.len(),
            w.len()
        ));
    }
    let features = match (features, usize::try_from(op.group).ok().filter(|&n| n > 0)) {
        (_, None) => return InferError::because(format!("{} groups", op.group)),
        (Dim::Known(n), Some(groups)) => n.checked_mul(groups).map_or(Dim::Unknown, Dim::Known),
        (dim, Some(1)) => dim.clone(),
        _ => Dim::Unknown,
    };
    let rank = spatial.len();
    let mut dims = vec![batch.clone(), features];
    for (axis, pair) in spatial.iter().zip(kernel).enumerate() {
        dims.push(match pair {
            (Dim::Known(n), Dim::Known(k)) => {
                Dim::Known(transposed_axis(op, [axis, rank], *n, *k)?.output)
            }
            _ => Dim::Unknown,
        });
    }
    Ok(Some(dims))
}
