//! Sampling of images: grids, regions of interest, moved windows, and the inverse of pooling.

use super::Fact;
use super::context::{InferError, Operands};
use super::convolution::at;
use crate::{Dim, Op, ops};

type Dims = Result<Option<Vec<Dim>>, InferError>;

pub(super) fn infer(operands: &Operands<'_>) -> Option<Result<Vec<Fact>, InferError>> {
    let dims = match operands.op {
        Op::AffineGrid(_) => affine_grid(operands),
        Op::DeformConv(_) => Ok(deformable(operands)),
        Op::GridSample(_) => Ok(grid_sample(operands)),
        Op::MaxRoiPool(op) => regions(operands, &op.pooled_shape),
        Op::MaxUnpool(op) => unpool(operands, op),
        Op::RoiAlign(op) => regions(operands, &[op.output_height, op.output_width]),
        _ => return None,
    };
    Some(dims.map(|dims| vec![Fact::new(operands.dtype(0), dims)]))
}

/// `[N, C, H, W]` gives `[N, H, W, 2]`, `[N, C, D, H, W]` gives `[N, D, H, W, 3]`.
fn affine_grid(operands: &Operands<'_>) -> Dims {
    let Some(size) = operands.partial_ints(1) else { return Ok(None) };
    let ([batch, _, spatial @ ..], 4 | 5) = (size, size.len()) else {
        return InferError::because(format!("a size of {} extents, expected 4 or 5", size.len()));
    };
    let axes = Dim::Known(spatial.len());
    let dims = std::iter::once(batch).chain(spatial).map(Dim::from);
    Ok(Some(dims.chain([axes]).collect()))
}

fn deformable(operands: &Operands<'_>) -> Option<Vec<Dim>> {
    let (x, w, offsets) = (operands.dims(0)?, operands.dims(1)?, operands.dims(2)?);
    let spatial = offsets.get(2..)?.iter().cloned();
    Some([x.first()?.clone(), w.first()?.clone()].into_iter().chain(spatial).collect())
}

fn grid_sample(operands: &Operands<'_>) -> Option<Vec<Dim>> {
    let (x, grid) = (operands.dims(0)?, operands.dims(1)?);
    let points = grid.get(1..grid.len().checked_sub(1)?)?;
    Some(x.get(..2)?.iter().chain(points).cloned().collect())
}

fn regions(operands: &Operands<'_>, bins: &[i64]) -> Dims {
    let (Some([_, channels, ..]), Some([count, ..])) = (operands.dims(0), operands.dims(1)) else {
        return Ok(None);
    };
    let mut dims = vec![count.clone(), channels.clone()];
    for axis in 0..bins.len() {
        dims.push(Dim::Known(at(bins, axis, 1, 1)?));
    }
    Ok(Some(dims))
}

fn unpool(operands: &Operands<'_>, op: &ops::MaxUnpool) -> Dims {
    if operands.has(2) {
        let rank = operands.rank(0);
        let given = operands.partial_ints(2).map(|ints| ints.iter().map(Dim::from).collect());
        return Ok(given.or_else(|| rank.map(|rank| vec![Dim::Unknown; rank])));
    }
    let Some(x) = operands.dims(0) else { return Ok(None) };
    let known: Option<Vec<usize>> = x.iter().skip(2).map(Dim::known).collect();
    let spatial = match known {
        Some(extents) => unpooled_extents(op, &extents)?.into_iter().map(Dim::Known).collect(),
        None => vec![Dim::Unknown; x.len().saturating_sub(2)],
    };
    Ok(Some(x.iter().take(2).cloned().chain(spatial).collect()))
}

/// The spatial extents whose pooling gives `input`.
pub fn unpooled_extents(op: &ops::MaxUnpool, input: &[usize]) -> Result<Vec<usize>, InferError> {
    let rank = op.kernel_shape.len();
    if rank != input.len() {
        return InferError::because(format!(
            "kernel_shape has {rank} axes, the input has {} spatial axes",
            input.len()
        ));
    }
    let extent = |(axis, &n): (usize, &usize)| {
        let (kernel, stride) = (at(&op.kernel_shape, axis, 1, 1)?, at(&op.strides, axis, 1, 1)?);
        let pads = at(&op.pads, axis, 0, 0)? + at(&op.pads, axis + rank, 0, 0)?;
        n.checked_sub(1)
            .and_then(|n| n.checked_mul(stride)?.checked_add(kernel)?.checked_sub(pads))
            .ok_or_else(|| InferError(format!("unpooling an extent {n} with pads of {pads}")))
    };
    input.iter().enumerate().map(extent).collect()
}
