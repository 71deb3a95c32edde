//! Arithmetic on constant tensors that rewrites need: reading, permuting, scaling.

use landfall_tensor::{DType, Shape, Tensor, bf16, f16, row_major_strides};

/// The elements of an `f32` tensor, to compute another from them.
pub(crate) fn floats(tensor: &Tensor) -> Option<Vec<f32>> {
    let floats = tensor.aligned().as_slice::<f32>().ok().map(<[f32]>::to_vec);
    tensor.release();
    floats
}

/// The elements of an `i64` or `i32` tensor.
pub(crate) fn ints(tensor: &Tensor) -> Option<Vec<i64>> {
    let tensor = tensor.aligned();
    match tensor.dtype() {
        DType::I64 => tensor.as_slice::<i64>().ok().map(<[i64]>::to_vec),
        DType::I32 => {
            tensor.as_slice::<i32>().ok().map(|s| s.iter().map(|&v| i64::from(v)).collect())
        }
        _ => None,
    }
}

/// The value of a one-element tensor of a real type.
pub(crate) fn scalar(tensor: &Tensor) -> Option<f32> {
    if tensor.elements() != 1 {
        return None;
    }
    let tensor = tensor.aligned();
    match tensor.dtype() {
        DType::F32 => tensor.item::<f32>().ok(),
        DType::F64 => tensor.item::<f64>().ok().map(|v| v as f32),
        DType::F16 => tensor.item::<f16>().ok().map(f32::from),
        DType::BF16 => tensor.item::<bf16>().ok().map(f32::from),
        _ => None,
    }
}

/// Whether every element is this number, whatever the numeric type.
pub(crate) fn all_equal(tensor: &Tensor, number: f32) -> bool {
    let tensor = tensor.aligned();
    if tensor.elements() == 0 {
        return false;
    }
    match tensor.dtype() {
        DType::F32 => tensor.as_slice::<f32>().is_ok_and(|s| s.iter().all(|&v| v == number)),
        DType::F64 => {
            tensor.as_slice::<f64>().is_ok_and(|s| s.iter().all(|&v| v == f64::from(number)))
        }
        DType::F16 => {
            tensor.as_slice::<f16>().is_ok_and(|s| s.iter().all(|&v| f32::from(v) == number))
        }
        DType::I64 | DType::I32 => {
            ints(&tensor).is_some_and(|s| s.iter().all(|&v| v as f64 == f64::from(number)))
        }
        _ => false,
    }
}

/// A tensor of `f32`.
pub(crate) fn tensor(dims: &[usize], elements: &[f32]) -> Option<Tensor> {
    Tensor::from_slice(Shape::from(dims), elements).ok()
}

/// The tensor with its axes in another order: axis `i` of the result is axis `perm[i]`.
pub(crate) fn permuted(tensor: &Tensor, perm: &[usize]) -> Option<Tensor> {
    let shape = tensor.shape();
    if perm.len() != shape.rank() || perm.iter().any(|&axis| axis >= shape.rank()) {
        return None;
    }
    let source = tensor.bytes()?;
    let size = tensor.dtype().size();
    let strides = row_major_strides(shape);
    let dims: Vec<usize> = perm.iter().map(|&axis| shape[axis]).collect();
    let steps: Vec<usize> = perm.iter().map(|&axis| strides[axis]).collect();
    let mut bytes = Vec::with_capacity(source.len());
    let mut index = vec![0usize; dims.len()];
    for _ in 0..tensor.elements() {
        let at: usize = index.iter().zip(&steps).map(|(i, step)| i * step).sum();
        bytes.extend_from_slice(&source[at * size..][..size]);
        for axis in (0..dims.len()).rev() {
            index[axis] += 1;
            if index[axis] < dims[axis] {
                break;
            }
            index[axis] = 0;
        }
    }
    Tensor::from_bytes(tensor.dtype(), Shape::from(dims), &bytes).ok()
}

/// The tensor with leading axes of extent 1 added up to a rank.
pub(crate) fn with_rank(tensor: &Tensor, rank: usize) -> Option<Tensor> {
    let missing = rank.checked_sub(tensor.shape().rank())?;
    let dims: Vec<usize> =
        std::iter::repeat_n(1, missing).chain(tensor.shape().iter().copied()).collect();
    tensor.reshaped(Shape::from(dims)).ok()
}

/// A per-channel vector of `channels` elements out of a constant that broadcasts along every axis
/// but one: `[C]`, `[C,1,1]`, `[1,C,1,1]` and the like, or a single element. `axis_from_end` is the
/// channel axis counted from the innermost (0 for the last axis).
pub(crate) fn per_channel(
    tensor: &Tensor,
    channels: usize,
    axis_from_end: usize,
) -> Option<Vec<f32>> {
    if tensor.elements() == 1 {
        return Some(vec![*floats(tensor)?.first()?; channels]);
    }
    let rank = tensor.shape().rank();
    let axis = rank.checked_sub(axis_from_end + 1)?;
    let alone = tensor.shape().iter().enumerate().all(|(i, &dim)| i == axis || dim == 1);
    if alone && tensor.elements() == channels { floats(tensor) } else { None }
}

/// A weight with every slice along `axis` multiplied by its own factor.
pub(crate) fn scaled_along(weight: &Tensor, axis: usize, factors: &[f32]) -> Option<Tensor> {
    let mut elements = floats(weight)?;
    let dims = weight.shape();
    if *dims.get(axis)? != factors.len() {
        return None;
    }
    let inner: usize = dims[axis + 1..].iter().product();
    for (i, element) in elements.iter_mut().enumerate() {
        *element *= factors[i / inner.max(1) % factors.len()];
    }
    tensor(dims, &elements)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permuting_moves_elements_with_their_axes() {
        let t = tensor(&[2, 3], &[0., 1., 2., 3., 4., 5.]).unwrap();
        let p = permuted(&t, &[1, 0]).unwrap();
        assert_eq!(p, tensor(&[3, 2], &[0., 3., 1., 4., 2., 5.]).unwrap());
    }

    #[test]
    fn scaling_follows_the_axis() {
        let t = tensor(&[2, 2, 1], &[1., 2., 3., 4.]).unwrap();
        let by_row = scaled_along(&t, 0, &[10., 100.]).unwrap();
        assert_eq!(floats(&by_row).unwrap(), [10., 20., 300., 400.]);
        let by_column = scaled_along(&t, 1, &[10., 100.]).unwrap();
        assert_eq!(floats(&by_column).unwrap(), [10., 200., 30., 400.]);
    }

    #[test]
    fn only_the_channel_axis_may_vary() {
        let t = tensor(&[2, 1, 1], &[1., 2.]).unwrap();
        assert_eq!(per_channel(&t, 2, 2), Some(vec![1., 2.]));
        assert_eq!(per_channel(&t, 2, 0), None);
    }
}
