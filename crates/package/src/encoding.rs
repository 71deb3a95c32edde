//! How a tensor's elements lie in an entry: numbers little-endian and row-major, as in memory; text
//! and byte strings each behind its length as a `u32`, as the Open Inference Protocol encodes
//! `BYTES`.

use std::borrow::Cow;

use landfall_tensor::{Buffer, DType, Shape, Tensor, TensorError};

/// The bytes of an entry that holds `tensor`. Fails only for an element of 4 GiB or more.
pub(crate) fn encode(tensor: &Tensor) -> Result<Cow<'_, [u8]>, String> {
    match tensor.dtype() {
        DType::String => {
            let strings = tensor.strings().map_err(|e| e.to_string())?;
            encode_elements(strings.iter().map(String::as_bytes))
        }
        DType::Bytes => {
            let blobs = tensor.blobs().map_err(|e| e.to_string())?;
            encode_elements(blobs.iter().map(|blob| &**blob))
        }
        _ => Ok(Cow::Borrowed(tensor.bytes().unwrap_or_default())),
    }
}

fn encode_elements<'a>(
    elements: impl Iterator<Item = &'a [u8]>,
) -> Result<Cow<'static, [u8]>, String> {
    let mut out = Vec::new();
    for element in elements {
        let len = u32::try_from(element.len()).map_err(|_| "an element exceeds 4 GiB")?;
        out.extend_from_slice(&len.to_le_bytes());
        out.extend_from_slice(element);
    }
    Ok(Cow::Owned(out))
}

/// The tensor that an entry holds; shares the memory of numbers and byte strings.
pub(crate) fn decode(dtype: DType, shape: Shape, entry: &Buffer) -> Result<Tensor, String> {
    let tensor = match dtype {
        DType::String => {
            let ranges = split(&shape, entry)?;
            let text = |range: std::ops::Range<usize>| {
                String::from_utf8(entry[range].to_vec()).map_err(|_| "an element is not UTF-8 text")
            };
            Tensor::from_strings(shape, ranges.into_iter().map(text).collect::<Result<_, _>>()?)
        }
        DType::Bytes => {
            let ranges = split(&shape, entry)?;
            Tensor::from_blobs(shape, ranges.into_iter().filter_map(|r| entry.slice(r)).collect())
        }
        _ => Tensor::from_buffer(dtype, shape, entry.clone()),
    };
    tensor.map_err(|e: TensorError| e.to_string())
}

fn split(shape: &Shape, entry: &Buffer) -> Result<Vec<std::ops::Range<usize>>, String> {
    let count = shape.checked_elements().map_err(|e| e.to_string())?;
    if count > entry.len() / 4 {
        return Err(format!("{} bytes cannot hold {count} elements", entry.len()));
    }
    let mut ranges = Vec::with_capacity(count);
    let mut at = 0;
    for index in 0..count {
        let cut = || format!("element {index} is cut off at byte {at}");
        let length = entry.get(at..at + 4).ok_or_else(cut)?;
        let length = u32::from_le_bytes([length[0], length[1], length[2], length[3]]) as usize;
        let end = (at + 4).checked_add(length).filter(|&end| end <= entry.len()).ok_or_else(cut)?;
        ranges.push(at + 4..end);
        at = end;
    }
    if at != entry.len() {
        return Err(format!("{} bytes follow the last element", entry.len() - at));
    }
    Ok(ranges)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round_trip(tensor: &Tensor) -> Tensor {
        let entry = Buffer::copy_of(&encode(tensor).unwrap());
        decode(tensor.dtype(), tensor.shape().clone(), &entry).unwrap()
    }

    #[test]
    fn every_kind_of_element_round_trips() {
        let shape = Shape::from([2]);
        let text = Tensor::from_strings(shape.clone(), vec!["é".into(), String::new()]).unwrap();
        assert_eq!(round_trip(&text), text);
        let blobs = vec![Buffer::copy_of(&[0xff, 0]), Buffer::copy_of(&[])];
        let blobs = Tensor::from_blobs(shape.clone(), blobs).unwrap();
        assert_eq!(round_trip(&blobs), blobs);
        let numbers = Tensor::from_slice(shape, &[1.5f64, f64::NAN]).unwrap();
        assert_eq!(round_trip(&numbers), numbers);
    }

    #[test]
    fn lying_lengths_are_refused() {
        let shape = || Shape::from([2]);
        let decode = |bytes: &[u8]| decode(DType::String, shape(), &Buffer::copy_of(bytes));
        assert!(decode(&[0; 7]).unwrap_err().contains("cannot hold 2 elements"));
        assert!(decode(&[255; 8]).unwrap_err().contains("element 0 is cut off"));
        assert!(decode(&[1, 0, 0, 0, 255, 0, 0, 0, 0]).unwrap_err().contains("not UTF-8"));
        assert!(decode(&[0; 9]).unwrap_err().contains("1 bytes follow"));
    }
}
