//! Tensors as JSON text.

use base64::Engine;
use landfall_tensor::{DType, Element, Tensor, bf16, f16};

/// Appends a JSON string.
pub fn write_string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    let mut written = 0;
    for (at, byte) in text.bytes().enumerate() {
        if byte >= 32 && byte != b'"' && byte != b'\\' {
            continue;
        }
        out.extend_from_slice(&text.as_bytes()[written..at]);
        written = at + 1;
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\t' => out.extend_from_slice(b"\\t"),
            b'\r' => out.extend_from_slice(b"\\r"),
            _ => out.extend_from_slice(format!("\\u{byte:04x}").as_bytes()),
        }
    }
    out.extend_from_slice(&text.as_bytes()[written..]);
    out.push(b'"');
}

/// Appends a tensor as one flat, row-major list.
pub fn write_tensor_flat(out: &mut Vec<u8>, tensor: &Tensor) {
    write_nested(out, tensor, &[tensor.elements()]);
}

/// Appends a tensor as lists nested like its shape; a scalar as one value.
pub fn write_tensor_nested(out: &mut Vec<u8>, tensor: &Tensor) {
    write_nested(out, tensor, tensor.shape());
}

/// The same, with every text as the object that also stands for bytes: `{"b64": "..."}`.
pub(crate) fn write_tensor_base64(out: &mut Vec<u8>, tensor: &Tensor) {
    match tensor.strings() {
        Ok(strings) => {
            write_level(out, tensor.shape(), strings, &|out, s| write_blob(out, s.as_bytes()));
        }
        Err(_) => write_tensor_nested(out, tensor),
    }
}

fn write_nested(out: &mut Vec<u8>, tensor: &Tensor, dims: &[usize]) {
    if let Ok(strings) = tensor.strings() {
        return write_level(out, dims, strings, &|out, s| write_string(out, s));
    }
    if let Ok(blobs) = tensor.view().blobs() {
        return write_level(out, dims, blobs, &|out, blob| write_blob(out, blob));
    }
    let tensor = tensor.aligned();
    match tensor.dtype() {
        DType::F32 => typed::<f32>(out, dims, &tensor, &|out, v| write_f32(out, *v)),
        DType::F64 => typed::<f64>(out, dims, &tensor, &|out, v| write_f64(out, *v)),
        DType::F16 => typed::<f16>(out, dims, &tensor, &|out, v| write_f32(out, v.to_f32())),
        DType::BF16 => typed::<bf16>(out, dims, &tensor, &|out, v| write_f32(out, v.to_f32())),
        DType::I8 => typed::<i8>(out, dims, &tensor, &|out, v| write_integer(out, *v)),
        DType::U8 => typed::<u8>(out, dims, &tensor, &|out, v| write_integer(out, *v)),
        DType::I16 => typed::<i16>(out, dims, &tensor, &|out, v| write_integer(out, *v)),
        DType::U16 => typed::<u16>(out, dims, &tensor, &|out, v| write_integer(out, *v)),
        DType::I32 => typed::<i32>(out, dims, &tensor, &|out, v| write_integer(out, *v)),
        DType::U32 => typed::<u32>(out, dims, &tensor, &|out, v| write_integer(out, *v)),
        DType::I64 => typed::<i64>(out, dims, &tensor, &|out, v| write_integer(out, *v)),
        DType::U64 => typed::<u64>(out, dims, &tensor, &|out, v| write_integer(out, *v)),
        _ => typed::<u8>(out, dims, &tensor, &|out, v| {
            out.extend_from_slice(if *v == 0 { b"false" } else { b"true" });
        }),
    }
}

fn typed<T: Element>(
    out: &mut Vec<u8>,
    dims: &[usize],
    tensor: &Tensor,
    write: &impl Fn(&mut Vec<u8>, &T),
) {
    write_level(out, dims, tensor.as_slice::<T>().unwrap_or(&[]), write);
}

fn write_level<T>(
    out: &mut Vec<u8>,
    dims: &[usize],
    elements: &[T],
    write: &impl Fn(&mut Vec<u8>, &T),
) {
    let Some((&extent, inner)) = dims.split_first() else {
        return elements.iter().for_each(|element| write(out, element));
    };
    out.push(b'[');
    if inner.is_empty() {
        for (i, element) in elements.iter().enumerate() {
            if i > 0 {
                out.push(b',');
            }
            write(out, element);
        }
    } else {
        let stride = elements.len().checked_div(extent).unwrap_or(0);
        for i in 0..extent {
            if i > 0 {
                out.push(b',');
            }
            write_level(out, inner, &elements[i * stride..(i + 1) * stride], write);
        }
    }
    out.push(b']');
}

fn write_blob(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(b"{\"b64\":\"");
    out.extend_from_slice(base64::engine::general_purpose::STANDARD.encode(bytes).as_bytes());
    out.extend_from_slice(b"\"}");
}

fn write_integer(out: &mut Vec<u8>, value: impl itoa::Integer) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

fn write_f32(out: &mut Vec<u8>, value: f32) {
    if value.is_finite() {
        out.extend_from_slice(zmij::Buffer::new().format_finite(value).as_bytes());
    } else {
        write_non_finite(out, value.into());
    }
}

fn write_f64(out: &mut Vec<u8>, value: f64) {
    if value.is_finite() {
        out.extend_from_slice(zmij::Buffer::new().format_finite(value).as_bytes());
    } else {
        write_non_finite(out, value);
    }
}

fn write_non_finite(out: &mut Vec<u8>, value: f64) {
    let word: &[u8] = match value {
        v if v.is_nan() => b"\"NaN\"",
        v if v > 0.0 => b"\"Infinity\"",
        _ => b"\"-Infinity\"",
    };
    out.extend_from_slice(word);
}

#[cfg(test)]
mod tests {
    use landfall_tensor::Shape;

    use super::*;

    fn nested(tensor: &Tensor) -> String {
        let mut out = Vec::new();
        write_tensor_nested(&mut out, tensor);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn nesting_follows_the_shape() {
        let tensor = Tensor::from_slice(Shape::from([2, 1, 2]), &[1i32, -2, 3, 4]).unwrap();
        assert_eq!(nested(&tensor), "[[[1,-2]],[[3,4]]]");
        let empty = Tensor::from_slice::<f32>(Shape::from([2, 0, 3]), &[]).unwrap();
        assert_eq!(nested(&empty), "[[],[]]");
        assert_eq!(nested(&Tensor::scalar(0.1f32)), "0.1");
    }

    #[test]
    fn every_number_is_json() {
        let values = [1e30f32, f32::NAN, f32::INFINITY, -0.0, f32::MIN_POSITIVE];
        let tensor = Tensor::from_slice(Shape::from([5]), &values).unwrap();
        let text = nested(&tensor);
        let parsed: Vec<serde_json::Value> = serde_json::from_str(&text).unwrap();
        assert_eq!(parsed[1], "NaN");
        assert_eq!(parsed[2], "Infinity");
        assert_eq!(parsed[4].as_f64().unwrap() as f32, f32::MIN_POSITIVE);
    }

    proptest::proptest! {
        #[test]
        fn strings_survive(text in ".*") {
            let mut out = Vec::new();
            write_string(&mut out, &text);
            let back: String = serde_json::from_slice(&out).unwrap();
            proptest::prop_assert_eq!(back, text);
        }

        #[test]
        fn floats_survive(bits in proptest::num::u32::ANY) {
            let value = f32::from_bits(bits);
            proptest::prop_assume!(value.is_finite());
            let mut out = Vec::new();
            write_f32(&mut out, value);
            let text = String::from_utf8(out).unwrap();
            proptest::prop_assert_eq!(text.parse::<f32>().unwrap(), value);
        }
    }
}
