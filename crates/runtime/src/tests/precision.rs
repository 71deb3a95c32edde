//! Models compiled for bf16.

use landfall_graph::text::parse;
use landfall_graph::{Graph, infer};
use landfall_tensor::{DType, Precision, Shape, Tensor};

use crate::{Cpu, Isa, Model, Options};

const DEPTH: usize = 48;

/// Repeatable values in [-1, 1).
fn values(shape: &[usize], seed: usize) -> Tensor {
    let len = shape.iter().product();
    let value = |i: usize| ((i * 7919 + seed * 104_729) % 2001) as f32 * 1e-3 - 1.0;
    let data: Vec<f32> = (0..len).map(value).collect();
    Tensor::from_slice(Shape::from(shape), &data).unwrap()
}

/// A product of many columns, one of few, a depthwise convolution and a dense one.
fn graph() -> Graph {
    let text = "graph \"g\" {
        input %x: f32[N,48] input %p: f32[1,5,5,32]
        const %w: f32[48,32] = @0
        const %few: f32[32,4] = @1
        const %d: f32[32,1,3,3] = @2
        const %c: f32[24,32,1,1] = @3
        %h = MatMul(%x, %w) \"wide\"
        %y = MatMul(%h, %few) \"narrow\"
        %q = landfall.FusedConv(%p, %d) {channels_last=1, group=32} \"depthwise\"
        %z = landfall.FusedConv(%q, %c) {channels_last=1} \"dense\"
        output %h output %y output %z }";
    let shapes: [&[usize]; 4] = [&[DEPTH, 32], &[32, 4], &[32, 1, 3, 3], &[24, 32, 1, 1]];
    let constants: Vec<Tensor> = shapes.iter().zip(1..).map(|(s, seed)| values(s, seed)).collect();
    let mut graph = parse(text, &constants).unwrap();
    infer::annotate(&mut graph).unwrap();
    graph
}

fn model(cpu: Cpu, precision: Precision) -> Model {
    Model::compile(graph(), &Options { cpu, precision, ..Options::default() }).unwrap()
}

fn floats(tensor: &Tensor) -> &[f32] {
    tensor.as_slice().unwrap()
}

#[test]
fn bf16_is_close_to_f32_and_the_same_wherever_sums_have_one_order() {
    let inputs = [values(&[3, DEPTH], 8), values(&[1, 5, 5, 32], 9)];
    let f32s = model(Cpu::detect(), Precision::F32).run(&inputs).unwrap();
    let mut first: [Option<Vec<Tensor>>; 2] = [None, None];
    for cpu in Cpu::available().chain([Cpu::amx_twin()]) {
        let got = model(cpu, Precision::Bf16).run(&inputs).unwrap();
        assert_ne!(got[0], f32s[0], "nothing was rounded on {}", cpu.isa());
        for (got, f32s) in got.iter().zip(&f32s) {
            for (a, b) in floats(got).iter().zip(floats(f32s)) {
                assert!((a - b).abs() < 0.05 * (1.0 + b.abs()), "{a} is far from {b}");
            }
        }
        let order_of_amx = cpu.isa() == Isa::Amx || cpu == Cpu::amx_twin();
        let first = &mut first[usize::from(order_of_amx)];
        assert_eq!(first.get_or_insert_with(|| got.clone()), &got, "{}", cpu.isa());
    }
}

#[test]
fn a_row_of_a_batch_is_what_it_is_alone() {
    let model = model(Cpu::detect(), Precision::Bf16);
    let image = values(&[1, 5, 5, 32], 9);
    let batch = values(&[40, DEPTH], 8);
    let all = model.run(&[batch.clone(), image.clone()]).unwrap();
    for row in [0, 7, 39] {
        let data = &floats(&batch)[row * DEPTH..][..DEPTH];
        let one = Tensor::from_slice(Shape::from([1, DEPTH]), data).unwrap();
        let alone = model.run(&[one, image.clone()]).unwrap();
        assert_eq!(floats(&alone[0]), &floats(&all[0])[row * 32..][..32]);
        assert_eq!(floats(&alone[1]), &floats(&all[1])[row * 4..][..4]);
    }
}

#[test]
fn the_report_says_which_precision_every_node_got_and_why() {
    let shapes = [Shape::from([3, DEPTH]), Shape::from([1, 5, 5, 32])];
    for cpu in Cpu::available() {
        let report = model(cpu, Precision::Bf16).report(&shapes).unwrap();
        let node = |name: &str| {
            let step = report.steps.iter().find(|step| step.node == name).unwrap();
            (step.kernel.kernel, step.kernel.precision, step.kernel.reason.as_str())
        };
        let wide = node("wide");
        assert_eq!((wide.0, wide.1), ("gemm_bf16", "bf16"));
        let is_scalar = cpu == Cpu::available().next().unwrap();
        assert_eq!(wide.2.is_empty(), cpu.has_bf16() || is_scalar, "{}", wide.2);
        assert_eq!((node("dense").0, node("dense").1), ("conv1x1_gemm_bf16", "bf16"));
        for name in ["narrow", "depthwise"] {
            let (kernel, precision, reason) = node(name);
            assert_eq!(precision, "f32", "{kernel}");
            assert!(!reason.is_empty(), "{kernel}");
        }
    }
    let report = model(Cpu::detect(), Precision::F32).report(&shapes).unwrap();
    assert!(report.steps.iter().all(|step| step.kernel.precision != "bf16"));
    assert!(report.steps.iter().all(|step| step.kernel.reason.is_empty()));
}

#[test]
fn packed_weights_are_kept_by_precision() {
    let shapes = [Shape::from([3, DEPTH]), Shape::from([1, 5, 5, 32])];
    let keys = |precision: Precision| -> Vec<(String, DType)> {
        let model = model(Cpu::detect(), precision);
        model.prepare(&shapes).unwrap();
        model.packed().into_iter().map(|(key, tensor)| (key, tensor.dtype())).collect()
    };
    for (key, dtype) in keys(Precision::F32) {
        assert!(!key.contains("bf16") && dtype == DType::F32, "{key}");
    }
    let mixed = keys(Precision::Bf16);
    assert!(mixed.iter().all(|(key, dtype)| key.contains("bf16") == (*dtype == DType::BF16)));
    assert_eq!(mixed.iter().filter(|(_, dtype)| *dtype == DType::BF16).count(), 2);
}
