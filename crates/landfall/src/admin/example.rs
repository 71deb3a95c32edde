//! A request that works, built from a model's signature.

use std::net::SocketAddr;

use landfall_graph::{DimSpec, TensorSpec};
use landfall_predict::Servable;
use landfall_tensor::DType;
use serde_json::{Value, json};

/// Tensors of more elements are not written out.
const MAX_ELEMENTS: usize = 64;

/// A shell command that sends one request of zeros (or a placeholder text or file) to a model.
pub fn example_request(servable: &Servable, address: SocketAddr) -> String {
    let model = servable.name();
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
    format!("curl -s {url} -d '{}'", json!({"inputs": inputs}))
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
