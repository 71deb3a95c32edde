//! Whole graphs, from text to results.

use std::collections::BTreeMap;

use landfall_graph::text::parse;
use landfall_tensor::{Shape, Tensor};

use crate::{CompileError, Model, Options, RunError};

mod memory;
mod precision;
mod regions;
mod tuning;

fn model(body: &str) -> Model {
    let graph = parse(&format!("graph \"g\" {{ {body} }}"), &[]).unwrap();
    Model::compile(graph, &Options::default()).unwrap()
}

fn floats(shape: impl Into<Shape>, values: &[f32]) -> Tensor {
    Tensor::from_slice(shape.into(), values).unwrap()
}

#[test]
fn a_graph_with_symbolic_shapes_runs_for_several_of_them() {
    let model = model(
        "input %x: f32[N,2]
         const %b: f32[2] = [10.0, 20.0]
         %h = Add(%x, %b)
         %t = Transpose(%h) {perm=[1,0]}
         %y = Relu(%t)
         output %y",
    );
    let one = model.run(&[floats([1, 2], &[1.0, -50.0])]).unwrap();
    assert_eq!(one[0], floats([2, 1], &[11.0, 0.0]));
    let two = model.run(&[floats([2, 2], &[1.0, 2.0, 3.0, 4.0])]).unwrap();
    assert_eq!(two[0], floats([2, 2], &[11.0, 13.0, 22.0, 24.0]));
}

#[test]
fn outputs_may_be_inputs_constants_or_aliases() {
    let model = model(
        "input %x: f32[2,2]
         const %c: i64[1] = [7]
         const %s: i64[1] = [-1]
         %r = Reshape(%x, %s)
         output %x output %c output %r",
    );
    let x = floats([2, 2], &[1.0, 2.0, 3.0, 4.0]);
    let outputs = model.run(std::slice::from_ref(&x)).unwrap();
    assert_eq!(outputs[0], x);
    assert_eq!(outputs[1], Tensor::from_slice(Shape::from([1]), &[7i64]).unwrap());
    assert_eq!(outputs[2], floats([4], &[1.0, 2.0, 3.0, 4.0]));
}

#[test]
fn shapes_that_depend_on_data_are_worked_out_while_running() {
    let model = model(
        "input %x: f32[4]
         input %shape: i64[2]
         %r = Reshape(%x, %shape)
         %t = Transpose(%r)
         %y = Neg(%t)
         output %y",
    );
    let x = floats([4], &[1.0, 2.0, 3.0, 4.0]);
    let shape = Tensor::from_slice(Shape::from([2]), &[2i64, 2]).unwrap();
    let outputs = model.run(&[x, shape]).unwrap();
    assert_eq!(outputs[0], floats([2, 2], &[-1.0, -3.0, -2.0, -4.0]));
}

#[test]
fn every_node_without_a_kernel_is_named() {
    let text = "graph \"g\" { input %x: f32[1] input %c: bool[]
        %a = ai.onnx.ml.ZipMap(%x) \"first\"
        %b = If(%c, %a) {
            then_branch=graph \"t\" { input %i %o = ai.onnx.ml.ZipMap(%i) \"inner\" output %o },
            else_branch=graph \"e\" { input %i output %i }
        } \"second\" output %b }";
    let graph = parse(text, &[]).unwrap();
    let Err(CompileError::Unsupported(nodes)) = Model::compile(graph, &Options::default()) else {
        panic!("compiled an operator that has no kernel");
    };
    let names: Vec<&str> = nodes.iter().map(|node| node.node.as_str()).collect();
    assert_eq!(names, ["first", "second"]);
    let message = nodes[1].to_string();
    assert!(message.contains("in then_branch: node 'inner' (ZipMap)"), "{message}");
}

#[test]
fn inputs_that_do_not_fit_are_refused_by_name() {
    let model = model("input %x: f32[N,2] %y = Neg(%x) output %y");
    let error = model.run(&[floats([2, 3], &[0.0; 6])]).unwrap_err();
    assert_eq!(error, RunError::Input("input 'x' has shape [2,3], expected [N,2]".into()));
    let ints = Tensor::from_slice(Shape::from([1, 2]), &[1i64, 2]).unwrap();
    let message = model.run(&[ints]).unwrap_err().to_string();
    assert_eq!(message, "input 'x' has datatype INT64, expected FP32");
}

#[test]
fn positions_outside_the_data_are_refused() {
    let gather = model(
        "input %x: f32[N,2] input %i: i64[M,2] %y = GatherElements(%x, %i) {axis=0} output %y",
    );
    let x = floats([2, 2], &[1.0, 2.0, 3.0, 4.0]);
    let index = |at: [i64; 2]| Tensor::from_slice(Shape::from([1, 2]), &at).unwrap();
    let outputs = gather.run(&[x.clone(), index([-1, 0])]).unwrap();
    assert_eq!(outputs[0], floats([1, 2], &[3.0, 2.0]));
    let message = gather.run(&[x.clone(), index([0, 2])]).unwrap_err().to_string();
    assert!(message.contains("index 2 is out of range for axis 0 of extent 2"), "{message}");
    let wide = Tensor::from_slice(Shape::from([1, 2]), &[i64::MIN, 0]).unwrap();
    assert!(gather.run(&[x, wide]).is_err());
}

#[test]
fn a_scatter_may_take_over_its_operand_but_not_an_input() {
    let model = model(
        "input %x: f32[3] input %i: i64[K] input %u: f32[K]
         %n = Neg(%x)
         %a = ScatterElements(%n, %i, %u) {reduction=\"add\"}
         %b = ScatterElements(%x, %i, %u)
         output %a output %b output %x",
    );
    let x = floats([3], &[1.0, 2.0, 3.0]);
    let index = Tensor::from_slice(Shape::from([2]), &[-1i64, -1]).unwrap();
    let outputs = model.run(&[x.clone(), index, floats([2], &[10.0, 20.0])]).unwrap();
    assert_eq!(outputs[0], floats([3], &[-1.0, -2.0, 27.0]));
    assert_eq!(outputs[1], floats([3], &[1.0, 2.0, 20.0]));
    assert_eq!(outputs[2], x);
}

#[test]
fn counts_and_axes_may_be_known_only_while_running() {
    let model = model(
        "input %x: f32[3] input %k: i64[1] input %axes: i64[A]
         %v, %i = TopK(%x, %k)
         %s = Shape(%v)
         %m = ReduceMax(%v, %axes) {keepdims=0}
         output %i output %s output %m",
    );
    let ints = |values: &[i64]| Tensor::from_slice(Shape::from([values.len()]), values).unwrap();
    let x = floats([3], &[1.0, 3.0, 2.0]);
    let outputs = model.run(&[x.clone(), ints(&[2]), ints(&[-1])]).unwrap();
    assert_eq!(outputs[0], ints(&[1, 2]));
    assert_eq!(outputs[1], ints(&[2]));
    assert_eq!(outputs[2], floats(Shape::scalar(), &[3.0]));
    let message = model.run(&[x, ints(&[4]), ints(&[])]).unwrap_err().to_string();
    assert!(message.contains("k is 4, axis 0 has extent 3"), "{message}");
}

#[test]
fn text_is_moved_like_numbers() {
    let model = model(
        "input %x: string[2,2] input %i: i64[1,1] input %c: bool[2]
         const %shape: i64[2] = [3,2]
         %n = GatherND(%x, %i)
         %p = CenterCropPad(%x, %shape)
         %k = Compress(%x, %c) {axis=0}
         %u = Unique(%x)
         output %n output %p output %k output %u",
    );
    let texts = |shape: [usize; 2], texts: &[&str]| {
        let texts = texts.iter().map(|&t| t.to_owned()).collect();
        Tensor::from_strings(Shape::from(shape), texts).unwrap()
    };
    let x = texts([2, 2], &["b", "a", "b", "c"]);
    let index = Tensor::from_slice(Shape::from([1, 1]), &[1i64]).unwrap();
    let condition = Tensor::from_bools(Shape::from([2]), &[true, false]).unwrap();
    let outputs = model.run(&[x, index, condition]).unwrap();
    assert_eq!(outputs[0], texts([1, 2], &["b", "c"]));
    assert_eq!(outputs[1], texts([3, 2], &["b", "a", "b", "c", "", ""]));
    assert_eq!(outputs[2], texts([1, 2], &["b", "a"]));
    assert_eq!(outputs[3].strings().unwrap(), ["a", "b", "c"]);
}

#[test]
fn random_numbers_repeat_and_follow_their_seed() {
    let sample = |seed: &str| {
        let text = format!("%y = RandomNormal() {{shape=[4]{seed}}} output %y");
        model(&text).run(&[]).unwrap().remove(0)
    };
    assert_eq!(sample(""), sample(""));
    assert_eq!(sample(",seed=1.5"), sample(",seed=1.5"));
    assert_ne!(sample(",seed=1.5"), sample(",seed=1.25"));
}

const STUMPS: &str = "input %x: f32[N,2]
    %y = ai.onnx.ml.TreeEnsembleRegressor(%x) {
        n_targets=1, nodes_treeids=[0, 0, 0, 5], nodes_nodeids=[0, 1, 2, 0],
        nodes_featureids=[1, 0, 0, 0], nodes_values=[0.5, 0.0, 0.0, 0.0],
        nodes_modes=[\"BRANCH_LEQ\", \"LEAF\", \"LEAF\", \"LEAF\"],
        nodes_truenodeids=[1, 0, 0, 0], nodes_falsenodeids=[2, 0, 0, 0],
        target_treeids=[0, 0, 5], target_nodeids=[1, 2, 0], target_ids=[0, 0, 0],
        target_weights=[1.0, 2.0, 10.0]}
    output %y";

fn given(text: &str, packed: &BTreeMap<String, Tensor>) -> Model {
    let graph = parse(&format!("graph \"g\" {{ {text} }}"), &[]).unwrap();
    Model::compile_with(graph, &Options::default(), packed.clone()).unwrap()
}

#[test]
fn a_forest_made_earlier_is_used_as_it_is() {
    let x = floats([2, 2], &[9.0, 0.5, 0.0, 0.75]);
    let first = model(STUMPS);
    let expected = first.run(std::slice::from_ref(&x)).unwrap();
    assert_eq!(expected[0], floats([2, 1], &[11.0, 12.0]));
    let packed = first.packed();
    assert_eq!(packed.keys().map(String::as_str).collect::<Vec<_>>(), ["1.trees"]);
    let second = given(STUMPS, &packed);
    assert_eq!(second.run(&[x]).unwrap(), expected);
    let address = |packed: &BTreeMap<String, Tensor>| packed["1.trees"].bytes().unwrap().as_ptr();
    assert_eq!(address(&second.packed()), address(&packed), "packed anew");
}

#[test]
fn a_forest_that_is_not_the_operators_is_refused() {
    let x = floats([1, 2], &[0.0, 0.0]);
    let first = model(STUMPS);
    first.run(std::slice::from_ref(&x)).unwrap();
    let packed = first.packed();
    let bytes = packed["1.trees"].bytes().unwrap();
    let refused = |text: &str, tensor: Tensor, message: &str| {
        let model = given(text, &BTreeMap::from([("1.trees".to_owned(), tensor)]));
        let error = model.run(std::slice::from_ref(&x)).unwrap_err().to_string();
        assert!(error.contains(message), "{error}");
    };
    let cut = Tensor::from_slice(Shape::from([8]), &bytes[..8]).unwrap();
    refused(STUMPS, cut, "the stored trees are damaged: it is cut off");
    let text = Tensor::from_strings(Shape::from([1]), vec!["trees".into()]).unwrap();
    refused(STUMPS, text, "the stored trees are not bytes");
    let other = STUMPS.replace("n_targets=1", "n_targets=2");
    refused(&other, packed["1.trees"].clone(), "the trees have 1 targets, not 2");
}

#[test]
fn a_batch_of_no_rows_gives_no_rows() {
    let none = |columns: usize| floats([0, columns], &[]);
    let concat = model("input %x: f32[N,2] %y = Concat(%x, %x) {axis=1} output %y");
    assert_eq!(concat.run(&[none(2)]).unwrap()[0], none(4));
    let spread = model("input %x: f32[N,1] input %b: f32[3] %y = Add(%x, %b) output %y");
    let b = floats([3], &[1.0, 2.0, 3.0]);
    assert_eq!(spread.run(&[none(1), b]).unwrap()[0], none(3));
    let late = model(
        "input %x: f32[N,2] input %s: i64[2] %r = Reshape(%x, %s) %y = Concat(%r, %r) {axis=1}
         output %y",
    );
    let shape = Tensor::from_slice(Shape::from([2]), &[0i64, 2]).unwrap();
    assert_eq!(late.run(&[none(2), shape]).unwrap()[0], none(4));
}
