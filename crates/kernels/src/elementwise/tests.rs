//! Broadcast patterns against indices worked out one by one, and the functions' corner cases.

use landfall_tensor::{broadcast, row_major_strides};
use proptest::prelude::*;

use super::*;
use crate::{Cpu, Exec, Isa, Pool};

fn with_exec(test: impl Fn(Exec<'_>)) {
    let pool = Pool::new(2).unwrap();
    for cpu in [Cpu::with_isa(Isa::Reference).unwrap(), Cpu::detect()] {
        test(Exec { cpu, pool: &pool });
    }
}

fn index(flat: usize, out: &[usize], shape: &[usize]) -> usize {
    let strides = row_major_strides(shape);
    let lead = out.len() - shape.len();
    let mut rest = flat;
    let mut found = 0;
    for axis in (0..out.len()).rev() {
        let position = rest % out[axis];
        rest /= out[axis];
        if axis >= lead && shape[axis - lead] != 1 {
            found += position * strides[axis - lead];
        }
    }
    found
}

proptest! {
    #[test]
    fn every_element_meets_its_partner(
        dims in prop::collection::vec(1usize..5, 0..5),
        stretch_a in 0usize..32,
        stretch_b in 0usize..32,
        drop_b in 0usize..5,
    ) {
        let squeeze = |mask: usize| -> Vec<usize> {
            let keep = |(i, &n): (usize, &usize)| if mask >> i & 1 == 1 { 1 } else { n };
            dims.iter().enumerate().map(keep).collect()
        };
        let a_shape = squeeze(stretch_a);
        let b_shape = squeeze(stretch_b)[drop_b.min(dims.len())..].to_vec();
        let out_shape = broadcast(&a_shape, &b_shape).unwrap();
        let a: Vec<f32> = (0..a_shape.iter().product()).map(|i: usize| i as f32).collect();
        let b: Vec<f32> = (0..b_shape.iter().product()).map(|i: usize| 1000.0 * i as f32).collect();
        let pattern = Broadcast::new(&out_shape, &[&a_shape, &b_shape]).unwrap();
        with_exec(|exec| {
            let mut out = vec![0.0; out_shape.elements()];
            binary_float(exec, BinaryFn::Add, &pattern, &a, &b, &mut out);
            for (i, &sum) in out.iter().enumerate() {
                let (x, y) = (index(i, &out_shape, &a_shape), index(i, &out_shape, &b_shape));
                assert_eq!(sum, a[x] + b[y]);
            }
        });
    }
}

#[test]
fn integers_wrap_and_never_trap() {
    with_exec(|exec| {
        let pattern = Broadcast::new(&[3], &[&[3], &[3]]).unwrap();
        let mut out = [0i32; 3];
        let (a, b) = ([i32::MIN, 7, -7], [-1, 0, 3]);
        binary_integer(exec, IntegerFn::Div, &pattern, &a, &b, &mut out);
        assert_eq!(out, [i32::MIN, 0, -2]);
        binary_integer(exec, IntegerFn::Modulo, &pattern, &a, &b, &mut out);
        assert_eq!(out, [0, 0, 2]);
        binary_integer(exec, IntegerFn::Pow, &pattern, &[2, 0, -1], &[31, -1, -3], &mut out);
        assert_eq!(out, [i32::MIN, 0, -1]);
    });
}

fn cast<A: CastElement>(input: &[A; 4], to_bool: bool) -> [u8; 4] {
    let (mut numbers, mut out) = ([Number::Integer(7); 4], [9; 4]);
    read_numbers(input, &mut numbers);
    write_numbers(&numbers, &mut out, to_bool);
    out
}

#[test]
fn casts_saturate_from_reals_and_wrap_from_integers() {
    assert_eq!(cast(&[-1.5f32, 255.9, 1e9, f32::NAN], false), [0, 255, 255, 0]);
    assert_eq!(cast(&[-1i64, 256, 257, 3], false), [255, 0, 1, 3]);
    assert_eq!(cast(&[0.0f64, -0.0, 0.5, f64::NAN], true), [0, 0, 1, 1]);
}

#[test]
fn vectorised_functions_agree_with_scalar_ones() {
    let input: Vec<f32> = (-400..400).map(|i| i as f32 / 37.0).collect();
    let functions = [
        UnaryFn::Sigmoid,
        UnaryFn::Tanh,
        UnaryFn::Gelu,
        UnaryFn::GeluTanh,
        UnaryFn::Erf,
        UnaryFn::Swish(1.0),
        UnaryFn::HardSwish,
        UnaryFn::HardSigmoid(0.2, 0.5),
        UnaryFn::Exp,
    ];
    let wide: Vec<f64> = input.iter().map(|&x| x.into()).collect();
    with_exec(|exec| {
        for function in functions {
            let (mut out, mut exact) = (vec![0f32; input.len()], vec![0f64; input.len()]);
            unary_float(exec, function, &input, &mut out);
            unary_float(exec, function, &wide, &mut exact);
            for ((&x, &y), &z) in input.iter().zip(&out).zip(&exact) {
                let error = (f64::from(y) - z).abs();
                assert!(error <= 1e-6 * z.abs().max(1.0), "{function:?}({x}) = {y}, not {z}");
            }
        }
    });
}
