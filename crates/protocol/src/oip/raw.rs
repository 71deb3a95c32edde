//! Tensors as little-endian bytes: the binary tensor extension and gRPC raw contents.
//!
//! `BOOL` is one byte an element. `BYTES` is, per element, a length of 4 bytes and then as many
//! bytes. Nothing is padded.

use landfall_tensor::{Buffer, DType, Shape, Tensor};

use crate::{MAX_TEXTS, too_many_texts};

/// The tensor of some bytes. The error says what was expected and what was found.
pub fn decode_raw(dtype: DType, shape: Shape, bytes: &[u8]) -> Result<Tensor, String> {
    match dtype {
        DType::String => {
            let texts = elements(&shape, bytes)?
                .into_iter()
                .map(|text| String::from_utf8(text.to_vec()))
                .collect::<Result<Vec<_>, _>>()
                .map_err(|_| "an element is not UTF-8 text".to_owned())?;
            Tensor::from_strings(shape, texts)
        }
        DType::Bytes => {
            let blobs = elements(&shape, bytes)?.into_iter().map(Buffer::copy_of).collect();
            Tensor::from_blobs(shape, blobs)
        }
        // Callers send any non-zero byte for true; the engine relies on 0 and 1.
        DType::Bool if bytes.iter().any(|&b| b > 1) => {
            let bools: Vec<u8> = bytes.iter().map(|&b| u8::from(b != 0)).collect();
            Tensor::from_bytes(dtype, shape, &bools)
        }
        _ => Tensor::from_bytes(dtype, shape, bytes),
    }
    .map_err(|e| e.to_string())
}

fn elements<'b>(shape: &Shape, mut bytes: &'b [u8]) -> Result<Vec<&'b [u8]>, String> {
    let expected = shape.checked_elements().map_err(|e| e.to_string())?;
    if expected > MAX_TEXTS {
        return Err(too_many_texts());
    }
    let all = bytes.len();
    let mut found = Vec::with_capacity(expected.min(all / 4));
    while !bytes.is_empty() {
        let Some((length, rest)) = bytes.split_first_chunk::<4>() else {
            return Err(format!("{} bytes are left after element {}", bytes.len(), found.len()));
        };
        let length = u32::from_le_bytes(*length) as usize;
        let Some((element, rest)) = rest.split_at_checked(length) else {
            return Err(format!(
                "element {} says it has {length} bytes, but {} are left",
                found.len(),
                rest.len()
            ));
        };
        if found.len() == expected {
            return Err(format!("shape {shape} needs {expected} elements, got more"));
        }
        found.push(element);
        bytes = rest;
    }
    if found.len() < expected {
        return Err(format!("shape {shape} needs {expected} elements, got {}", found.len()));
    }
    Ok(found)
}

/// Bytes that [`encode_raw`] writes.
pub fn raw_length(tensor: &Tensor) -> usize {
    if let Some(bytes) = tensor.bytes() {
        return bytes.len();
    }
    let view = tensor.view();
    if let Ok(texts) = view.strings() {
        return texts.iter().map(|text| 4 + text.len()).sum();
    }
    view.blobs().map_or(0, |blobs| blobs.iter().map(|blob| 4 + blob.len()).sum())
}

/// Appends a tensor's bytes.
pub fn encode_raw(out: &mut Vec<u8>, tensor: &Tensor) {
    if let Some(bytes) = tensor.bytes() {
        return out.extend_from_slice(bytes);
    }
    let view = tensor.view();
    if let Ok(texts) = view.strings() {
        texts.iter().for_each(|text| element(out, text.as_bytes()));
    } else if let Ok(blobs) = view.blobs() {
        blobs.iter().for_each(|blob| element(out, blob));
    }
}

fn element(out: &mut Vec<u8>, bytes: &[u8]) {
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(&bytes[..length as usize]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn byte_strings_carry_their_lengths() {
        let tensor =
            Tensor::from_strings(Shape::from([2]), vec!["ab".into(), String::new()]).unwrap();
        let mut bytes = Vec::new();
        encode_raw(&mut bytes, &tensor);
        assert_eq!(bytes, [2, 0, 0, 0, b'a', b'b', 0, 0, 0, 0]);
        assert_eq!(raw_length(&tensor), bytes.len());
        assert_eq!(decode_raw(DType::String, Shape::from([2]), &bytes).unwrap(), tensor);
    }

    #[test]
    fn wrong_counts_and_lengths_are_refused() {
        let decode = |bytes: &[u8]| decode_raw(DType::Bytes, Shape::from([1]), bytes).unwrap_err();
        assert_eq!(decode(&[]), "shape [1] needs 1 elements, got 0");
        assert_eq!(decode(&[9, 0, 0, 0, 1]), "element 0 says it has 9 bytes, but 1 are left");
        assert_eq!(decode(&[0, 0, 0, 0, 1, 2]), "2 bytes are left after element 1");
        assert_eq!(decode(&[0; 8]), "shape [1] needs 1 elements, got more");
        let many = decode_raw(DType::Bytes, Shape::from([MAX_TEXTS + 1]), &[0; 8]).unwrap_err();
        assert_eq!(many, "a tensor of BYTES may have at most 4194304 elements");
        let huge = Shape::from([usize::MAX, 2]);
        assert!(decode_raw(DType::String, huge.clone(), &[]).is_err());
        assert!(decode_raw(DType::F32, huge, &[]).is_err());
        assert!(decode_raw(DType::F32, Shape::from([2]), &[0; 7]).is_err());
        assert!(decode_raw(DType::String, Shape::from([1]), &[1, 0, 0, 0, 0xff]).is_err());
    }

    #[test]
    fn booleans_become_zero_or_one() {
        let tensor = decode_raw(DType::Bool, Shape::from([3]), &[0, 1, 255]).unwrap();
        assert_eq!(tensor.bytes().unwrap(), &[0, 1, 1]);
    }
}
