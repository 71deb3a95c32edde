//! Error bounds over the whole range of f32, on every instruction set and on emulated 16 lanes.

use super::*;
use crate::Cpu;
use crate::simd::{Portable, Simd};

/// Distance in units in the last place of the exact value, counted in steps of f32.
fn ulps(got: f32, exact: f64) -> f64 {
    let nearest = exact as f32;
    if got.is_nan() || nearest.is_nan() || nearest.is_infinite() || got.is_infinite() {
        return if got == nearest || got.is_nan() && nearest.is_nan() {
            0.0
        } else {
            f64::INFINITY
        };
    }
    let exponent = exact.abs().max(f64::from(f32::MIN_POSITIVE)).log2().floor();
    (f64::from(got) - exact).abs() / 2f64.powf(exponent - 23.0)
}

/// Every 4099th bit pattern, and the edges.
fn inputs() -> Vec<f32> {
    let mut xs: Vec<f32> = (0..=u32::MAX).step_by(4099).map(f32::from_bits).collect();
    for edge in [0.0, 1.0, 0.625, 0.92, 4.0, 87.3, 88.72, 88.73, 103.0, 104.5, f32::MAX] {
        xs.extend([edge, -edge, f32::next_up(edge), -f32::next_down(edge)]);
    }
    xs.extend((-40_000..40_000).map(|i| i as f32 * 0.0026));
    xs.extend([f32::INFINITY, f32::NEG_INFINITY, f32::NAN, -0.0, f32::MIN_POSITIVE]);
    xs
}

fn worst(activation: Activation, exact: impl Fn(f64) -> f64) -> f64 {
    let xs = inputs();
    let mut worst = 0.0f64;
    let mut check = |ys: &[f32]| {
        for (&x, &y) in xs.iter().zip(ys) {
            let error = ulps(y, exact(x.into()));
            assert!(error < 1e6, "{activation:?}({x:e}) = {y:e}, expected {:e}", exact(x.into()));
            worst = worst.max(error);
        }
    };
    for cpu in Cpu::available() {
        let mut ys = xs.clone();
        activate_slice(cpu, activation, &mut ys);
        check(&ys);
    }
    let mut ys = xs.clone();
    let (start, cols) = (ys.as_mut_ptr(), ys.len());
    Portable.run(ActivateTile { activation, start, rows: 1, cols, stride: 0 });
    check(&ys);
    worst
}

#[test]
fn elementary_functions_keep_their_bounds() {
    type Exact = fn(f64) -> f64;
    let cases: [(Activation, f64, Exact); 5] = [
        (Activation::Exp, 1.0, f64::exp),
        (Activation::Ln, 1.0, f64::ln),
        (Activation::Tanh, 2.0, f64::tanh),
        (Activation::Sigmoid, 3.0, |x| 1.0 / (1.0 + (-x).exp())),
        (Activation::Erf, 2.0, erf_f64),
    ];
    for (activation, bound, exact) in cases {
        let error = worst(activation, exact);
        assert!(error <= bound, "{activation:?} is {error:.3} ULP off");
    }
}

#[test]
fn activations_agree_with_their_twins() {
    let cases = [
        Activation::Relu,
        Activation::Clip(-1.5, 6.0),
        Activation::Silu,
        Activation::HardSwish,
        Activation::HardSigmoid { alpha: 0.2, beta: 0.5 },
        Activation::LeakyRelu(0.01),
        Activation::Gelu,
        Activation::GeluTanh,
    ];
    let xs: Vec<f32> = (-3001..3001).map(|i| i as f32 * 0.01).chain([f32::NAN]).collect();
    for cpu in Cpu::available() {
        for activation in cases {
            let mut ys = xs.clone();
            activate_slice(cpu, activation, &mut ys);
            for (&x, &y) in xs.iter().zip(&ys) {
                let expected = activation.reference(x);
                let tolerance = 4.0 * f32::EPSILON * x.abs().max(1e-30);
                let same = (y - expected).abs() <= tolerance || y.is_nan() && expected.is_nan();
                assert!(same, "{activation:?}({x}) = {y}, expected {expected} on {}", cpu.isa());
            }
        }
    }
}

#[test]
fn double_precision_erf_is_right() {
    for (x, y) in [(0.5, 0.520_499_877_813_046_5), (2.9, 0.999_958_902_121_900_5)] {
        assert!((erf_f64(x) - y).abs() < 1e-12);
    }
    assert!((erf_f64(-3.1) + 0.999_988_351_342_632_8).abs() < 1e-12);
}
