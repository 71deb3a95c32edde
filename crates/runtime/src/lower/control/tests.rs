//! Branches and loops, from text to results.

use landfall_graph::text::parse;
use landfall_tensor::{DType, Shape, Tensor};

use crate::{Model, Options};

fn model(body: &str) -> Model {
    let graph = parse(&format!("graph \"g\" {{ {body} }}"), &[]).unwrap();
    Model::compile(graph, &Options::default()).unwrap()
}

fn floats(shape: impl Into<Shape>, values: &[f32]) -> Tensor {
    Tensor::from_slice(shape.into(), values).unwrap()
}

fn truth(value: bool) -> Tensor {
    Tensor::from_bools(Shape::scalar(), &[value]).unwrap()
}

const GROWING: &str = "input %trips: i64[] input %x: f32[N]
    %last, %sums = Loop(%trips, _, %x, %x) {captures=1, body=graph \"b\" {
        input %i: i64[] input %c: bool[] input %s: f32[M] input %own: f32[N]
        %t = Concat(%s, %own) {axis=0}
        const %axes: i64[1] = [0]
        %sum = ReduceSum(%t, %axes) {keepdims=0}
        output %c output %t output %sum
    }} output %last output %sums";

#[test]
fn a_loop_may_grow_its_state_and_collects_what_it_scans() {
    let model = model(GROWING);
    for (trips, sums) in [(3, &[2.0, 3.0, 4.0][..]), (0, &[]), (1, &[2.0])] {
        let outputs = model.run(&[Tensor::scalar(trips as i64), floats([1], &[1.0])]).unwrap();
        assert_eq!(outputs[0], floats([trips + 1], &vec![1.0; trips + 1]));
        assert_eq!(outputs[1], floats([sums.len()], sums));
    }
    let outputs = model.run(&[Tensor::scalar(-5i64), floats([2], &[1.0, 2.0])]).unwrap();
    assert_eq!(outputs[0], floats([2], &[1.0, 2.0]));
}

#[test]
fn a_loop_ends_when_its_condition_says_so() {
    let model = model(
        "input %go: bool[] input %x: f32[]
         %y = Loop(_, %go, %x) {body=graph \"b\" {
            input %i: i64[] input %c: bool[] input %s: f32[]
            %t = Add(%s, %s)
            const %limit: f32[] = [100.0]
            %on = Less(%t, %limit)
            output %on output %t
         }} output %y",
    );
    let run = |go| model.run(&[truth(go), Tensor::scalar(1f32)]).unwrap();
    assert_eq!(run(true)[0].item::<f32>().unwrap(), 128.0);
    assert_eq!(run(false)[0].item::<f32>().unwrap(), 1.0);
}

#[test]
fn branches_nest_and_may_differ_in_rank() {
    let model = model(
        "input %a: bool[] input %b: bool[] input %x: f32[N,2]
         %y = If(%a, %b, %x) {
            then_branch=graph \"t\" { input %b: bool[] input %x: f32[N,2]
                %o = If(%b, %x) {
                    then_branch=graph \"tt\" { input %x: f32[N,2] %o = Neg(%x) output %o },
                    else_branch=graph \"te\" { input %x: f32[N,2] output %x }
                } output %o },
            else_branch=graph \"e\" { input %b: bool[] input %x: f32[N,2]
                const %shape: i64[1] = [-1] %o = Reshape(%x, %shape) output %o }
         }
         %z = Abs(%y) output %y output %z",
    );
    let x = floats([1, 2], &[1.0, 2.0]);
    let run = |a, b| model.run(&[truth(a), truth(b), x.clone()]).unwrap();
    assert_eq!(run(true, true), [floats([1, 2], &[-1.0, -2.0]), x.clone()]);
    assert_eq!(run(true, false), [x.clone(), x.clone()]);
    assert_eq!(run(false, true)[1], floats([2], &[1.0, 2.0]));
}

#[test]
fn a_scan_goes_either_way_along_any_axis() {
    let body = "body=graph \"b\" { input %s: f32[1] input %v: f32[1]
        %t = Add(%s, %v) %seen = Identity(%t) output %t output %seen }";
    for (direction, want) in [(0, [1.0, 3.0, 6.0]), (1, [6.0, 5.0, 3.0])] {
        let model = model(&format!(
            "input %s: f32[1] input %x: f32[1,3]
             %last, %all = Scan(%s, %x) {{num_scan_inputs=1, scan_input_axes=[1],
                scan_input_directions=[{direction}], scan_output_axes=[1],
                scan_output_directions=[{direction}], {body}}}
             output %last output %all"
        ));
        let outputs = model.run(&[floats([1], &[0.0]), floats([1, 3], &[1.0, 2.0, 3.0])]).unwrap();
        assert_eq!(outputs, [floats([1], &[6.0]), floats([1, 3], &want)]);
    }
}

#[test]
fn errors_name_the_body_and_its_node() {
    let model = model(
        "input %trips: i64[] input %x: f32[2]
         %y = Loop(%trips, _, %x) {body=graph \"b\" {
            input %i: i64[] input %c: bool[] input %s: f32[M]
            const %shape: i64[2] = [7, 7] %t = Reshape(%s, %shape) \"inside\"
            output %c output %t
         }} \"outside\" output %y",
    );
    let error = model.run(&[Tensor::scalar(1i64), floats([2], &[0.0; 2])]).unwrap_err();
    let message = error.to_string();
    assert!(message.starts_with("node 'outside' (Loop): in body: node 'inside'"), "{message}");
    let none = model.run(&[Tensor::scalar(0i64), floats([2], &[0.0; 2])]).unwrap();
    assert_eq!(none[0].dtype(), DType::F32);
}
