//! From a graph to a model's bytes.
//!
//! The model is standard ONNX in the oldest operator set, from [`OLDEST`] on, that can say what the
//! graph says, so that other runtimes can read it. Operators of the domain `landfall` are taken
//! apart first (`lower`).

mod lower;
mod names;
mod opset;
mod writer;

use std::io::Write;

use landfall_graph::{Attribute, Dim, Graph, Node, Op, Origin, ValueId, infer};
use landfall_tensor::{DType, Tensor};

use crate::dtype;
use crate::import::{ClassLabels, Metadata};
use names::Names;
pub(crate) use writer::Writer;

/// The oldest operator set that is written.
pub const OLDEST: i64 = 21;

/// Version of the file format, the one that came with [`OLDEST`].
const IR_VERSION: i64 = 10;

/// Largest message that protobuf readers accept.
const MAX_BYTES: usize = i32::MAX as usize;

/// Why a graph cannot be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExportError {
    /// A value or node has no form in ONNX.
    #[error("cannot export '{name}': {reason}")]
    Unsupported {
        /// The value or node.
        name: String,
        /// What ONNX cannot say.
        reason: String,
    },
    /// The graph is not sound.
    #[error("cannot export a broken graph: {0}")]
    Graph(String),
    /// The model is larger than one protobuf message may be.
    #[error("the model needs {0} bytes, but an ONNX file holds at most {MAX_BYTES}")]
    TooLarge(usize),
    /// The bytes cannot be written.
    #[error("cannot write the model: {0}")]
    Write(#[from] std::io::Error),
}

fn unsupported(name: &str, reason: impl Into<String>) -> ExportError {
    ExportError::Unsupported { name: name.to_owned(), reason: reason.into() }
}

/// Writes a model; class labels become entries `landfall.class_labels.OUTPUT` of its properties.
pub fn export(graph: &Graph, metadata: &Metadata, out: &mut impl Write) -> Result<(), ExportError> {
    let mut graph = lower::standard(graph)?;
    infer::annotate(&mut graph).map_err(|error| ExportError::Graph(error.to_string()))?;
    let mut model = Writer::default();
    model.int(1, IR_VERSION);
    model.text(2, "landfall");
    model.text(3, env!("CARGO_PKG_VERSION"));
    model.text(4, &metadata.domain);
    model.int(5, metadata.model_version);
    model.text(6, &metadata.description);
    for (domain, version) in opset::needed(&graph) {
        let mut import = Writer::default();
        import.text(1, if domain == "ai.onnx" { "" } else { domain });
        import.int(2, version);
        model.message(8, import);
    }
    for (key, value) in properties(metadata) {
        let mut entry = Writer::default();
        entry.text(1, &key);
        entry.text(2, &value);
        model.message(14, entry);
    }
    let mut names = Names::default();
    let scope = names.of_graph(&graph);
    model.message(7, write_graph(&graph, &mut names, &scope, graph.inputs.len())?);
    if model.len() > MAX_BYTES {
        return Err(ExportError::TooLarge(model.len()));
    }
    Ok(model.write_to(out)?)
}

fn properties(metadata: &Metadata) -> Vec<(String, String)> {
    let labels = metadata.class_labels.iter().map(|(output, labels)| {
        let list = match labels {
            ClassLabels::Ints(labels) => labels.iter().map(i64::to_string).collect(),
            ClassLabels::Texts(labels) => labels.clone(),
        };
        (format!("landfall.class_labels.{output}"), list.join("\n"))
    });
    metadata.properties.clone().into_iter().chain(labels).collect()
}

/// Writes a graph of which the first `inputs` inputs are its own, not captured.
fn write_graph(
    graph: &Graph,
    names: &mut Names,
    scope: &[String],
    inputs: usize,
) -> Result<Writer, ExportError> {
    let mut message = Writer::default();
    let order = graph.schedule().map_err(|error| ExportError::Graph(error.to_string()))?;
    for id in order {
        if let Some(node) = graph.node(id) {
            message.message(1, write_node(graph, node, names, scope)?);
        }
    }
    message.text(2, if graph.name.is_empty() { "graph" } else { &graph.name });
    for (id, value) in graph.values() {
        if let Origin::Constant(tensor) = &value.origin {
            let name = &scope[id.index()];
            message.message(5, write_tensor(tensor, name)?);
        }
    }
    for &input in &graph.inputs[..inputs] {
        message.message(11, write_value(graph, input, &scope[input.index()]));
    }
    for &output in &graph.outputs {
        message.message(12, write_value(graph, output, &scope[output.index()]));
    }
    Ok(message)
}

fn write_value(graph: &Graph, id: ValueId, name: &str) -> Writer {
    let value = graph.value(id);
    let mut message = Writer::default();
    message.text(1, name);
    let Some(dtype) = value.dtype else { return message };
    let mut tensor = Writer::default();
    tensor.int(1, dtype::to_code(dtype));
    if let Some(dims) = &value.dims {
        let mut shape = Writer::default();
        for dim in dims {
            let mut dimension = Writer::default();
            match dim {
                Dim::Known(extent) => dimension.int(1, *extent as i64),
                Dim::Symbol(symbol) if !dim.is_given() => dimension.text(2, symbol),
                Dim::Symbol(_) | Dim::Unknown => (),
            }
            shape.message(1, dimension);
        }
        tensor.message(2, shape);
    }
    let mut r#type = Writer::default();
    r#type.message(1, tensor);
    message.message(2, r#type);
    message
}

fn write_node(
    graph: &Graph,
    node: &Node,
    names: &mut Names,
    scope: &[String],
) -> Result<Writer, ExportError> {
    let mut message = Writer::default();
    let captures = names::captures(node);
    let own = node.inputs.len() - captures;
    for input in &node.inputs[..own] {
        message.text(1, input.map_or("", |id| scope[id.index()].as_str()));
    }
    for output in &node.outputs {
        message.text(2, &scope[output.index()]);
    }
    message.text(3, &names.of_node(&node.name));
    message.text(4, node.op.name());
    let domain = node.op.domain();
    message.text(7, if domain == "ai.onnx" { "" } else { domain });
    let dtypes = Op::attribute_names(domain, node.op.name());
    for (name, attribute) in node.op.attributes() {
        if name == "captures" && !matches!(node.op, Op::If(_)) {
            continue;
        }
        if name == "nearest_mode" && attribute == Attribute::Text("simple".to_owned()) {
            let reason = "rounding by the first version of Resize is not in newer ones";
            return Err(unsupported(&node.name, reason));
        }
        let is_dtype = dtypes.iter().any(|(n, is_dtype)| *n == name && *is_dtype);
        let mut proto = match &attribute {
            Attribute::Graph(body) => {
                let inner = names.of_body(body, node, captures, graph, scope);
                let mut proto = Writer::default();
                let inputs = body.inputs.len() - captures;
                proto.message(6, write_graph(body, names, &inner, inputs)?);
                proto.int(20, 5);
                proto
            }
            attribute => write_attribute(attribute, is_dtype)?,
        };
        proto.text(1, &name);
        message.message(5, proto);
    }
    Ok(message)
}

fn write_attribute(attribute: &Attribute, is_dtype: bool) -> Result<Writer, ExportError> {
    let mut proto = Writer::default();
    let kind = match attribute {
        Attribute::Text(name) if is_dtype => {
            proto.int(3, DType::from_name(name).map_or(0, dtype::to_code));
            2
        }
        Attribute::Float(value) => {
            proto.float(2, *value);
            1
        }
        Attribute::Int(value) => {
            proto.int(3, *value);
            2
        }
        Attribute::Text(value) => {
            proto.text(4, value);
            3
        }
        Attribute::Tensor(tensor) => {
            proto.message(5, write_tensor(tensor, "")?);
            4
        }
        Attribute::Floats(values) => {
            proto.floats(7, values);
            6
        }
        Attribute::Ints(values) => {
            proto.ints(8, values);
            7
        }
        Attribute::Texts(values) => {
            values.iter().for_each(|value| proto.text(9, value));
            8
        }
        Attribute::Graph(_) => return Err(unsupported("", "a sub-graph outside of a node")),
    };
    proto.int(20, kind);
    Ok(proto)
}

fn write_tensor(tensor: &Tensor, name: &str) -> Result<Writer, ExportError> {
    let mut proto = Writer::default();
    tensor.shape().iter().for_each(|&extent| proto.int(1, extent as i64));
    proto.int(2, dtype::to_code(tensor.dtype()));
    proto.text(8, name);
    match (tensor.buffer(), tensor.strings()) {
        (Some(buffer), _) => proto.buffer(9, buffer),
        (None, Ok(strings)) => strings.iter().for_each(|string| proto.text(6, string)),
        (None, Err(_)) => return Err(unsupported(name, "bytes are not an ONNX datatype")),
    }
    Ok(proto)
}

#[cfg(test)]
mod tests;
