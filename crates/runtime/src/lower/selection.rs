//! Operators whose result shapes depend on data: what is not zero, what is chosen, what is
//! distinct, and boxes that do not overlap.

use landfall_graph::Op;
use landfall_graph::infer::resolve_axis;
use landfall_kernels::Exec;
use landfall_kernels::indexing::{
    BoxFormat, Distinct, Slices, Suppression, distinct, select_boxes, total_order,
};
use landfall_tensor::{DType, Shape, Tensor};

use super::types::number_type;
use super::{Lowered, Site};
use crate::{DynamicKernel, KernelError, KernelInfo};

pub(super) fn lower(site: &Site<'_>) -> Option<Result<Lowered, KernelError>> {
    Some(Ok(Lowered::Dynamic(match site.op {
        Op::NonZero => Box::new(NonZero),
        Op::Compress(op) => Box::new(Compress { axis: op.axis }),
        Op::Unique(op) => Box::new(Unique { axis: op.axis, sorted: op.sorted }),
        Op::NonMaxSuppression(op) => Box::new(NonMaxSuppression {
            format: if op.center_point_box { BoxFormat::Center } else { BoxFormat::Corners },
        }),
        _ => return None,
    })))
}

fn operand(inputs: &[Option<Tensor>], index: usize) -> Result<&Tensor, KernelError> {
    let found = inputs.get(index).and_then(Option::as_ref);
    found.ok_or_else(|| KernelError::Invalid(format!("operand {index} is missing")))
}

fn positions(shape: Shape, found: &[usize]) -> Result<Tensor, KernelError> {
    let found: Vec<i64> = found.iter().map(|&at| at as i64).collect();
    Ok(Tensor::from_slice(shape, &found)?)
}

/// The chosen slices of `input`, of extents `[outer, slices.len, step]`, under `shape`.
fn take_slices(
    input: &Tensor,
    slices: Slices,
    chosen: &[usize],
    shape: Shape,
) -> Result<Tensor, KernelError> {
    let Slices { outer, len, step } = slices;
    let rows = (0..outer).flat_map(|o| chosen.iter().map(move |&slice| (o * len + slice) * step));
    if let Some(bytes) = input.bytes() {
        let size = input.dtype().size();
        let mut out = Vec::with_capacity(outer * chosen.len() * step * size);
        rows.for_each(|row| out.extend_from_slice(&bytes[row * size..][..step * size]));
        return Ok(Tensor::from_bytes(input.dtype(), shape, &out)?);
    }
    let texts = input.strings()?;
    let mut out = Vec::with_capacity(outer * chosen.len() * step);
    rows.for_each(|row| out.extend_from_slice(&texts[row..][..step]));
    Ok(Tensor::from_strings(shape, out)?)
}

/// The slices along an axis, or all elements without one; and the extents around it.
fn slices_of(input: &Tensor, axis: Option<i64>) -> Result<(Slices, Shape, usize), KernelError> {
    let shape = input.shape();
    let Some(axis) = axis else {
        let len = input.elements();
        return Ok((Slices { outer: 1, len, step: 1 }, Shape::from([len]), 0));
    };
    let axis = resolve_axis(axis, shape.rank())?;
    let outer = shape[..axis].iter().product();
    let step = shape[axis + 1..].iter().product();
    Ok((Slices { outer, len: shape[axis], step }, shape.clone(), axis))
}

struct NonZero;

impl DynamicKernel for NonZero {
    fn run(&self, inputs: &[Option<Tensor>], _exec: Exec<'_>) -> Result<Vec<Tensor>, KernelError> {
        let input = operand(inputs, 0)?;
        let mut found: Vec<usize> = Vec::new();
        let mut keep = |at: usize, nonzero: bool| {
            if nonzero {
                found.push(at);
            }
        };
        if input.dtype() == DType::String {
            let texts = input.strings()?.iter().enumerate();
            texts.for_each(|(at, text)| keep(at, !text.is_empty()));
        } else {
            number_type!(input.dtype(), T => {
                let zero = T::default();
                let elements = input.as_slice::<T>()?.iter().enumerate();
                elements.for_each(|(at, x)| keep(at, *x != zero));
            });
        }
        let shape = input.shape();
        let mut out = Vec::with_capacity(shape.rank() * found.len());
        for (&extent, &stride) in shape.iter().zip(&shape.strides()) {
            out.extend(found.iter().map(|at| at / stride % extent));
        }
        Ok(vec![positions(Shape::from([shape.rank(), found.len()]), &out)?])
    }

    fn info(&self) -> KernelInfo {
        KernelInfo::portable("nonzero", "any")
    }
}

struct Compress {
    axis: Option<i64>,
}

impl DynamicKernel for Compress {
    fn run(&self, inputs: &[Option<Tensor>], _exec: Exec<'_>) -> Result<Vec<Tensor>, KernelError> {
        let (input, condition) = (operand(inputs, 0)?, operand(inputs, 1)?);
        let (slices, mut shape, axis) = slices_of(input, self.axis)?;
        let flags = condition.as_slice::<u8>()?.iter().enumerate();
        let chosen: Vec<usize> = flags.filter(|(_, flag)| **flag != 0).map(|(at, _)| at).collect();
        if let Some(&last) = chosen.last()
            && last >= slices.len
        {
            let len = slices.len;
            return KernelError::invalid(format!("the condition chooses {last}, of {len} slices"));
        }
        shape[axis] = chosen.len();
        Ok(vec![take_slices(input, slices, &chosen, shape)?])
    }

    fn info(&self) -> KernelInfo {
        KernelInfo::portable("compress", "any")
    }
}

struct Unique {
    axis: Option<i64>,
    sorted: bool,
}

impl Unique {
    fn find(&self, input: &Tensor, slices: Slices) -> Result<Distinct, KernelError> {
        if input.dtype() == DType::String {
            return Ok(distinct(slices, self.sorted, input.strings()?, String::cmp));
        }
        number_type!(input.dtype(), T => {
            Ok(distinct(slices, self.sorted, input.as_slice::<T>()?, total_order::<T>))
        })
    }
}

impl DynamicKernel for Unique {
    fn run(&self, inputs: &[Option<Tensor>], _exec: Exec<'_>) -> Result<Vec<Tensor>, KernelError> {
        let input = operand(inputs, 0)?;
        let (slices, mut shape, axis) = slices_of(input, self.axis)?;
        let found = self.find(input, slices)?;
        shape[axis] = found.first.len();
        let vector = |list: &[usize]| positions(Shape::from([list.len()]), list);
        Ok(vec![
            take_slices(input, slices, &found.first, shape)?,
            vector(&found.first)?,
            vector(&found.kind)?,
            vector(&found.count)?,
        ])
    }

    fn info(&self) -> KernelInfo {
        KernelInfo::portable("unique", "any")
    }
}

struct NonMaxSuppression {
    format: BoxFormat,
}

impl DynamicKernel for NonMaxSuppression {
    fn run(&self, inputs: &[Option<Tensor>], _exec: Exec<'_>) -> Result<Vec<Tensor>, KernelError> {
        let (boxes, scores) = (operand(inputs, 0)?, operand(inputs, 1)?);
        let (&[batches, count, 4], &[same_batches, classes, same_count]) =
            (&**boxes.shape(), &**scores.shape())
        else {
            let found = (boxes.shape(), scores.shape());
            return KernelError::invalid(format!(
                "boxes {} and scores {}, expected [batch,boxes,4] and [batch,classes,boxes]",
                found.0, found.1
            ));
        };
        if batches != same_batches || count != same_count {
            return KernelError::invalid("boxes and scores differ in number");
        }
        let present = |index: usize| inputs.get(index).and_then(Option::as_ref);
        let real = |index: usize| present(index).map(Tensor::item::<f32>).transpose();
        let limit = present(2).map(Tensor::item::<i64>).transpose()?.unwrap_or(0);
        let kind = Suppression {
            format: self.format,
            limit: usize::try_from(limit).unwrap_or(0),
            overlap: real(3)?.unwrap_or(0.0),
            score: real(4)?,
        };
        let (boxes, _) = boxes.as_slice::<f32>()?.as_chunks::<4>();
        let scores = scores.as_slice::<f32>()?;
        let mut out = Vec::new();
        for row in 0..batches * classes {
            let (batch, class) = (row / classes, row % classes);
            let boxes = &boxes[batch * count..][..count];
            let kept = select_boxes(&kind, boxes, &scores[row * count..][..count]);
            kept.into_iter().for_each(|at| out.extend([batch, class, at]));
        }
        Ok(vec![positions(Shape::from([out.len() / 3, 3]), &out)?])
    }

    fn info(&self) -> KernelInfo {
        KernelInfo::portable("non_max_suppression", "f32")
    }
}
