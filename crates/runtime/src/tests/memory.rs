//! What runs may hold and keep.

use landfall_graph::Origin;
use landfall_graph::text::parse;
use landfall_tensor::{Buffer, Shape, Tensor};

use super::{floats, model};
use crate::{Model, Options};

const LIMIT: usize = 1 << 20;

fn limited(body: &str) -> Model {
    let graph = parse(&format!("graph \"g\" {{ {body} }}"), &[]).unwrap();
    let options = Options { memory_limit_bytes: LIMIT, ..Options::default() };
    Model::compile(graph, &options).unwrap()
}

fn ints(values: &[i64]) -> Tensor {
    Tensor::from_slice(Shape::from([values.len()]), values).unwrap()
}

#[track_caller]
fn refused(body: &str, inputs: &[Tensor]) {
    let message = limited(body).run(inputs).unwrap_err().to_string();
    assert!(message.contains("bytes of memory, the limit of a run is 1048576"), "{message}");
}

const HUGE: i64 = 1 << 40;

#[test]
fn results_whose_size_is_data_are_refused_beyond_the_limit() {
    refused("input %s: i64[2] %y = ConstantOfShape(%s) output %y", &[ints(&[HUGE, 1])]);
    refused("input %s: i64[2] %y = ConstantOfShape(%s) output %y", &[ints(&[HUGE, HUGE])]);
    let one = floats([1], &[1.0]);
    refused(
        "input %x: f32[1] input %s: i64[1] %y = Expand(%x, %s) output %y",
        &[one.clone(), ints(&[HUGE])],
    );
    refused(
        "input %x: f32[1] input %s: i64[1] %y = Tile(%x, %s) output %y",
        &[one.clone(), ints(&[HUGE])],
    );
    refused(
        "input %x: f32[1] input %p: i64[2] %y = Pad(%x, %p) output %y",
        &[one.clone(), ints(&[HUGE, 0])],
    );
    refused(
        "input %i: i64[1] input %d: i64[1] const %v: f32[2] = [0.0, 1.0]
         %y = OneHot(%i, %d, %v) output %y",
        &[ints(&[0]), ints(&[HUGE])],
    );
    refused(
        "input %x: f32[1] input %s: i64[1] %y = Resize(%x, _, _, %s) output %y",
        &[one, ints(&[1 << 28])],
    );
}

#[test]
fn texts_count_too() {
    let text = Tensor::from_strings(Shape::from([1]), vec!["a".into()]).unwrap();
    refused(
        "input %x: string[1] input %s: i64[1] %y = Expand(%x, %s) output %y",
        &[text, ints(&[HUGE])],
    );
}

#[test]
fn results_that_fit_alone_may_be_too_much_together() {
    let body = "input %s: i64[1] %a = ConstantOfShape(%s) %b = Neg(%a) %c = Neg(%b)
         %y = Add(%a, %c) output %y";
    assert!(limited(body).run(&[ints(&[1000])]).is_ok());
    refused(body, &[ints(&[(LIMIT / 4) as i64 - 1])]);
}

#[test]
fn planned_results_are_refused_beyond_the_limit() {
    let outer = "input %a: f32[N,K] input %b: f32[K,M] %c = MatMul(%a, %b) %y = Relu(%c) output %y";
    let none = |shape: [usize; 2]| floats(shape, &[]);
    for extent in [1 << 20, 1 << 31, 1 << 40, 1 << 62] {
        refused(outer, &[none([extent, 0]), none([0, extent])]);
    }
    // The arena fits, and with the copy of the result it does not.
    let body = "input %x: f32[N] %y = Neg(%x) output %y";
    let run = |n: usize| limited(body).run(&[floats([n], &vec![0.0; n])]);
    assert!(run(LIMIT / 8).is_ok());
    let error = run(LIMIT / 8 + 16).unwrap_err();
    assert_eq!(error, crate::RunError::Memory { needed: LIMIT + 128, limit: LIMIT });
}

#[test]
fn copies_of_results_count() {
    let body = "input %s: i64[1] %y = ConstantOfShape(%s) output %y";
    assert!(limited(body).run(&[ints(&[(LIMIT / 8) as i64])]).is_ok());
    let error = limited(body).run(&[ints(&[(LIMIT / 8) as i64 + 1])]).unwrap_err();
    assert_eq!(error, crate::RunError::Memory { needed: LIMIT + 8, limit: LIMIT });
}

#[test]
fn a_loop_that_doubles_its_state_ends_at_the_limit() {
    let body = "input %trips: i64[] input %x: f32[N]
        %y = Loop(%trips, _, %x) {body=graph \"b\" {
            input %i: i64[] input %c: bool[] input %s: f32[M]
            %t = Concat(%s, %s) {axis=0} output %c output %t
        }} output %y";
    let inputs = |trips: i64| [Tensor::scalar(trips), floats([1], &[1.0])];
    assert_eq!(limited(body).run(&inputs(10)).unwrap()[0].elements(), 1024);
    let message = limited(body).run(&inputs(60)).unwrap_err().to_string();
    assert!(message.contains("memory"), "{message}");
}

/// A model whose constants lie across their alignment.
fn crooked(text: &str) -> Model {
    let mut graph = parse(text, &[]).unwrap();
    let ids: Vec<_> = graph.values().map(|(id, _)| id).collect();
    for id in ids {
        if let Origin::Constant(tensor) = &mut graph.value_mut(id).origin {
            let mut bytes = vec![0];
            bytes.extend_from_slice(tensor.bytes().unwrap());
            let bytes = Buffer::copy_of(&bytes).slice(1..bytes.len()).unwrap();
            *tensor = Tensor::from_buffer(tensor.dtype(), tensor.shape().clone(), bytes).unwrap();
        }
    }
    Model::compile(graph, &Options::default()).unwrap()
}

#[test]
fn a_constant_across_its_alignment_is_copied_once_for_all_shapes() {
    let model = crooked(
        "graph \"g\" { input %x: f32[N] const %b: f32[1] = [2.0] %y = Add(%x, %b) output %y }",
    );
    for n in 1..4 {
        let outputs = model.run(&[floats([n], &vec![1.0; n])]).unwrap();
        assert_eq!(outputs[0], floats([n], &vec![3.0; n]));
    }
    assert_eq!(model.weights().aligned_copies(), 1);
}

#[test]
fn a_constant_across_its_alignment_is_not_copied_if_it_is_packed() {
    for transposed in [0, 1] {
        let model = crooked(&format!(
            "graph \"g\" {{
               input %x: f32[N,2] const %w: f32[2,2] = [1.0, 2.0, 3.0, 4.0]
               %y = landfall.FusedMatMul(%x, %w) {{transB={transposed}}} output %y }}"
        ));
        for n in 1..4 {
            let outputs = model.run(&[floats([n, 2], &[1.0, -1.0].repeat(n))]).unwrap();
            let row = if transposed == 1 { [-1.0, -1.0] } else { [-2.0, -2.0] };
            assert_eq!(outputs[0], floats([n, 2], &row.repeat(n)));
        }
        assert_eq!(model.weights().aligned_copies(), 0);
    }
}

#[test]
fn runs_of_other_shapes_share_working_memory() {
    let model = model("input %x: f32[N] %a = Neg(%x) %b = Exp(%a) %y = Neg(%b) output %y");
    for n in [1, 1000, 3, 500] {
        let outputs = model.run(&[floats([n], &vec![0.0; n])]).unwrap();
        assert_eq!(outputs[0], floats([n], &vec![-1.0; n]));
        assert_eq!(model.idle().contexts(), 1);
    }
}

#[test]
fn one_large_request_does_not_hold_its_memory_for_good() {
    let model = model("input %x: f32[N] %a = Exp(%x) %y = Neg(%a) output %y");
    let run = |n: usize| model.run(&[floats([n], &vec![0.0; n])]).map(|_| ()).unwrap();
    run(1 << 16);
    let large = model.idle().bytes();
    assert!(large >= 1 << 18);
    (0..4).for_each(|_| run(1 << 15));
    assert_eq!(model.idle().bytes(), large, "given up for runs that need half of it");
    (0..200).for_each(|_| run(16));
    assert!(model.idle().bytes() <= 1 << 12, "still holds {} bytes", model.idle().bytes());
}
