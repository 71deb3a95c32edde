//! The oldest operator sets that can say what a graph says.

use std::collections::BTreeMap;

use landfall_graph::{Attribute, Graph};

use super::OLDEST;

/// Operators that came after [`OLDEST`].
const OPERATORS: [(&str, i64); 11] = [
    ("Attention", 23),
    ("RMSNormalization", 23),
    ("RotaryEmbedding", 23),
    ("Swish", 24),
    ("TensorScatter", 24),
    ("BitCast", 26),
    ("CumProd", 26),
    ("CausalConvWithState", 27),
    ("LinearAttention", 27),
    ("SwiGLU", 28),
    ("TreeEnsemble", 5),
];

/// Attributes that came after [`OLDEST`], or after version 3 of `ai.onnx.ml`.
const ATTRIBUTES: [(&str, &str, i64); 11] = [
    ("QuantizeLinear", "precision", 23),
    ("DequantizeLinear", "output_dtype", 23),
    ("Cast", "round_mode", 24),
    ("CastLike", "round_mode", 24),
    ("Attention", "left_window_size", 25),
    ("Attention", "right_window_size", 25),
    ("Range", "stash_type", 27),
    ("SpaceToDepth", "mode", 28),
    ("LabelEncoder", "keys_tensor", 4),
    ("LabelEncoder", "values_tensor", 4),
    ("LabelEncoder", "default_tensor", 4),
];

/// Version of every domain that the graph uses.
pub(super) fn needed(graph: &Graph) -> BTreeMap<&'static str, i64> {
    let mut versions = BTreeMap::from([("ai.onnx", OLDEST)]);
    visit(graph, &mut versions);
    versions
}

fn visit(graph: &Graph, versions: &mut BTreeMap<&'static str, i64>) {
    for (_, node) in graph.nodes() {
        let oldest = match node.op.domain() {
            "ai.onnx" => OLDEST,
            "ai.onnx.ml" => 3,
            _ => 1,
        };
        let version = versions.entry(node.op.domain()).or_insert(oldest);
        let name = node.op.name();
        let by_operator = OPERATORS.iter().filter(|(op, _)| *op == name).map(|(_, v)| *v);
        *version = by_operator.fold(*version, i64::max);
        let attributes = node.op.attributes();
        for (op, attribute, since) in ATTRIBUTES {
            if op == name && attributes.contains_key(attribute) {
                *version = since.max(*version);
            }
        }
        let has_lengths = name == "Attention" && node.input(6).is_some();
        if has_lengths {
            *version = (*version).max(24);
        }
        for attribute in attributes.values() {
            if let Attribute::Graph(body) = attribute {
                visit(body, versions);
            }
        }
    }
}
