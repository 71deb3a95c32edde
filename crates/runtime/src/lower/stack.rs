//! One position of an axis taken out of a tensor, and tensors joined along a new axis.

use landfall_graph::infer::resolve_axis;
use landfall_tensor::{Shape, Tensor};

use crate::KernelError;

/// `tensor` at position `at` of `axis`, without that axis.
pub(super) fn slice_along(tensor: &Tensor, axis: i64, at: usize) -> Result<Tensor, KernelError> {
    let shape = tensor.shape();
    let axis = resolve_axis(axis, shape.rank())?;
    let outer: usize = shape[..axis].iter().product();
    let inner: usize = shape[axis + 1..].iter().product();
    let rest: Vec<usize> = [&shape[..axis], &shape[axis + 1..]].concat();
    let starts = (0..outer).map(|o| (o * shape[axis] + at) * inner);
    if let Ok(strings) = tensor.strings() {
        let taken = starts.flat_map(|start| strings[start..start + inner].iter().cloned());
        return Ok(Tensor::from_strings(Shape::from(&rest[..]), taken.collect())?);
    }
    let bytes = plain_bytes(tensor)?;
    let size = tensor.dtype().size();
    let mut out = Vec::with_capacity(outer * inner * size);
    starts.for_each(|start| out.extend_from_slice(&bytes[start * size..][..inner * size]));
    Ok(Tensor::from_bytes(tensor.dtype(), Shape::from(&rest[..]), &out)?)
}

/// Tensors of one type and shape, joined along a new axis. There is at least one.
pub(super) fn stack(parts: &[Tensor], axis: i64) -> Result<Tensor, KernelError> {
    let Some(first) = parts.first() else { return KernelError::invalid("nothing to join") };
    let shape = first.shape();
    let other = parts.iter().find(|t| t.shape() != shape || t.dtype() != first.dtype());
    if let Some(other) = other {
        return KernelError::invalid(format!(
            "iterations give {} {} and {} {}, which cannot be joined",
            first.dtype(),
            shape,
            other.dtype(),
            other.shape()
        ));
    }
    let axis = resolve_axis(axis, shape.rank() + 1)?;
    let outer: usize = shape[..axis].iter().product();
    let inner: usize = shape[axis..].iter().product();
    let mut extents = shape.to_vec();
    extents.insert(axis, parts.len());
    let extents = Shape::from(&extents[..]);
    if first.strings().is_ok() {
        let mut out = Vec::with_capacity(outer * inner * parts.len());
        for o in 0..outer {
            for part in parts {
                out.extend_from_slice(&part.strings()?[o * inner..][..inner]);
            }
        }
        return Ok(Tensor::from_strings(extents, out)?);
    }
    let block = inner * first.dtype().size();
    let mut out = Vec::with_capacity(outer * block * parts.len());
    for o in 0..outer {
        for part in parts {
            out.extend_from_slice(&plain_bytes(part)?[o * block..][..block]);
        }
    }
    Ok(Tensor::from_bytes(first.dtype(), extents, &out)?)
}

fn plain_bytes(tensor: &Tensor) -> Result<&[u8], KernelError> {
    tensor
        .bytes()
        .ok_or_else(|| KernelError::Unsupported("byte strings cannot be scanned".into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_joined_again_are_the_tensor() {
        let values: Vec<i32> = (0..24).collect();
        let tensor = Tensor::from_slice(Shape::from([2, 3, 4]), &values).unwrap();
        for axis in [0, 1, 2, -1] {
            let extent = tensor.shape()[resolve_axis(axis, 3).unwrap()];
            let parts: Vec<Tensor> =
                (0..extent).map(|at| slice_along(&tensor, axis, at).unwrap()).collect();
            assert_eq!(stack(&parts, axis).unwrap(), tensor);
        }
        let column = slice_along(&tensor, 2, 1).unwrap();
        assert_eq!(column.as_slice::<i32>().unwrap(), [1, 5, 9, 13, 17, 21]);
    }
}
