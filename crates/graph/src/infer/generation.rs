//! Operators that make tensors from a few numbers, or rearrange space and depth.

use landfall_tensor::{DType, Tensor};

use super::Fact;
use super::context::{InferError, Operands, resolve_axis};
use crate::{Dim, Op};

type Dims = Option<Vec<Dim>>;

pub(super) fn infer(operands: &Operands<'_>) -> Option<Result<Vec<Fact>, InferError>> {
    let first = operands.dtype(0);
    let same = || Ok(operands.dims(0).map(<[Dim]>::to_vec));
    let (dtype, dims) = match operands.op {
        Op::Trilu(_) => (first, same()),
        Op::EyeLike(op) => (op.dtype.or(first), same()),
        Op::Bernoulli(op) => (op.dtype.or(first), same()),
        Op::RandomNormalLike(op) => (op.dtype.or(first), same()),
        Op::RandomUniformLike(op) => (op.dtype.or(first), same()),
        Op::RandomNormal(op) => (op.dtype, extents(&op.shape)),
        Op::RandomUniform(op) => (op.dtype, extents(&op.shape)),
        Op::Multinomial(op) => (op.dtype, multinomial(operands, op.sample_size)),
        Op::Range(_) => (first, range(operands).map(|dim| Some(vec![dim]))),
        Op::DepthToSpace(op) => (first, depth_to_space(operands, op.blocksize)),
        Op::SpaceToDepth(op) => (first, space_to_depth(operands, op.blocksize)),
        Op::CenterCropPad(op) => (first, center_crop_pad(operands, &op.axes)),
        Op::Col2Im(_) => (first, col2im(operands)),
        _ => return None,
    };
    Some(dims.map(|dims| vec![Fact::new(dtype, dims)]))
}

fn extents(shape: &[i64]) -> Result<Dims, InferError> {
    let extent = |&n: &i64| {
        let known = usize::try_from(n).map(Dim::Known);
        known.map_err(|_| InferError(format!("{n} is not a possible extent")))
    };
    shape.iter().map(extent).collect::<Result<_, _>>().map(Some)
}

fn multinomial(operands: &Operands<'_>, samples: i64) -> Result<Dims, InferError> {
    let rows = match operands.dims(0) {
        None => Dim::Unknown,
        Some([rows, _]) => rows.clone(),
        Some(dims) => {
            return InferError::because(format!("input of rank {}, expected 2", dims.len()));
        }
    };
    let samples = extents(&[samples])?.unwrap_or_default();
    Ok(Some([vec![rows], samples].concat()))
}

/// Most elements of a range: beyond it, its numbers are taken for a mistake.
const LONGEST_RANGE: f64 = i32::MAX as f64;

fn range(operands: &Operands<'_>) -> Result<Dim, InferError> {
    let number = |index: usize| match operands.ints(index).as_deref() {
        Some(&[n]) => Some(Number::Integer(n)),
        _ => operands.tensor(index).and_then(real).map(Number::Real),
    };
    let (Some(start), Some(limit), Some(delta)) = (number(0), number(1), number(2)) else {
        return Ok(Dim::Unknown);
    };
    let count = match (start, limit, delta) {
        (_, _, Number::Integer(0)) => return InferError::because("a range's step is 0"),
        (Number::Integer(start), Number::Integer(limit), Number::Integer(delta)) => {
            let (span, step) = (i128::from(limit) - i128::from(start), i128::from(delta));
            let (span, step) = if step < 0 { (-span, -step) } else { (span, step) };
            ((span + step - 1) / step) as f64
        }
        (start, limit, delta) => ((limit.real() - start.real()) / delta.real()).ceil(),
    };
    if count.is_nan() || count > LONGEST_RANGE {
        return InferError::because(format!(
            "a range of {count} elements, expected at most {LONGEST_RANGE}"
        ));
    }
    Ok(Dim::Known(count.max(0.0) as usize))
}

#[derive(Clone, Copy)]
enum Number {
    Integer(i64),
    Real(f64),
}

impl Number {
    fn real(self) -> f64 {
        match self {
            Number::Integer(n) => n as f64,
            Number::Real(x) => x,
        }
    }
}

/// The one number of a tensor.
fn real(tensor: &Tensor) -> Option<f64> {
    let tensor = tensor.aligned();
    match tensor.dtype() {
        DType::F32 => tensor.item::<f32>().ok().map(f64::from),
        DType::F64 => tensor.item::<f64>().ok(),
        DType::F16 => tensor.item::<landfall_tensor::f16>().ok().map(f64::from),
        DType::BF16 => tensor.item::<landfall_tensor::bf16>().ok().map(f64::from),
        DType::I16 => tensor.item::<i16>().ok().map(f64::from),
        _ => None,
    }
}

/// Extents of an image `[N, C, H, W]` and a block size above 0.
fn image<'a>(
    operands: &Operands<'a>,
    block: i64,
) -> Result<Option<(&'a [Dim; 4], usize)>, InferError> {
    let size = usize::try_from(block).ok().filter(|&n| (1..=1 << 16).contains(&n));
    let Some(size) = size else {
        return InferError::because(format!("the block size is {block}, expected 1 to 65536"));
    };
    let Some(dims) = operands.dims(0) else { return Ok(None) };
    match <&[Dim; 4]>::try_from(dims) {
        Ok(dims) => Ok(Some((dims, size))),
        Err(_) => InferError::because(format!("input of rank {}, expected 4", dims.len())),
    }
}

fn times(dim: &Dim, factor: usize) -> Dim {
    dim.known().and_then(|n| n.checked_mul(factor)).map_or(Dim::Unknown, Dim::Known)
}

fn divided(dim: &Dim, by: usize) -> Result<Dim, InferError> {
    match dim.known() {
        Some(n) if n % by != 0 => {
            InferError::because(format!("extent {n} does not divide into blocks of {by}"))
        }
        known => Ok(known.map_or(Dim::Unknown, |n| Dim::Known(n / by))),
    }
}

fn depth_to_space(operands: &Operands<'_>, block: i64) -> Result<Dims, InferError> {
    let Some(([n, c, h, w], size)) = image(operands, block)? else { return Ok(None) };
    Ok(Some(vec![n.clone(), divided(c, size * size)?, times(h, size), times(w, size)]))
}

fn space_to_depth(operands: &Operands<'_>, block: i64) -> Result<Dims, InferError> {
    let Some(([n, c, h, w], size)) = image(operands, block)? else { return Ok(None) };
    Ok(Some(vec![n.clone(), times(c, size * size), divided(h, size)?, divided(w, size)?]))
}

fn center_crop_pad(operands: &Operands<'_>, axes: &[i64]) -> Result<Dims, InferError> {
    let Some(dims) = operands.dims(0) else { return Ok(None) };
    let mut dims = dims.to_vec();
    let axes: Vec<usize> = match axes {
        [] => (0..dims.len()).collect(),
        axes => {
            axes.iter().map(|&axis| resolve_axis(axis, dims.len())).collect::<Result<_, _>>()?
        }
    };
    let target = operands.ints(1);
    if let Some(target) = &target
        && target.len() != axes.len()
    {
        return InferError::because(format!("{} extents for {} axes", target.len(), axes.len()));
    }
    let target = target.map(|target| extents(&target)).transpose()?.flatten();
    for (i, axis) in axes.into_iter().enumerate() {
        dims[axis] = target.as_ref().map_or(Dim::Unknown, |target| target[i].clone());
    }
    Ok(Some(dims))
}

fn col2im(operands: &Operands<'_>) -> Result<Dims, InferError> {
    let (Some(dims), Some(image), Some(block)) =
        (operands.dims(0), operands.ints(1), operands.ints(2))
    else {
        return Ok(None);
    };
    let [batch, columns, _] = dims else {
        return InferError::because(format!("input of rank {}, expected 3", dims.len()));
    };
    let (image, block) = (extents(&image)?.unwrap_or_default(), extents(&block)?);
    let taps = super::context::product(&block.unwrap_or_default());
    let channels = match taps.known() {
        Some(taps) if taps > 0 => divided(columns, taps)?,
        _ => return InferError::because("a block of no elements"),
    };
    Ok(Some([vec![batch.clone(), channels], image].concat()))
}
