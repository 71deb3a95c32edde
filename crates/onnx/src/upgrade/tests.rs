//! One node of an old operator set in, the newest form out as text.

use landfall_graph::text::print;

use crate::import::import_bytes;
use crate::model_builder::{Graph, Value, floats, node};

/// The node lines of a model with one node of operator set `opset`, on `x` and `b`, both `[2,3,4]`.
fn upgraded(opset: i64, op: &str, inputs: &[&str], attributes: Vec<(&str, Value<'_>)>) -> String {
    let dims = &["2", "3", "4"];
    let graph = Graph::default().input("x", dims).input("b", dims);
    let graph = graph.node(node(op, inputs, &["y"], attributes)).output("y");
    match import_bytes(graph.model(opset)) {
        Ok(model) => {
            let text = print(&model.graph).text;
            let lines = text.lines().map(str::trim);
            let kept = lines.filter(|line| line.starts_with('%') || line.starts_with("const"));
            kept.collect::<Vec<_>>().join("\n")
        }
        Err(error) => error.to_string(),
    }
}

#[test]
fn axes_become_inputs_below_their_version_only() {
    let axes = || vec![("axes", Value::Ints(&[1])), ("keepdims", Value::Int(0))];
    for (op, below) in [("ReduceSum", 13), ("ReduceMean", 18)] {
        let old = upgraded(below - 1, op, &["x"], axes());
        assert!(old.contains(&format!("{op}(%x, %\"y/constant\") {{keepdims=0}}")), "{old}");
        let new = upgraded(below, op, &["x"], axes());
        assert!(new.contains("there is no attribute 'axes'"), "{new}");
    }
}

#[test]
fn softmax_over_several_axes_is_flattened() {
    let several = upgraded(11, "Softmax", &["x"], vec![("axis", Value::Int(1))]);
    assert!(several.contains("Flatten(%x)"), "{several}");
    assert!(several.contains("= Reshape("), "{several}");
    let last = upgraded(11, "Softmax", &["x"], vec![("axis", Value::Int(2))]);
    assert_eq!(last, "%y: f32[2,3,4] = Softmax(%x) {axis=2}");
    let new = upgraded(13, "Softmax", &["x"], vec![("axis", Value::Int(1))]);
    assert_eq!(new, "%y: f32[2,3,4] = Softmax(%x) {axis=1}");
}

#[test]
fn bounds_become_inputs_of_the_datas_type() {
    let bounds = vec![("min", Value::Float(0.0)), ("max", Value::Float(6.0))];
    let text = upgraded(6, "Clip", &["x"], bounds);
    assert!(text.contains("const %#4: f32[] = [6.0]"), "{text}");
    assert!(!text.contains("CastLike"), "{text}");
}

#[test]
fn training_is_refused() {
    let graph =
        Graph::default().input("x", &["1", "2"]).initializer(floats("s", &[2], &[1.0, 1.0]));
    let batch = node("BatchNormalization", &["x", "s", "s", "s", "s"], &["y", "m"], vec![]);
    let error = import_bytes(graph.node(batch).output("y").output("m").model(9));
    assert!(error.expect_err("training").to_string().contains("training mode"));
}

#[test]
fn upsample_is_a_resize() {
    let attributes = vec![("mode", Value::Text("nearest"))];
    let text = upgraded(9, "Upsample", &["x", "b"], attributes);
    assert!(text.contains("Resize(%x, _, %b) {coordinate_transformation_mode="), "{text}");
    assert!(text.contains("asymmetric") && text.contains("nearest_mode=\"floor\""), "{text}");
}

#[test]
fn vendor_operators_come_apart() {
    let text = upgraded(18, "com.microsoft.BiasGelu", &["x", "b"], vec![]);
    assert!(text.contains("Add(%x, %b)") && text.contains("= Gelu("), "{text}");
    let transposed = vec![("transB", Value::Int(1)), ("alpha", Value::Float(0.5))];
    let text = upgraded(18, "com.microsoft.FusedMatMul", &["x", "b"], transposed);
    assert!(text.contains("Transpose(%b) {perm=[0, 2, 1]}"), "{text}");
    assert!(text.contains("%y: f32[2,3,3] = Mul("), "{text}");
    let text = upgraded(18, "com.microsoft.SkipLayerNormalization", &["x", "b", "b"], vec![]);
    assert!(text.contains("LayerNormalization(") && text.contains("epsilon=1e-12"), "{text}");
}

#[test]
fn broadcasting_from_an_axis_is_aligned() {
    let graph = Graph::default().input("x", &["2", "3", "4"]).input("b", &["3"]);
    let attributes = vec![("axis", Value::Int(1)), ("broadcast", Value::Int(1))];
    let graph = graph.node(node("Add", &["x", "b"], &["y"], attributes)).output("y");
    let text = print(&import_bytes(graph.model(6)).expect("sound").graph).text;
    assert!(text.contains("f32[3,1] = Unsqueeze(%b"), "{text}");
}
