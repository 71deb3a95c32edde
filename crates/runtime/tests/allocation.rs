//! After warm-up a run allocates nothing.
//!
//! Every thread grows scratch memory of its own, and a worker that is late has its share done by
//! the caller, so its own warm-up may come many runs later. But it comes once.
//! A program of its own, because the threads of a test harness allocate as well.

use std::alloc::System;

use cap::Cap;
use landfall_graph::text::parse;
use landfall_runtime::{Model, Options};
use landfall_tensor::{DType, Shape, Tensor, TensorView};

#[global_allocator]
static ALLOCATOR: Cap<System> = Cap::new(System, usize::MAX);

/// Bytes ever allocated by this process, freed or not.
fn allocated() -> usize {
    ALLOCATOR.total_allocated()
}

fn constant(shape: impl Into<Shape>) -> Tensor {
    let shape = shape.into();
    let values: Vec<f32> = (0..shape.elements()).map(|i| (i % 7) as f32 - 3.0).collect();
    Tensor::from_slice(shape, &values).unwrap()
}

/// More than the times that a worker's memory can grow: at most its few buffers in each step of
/// [`NETWORK`].
const GROWTHS: usize = 100;

/// Convolution, pooling, products, normalisation, softmax, elementwise and movement.
const NETWORK: &str = r#"graph "g" {
    input %x: f32[N,16,16,8]
    const %w: f32[16,8,3,3] = @0
    const %d: f32[16,1,3,3] = @1
    const %m: f32[16,32] = @2
    const %scale: f32[32] = @3
    const %shape: i64[2] = [0, -1]
    %a = landfall.FusedConv(%x, %w) {activation="relu", channels_last=1, pads=[1,1,1,1]}
    %b = landfall.FusedConv(%a, %d) {channels_last=1, group=16, pads=[1,1,1,1]}
    %c = Add(%a, %b)
    %p = landfall.ChannelsLastPool(%c)
        {kernel_shape=[2,2], strides=[2,2], pads=[0,0,0,0], dilations=[1,1]}
    %e = landfall.FusedMatMul(%p, %m) {activation="gelu"}
    %n = LayerNormalization(%e, %scale)
    %t = Transpose(%n) {perm=[0,3,1,2]}
    %s = Softmax(%t) {axis=-1}
    %k = Concat(%t, %s) {axis=1}
    %y = Reshape(%k, %shape)
    output %y
}"#;

fn main() {
    let constants =
        [constant([16, 8, 3, 3]), constant([16, 1, 3, 3]), constant([16, 32]), constant([32])];
    for threads in [1, 2] {
        let graph = parse(NETWORK, &constants).unwrap();
        let options = Options { threads, ..Options::default() };
        let model = Model::compile(graph, &options).unwrap();
        let input = constant([2, 16, 16, 8]);
        let views: [TensorView<'_>; 1] = [input.view()];
        let mut sums = [0f64; 2];
        let mut run = |slot: usize| {
            model
                .run_views(&views, None, &mut |_, output| {
                    assert_eq!(output.dtype(), DType::F32);
                    sums[slot] = output.as_slice::<f32>()?.iter().map(|&x| f64::from(x)).sum();
                    Ok(())
                })
                .unwrap();
        };
        run(0);
        let mut ten_runs = || {
            let before = allocated();
            (0..10).for_each(|_| run(1));
            allocated() - before
        };
        // On one thread nobody is late.
        let tries = if threads == 1 { 1 } else { GROWTHS };
        let allocating = (0..tries).take_while(|_| ten_runs() > 0).count();
        assert!(allocating < tries, "{tries} times ten runs on {threads} threads allocate");
        assert_eq!(sums[0], sums[1]);
    }
}
