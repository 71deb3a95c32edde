//! Prediction replies by row or by column.
//!
//! As in TensorFlow Serving, text is base64 where the output's name ends in `_bytes` ("Encoding
//! binary values" in its REST API's documentation). Outputs of bytes are so whatever their name.

use landfall_tensor::{DType, Shape, Tensor};

use crate::DecodeError;
use crate::json::{write_string, write_tensor_base64, write_tensor_nested};
use crate::tfs::Layout;

/// Ends the names of outputs whose text is sent as bytes.
const BYTES_SUFFIX: &str = "_bytes";

/// Encodes outputs in the request's form. By row, every output needs the same leading axis.
pub fn encode(layout: Layout, outputs: &[(String, Tensor)]) -> Result<Vec<u8>, DecodeError> {
    match layout {
        Layout::Row => encode_rows(outputs),
        Layout::Column => Ok(encode_columns(outputs)),
    }
}

fn encode_columns(outputs: &[(String, Tensor)]) -> Vec<u8> {
    let mut body = b"{\"outputs\":".to_vec();
    match outputs {
        [(name, tensor)] => write_output(&mut body, name, tensor),
        _ => {
            body.push(b'{');
            for (i, (name, tensor)) in outputs.iter().enumerate() {
                write_key(&mut body, i, name);
                write_output(&mut body, name, tensor);
            }
            body.push(b'}');
        }
    }
    body.push(b'}');
    body
}

fn encode_rows(outputs: &[(String, Tensor)]) -> Result<Vec<u8>, DecodeError> {
    let mut body = b"{\"predictions\":".to_vec();
    let rows = outputs.first().and_then(|(_, tensor)| tensor.shape().first().copied());
    for (name, tensor) in outputs {
        if tensor.shape().first().copied() != rows || rows.is_none() {
            return Err(DecodeError::request(format!(
                "output '{name}' of shape {} has no row for every instance; ask by column",
                tensor.shape()
            )));
        }
    }
    if let [(name, tensor)] = outputs {
        write_output(&mut body, name, tensor);
    } else {
        body.push(b'[');
        for row in 0..rows.unwrap_or(0) {
            body.extend_from_slice(if row > 0 { b",{" } else { b"{" });
            for (i, (name, tensor)) in outputs.iter().enumerate() {
                write_key(&mut body, i, name);
                write_output(&mut body, name, &row_of(tensor, row)?);
            }
            body.push(b'}');
        }
        body.push(b']');
    }
    body.push(b'}');
    Ok(body)
}

fn write_output(body: &mut Vec<u8>, name: &str, tensor: &Tensor) {
    if name.ends_with(BYTES_SUFFIX) {
        write_tensor_base64(body, tensor);
    } else {
        write_tensor_nested(body, tensor);
    }
}

fn write_key(body: &mut Vec<u8>, position: usize, name: &str) {
    if position > 0 {
        body.push(b',');
    }
    write_string(body, name);
    body.push(b':');
}

/// One row of a tensor with axes `(rows, ...)`, without the row axis.
fn row_of(tensor: &Tensor, row: usize) -> Result<Tensor, DecodeError> {
    let mut shape: Shape = tensor.shape().clone();
    shape.remove(0);
    let length = shape.elements();
    let elements = row * length..(row + 1) * length;
    let view = tensor.view();
    let result = match tensor.dtype() {
        DType::String => Tensor::from_strings(
            shape,
            view.strings().map(|s| s[elements].to_vec()).unwrap_or_default(),
        ),
        DType::Bytes => Tensor::from_blobs(
            shape,
            view.blobs().map(|b| b[elements].to_vec()).unwrap_or_default(),
        ),
        dtype => {
            let size = dtype.size();
            let bytes = elements.start * size..elements.end * size;
            let part = tensor.buffer().and_then(|buffer| buffer.slice(bytes));
            let part = part.ok_or_else(|| DecodeError::request("an output has no memory"))?;
            Tensor::from_buffer(dtype, shape, part)
        }
    };
    result.map_err(|e| DecodeError::request(e.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outputs() -> Vec<(String, Tensor)> {
        vec![
            ("score".into(), Tensor::from_slice(Shape::from([2, 2]), &[1f32, 2., 3., 4.]).unwrap()),
            (
                "label".into(),
                Tensor::from_strings(Shape::from([2]), vec!["a".into(), "b".into()]).unwrap(),
            ),
        ]
    }

    fn text(layout: Layout, outputs: &[(String, Tensor)]) -> String {
        String::from_utf8(encode(layout, outputs).unwrap()).unwrap()
    }

    #[test]
    fn both_forms() {
        let outputs = outputs();
        assert_eq!(text(Layout::Row, &outputs[..1]), r#"{"predictions":[[1.0,2.0],[3.0,4.0]]}"#);
        assert_eq!(text(Layout::Column, &outputs[..1]), r#"{"outputs":[[1.0,2.0],[3.0,4.0]]}"#);
        assert_eq!(
            text(Layout::Row, &outputs),
            r#"{"predictions":[{"score":[1.0,2.0],"label":"a"},{"score":[3.0,4.0],"label":"b"}]}"#
        );
        assert_eq!(
            text(Layout::Column, &outputs),
            r#"{"outputs":{"score":[[1.0,2.0],[3.0,4.0]],"label":["a","b"]}}"#
        );
        let scalar = vec![("s".to_owned(), Tensor::scalar(1i32))];
        assert!(encode(Layout::Row, &scalar).is_err());
    }

    #[test]
    fn names_that_end_in_bytes_make_base64() {
        let text = |name: &str| {
            let texts = vec!["a".into(), "\u{e9}".into()];
            (name.to_owned(), Tensor::from_strings(Shape::from([2]), texts).unwrap())
        };
        let number = |name: &str| {
            (name.to_owned(), Tensor::from_slice(Shape::from([2]), &[1i32, 2]).unwrap())
        };
        let (one, both) = ([text("label_bytes")], [text("label_bytes"), number("id_bytes")]);
        let cases = [
            (Layout::Row, &one[..], r#"{"predictions":[{"b64":"YQ=="},{"b64":"w6k="}]}"#),
            (Layout::Column, &one, r#"{"outputs":[{"b64":"YQ=="},{"b64":"w6k="}]}"#),
            (
                Layout::Row,
                &both,
                concat!(
                    r#"{"predictions":[{"label_bytes":{"b64":"YQ=="},"id_bytes":1},"#,
                    r#"{"label_bytes":{"b64":"w6k="},"id_bytes":2}]}"#
                ),
            ),
            (
                Layout::Column,
                &both,
                r#"{"outputs":{"label_bytes":[{"b64":"YQ=="},{"b64":"w6k="}],"id_bytes":[1,2]}}"#,
            ),
        ];
        for (layout, outputs, expected) in cases {
            assert_eq!(super::tests::text(layout, outputs), expected);
        }
    }
}
