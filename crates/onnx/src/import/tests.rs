//! Models built by hand: what they become, and what is wrong with them.

use landfall_graph::text::print;
use landfall_tensor::{Buffer, DType};

use super::{ClassLabels, Imported, import_bytes, tensor_from_proto};
use crate::error::ImportError;
use crate::export::Writer;
use crate::model_builder::{Graph, Value, buffer, floats, function, node};

fn imported(model: Buffer) -> Imported {
    import_bytes(model).expect("the model is sound")
}

fn text(model: Buffer) -> String {
    print(&imported(model).graph).text
}

fn problem(model: Buffer) -> String {
    import_bytes(model).expect_err("the model is broken").to_string()
}

fn relu(input: &str, output: &str) -> Writer {
    node("Relu", &[input], &[output], vec![])
}

#[test]
fn weights_stay_in_the_models_memory() {
    let graph = Graph::default().input("x", &["batch", "2"]);
    let graph = graph.initializer(floats("w", &[2, 1], &[1.0, 2.0]));
    let graph = graph.node(node("MatMul", &["x", "w"], &["y"], vec![])).output("y");
    let model = graph.model(18);
    let (start, end) = (model.as_ptr() as usize, model.as_ptr() as usize + model.len());
    let graph = imported(model).graph;
    let matmul = graph.producer(graph.outputs[0]).expect("a node").1;
    let weights = graph.constant(matmul.input(1).expect("an operand")).expect("a constant");
    let at = weights.bytes().expect("bytes").as_ptr() as usize;
    assert!((start..end).contains(&at));
    assert_eq!(weights.aligned().as_slice::<f32>().expect("floats"), &[1.0, 2.0]);
}

#[test]
fn names_symbols_and_order_are_kept() {
    let graph = Graph::default().input("x", &["batch", "-1", "3"]);
    let graph = graph.node(relu("h", "y")).node(relu("x", "h")).output("y");
    let expected = "graph \"\" {\n  input %x: f32[batch,?,3]\n  %h: f32[batch,?,3] = Relu(%x)\n  \
                    %y: f32[batch,?,3] = Relu(%h)\n  output %y\n}\n";
    assert_eq!(text(graph.model(18)), expected);
}

#[test]
fn inputs_with_initialisers_are_constants() {
    let graph = Graph::default().input("x", &["1"]).input("w", &["1"]);
    let graph = graph.initializer(floats("w", &[1], &[3.0]));
    let graph = graph.node(node("Add", &["x", "w"], &["y"], vec![])).output("y");
    let graph = imported(graph.model(18)).graph;
    assert_eq!(graph.inputs.len(), 1);
}

#[test]
fn bodies_are_closed_and_share_constants() {
    let inner = Graph::default().node(node("Add", &["x", "k"], &["i"], vec![])).output("i");
    let then = Graph::default().node(node(
        "If",
        &["c"],
        &["t"],
        vec![
            ("then_branch", Value::Graph(inner.finish())),
            (
                "else_branch",
                Value::Graph(Graph::default().node(relu("h", "e")).output("e").finish()),
            ),
        ],
    ));
    let other = Graph::default().node(relu("x", "o")).output("o");
    let graph = Graph::default().input("x", &["1"]).input("c", &[]);
    let graph = graph.initializer(floats("k", &[1], &[1.0])).node(relu("x", "h"));
    let graph = graph.node(node(
        "If",
        &["c"],
        &["y"],
        vec![
            ("then_branch", Value::Graph(then.output("t").finish())),
            ("else_branch", Value::Graph(other.finish())),
        ],
    ));
    let graph = imported(graph.output("y").model(18)).graph;
    let outer = graph.producer(graph.outputs[0]).expect("a node").1;
    let name = |id: landfall_graph::ValueId| graph.value(id).name.as_str();
    assert_eq!(outer.operands().map(name).collect::<Vec<_>>(), ["c", "c", "x", "h"]);
    let landfall_graph::Op::If(branches) = &outer.op else { panic!("an If") };
    let names = |graph: &landfall_graph::Graph| -> Vec<String> {
        graph.inputs.iter().map(|&id| graph.value(id).name.clone()).collect()
    };
    assert_eq!(names(&branches.then_branch), ["c", "x", "h"]);
    assert_eq!(names(&branches.else_branch), names(&branches.then_branch));
}

#[test]
fn functions_are_inlined() {
    let body = vec![node("Add", &["a", "a"], &["b"], vec![]), relu("b", "c")];
    let graph = Graph::default().input("x", &["2"]);
    let graph = graph.node(node("local.F", &["x"], &["y"], vec![])).output("y");
    let model =
        graph.model_with(18, |model| model.message(25, function("F", &["a"], &["c"], body)));
    let ops: Vec<&str> = imported(model).graph.nodes().map(|(_, node)| node.op.name()).collect();
    assert_eq!(ops, ["Add", "Relu", "Identity"]);
}

#[test]
fn functions_that_call_themselves_are_refused() {
    let body =
        vec![node("local.F", &["a"], &["b"], vec![]), node("local.F", &["b"], &["c"], vec![])];
    let graph = Graph::default().input("x", &["2"]);
    let graph = graph.node(node("local.F", &["x"], &["y"], vec![])).output("y");
    let model =
        graph.model_with(18, |model| model.message(25, function("F", &["a"], &["c"], body)));
    assert!(problem(model).contains("nest more than 32 deep"));
}

#[test]
fn zip_maps_give_probabilities_and_labels() {
    let graph = Graph::default().input("x", &["n", "2"]).node(node("Relu", &["x"], &["p"], vec![]));
    let labels = ("classlabels_int64s", Value::Ints(&[4, 7]));
    let graph = graph.node(node("ai.onnx.ml.ZipMap", &["p"], &["probabilities"], vec![labels]));
    let model = imported(graph.output("probabilities").model(18));
    let output = model.graph.value(model.graph.outputs[0]);
    assert_eq!((output.name.as_str(), output.dtype), ("probabilities", Some(DType::F32)));
    let labels = model.metadata.class_labels.get("probabilities");
    assert_eq!(labels, Some(&ClassLabels::Ints(vec![4, 7])));
    assert_eq!(model.graph.nodes().count(), 1);
}

#[test]
fn every_unsupported_node_is_listed() {
    let graph = Graph::default().input("x", &["1"]);
    let graph = graph.node(node("Foo", &["x"], &["a"], vec![]));
    let graph = graph.node(node("Relu", &["a"], &["b"], vec![("alpha", Value::Float(1.0))]));
    let graph = graph.node(node("Neg", &["b"], &["c"], vec![]));
    let graph = graph.node(node("strange.Bar", &["c"], &["y"], vec![])).output("y");
    let error = import_bytes(graph.model(18)).expect_err("unsupported");
    let ImportError::Unsupported { nodes, rest } = &error else { panic!("{error}") };
    let found: Vec<_> = nodes.iter().map(|n| (n.operator.as_str(), n.opset)).collect();
    assert_eq!(found, [("Foo", Some(18)), ("Relu", Some(18)), ("Bar", None)]);
    let text = error.to_string();
    assert!(
        text.contains("'b': ai.onnx.Relu of opset 18: there is no attribute 'alpha'"),
        "{text}"
    );
    let signature = rest.graph.signature();
    assert_eq!((&*signature.inputs[0].name, &*signature.outputs[0].name), ("x", "y"));
    let kept: Vec<&str> = rest.graph.nodes().map(|(_, node)| node.op.name()).collect();
    assert_eq!((kept, rest.metadata.opsets.get("ai.onnx")), (vec!["Neg"], Some(&18)));
}

#[test]
fn contradictions_are_named() {
    let start = || Graph::default().input("x", &["1"]);
    let undefined = start().node(relu("z", "y")).output("y").model(18);
    assert!(problem(undefined).contains("graph.node[0] (Relu): input 'z' is not defined"));
    let twice = start().node(relu("x", "y")).node(relu("x", "y")).output("y").model(18);
    assert!(problem(twice).contains("value 'y' is defined twice"));
    let cycle = start().node(relu("b", "a")).node(relu("a", "b")).output("a").model(18);
    assert!(problem(cycle).contains("the graph has a cycle"));
    let missing = start().node(relu("x", "y")).output("z").model(18);
    assert!(problem(missing).contains("output 'z' is defined by no node"));
    let newer = start().node(relu("x", "y")).output("y").model(999);
    assert!(problem(newer).contains("opset 999 of ai.onnx is newer than"));
    assert!(problem(Buffer::copy_of(&[])).contains("there is no graph"));
}

#[test]
fn declared_sizes_are_not_believed() {
    let start = || Graph::default().input("x", &["1"]).node(relu("x", "y")).output("y");
    let huge = start().initializer(floats("w", &[1 << 40], &[1.0])).model(18);
    assert!(problem(huge).contains("tensor 'w': shape [1099511627776] of f32 needs"));
    let overflow = start().initializer(floats("w", &[1 << 40, 1 << 40], &[])).model(18);
    assert!(problem(overflow).contains("too many elements"));
    let negative = start().initializer(floats("w", &[-1], &[1.0])).model(18);
    assert!(problem(negative).contains("extent -1 is negative"));
    let ranks = start().initializer(floats("w", &[1; 17], &[1.0])).model(18);
    assert!(problem(ranks).contains("17 axes exceed 16"));
}

#[test]
fn tensors_of_every_encoding_are_read() {
    let read = |fill: &dyn Fn(&mut Writer)| {
        let mut tensor = Writer::default();
        fill(&mut tensor);
        tensor_from_proto(&buffer(&tensor)).map_err(|error| error.to_string())
    };
    let halves = read(&|t| {
        t.int(1, 2);
        t.int(2, 10);
        t.ints(5, &[0x3c00, 0xc000]);
    });
    let halves = halves.expect("two numbers");
    let values: Vec<f32> =
        halves.as_slice().expect("f16").iter().map(|h: &landfall_tensor::f16| h.to_f32()).collect();
    assert_eq!(values, [1.0, -2.0]);
    let packed = read(&|t| {
        t.int(1, 2);
        t.int(2, 7);
        t.bytes(7, &[1, 0x96, 0x01]);
    });
    assert_eq!(packed.expect("two numbers").as_slice::<i64>().expect("i64"), &[1, 150]);
    let texts = read(&|t| {
        t.int(1, 1);
        t.int(2, 8);
        t.text(6, "café");
    });
    assert_eq!(texts.expect("a text").strings().expect("strings"), ["café"]);
    let big = read(&|t| {
        t.int(2, 3);
        t.int(5, 128);
    });
    assert!(big.expect_err("too big").contains("element 128 does not fit i8"));
    let bad_bool = read(&|t| {
        t.int(2, 9);
        t.bytes(9, &[2]);
    });
    assert!(bad_bool.expect_err("no bool").contains("a boolean is stored as 2"));
    let broken_text = read(&|t| {
        t.int(2, 8);
        t.bytes(6, &[0xff]);
    });
    assert!(broken_text.expect_err("no text").contains("not UTF-8"));
    let float8 = read(&|t| t.int(2, 17));
    assert!(float8.expect_err("float8").contains("datatype float8e4m3fn is not supported"));
}

#[test]
fn messages_nest_to_a_bound() {
    let mut graph = Graph::default().finish();
    for _ in 0..200 {
        let body = ("then_branch", Value::Graph(graph));
        graph = Graph::default().node(node("If", &["c"], &["y"], vec![body])).finish();
    }
    let mut model = Writer::default();
    model.message(7, graph);
    assert!(problem(buffer(&model)).contains("messages nest more than 128 deep"));
}

/// Damaged models end in an error or in a graph that verifies; they never panic.
#[test]
fn damaged_models_do_no_harm() {
    let branch = |op: &str| Graph::default().node(node(op, &["h"], &["r"], vec![])).output("r");
    let graph = Graph::default().input("x", &["n", "2"]).input("c", &[]);
    let graph = graph.initializer(floats("w", &[2, 2], &[1.0, 2.0, 3.0, 4.0]));
    let graph = graph.node(node("MatMul", &["x", "w"], &["h"], vec![]));
    let graph = graph.node(node("Softmax", &["h"], &["s"], vec![("axis", Value::Int(0))]));
    let axes = vec![("axes", Value::Ints(&[0]))];
    let graph = graph.node(node("Unsqueeze", &["s"], &["u"], axes)).node(node(
        "If",
        &["c"],
        &["y"],
        vec![
            ("then_branch", Value::Graph(branch("Relu").finish())),
            ("else_branch", Value::Graph(branch("Neg").finish())),
        ],
    ));
    let body = vec![relu("a", "b")];
    let graph = graph.node(node("local.F", &["u"], &["z"], vec![])).output("y").output("z");
    let model = graph.model_with(9, |model| model.message(25, function("F", &["a"], &["b"], body)));
    imported(model.clone());
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut random = |limit: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % limit as u64) as usize
    };
    for _ in 0..20_000 {
        let mut bytes = model.to_vec();
        for _ in 0..=random(3) {
            let at = random(bytes.len());
            match random(4) {
                0 => bytes[at] = random(256) as u8,
                1 => bytes[at] ^= 1 << random(8),
                2 => bytes.truncate(at + 1),
                _ => bytes.insert(at, random(256) as u8),
            }
        }
        if let Ok(model) = import_bytes(Buffer::copy_of(&bytes)) {
            assert_eq!(landfall_graph::verify(&model.graph), Ok(()));
        }
    }
}

#[test]
fn sequences_of_known_length_vanish() {
    let graph = Graph::default().input("x", &["2", "3"]);
    let split = vec![("axis", Value::Int(1))];
    let graph = graph.node(node("SplitToSequence", &["x"], &["s"], split));
    let graph = graph.node(node("SequenceErase", &["s"], &["t"], vec![]));
    let concat = vec![("axis", Value::Int(0))];
    let graph = graph.node(node("ConcatFromSequence", &["t"], &["y"], concat)).output("y");
    let graph = imported(graph.model(18)).graph;
    let ops: Vec<&str> = graph.nodes().map(|(_, node)| node.op.name()).collect();
    assert_eq!(ops, ["Split", "Concat"]);
    assert_eq!(graph.producer(graph.outputs[0]).map(|(_, node)| node.inputs.len()), Some(2));
    let misused = Graph::default().input("x", &["2", "3"]);
    let misused = misused.node(node("SequenceConstruct", &["x"], &["s"], vec![]));
    let misused = misused.node(relu("s", "y")).output("y").model(18);
    assert!(problem(misused).contains("its input 's' is a sequence"));
}
