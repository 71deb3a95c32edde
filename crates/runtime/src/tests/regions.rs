//! Steps that run together: results are those of each row alone, to the bit.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use landfall_graph::text::parse;
use landfall_tensor::{Precision, Shape, Tensor};

use crate::{Model, Options, StepReport, TuneCase, Tuning, tune};

/// An inverted residual followed by a 1×1 convolution, a pool and a mean.
const BLOCK: &str = "graph \"g\" {
    input %x: f32[N,56,56,16]
    const %w0: f32[96,16,1,1] = @0
    const %w1: f32[96,1,3,3] = @1
    const %w2: f32[16,96,1,1] = @2
    const %b0: f32[96] = @3
    const %axes: i64[2] = [1,2]
    %h = landfall.FusedConv(%x, %w0, %b0) {channels_last=1,activation=\"relu\"}
    %d = landfall.FusedConv(%h, %w1, %b0) {channels_last=1,activation=\"relu\",group=96,
        pads=[1,1,1,1]}
    %p = landfall.FusedConv(%d, %w2, _, %x) {channels_last=1}
    %e = landfall.FusedConv(%p, %w0, %b0) {channels_last=1,activation=\"silu\"}
    %f = Relu(%e)
    %c = Concat(%e, %f) {axis=-1}
    %q = landfall.ChannelsLastPool(%c) {kernel_shape=[2,2],strides=[2,2]}
    %m = ReduceMean(%q, %axes) {keepdims=0}
    output %m output %p output %c }";

fn values(shape: impl Into<Shape>, seed: usize) -> Tensor {
    let shape = shape.into();
    let value = |i: usize| ((i * 7919 + seed * 104_729) % 65_521) as f32 / 65_521.0 - 0.5;
    let values: Vec<f32> = (0..shape.elements()).map(value).collect();
    Tensor::from_slice(shape, &values).unwrap()
}

fn block(threads: usize) -> Model {
    block_in(Precision::F32, threads)
}

fn block_in(precision: Precision, threads: usize) -> Model {
    let constants = [
        values([96, 16, 1, 1], 1),
        values([96, 1, 3, 3], 2),
        values([16, 96, 1, 1], 3),
        values([96], 4),
    ];
    let graph = parse(BLOCK, &constants).unwrap();
    Model::compile(graph, &Options { threads, precision, ..Options::default() }).unwrap()
}

fn rows(tensor: &Tensor, first: usize, count: usize) -> Tensor {
    let each = tensor.elements() / tensor.shape()[0];
    let shape: Shape = std::iter::once(count).chain(tensor.shape()[1..].iter().copied()).collect();
    let values = &tensor.as_slice::<f32>().unwrap()[first * each..][..count * each];
    Tensor::from_slice(shape, values).unwrap()
}

#[test]
fn rows_of_a_batch_are_computed_as_if_alone() {
    let batch = values([7, 56, 56, 16], 9);
    let single = block(1);
    let alone: Vec<Vec<Tensor>> =
        (0..7).map(|i| single.run(&[rows(&batch, i, 1)]).unwrap()).collect();
    for (threads, count) in [(1, 7), (1, 6), (2, 7), (2, 4), (3, 7), (3, 2), (5, 6)] {
        let outputs = block(threads).run(&[rows(&batch, 0, count)]).unwrap();
        for (output, tensor) in outputs.iter().enumerate() {
            for (i, alone) in alone.iter().enumerate().take(count) {
                let same = rows(tensor, i, 1) == alone[output];
                assert!(same, "{threads} threads, row {i} of {count}, output {output}");
            }
        }
    }
}

#[test]
fn slices_need_less_memory_and_every_step_is_told_of() {
    let model = block(1);
    let shapes = |n: usize| [Shape::from([n, 56, 56, 16])];
    let (one, eight) = (model.report(&shapes(1)).unwrap(), model.report(&shapes(8)).unwrap());
    let slices: Vec<usize> = eight.steps.iter().map(|step| step.slices).collect();
    assert!(slices[..3].iter().all(|&n| n > 1), "{slices:?}");
    assert!(one.steps.iter().all(|step| step.slices == 1));
    assert!(eight.arena_bytes < 8 * one.arena_bytes, "{}", eight.arena_bytes);
    assert!(eight.lower_bound_bytes <= eight.arena_bytes);
    let mut told = vec![0; slices.len()];
    let input = values([8, 56, 56, 16], 9);
    model.run_observed(&[input], Some(&mut |step| told[step] += 1)).unwrap();
    assert_eq!(told, slices);
}

#[test]
fn wide_convolutions_in_between_are_merged() {
    let kernels = |n: usize| -> Vec<&'static str> {
        let report = block(1).report(&[Shape::from([n, 56, 56, 16])]).unwrap();
        report.steps.iter().map(|step| step.kernel.kernel).collect()
    };
    let expected = ["merged", "merged", "inverted_residual_f32"];
    assert_eq!(kernels(1)[..3], expected);
    assert_eq!(kernels(8)[..3], expected);
}

#[test]
fn tuning_offers_steps_in_slices_no_threads_that_they_would_not_use() {
    let model = block(2);
    let time = AtomicU64::new(0);
    let clock = || Duration::from_micros(time.fetch_add(1, Ordering::Relaxed));
    let case = TuneCase { inputs: vec![values([4, 56, 56, 16], 9)], threads: 2 };
    let found = tune(&model, &[case], Duration::from_millis(1), &clock).unwrap();
    let report = model.tuned(Arc::default(), 2).unwrap().report(&[Shape::from([4, 56, 56, 16])]);
    let mut seen = [false; 2];
    for step in report.unwrap().steps {
        let signature = step.identity.unwrap().signature;
        let mut steps = found.cases[0].steps.iter();
        let tuned = steps.find(|tuned| tuned.signature == signature).unwrap();
        let fewer = tuned.candidates.iter().any(|candidate| candidate.threads < 2);
        assert_eq!(fewer, step.slices == 1, "{}", step.node);
        seen[usize::from(step.slices > 1)] = true;
    }
    assert!(seen[1], "no step runs in slices");
}

#[test]
fn another_algorithm_merges_no_other_steps() {
    let model = block_in(Precision::Bf16, 1);
    let steps = |tuning: Tuning| {
        let tuned = model.tuned(Arc::new(tuning), 1).unwrap();
        tuned.report(&[Shape::from([1, 56, 56, 16])]).unwrap().steps
    };
    let default = steps(Tuning::default());
    let several = default.iter().filter(|step| step.algorithms.is_some());
    let kinds = several.map(|step| step.identity.clone().unwrap().kind);
    let algorithms = kinds.map(|kind| (kind, "gemm".to_owned())).collect();
    let forced = steps(Tuning { algorithms, ..Tuning::default() });
    let names = |steps: &[StepReport]| -> Vec<&str> {
        steps.iter().map(|step| step.kernel.kernel).collect()
    };
    let (default, forced) = (names(&default), names(&forced));
    assert_eq!((default[0], forced[0]), ("conv1x1_gemm_bf16", "conv1x1_gemm_f32"));
    assert_eq!(default[1..3], forced[1..3]);
}
