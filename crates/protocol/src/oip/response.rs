//! Inference replies over HTTP: JSON, with binary tensors after it where they are wanted.

use landfall_tensor::{DType, Tensor};

use crate::json::{write_string, write_tensor_flat};
use crate::oip::{InferRequest, encode_raw, raw_length};

/// A reply's body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encoded {
    /// Length of the JSON part if binary tensors follow it; else all of the body is JSON.
    pub header_length: Option<usize>,
    /// The bytes.
    pub body: Vec<u8>,
}

/// Encodes the outputs of a model in the form that `request` asks for: each one as JSON or binary.
pub fn encode_json(
    request: &InferRequest,
    model_name: &str,
    model_version: u64,
    outputs: &[(String, Tensor)],
) -> Encoded {
    let is_binary = |name: &str| {
        let wanted = request.outputs.iter().find(|output| output.name == name);
        wanted.and_then(|output| output.binary).unwrap_or(request.parameters.binary_output)
    };
    let mut body = Vec::with_capacity(256 + capacity(outputs));
    body.extend_from_slice(b"{\"model_name\":");
    write_string(&mut body, model_name);
    body.extend_from_slice(b",\"model_version\":\"");
    body.extend_from_slice(itoa::Buffer::new().format(model_version).as_bytes());
    body.push(b'"');
    if !request.id.is_empty() {
        body.extend_from_slice(b",\"id\":");
        write_string(&mut body, &request.id);
    }
    body.extend_from_slice(b",\"outputs\":[");
    let mut any_binary = false;
    for (i, (name, tensor)) in outputs.iter().enumerate() {
        if i > 0 {
            body.push(b',');
        }
        let binary = is_binary(name);
        any_binary |= binary;
        write_output(&mut body, name, tensor, binary);
    }
    body.extend_from_slice(b"]}");
    let header_length = any_binary.then_some(body.len());
    for (name, tensor) in outputs {
        if is_binary(name) {
            encode_raw(&mut body, tensor);
        }
    }
    Encoded { header_length, body }
}

fn capacity(outputs: &[(String, Tensor)]) -> usize {
    outputs.iter().map(|(name, tensor)| 96 + name.len() + raw_length(tensor)).sum()
}

fn write_output(body: &mut Vec<u8>, name: &str, tensor: &Tensor, binary: bool) {
    body.extend_from_slice(b"{\"name\":");
    write_string(body, name);
    body.extend_from_slice(b",\"datatype\":\"");
    body.extend_from_slice(tensor.dtype().protocol_name().as_bytes());
    body.extend_from_slice(b"\",\"shape\":[");
    for (i, extent) in tensor.shape().iter().enumerate() {
        if i > 0 {
            body.push(b',');
        }
        body.extend_from_slice(itoa::Buffer::new().format(*extent).as_bytes());
    }
    if binary {
        body.extend_from_slice(b"],\"parameters\":{\"binary_data_size\":");
        body.extend_from_slice(itoa::Buffer::new().format(raw_length(tensor)).as_bytes());
        body.extend_from_slice(b"}}");
    } else {
        body.extend_from_slice(b"],\"data\":");
        match (tensor.dtype(), tensor.view().blobs()) {
            (DType::Bytes, Ok(blobs)) => write_blobs(body, blobs),
            _ => write_tensor_flat(body, tensor),
        }
        body.push(b'}');
    }
}

/// Byte strings as JSON text, which the protocol has no other form for; bytes that are not UTF-8
/// become replacement characters, so clients ask for such outputs in binary.
fn write_blobs(body: &mut Vec<u8>, blobs: &[landfall_tensor::Buffer]) {
    body.push(b'[');
    for (i, blob) in blobs.iter().enumerate() {
        if i > 0 {
            body.push(b',');
        }
        write_string(body, &String::from_utf8_lossy(blob));
    }
    body.push(b']');
}

#[cfg(test)]
mod tests {
    use landfall_tensor::Shape;

    use super::*;
    use crate::oip::OutputRequest;

    fn outputs() -> Vec<(String, Tensor)> {
        vec![
            ("a".into(), Tensor::from_slice(Shape::from([1, 2]), &[1.5f32, 2.0]).unwrap()),
            ("b".into(), Tensor::from_strings(Shape::from([1]), vec!["x\"".into()]).unwrap()),
        ]
    }

    #[test]
    fn json_replies_are_flat() {
        let request = InferRequest { id: "42".into(), ..InferRequest::default() };
        let encoded = encode_json(&request, "m", 3, &outputs());
        assert_eq!(encoded.header_length, None);
        assert_eq!(
            String::from_utf8(encoded.body).unwrap(),
            concat!(
                r#"{"model_name":"m","model_version":"3","id":"42","outputs":["#,
                r#"{"name":"a","datatype":"FP32","shape":[1,2],"data":[1.5,2.0]},"#,
                r#"{"name":"b","datatype":"BYTES","shape":[1],"data":["x\""]}]}"#
            )
        );
    }

    #[test]
    fn one_output_overrides_the_whole_request() {
        let mut request = InferRequest::default();
        request.parameters.binary_output = true;
        request.outputs =
            vec![OutputRequest { name: "a".into(), binary: Some(false), classification: None }];
        let encoded = encode_json(&request, "m", 1, &outputs());
        let (json, binary) = encoded.body.split_at(encoded.header_length.unwrap());
        let json: serde_json::Value = serde_json::from_slice(json).unwrap();
        assert_eq!(json["outputs"][0]["data"][0], 1.5);
        assert_eq!(json["outputs"][1]["parameters"]["binary_data_size"], 6);
        assert_eq!(binary, [2, 0, 0, 0, b'x', b'"']);
    }
}
