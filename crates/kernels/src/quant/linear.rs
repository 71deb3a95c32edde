//! Between real numbers and the integers that stand for them.
//!
//! The loops are plain; inside a function compiled for the instruction set they become vector code.
//! All instruction sets, the scalar one too, give the same bits: those of
//! `landfall_tensor::quantize_value`.

use landfall_tensor::{Element, bf16, f16};

use super::spread::{Line, Spread};
use crate::simd::{Simd, SimdOp, dispatch};
use crate::{Exec, parallel};

/// Adding it rounds a number below 2^22 in magnitude to the nearest integer, ties to even, and
/// leaves that integer in the low bits.
const ROUNDING: f32 = 12_582_912.0;

/// An integer type that reals are quantised to.
pub trait Quantum: Element {
    /// Smallest value.
    const LEAST: i32;
    /// Largest value.
    const MOST: i32;
    /// The integer, which is in range.
    fn from_steps(steps: i32) -> Self;
}

/// An integer type that is dequantised.
pub trait Steps: Element {
    /// `self - zero_point`, rounded to `f32` once.
    fn steps_from(self, zero_point: i32) -> f32;
}

macro_rules! quanta {
    ($($ty:ty)*) => {$(
        impl Quantum for $ty {
            const LEAST: i32 = <$ty>::MIN as i32;
            const MOST: i32 = <$ty>::MAX as i32;
            #[inline(always)]
            fn from_steps(steps: i32) -> $ty { steps as $ty }
        }
        impl Steps for $ty {
            #[inline(always)]
            fn steps_from(self, zero_point: i32) -> f32 { (i32::from(self) - zero_point) as f32 }
        }
    )*};
}

quanta! { u8 i8 u16 i16 }

impl Steps for i32 {
    #[inline(always)]
    fn steps_from(self, zero_point: i32) -> f32 {
        (i64::from(self) - i64::from(zero_point)) as f32
    }
}

/// A type that holds reals.
pub trait Real: Element {
    /// The value, rounded if it is a large integer.
    fn real(self) -> f32;
    /// The nearest value of this type.
    fn from_real(value: f32) -> Self;
}

macro_rules! reals {
    ($($ty:ty, $to:expr, $from:expr;)*) => {$(
        impl Real for $ty {
            #[inline(always)]
            fn real(self) -> f32 { ($to)(self) }
            #[inline(always)]
            fn from_real(value: f32) -> $ty { ($from)(value) }
        }
    )*};
}

reals! {
    f32, |x| x, |x| x;
    f16, f16::to_f32, f16::from_f32;
    bf16, bf16::to_f32, bf16::from_f32;
    i32, |x| x as f32, |x| x as i32;
}

/// The precision of the division by the scale.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Division {
    /// Single.
    #[default]
    F32,
    /// Half.
    F16,
    /// bfloat16.
    BF16,
}

impl Division {
    /// The quotient; a quotient in `f32` of two shorter numbers rounds to the shorter type as the
    /// exact quotient would.
    fn quotient(self, x: f32, scale: f32) -> f32 {
        let narrow = |x: f32| match self {
            Division::F32 => x,
            Division::F16 => f16::from_f32(x).to_f32(),
            Division::BF16 => bf16::from_f32(x).to_f32(),
        };
        narrow(narrow(x) / narrow(scale))
    }
}

/// Scales and zero points, as many of each as a [`Spread`] takes.
#[derive(Debug, Clone, Copy)]
pub struct Parameters<'a> {
    /// Reals per step.
    pub scales: &'a [f32],
    /// In the range of the integer type.
    pub zero_points: &'a [i32],
}

impl Parameters<'_> {
    fn check(&self, spread: &Spread) {
        let count = spread.parameters();
        assert_eq!(self.scales.len(), count, "scales do not fit the tensor");
        assert_eq!(self.zero_points.len(), count, "zero points do not fit the tensor");
    }
}

/// `out = clamp(round(x / scale) + zero_point)`, ties to even, NaN to the zero point.
///
/// # Panics
/// If a length does not fit `spread`.
pub fn quantize<X: Real, Q: Quantum>(
    exec: Exec<'_>,
    spread: &Spread,
    parameters: Parameters<'_>,
    division: Division,
    x: &[X],
    out: &mut [Q],
) {
    parameters.check(spread);
    assert!(x.len() == spread.len() && out.len() == x.len(), "tensors of the wrong length");
    let unit = spread.unit();
    parallel::over_chunks(exec, out, unit, 2, &|first, out| {
        let start = first * unit;
        let task = Quantize { spread, start, parameters, division, x: &x[start..], out };
        run(exec, task);
    });
}

/// `out = (q - zero_point) scale`.
///
/// # Panics
/// If a length does not fit `spread`.
pub fn dequantize<Q: Steps, Y: Real>(
    exec: Exec<'_>,
    spread: &Spread,
    parameters: Parameters<'_>,
    q: &[Q],
    out: &mut [Y],
) {
    parameters.check(spread);
    assert!(q.len() == spread.len() && out.len() == q.len(), "tensors of the wrong length");
    let unit = spread.unit();
    parallel::over_chunks(exec, out, unit, 1, &|first, out| {
        let start = first * unit;
        run(exec, Dequantize { spread, start, parameters, q: &q[start..], out });
    });
}

/// Work that is done in place, once compiled for the instruction set.
trait Task {
    fn work(&mut self);
}

struct Enter<'a, T>(&'a mut T);

impl<T: Task> SimdOp for Enter<'_, T> {
    type Output = ();
    #[inline(always)]
    fn eval<S: Simd>(self, _: S) {
        self.0.work();
    }
}

fn run(exec: Exec<'_>, mut task: impl Task) {
    if dispatch(exec.cpu, Enter(&mut task)).is_none() {
        task.work();
    }
}

struct Quantize<'a, X, Q> {
    spread: &'a Spread,
    start: usize,
    parameters: Parameters<'a>,
    division: Division,
    x: &'a [X],
    out: &'a mut [Q],
}

impl<X: Real, Q: Quantum> Task for Quantize<'_, X, Q> {
    #[inline(always)]
    fn work(&mut self) {
        let Parameters { scales, zero_points } = self.parameters;
        let x = self.x;
        for Line { from, to, first, each } in self.spread.lines(self.start, self.out.len()) {
            let (x, out) = (&x[from..to], &mut self.out[from..to]);
            if self.division != Division::F32 {
                for (j, (o, x)) in out.iter_mut().zip(x).enumerate() {
                    let at = if each { first + j } else { first };
                    let quotient = self.division.quotient(x.real(), scales[at]);
                    *o = Q::from_steps(steps::<Q>(quotient, zero_points[at]));
                }
            } else if each {
                let scales = &scales[first..][..x.len()];
                let zeros = &zero_points[first..][..x.len()];
                for (((o, x), scale), &zero) in out.iter_mut().zip(x).zip(scales).zip(zeros) {
                    *o = Q::from_steps(steps::<Q>(x.real() / scale, zero));
                }
            } else {
                let (scale, zero) = (scales[first], zero_points[first]);
                for (o, x) in out.iter_mut().zip(x) {
                    *o = Q::from_steps(steps::<Q>(x.real() / scale, zero));
                }
            }
        }
    }
}

/// The integer that stands for a quotient.
#[inline(always)]
fn steps<Q: Quantum>(quotient: f32, zero: i32) -> i32 {
    let (low, high) = ((Q::LEAST - zero) as f32, (Q::MOST - zero) as f32);
    let quotient = if quotient.is_nan() { 0.0 } else { quotient };
    let quotient = if quotient < low { low } else { quotient };
    let quotient = if quotient > high { high } else { quotient };
    ((quotient + ROUNDING).to_bits() as i32)
        .wrapping_sub(ROUNDING.to_bits() as i32)
        .wrapping_add(zero)
}

struct Dequantize<'a, Q, Y> {
    spread: &'a Spread,
    start: usize,
    parameters: Parameters<'a>,
    q: &'a [Q],
    out: &'a mut [Y],
}

impl<Q: Steps, Y: Real> Task for Dequantize<'_, Q, Y> {
    #[inline(always)]
    fn work(&mut self) {
        let Parameters { scales, zero_points } = self.parameters;
        for Line { from, to, first, each } in self.spread.lines(self.start, self.out.len()) {
            let (q, out) = (&self.q[from..to], &mut self.out[from..to]);
            if each {
                let scales = &scales[first..][..q.len()];
                let zeros = &zero_points[first..][..q.len()];
                for (((o, q), scale), &zero) in out.iter_mut().zip(q).zip(scales).zip(zeros) {
                    *o = Y::from_real(q.steps_from(zero) * scale);
                }
            } else {
                let (scale, zero) = (scales[first], zero_points[first]);
                for (o, q) in out.iter_mut().zip(q) {
                    *o = Y::from_real(q.steps_from(zero) * scale);
                }
            }
        }
    }
}

/// Scale and zero point that spread `u8` over the range of `x` and zero. NaNs are passed over; a
/// range of nothing but zero gets the scale 1.
pub fn dynamic_parameters(exec: Exec<'_>, x: &[f32]) -> (f32, u8) {
    let (least, most) = range(exec, x);
    let scale = if most == least { 1.0 } else { (most - least) / 255.0 };
    let zero = (0.0 - least / scale).clamp(0.0, 255.0).round_ties_even();
    (scale, zero as u8)
}

/// Smallest and largest of the elements and zero.
fn range(exec: Exec<'_>, x: &[f32]) -> (f32, f32) {
    const PARTS_MAX: usize = 64;
    let mut parts = [[0f32; 2]; PARTS_MAX];
    let count = parallel::useful_parts(exec, x.len() / 4, PARTS_MAX);
    parallel::over_chunks(exec, &mut parts[..count], 1, x.len() / 4 / count, &|first, parts| {
        for (index, part) in parts.iter_mut().enumerate() {
            let share = parallel::share(x.len(), count, first + index);
            run(exec, Range { x: &x[share], part });
        }
    });
    parts[..count].iter().fold((0.0, 0.0), |(a, b), part| (part[0].min(a), part[1].max(b)))
}

struct Range<'a> {
    x: &'a [f32],
    part: &'a mut [f32; 2],
}

impl Task for Range<'_> {
    #[inline(always)]
    fn work(&mut self) {
        const WIDTH: usize = 32;
        let (mut least, mut most) = ([0f32; WIDTH], [0f32; WIDTH]);
        let (blocks, rest) = self.x.as_chunks::<WIDTH>();
        for block in blocks {
            for j in 0..WIDTH {
                least[j] = if block[j] < least[j] { block[j] } else { least[j] };
                most[j] = if block[j] > most[j] { block[j] } else { most[j] };
            }
        }
        let all = |values: &[f32; WIDTH], f: fn(f32, f32) -> f32| {
            rest.iter().chain(values).copied().fold(0.0, f)
        };
        *self.part = [all(&least, f32::min), all(&most, f32::max)];
    }
}

#[cfg(test)]
mod tests {
    use landfall_tensor::quantize_value;
    use proptest::prelude::*;

    use super::*;
    use crate::{Cpu, Pool};

    fn any_real() -> impl Strategy<Value = f32> {
        prop_oneof![-300.0f32..300.0, any::<f32>(), (-600i32..600).prop_map(|i| i as f32 / 2.0)]
    }

    proptest! {
        #[test]
        fn quantisation_is_the_rule_on_every_instruction_set(
            x in prop::collection::vec(any_real(), 0..200),
            zero in -128i32..128,
            scale in 0.01f32..9.0,
        ) {
            for cpu in Cpu::tested() {
                let exec = Exec { cpu, pool: Pool::inline() };
                let (scales, zero_points) = ([scale], [zero]);
                let parameters = Parameters { scales: &scales, zero_points: &zero_points };
                let mut out = vec![0i8; x.len()];
                let spread = Spread::per_tensor(x.len());
                quantize(exec, &spread, parameters, Division::F32, &x, &mut out);
                for (&x, &q) in x.iter().zip(&out) {
                    prop_assert_eq!(i32::from(q), quantize_value(x, scale, zero, -128, 127));
                }
            }
        }

        #[test]
        fn every_spread_finds_its_parameters(
            dims in prop::collection::vec(1usize..5, 1..4), axis in 0usize..3, block in 1usize..4,
        ) {
            let axis = axis % dims.len();
            let len: usize = dims.iter().product();
            let inner: usize = dims[axis + 1..].iter().product();
            let blocks = dims[axis].div_ceil(block);
            let q: Vec<u8> = (0..len).map(|i| (i * 37) as u8).collect();
            let at = |i: usize| (i / inner / dims[axis], i / inner % dims[axis], i % inner);
            let axis_index = |i: usize| at(i).1;
            let block_index = |i: usize| {
                let (o, a, j) = at(i);
                (o * blocks + a / block) * inner + j
            };
            let spreads: [(Spread, &dyn Fn(usize) -> usize); 3] = [
                (Spread::per_tensor(len), &|_| 0),
                (Spread::per_axis(&dims, axis), &axis_index),
                (Spread::blocked(&dims, axis, block), &block_index),
            ];
            let pool = Pool::new(3).unwrap();
            for (spread, index) in spreads {
                let count = spread.parameters();
                let scales: Vec<f32> = (0..count).map(|i| 0.5 + i as f32).collect();
                let zero_points: Vec<i32> = (0..count as i32).map(|i| i % 256).collect();
                let parameters = Parameters { scales: &scales, zero_points: &zero_points };
                for cpu in Cpu::tested() {
                    let exec = Exec { cpu, pool: &pool };
                    let (mut reals, mut back) = (vec![0f32; len], vec![0u8; len]);
                    dequantize(exec, &spread, parameters, &q, &mut reals);
                    quantize(exec, &spread, parameters, Division::F32, &reals, &mut back);
                    for (i, &real) in reals.iter().enumerate() {
                        let steps = i32::from(q[i]) - zero_points[index(i)];
                        prop_assert_eq!(real, steps as f32 * scales[index(i)]);
                    }
                    prop_assert_eq!(&back, &q);
                }
            }
        }
    }

    #[test]
    fn ranges_include_zero_and_pass_over_nan() {
        let exec = Exec { cpu: Cpu::detect(), pool: Pool::inline() };
        assert_eq!(dynamic_parameters(exec, &[]), (1.0, 0));
        assert_eq!(dynamic_parameters(exec, &[0.0; 40]), (1.0, 0));
        assert_eq!(dynamic_parameters(exec, &[f32::NAN, 255.0, 3.0]), (1.0, 0));
        let mut x = vec![0.25; 70];
        x[66] = -51.0;
        x[3] = 204.0;
        assert_eq!(dynamic_parameters(exec, &x), (1.0, 51));
    }
}
