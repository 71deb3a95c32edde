//! Inference over text graphs.

use super::{annotate, infer_graph};
use crate::text::{parse, print};

/// The printed form after inference, without the graph's frame.
fn annotated(body: &str) -> Vec<String> {
    let mut graph = parse(&format!("graph \"g\" {{ {body} }}"), &[]).unwrap();
    annotate(&mut graph).unwrap();
    let text = print(&graph).text;
    let nodes = text.lines().filter(|line| line.contains('(')).map(|line| line.trim().to_owned());
    nodes.collect()
}

fn error(body: &str) -> String {
    let graph = parse(&format!("graph \"g\" {{ {body} }}"), &[]).unwrap();
    infer_graph(&graph).unwrap_err().to_string()
}

#[test]
fn symbols_flow_through_a_head_split() {
    let lines = annotated(
        "input %x: f32[batch,seq,384]
         const %zero: i64[1] = [0]
         const %two: i64[1] = [2]
         const %tail: i64[2] = [12, 32]
         %s = Shape(%x)
         %bs = Slice(%s, %zero, %two)
         %target = Concat(%bs, %tail) {axis=0}
         %r = Reshape(%x, %target)
         %t = Transpose(%r) {perm=[0,2,1,3]}
         output %t",
    );
    assert_eq!(lines[3], "%r: f32[batch,seq,12,32] = Reshape(%x, %target)");
    assert!(lines[4].starts_with("%t: f32[batch,12,seq,32] ="));
}

#[test]
fn windows_follow_the_convolution_arithmetic() {
    let lines = annotated(
        "input %x: f32[N,3,224,224]
         const %w: f32[8,3,3,3] = @0
         %a = Conv(%x, %w) {strides=[2,2], pads=[1,1,1,1]}
         %b = MaxPool(%a) {kernel_shape=[3,3], strides=[2,2], ceil_mode=1}
         %c = AveragePool(%b) {kernel_shape=[2,2], auto_pad=\"SAME_UPPER\", strides=[2,2]}
         output %c"
            .replace("const %w: f32[8,3,3,3] = @0", "input %w: f32[8,3,3,3]")
            .as_str(),
    );
    assert!(lines[0].starts_with("%a: f32[N,8,112,112]"));
    assert!(lines[1].starts_with("%b: f32[N,8,56,56]"));
    assert!(lines[2].starts_with("%c: f32[N,8,28,28]"));
}

#[test]
fn reshape_divides_symbols_out() {
    let lines = annotated(
        "input %x: f32[batch,4,8]
         const %a: i64[2] = [0, -1]
         const %b: i64[2] = [-1, 32]
         %p = Reshape(%x, %a)
         %q = Reshape(%x, %b)
         output %p output %q",
    );
    assert!(lines[0].starts_with("%p: f32[batch,32]"));
    assert!(lines[1].starts_with("%q: f32[batch,32]"));
}

#[test]
fn windows_without_axes_are_refused() {
    for dims in ["", "4"] {
        let body =
            format!("input %x: f32[1,1,4] input %w: f32[{dims}] %y = Conv(%x, %w) output %y");
        let error = error(&body);
        assert!(error.contains("expected 3 or more"), "{error}");
    }
}

#[test]
fn elements_of_two_types_do_not_join() {
    let concat = error("input %a: f32[2] input %b: f64[2] %y = Concat(%a, %b) {axis=0} output %y");
    assert!(concat.contains("operand 1 has datatype f64, operand 0 f32"), "{concat}");
    for op in ["ScatterElements", "ScatterND"] {
        let scatter = error(&format!(
            "input %a: f32[2] input %i: i64[2,1] input %b: i32[2] %y = {op}(%a, %i, %b) output %y"
        ));
        assert!(scatter.contains("operand 2 has datatype i32, operand 0 f32"), "{scatter}");
    }
}

#[test]
fn impossible_operands_are_errors_that_name_the_node() {
    let message =
        error("input %a: f32[2,3] input %b: f32[4,5] %y = MatMul(%a, %b) \"dense\" output %y");
    assert!(message.ends_with("'dense' (MatMul): inner extents 3 and 4 differ"), "{message}");
    let message = error("input %a: f32[2,3] input %b: f32[4] %y = Add(%a, %b) output %y");
    assert!(message.contains("extents 3 and 4 cannot be broadcast"), "{message}");
    let message =
        error("input %a: f32[6] const %s: i64[2] = [4, -1] %y = Reshape(%a, %s) output %y");
    assert!(message.contains("6 elements do not divide into rows of 4"), "{message}");
}

#[test]
fn reductions_keep_or_drop_their_axes() {
    let lines = annotated(
        "input %x: f32[N,3,8]
         const %last: i64[1] = [-1]
         %a = ReduceMean(%x, %last)
         %b = ReduceSum(%x, %last) {keepdims=0}
         %c = ReduceMax(%x)
         %d = ArgMax(%x) {axis=1, keepdims=0}
         %e = LayerNormalization(%x, %x)
         output %a",
    );
    let types: Vec<&str> = lines.iter().filter_map(|line| line.split(" =").next()).collect();
    assert_eq!(
        types,
        ["%a: f32[N,3,1]", "%b: f32[N,3]", "%c: f32[1,1,1]", "%d: i64[N,8]", "%e: f32[N,3,8]"]
    );
}

#[test]
fn fused_operators_have_their_shapes() {
    let lines = annotated(
        "input %x: f32[N,8,8,3]
         input %q: f32[N,S,32]
         input %k: f32[N,T,32]
         input %v: f32[N,T,64]
         %a = landfall.ChannelsLastPool(%x) {kernel_shape=[2,2], strides=[2,2], pads=[0,0,0,0]}
         %b = landfall.FusedAttention(%q, %k, %v) {heads=4}
         output %a",
    );
    assert!(lines[0].starts_with("%a: f32[N,4,4,3] ="));
    assert!(lines[1].starts_with("%b: f32[N,S,64] ="));
}

#[test]
fn absurd_lengths_are_refused_before_they_take_memory() {
    let expand = "input %x: f32[1] input %s: i64[4294967295] %y = Expand(%x, %s) output %y";
    assert!(error(expand).contains("4294967295 extents"), "{}", error(expand));
    let slice = "input %x: f32[4] input %s: i64[4294967295] input %e: i64[4294967295]
                 %y = Slice(%x, %s, %e) output %y";
    assert!(error(slice).contains("4294967295 starts for 1 axes"), "{}", error(slice));
}

#[test]
fn a_split_into_absurdly_many_parts_yields_the_results_it_names() {
    let body = "input %x: f32[4] %a, %b = Split(%x) {axis=0, num_outputs=4611686018427387904}
                output %a output %b";
    let lines = annotated(body);
    assert!(lines[0].starts_with("%a: f32[1], %b: f32[1] ="), "{}", lines[0]);
}
