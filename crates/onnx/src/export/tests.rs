//! Graphs out and in again.

use landfall_graph::Graph;
use landfall_graph::text::{parse, print};
use landfall_tensor::Buffer;

use super::export;
use crate::import::{ClassLabels, Metadata, import_bytes};

fn graph(text: &str) -> Graph {
    parse(text, &[]).expect("the text is a graph")
}

fn round_trip(graph: &Graph, metadata: &Metadata) -> crate::Imported {
    let mut bytes = Vec::new();
    export(graph, metadata, &mut bytes).expect("the graph can be written");
    import_bytes(Buffer::copy_of(&bytes)).expect("what is written can be read")
}

#[test]
fn standard_graphs_come_back_equal() {
    let text = "graph \"g\" {\n  input %x: f32[batch,2]\n  const %w: f32[2,1] = [0.5, -1.0]\n  \
                %h: f32[batch,1] = MatMul(%x, %w) \"dense\"\n  \
                %y: i64[batch,1] = Cast(%h) {to=\"i64\"} \"cast\"\n  output %y\n}\n";
    let before = graph(text);
    let after = round_trip(&before, &Metadata::default()).graph;
    assert_eq!(print(&after).text, print(&before).text);
}

#[test]
fn fused_operators_become_standard_ones() {
    let text = "graph \"g\" {\n  input %x: f32[1,4,4,3]\n  input %w: f32[2,3,1,1]\n  \
                input %r: f32[1,4,4,2]\n  %y: f32[1,4,4,2] = landfall.FusedConv(%x, %w, _, %r) \
                {activation=\"clip(0.0,6.0)\", channels_last=1} \"conv\"\n  output %y\n}\n";
    let after = round_trip(&graph(text), &Metadata::default()).graph;
    let order = after.schedule().expect("no cycle");
    let ops: Vec<_> = order.iter().filter_map(|&id| Some(after.node(id)?.op.name())).collect();
    assert_eq!(ops, ["Transpose", "Transpose", "Conv", "Add", "Transpose", "Clip"]);
}

#[test]
fn a_transposed_matrix_is_transposed_by_an_operator_of_its_own() {
    let text = "graph \"g\" {\n  input %x: f32[N,3]\n  input %w: f32[2,3]\n  \
                %y: f32[N,2] = landfall.FusedMatMul(%x, %w) {transB=1}\n  output %y\n}\n";
    let after = round_trip(&graph(text), &Metadata::default()).graph;
    let order = after.schedule().expect("no cycle");
    let ops: Vec<_> = order.iter().filter_map(|&id| Some(after.node(id)?.op.name())).collect();
    assert_eq!(ops, ["Transpose", "MatMul", "Identity"]);
}

#[test]
fn the_operator_set_is_the_oldest_that_suffices() {
    let relu =
        graph("graph \"g\" {\n  input %x: f32[2]\n  %y: f32[2] = Relu(%x)\n  output %y\n}\n");
    let swish =
        graph("graph \"g\" {\n  input %x: f32[2]\n  %y: f32[2] = Swish(%x)\n  output %y\n}\n");
    let opset = |graph| round_trip(graph, &Metadata::default()).metadata.opsets["ai.onnx"];
    assert_eq!((opset(&relu), opset(&swish)), (super::OLDEST, 24));
}

#[test]
fn class_labels_become_properties() {
    let relu =
        graph("graph \"g\" {\n  input %x: f32[2]\n  %y: f32[2] = Relu(%x)\n  output %y\n}\n");
    let mut metadata = Metadata::default();
    metadata.class_labels.insert("y".to_owned(), ClassLabels::Ints(vec![1, 2]));
    let properties = round_trip(&relu, &metadata).metadata.properties;
    assert_eq!(properties["landfall.class_labels.y"], "1\n2");
}
