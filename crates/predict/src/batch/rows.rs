//! Joining rows of many requests along the leading axis, and splitting outputs back.
//!
//! Splitting shares the output's memory: a reply costs no copy, and the batch's outputs are freed
//! with its last reply.

use std::ops::Range;

use landfall_tensor::{Buffer, DType, Shape, Tensor, TensorError, bf16, f16};

use super::layout::Layout;

/// Joins one input of several requests: `(rows_1 + … + rows_n, …)`. Shapes after the leading axis
/// are equal, except on the axis `pad`, which is filled up to the longest with a value.
pub(crate) fn join(parts: &[&Tensor], pad: Option<(usize, f64)>) -> Result<Tensor, TensorError> {
    let mut shape = parts[0].shape().clone();
    shape[0] = parts.iter().map(|part| part.shape()[0]).sum();
    if let Some((axis, _)) = pad {
        shape[axis] = parts.iter().map(|part| part.shape()[axis]).max().unwrap_or(0);
    }
    let fits = |part: &&Tensor| {
        part.dtype() == parts[0].dtype()
            && part.shape().rank() == shape.rank()
            && (1..shape.rank()).all(|axis| {
                part.shape()[axis] == shape[axis] || pad.is_some_and(|(padded, _)| padded == axis)
            })
    };
    if let Some(part) = parts.iter().find(|part| !fits(part)) {
        return Err(TensorError::Broadcast(part.shape().to_string(), shape.to_string()));
    }
    let dtype = parts[0].dtype();
    if dtype == DType::String {
        let mut strings = Vec::with_capacity(shape.elements());
        for part in parts {
            strings.extend_from_slice(part.strings()?);
        }
        return Tensor::from_strings(shape, strings);
    }
    if dtype == DType::Bytes {
        let mut blobs = Vec::with_capacity(shape.elements());
        for part in parts {
            blobs.extend_from_slice(part.blobs()?);
        }
        return Tensor::from_blobs(shape, blobs);
    }
    let ragged =
        pad.filter(|&(axis, _)| parts.iter().any(|part| part.shape()[axis] != shape[axis]));
    let length = shape.checked_elements()?.saturating_mul(dtype.size());
    let buffer = Buffer::build(length, |out| {
        let mut at = 0;
        for part in parts {
            let bytes = part.bytes().unwrap_or_default();
            at += match ragged {
                Some((axis, value)) => fill_up(&mut out[at..], bytes, part, &shape, axis, value),
                None => {
                    out[at..at + bytes.len()].copy_from_slice(bytes);
                    bytes.len()
                }
            };
        }
    });
    Tensor::from_buffer(dtype, shape, buffer)
}

/// Copies `part` into `out` with its `axis` filled up to that of `shape`; returns bytes written.
fn fill_up(
    out: &mut [u8],
    bytes: &[u8],
    part: &Tensor,
    shape: &Shape,
    axis: usize,
    value: f64,
) -> usize {
    let outer: usize = part.shape()[..axis].iter().product();
    let inner = shape[axis + 1..].iter().product::<usize>() * part.dtype().size();
    let own = part.shape()[axis] * inner;
    let full = shape[axis] * inner;
    let element = encode(part.dtype(), value);
    for block in 0..outer {
        let target = &mut out[block * full..(block + 1) * full];
        target[..own].copy_from_slice(&bytes[block * own..(block + 1) * own]);
        for slot in target[own..].chunks_exact_mut(part.dtype().size()) {
            slot.copy_from_slice(&element[..slot.len()]);
        }
    }
    outer * full
}

/// The little-endian bytes of `value` as a `dtype`, saturated and, for integers, truncated.
fn encode(dtype: DType, value: f64) -> [u8; 8] {
    fn widen<const N: usize>(bytes: [u8; N]) -> [u8; 8] {
        let mut wide = [0; 8];
        wide[..N].copy_from_slice(&bytes);
        wide
    }
    match dtype {
        DType::F64 => value.to_le_bytes(),
        DType::F32 => widen((value as f32).to_le_bytes()),
        DType::F16 => widen(f16::from_f64(value).to_le_bytes()),
        DType::BF16 => widen(bf16::from_f64(value).to_le_bytes()),
        DType::I64 => (value as i64).to_le_bytes(),
        DType::I32 => widen((value as i32).to_le_bytes()),
        DType::I16 => widen((value as i16).to_le_bytes()),
        DType::I8 => widen((value as i8).to_le_bytes()),
        DType::U64 => (value as u64).to_le_bytes(),
        DType::U32 => widen((value as u32).to_le_bytes()),
        DType::U16 => widen((value as u16).to_le_bytes()),
        DType::U8 => widen([value as u8]),
        DType::Bool => widen([u8::from(value != 0.0)]),
        _ => [0; 8],
    }
}

/// Rows `range` of a tensor, sharing its memory where elements are not strings.
pub(crate) fn take_rows(tensor: &Tensor, range: Range<usize>) -> Result<Tensor, TensorError> {
    let mut shape = tensor.shape().clone();
    let rows = shape.first().copied().unwrap_or(0);
    if range.start > range.end || range.end > rows {
        return Err(TensorError::Length {
            shape: shape.to_string(),
            expected: range.end,
            found: rows,
        });
    }
    shape[0] = range.len();
    let row = shape[1..].iter().product::<usize>();
    if tensor.dtype() == DType::String {
        let strings = &tensor.strings()?[range.start * row..range.end * row];
        return Tensor::from_strings(shape, strings.to_vec());
    }
    if tensor.dtype() == DType::Bytes {
        let blobs = &tensor.blobs()?[range.start * row..range.end * row];
        return Tensor::from_blobs(shape, blobs.to_vec());
    }
    let row = row * tensor.dtype().size();
    let part = tensor.buffer().and_then(|b| b.slice(range.start * row..range.end * row));
    Tensor::from_buffer(tensor.dtype(), shape, part.unwrap_or_else(|| Buffer::copy_of(&[])))
}

/// The first `length` entries of `axis` (not the leading one), copied.
fn cut(tensor: &Tensor, axis: usize, length: usize) -> Result<Tensor, TensorError> {
    let mut shape = tensor.shape().clone();
    if shape.get(axis).is_none_or(|&extent| extent <= length) {
        return Ok(tensor.clone());
    }
    let outer: usize = shape[..axis].iter().product();
    let inner: usize = shape[axis + 1..].iter().product();
    let (own, full) = (length * inner, shape[axis] * inner);
    shape[axis] = length;
    if let Ok(strings) = tensor.strings() {
        let kept = strings.chunks(full.max(1)).flat_map(|block| &block[..own]).cloned();
        return Tensor::from_strings(shape, kept.collect());
    }
    if let Ok(blobs) = tensor.blobs() {
        let kept = blobs.chunks(full.max(1)).flat_map(|block| &block[..own]).cloned();
        return Tensor::from_blobs(shape, kept.collect());
    }
    let size = tensor.dtype().size();
    let bytes = tensor.bytes().unwrap_or_default();
    let buffer = Buffer::build(outer * own * size, |out| {
        for block in 0..outer {
            let source = block * full * size;
            out[block * own * size..(block + 1) * own * size]
                .copy_from_slice(&bytes[source..source + own * size]);
        }
    });
    Tensor::from_buffer(tensor.dtype(), shape, buffer)
}

/// Joins the inputs of several requests, each in the model's order.
pub(crate) fn join_all(parts: &[&[Tensor]], layout: &Layout) -> Result<Vec<Tensor>, TensorError> {
    (0..parts[0].len())
        .map(|input| {
            let column: Vec<&Tensor> = parts.iter().map(|inputs| &inputs[input]).collect();
            let pad = layout.pad.iter().find(|(padded, _, _)| *padded == input);
            join(&column, pad.map(|&(_, axis, value)| (axis, value)))
        })
        .collect()
}

/// The outputs of one request: rows `range` of each, cut to the lengths of its own `inputs`.
pub(crate) fn split(
    outputs: &[Tensor],
    range: &Range<usize>,
    inputs: &[Tensor],
    layout: &Layout,
) -> Result<Vec<Tensor>, TensorError> {
    let mut own = Vec::with_capacity(outputs.len());
    for (index, output) in outputs.iter().enumerate() {
        let part = take_rows(output, range.clone())?;
        own.push(match layout.cut.iter().find(|(cut, _, _)| *cut == index) {
            Some(&(_, axis, like)) => {
                let (input, input_axis, _) = layout.pad[like];
                cut(&part, axis, inputs[input].shape()[input_axis])?
            }
            None => part,
        });
    }
    Ok(own)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensor(shape: &[usize], first: i32) -> Tensor {
        let shape = Shape::from(shape);
        let values: Vec<i32> = (first..first + shape.elements() as i32).collect();
        Tensor::from_slice(shape, &values).unwrap()
    }

    #[test]
    fn rows_are_split_without_a_copy() {
        let (a, b) = (tensor(&[2, 3], 0), tensor(&[1, 3], 6));
        let joined = join(&[&a, &b], None).unwrap();
        assert_eq!(joined, tensor(&[3, 3], 0));
        let back = take_rows(&joined, 2..3).unwrap();
        assert_eq!(back, b);
        assert_eq!(back.bytes().unwrap().as_ptr(), joined.bytes().unwrap()[24..].as_ptr());
        assert!(take_rows(&joined, 2..4).is_err());
    }

    #[test]
    fn strings_are_joined_and_split() {
        let words = |w: &[&str]| {
            let strings = w.iter().map(|s| (*s).to_owned()).collect();
            Tensor::from_strings(Shape::from([w.len(), 1]), strings).unwrap()
        };
        let joined = join(&[&words(&["a"]), &words(&["b", "c"])], None).unwrap();
        assert_eq!(joined, words(&["a", "b", "c"]));
        assert_eq!(take_rows(&joined, 1..3).unwrap(), words(&["b", "c"]));
    }

    #[test]
    fn shorter_parts_are_filled_up_and_cut_back() {
        let (a, b) = (tensor(&[2, 2, 2], 0), tensor(&[1, 3, 2], 8));
        let joined = join(&[&a, &b], Some((1, -1.0))).unwrap();
        let expected = [0, 1, 2, 3, -1, -1, 4, 5, 6, 7, -1, -1, 8, 9, 10, 11, 12, 13];
        assert_eq!(joined.as_slice::<i32>().unwrap(), &expected);
        assert_eq!(cut(&take_rows(&joined, 0..2).unwrap(), 1, 2).unwrap(), a);
        assert_eq!(cut(&take_rows(&joined, 2..3).unwrap(), 1, 3).unwrap(), b);
    }

    #[test]
    fn different_shapes_do_not_join() {
        assert!(join(&[&tensor(&[1, 2], 0), &tensor(&[1, 3], 0)], None).is_err());
    }

    #[test]
    fn pad_values_are_encoded_in_every_type() {
        for dtype in DType::ALL {
            if dtype.size() == 0 {
                continue;
            }
            let long = Tensor::zeros(dtype, Shape::from([1, 2])).unwrap();
            let short = Tensor::zeros(dtype, Shape::from([1, 1])).unwrap();
            let joined = join(&[&long, &short], Some((1, 1.0))).unwrap();
            let bytes = joined.bytes().unwrap();
            let one = &bytes[3 * dtype.size()..];
            assert!(one.iter().any(|&b| b != 0), "{dtype:?}");
            assert!(bytes[..3 * dtype.size()].iter().all(|&b| b == 0), "{dtype:?}");
        }
    }
}
