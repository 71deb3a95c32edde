//! Round trips and refusals of the text form.

use landfall_tensor::{DType, Shape, Tensor};

use super::{parse, print};
use crate::{Graph, Op};

const SAMPLE: &str = r#"graph "g" {
  input %x: f32[batch,4]
  const %w: f32[4,2] = [1.0, 2.5, -3.0, inf, 5.0, 6.0, 7.0, 8.0]
  const %"a/b:0": i64[1] = [-1]
  %h: f32[batch,2] = MatMul(%x, %w) "dense"
  %y: f32[?,"odd name"] = landfall.FusedConv(%h, %w, _, %h) {activation="clip(0.0,6.0)", pads=[1]}
  %z, %#6 = TopK(%y, %"a/b:0") {axis=0}
  %i = If(%x) {else_branch=graph "e" {
    const %c: bool[] = [1]
    output %c
  }, then_branch=graph "t" {
    const %c: string[1] = ["q\"\\\n"]
    output %c
  }}
  output %z
  output %i
}
"#;

#[test]
fn a_graph_prints_as_it_was_written() {
    let graph = parse(SAMPLE, &[]).unwrap();
    assert_eq!(print(&graph).text, SAMPLE);
}

#[test]
fn large_constants_go_to_the_table_and_come_back() {
    let mut graph = Graph::new("g");
    let x = graph.add_input("x", Some(DType::F32), None);
    let w = Tensor::zeros(DType::F32, Shape::from([100])).unwrap();
    let c = graph.add_constant("w", w.clone());
    let y = graph.append("y", Op::Add, vec![Some(x), Some(c)]);
    graph.outputs.push(y);
    let printed = print(&graph);
    assert!(printed.text.contains("const %w: f32[100] = @0"));
    let back = parse(&printed.text, &printed.constants).unwrap();
    assert_eq!(back, graph);
    assert!(parse(&printed.text, &[]).is_err());
}

#[test]
fn long_lists_go_to_the_table_and_come_back() {
    let numbers: Vec<String> = (0..100).map(|n| n.to_string()).collect();
    let modes: Vec<&str> =
        (0..100).map(|n| if n % 3 == 0 { "\"BRANCH_LEQ\"" } else { "\"LEAF\"" }).collect();
    let text = format!(
        "graph \"g\" {{ input %x %y = ai.onnx.ml.TreeEnsembleRegressor(%x) {{nodes_modes=[{}], \
         nodes_nodeids=[{}], nodes_values=[{}.5]}} output %y }}",
        modes.join(", "),
        numbers.join(", "),
        numbers.join(".5, ")
    );
    let graph = parse(&text, &[]).unwrap();
    let printed = print(&graph);
    for list in ["[\"BRANCH_LEQ\", \"LEAF\"][@0]", "nodes_nodeids=[@1]", "nodes_values=[@2]"] {
        assert!(printed.text.contains(list), "{}", printed.text);
    }
    let back = parse(&printed.text, &printed.constants).unwrap();
    let op = |graph: &Graph| graph.nodes().next().map(|(_, node)| node.op.clone()).unwrap();
    assert_eq!(op(&back), op(&graph));
}

#[test]
fn lists_that_the_table_cannot_give_are_refused() {
    let entry = |values: &[u8]| Tensor::from_slice(Shape::from([values.len()]), values).unwrap();
    let refused = |list: &str, table: &[Tensor], message: &str| {
        let text = format!("graph \"g\" {{ %y = Foo() {{list={list}}} output %y }}");
        let error = parse(&text, table).unwrap_err();
        assert!(error.message.contains(message), "{error}");
    };
    refused("[@0]", &[], "there is no constant @0");
    refused("[@0]", &[entry(&[1])], "a list of u8 is no attribute");
    refused("[\"a\"][@0]", &[entry(&[0, 1])], "an index is not below 1");
    refused("[\"a\"][@0]", &[Tensor::scalar(0.5f32)], "f32");
    let long = format!("[\"{}\"][@0]", "a".repeat(65));
    refused(&long, &[entry(&[0])], "bytes of indexed text");
}

#[test]
fn bad_text_is_refused_with_its_line() {
    for (text, line, message) in [
        ("graph \"g\" {\n  output %y\n}", 3, "%y is used but not defined"),
        ("graph \"g\" {\n  %y = Foo(%x)\n}", 3, "Foo: operator ai.onnx.Foo is not known"),
        ("graph \"g\" {\n input %x\n input %x\n}", 4, "%x is defined twice or used before"),
        ("graph \"g\" {\n const %c: f32[2] = [1.0]\n}", 3, "needs 2 elements, got 1"),
        ("graph \"g\" {\n %y = Concat()\n}", 3, "attribute 'axis' is required"),
    ] {
        let err = parse(text, &[]).unwrap_err();
        assert!(err.message.contains(message), "{err}");
        assert_eq!(err.line, line, "{err}");
    }
}

#[test]
fn deep_nesting_is_refused() {
    let mut text = String::new();
    for _ in 0..64 {
        text.push_str("graph \"g\" { %y = Loop() {body=");
    }
    assert!(parse(&text, &[]).unwrap_err().message.contains("deep"));
}
