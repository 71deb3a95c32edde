//! A request that works, built from a model's signature.

use std::net::SocketAddr;

use landfall_graph::{DimSpec, TensorSpec};
use landfall_predict::Servable;
use landfall_tensor::DType;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};

/// Tensors of more elements are not written out.
const MAX_ELEMENTS: usize = 64;

/// All but unreserved characters (RFC 3986 section 2.3).
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A shell command that sends one request of zeros (or a placeholder text or file) to a model.
pub fn example_request(servable: &Servable, address: SocketAddr) -> String {
    let model = url_encoded(servable.name());
    let url = format!("http://{address}/v2/models/{model}/infer");
    let inputs = &servable.signature().inputs;
    if let [spec] = inputs.as_slice() {
        if spec.dtype == DType::Bytes {
            return format!(
                "curl -s http://{address}/v1/models/{model}:predict -d \
                 '{{\"instances\":[{{\"b64\":\"'$(base64 -w0 FILE)'\"}}]}}'"
            );
        }
        let elements = extents(spec).iter().product::<usize>();
        if elements > MAX_ELEMENTS && spec.dtype != DType::String {
            let bytes = elements * spec.dtype.size();
            return format!(
                "head -c {bytes} /dev/zero | curl -s {url} \
                 -H 'Inference-Header-Content-Length: 0' --data-binary @- --output reply.bin"
            );
        }
    }
    if inputs.iter().any(|spec| extents(spec).iter().product::<usize>() > MAX_ELEMENTS) {
        return format!("curl -s http://{address}/v2/models/{model}");
    }
    let inputs: Vec<Value> = inputs.iter().map(input).collect();
    format!("curl -s {url} -d {}", quoted(&json!({"inputs": inputs}).to_string()))
}

/// Text as one word of a shell. A quote ends what is quoted, so it stands between two such parts.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// Text as one part of a URL's path. Nothing of the result means anything to a shell.
fn url_encoded(text: &str) -> String {
    utf8_percent_encode(text, RESERVED).to_string()
}

fn extents(spec: &TensorSpec) -> Vec<usize> {
    let dims = spec.dims.as_deref().unwrap_or(&[]);
    let extent = |dim: &DimSpec| match dim {
        DimSpec::Known(extent) => *extent,
        DimSpec::Symbol(_) => 1,
    };
    dims.iter().map(extent).collect()
}

fn input(spec: &TensorSpec) -> Value {
    let shape = extents(spec);
    let element = match spec.dtype {
        DType::String | DType::Bytes => json!("text"),
        DType::Bool => json!(false),
        dtype if dtype.is_float() => json!(0.0),
        _ => json!(0),
    };
    let data = vec![element; shape.iter().product()];
    json!({
        "name": spec.name, "datatype": spec.dtype.protocol_name(), "shape": shape, "data": data,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_paths_keep_their_text() {
        assert_eq!(quoted("it's"), r"'it'\''s'");
        assert_eq!(url_encoded("flights-2.1_a~b"), "flights-2.1_a~b");
        assert_eq!(url_encoded("od d"), "od%20d");
        assert_eq!(url_encoded("a?b#c%\u{e9}"), "a%3Fb%23c%25%C3%A9");
    }
}
