//! Models built by hand for tests.

use landfall_tensor::Buffer;

use crate::export::Writer;

/// `AttributeProto.AttributeType` values.
const FLOAT: i64 = 1;
const INT: i64 = 2;
const STRING: i64 = 3;
const GRAPH: i64 = 5;
const INTS: i64 = 7;

/// One attribute.
pub(crate) enum Value<'a> {
    Float(f32),
    Int(i64),
    Text(&'a str),
    Ints(&'a [i64]),
    Graph(Writer),
}

fn message(fill: impl FnOnce(&mut Writer)) -> Writer {
    let mut writer = Writer::default();
    fill(&mut writer);
    writer
}

/// A `NodeProto`. The operator may have a domain: `com.microsoft.Gelu`.
pub(crate) fn node(
    op: &str,
    inputs: &[&str],
    outputs: &[&str],
    attributes: Vec<(&str, Value<'_>)>,
) -> Writer {
    let (domain, op) = op.rsplit_once('.').unwrap_or(("", op));
    message(|node| {
        inputs.iter().for_each(|name| node.text(1, name));
        outputs.iter().for_each(|name| node.text(2, name));
        node.text(4, op);
        node.text(7, domain);
        for (name, value) in attributes {
            node.message(5, attribute(name, value));
        }
    })
}

fn attribute(name: &str, value: Value<'_>) -> Writer {
    message(|proto| {
        proto.text(1, name);
        let kind = match value {
            Value::Float(value) => {
                proto.float(2, value);
                FLOAT
            }
            Value::Int(value) => {
                proto.int(3, value);
                INT
            }
            Value::Text(value) => {
                proto.text(4, value);
                STRING
            }
            Value::Ints(values) => {
                proto.ints(8, values);
                INTS
            }
            Value::Graph(graph) => {
                proto.message(6, graph);
                GRAPH
            }
        };
        proto.int(20, kind);
    })
}

/// A `ValueInfoProto` of floats; extents that are no numbers are symbols.
pub(crate) fn value(name: &str, dims: &[&str]) -> Writer {
    message(|value| {
        value.text(1, name);
        let shape = message(|shape| {
            for dim in dims {
                let dimension = message(|dimension| match dim.parse() {
                    Ok(extent) => dimension.int(1, extent),
                    Err(_) => dimension.text(2, dim),
                });
                shape.message(1, dimension);
            }
        });
        let tensor = message(|tensor| {
            tensor.int(1, 1);
            tensor.message(2, shape);
        });
        value.message(2, message(|r#type| r#type.message(1, tensor)));
    })
}

/// A `TensorProto` of floats in `raw_data`.
pub(crate) fn floats(name: &str, dims: &[i64], values: &[f32]) -> Writer {
    message(|tensor| {
        tensor.ints(1, dims);
        tensor.int(2, 1);
        tensor.text(8, name);
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        tensor.bytes(9, &bytes);
    })
}

/// A `GraphProto` under construction.
#[derive(Default)]
pub(crate) struct Graph(Writer);

impl Graph {
    pub(crate) fn input(mut self, name: &str, dims: &[&str]) -> Graph {
        self.0.message(11, value(name, dims));
        self
    }

    pub(crate) fn initializer(mut self, tensor: Writer) -> Graph {
        self.0.message(5, tensor);
        self
    }

    pub(crate) fn node(mut self, node: Writer) -> Graph {
        self.0.message(1, node);
        self
    }

    /// An output of unknown type.
    pub(crate) fn output(mut self, name: &str) -> Graph {
        self.0.message(12, message(|value| value.text(1, name)));
        self
    }

    pub(crate) fn finish(self) -> Writer {
        self.0
    }

    /// A model of this graph alone.
    pub(crate) fn model(self, opset: i64) -> Buffer {
        self.model_with(opset, |_| ())
    }

    /// A model of this graph and further fields. It imports every known domain.
    pub(crate) fn model_with(self, opset: i64, more: impl FnOnce(&mut Writer)) -> Buffer {
        let model = message(|model| {
            model.int(1, 8);
            for (domain, version) in
                [("", opset), ("ai.onnx.ml", 3), ("com.microsoft", 1), ("local", 1)]
            {
                model.message(8, opset_import(domain, version));
            }
            model.message(7, self.0);
            more(model);
        });
        buffer(&model)
    }
}

/// An `OperatorSetIdProto`.
pub(crate) fn opset_import(domain: &str, version: i64) -> Writer {
    message(|import| {
        import.text(1, domain);
        import.int(2, version);
    })
}

/// A `FunctionProto` of the domain `local`, in operator set 18.
pub(crate) fn function(
    name: &str,
    inputs: &[&str],
    outputs: &[&str],
    nodes: Vec<Writer>,
) -> Writer {
    message(|function| {
        function.text(1, name);
        inputs.iter().for_each(|name| function.text(4, name));
        outputs.iter().for_each(|name| function.text(5, name));
        for node in nodes {
            function.message(7, node);
        }
        function.message(9, opset_import("", 18));
        function.message(9, opset_import("local", 1));
        function.text(10, "local");
    })
}

/// The bytes of a message.
pub(crate) fn buffer(message: &Writer) -> Buffer {
    let mut bytes = Vec::new();
    message.write_to(&mut bytes).expect("writing to memory cannot fail");
    Buffer::copy_of(&bytes)
}
