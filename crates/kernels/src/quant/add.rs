//! Sums of two 8-bit tensors, each with a scale of its own.

use landfall_tensor::SumScales;

use super::blocks::{Blocks, Scales, real_scale};
use super::lanes::{Dot, DotOp, dispatch};
use super::narrow::Limits;
use super::{Bytes, check_zero_point};
use crate::gemm::PANEL;
use crate::shared::SharedMut;
use crate::{Exec, parallel};

/// Bounds and zero point of an 8-bit result.
#[derive(Debug, Clone, Copy)]
pub struct ByteRange {
    /// The byte value that stands for zero.
    pub zero_point: i32,
    /// At least the type's smallest; higher for a fused activation.
    pub low: i32,
    /// At most the type's largest.
    pub high: i32,
}

/// `out = clamp(scales.sum(a - a_zero, b - b_zero) + zero_point, low, high)`, element by element.
///
/// # Panics
/// If lengths differ, or a zero point is not in the range of its type.
pub fn add_int8(
    exec: Exec<'_>,
    [a, b]: [Bytes<'_>; 2],
    scales: SumScales,
    range: ByteRange,
    out: &mut [u8],
) {
    check_zero_point(&a);
    check_zero_point(&b);
    assert!(a.data.len() == out.len() && b.data.len() == out.len(), "lengths differ");
    let shared = SharedMut::new(out);
    parallel::over_range(exec, a.data.len().div_ceil(PANEL), 8, &|blocks| {
        let elements = blocks.start * PANEL..(blocks.end * PANEL).min(a.data.len());
        // SAFETY: parts are disjoint.
        let out = unsafe { shared.range(elements.start, elements.len()) };
        let terms = [a, b].map(|x| Bytes { data: &x.data[elements.clone()], ..x });
        let sum = Sum { terms, scales, range, out };
        if let Some(sum) = sum.on(exec) {
            sum.plain();
        }
    });
}

struct Sum<'a> {
    terms: [Bytes<'a>; 2],
    scales: SumScales,
    range: ByteRange,
    out: &'a mut [u8],
}

impl<'a> Sum<'a> {
    /// Computes with vectors; gives itself back where there are none.
    fn on(mut self, exec: Exec<'_>) -> Option<Sum<'a>> {
        let ByteRange { zero_point, low, high } = self.range;
        if let Some(limits) = Limits::new(zero_point, low, high)
            && !dispatch(exec.cpu, Wide { sum: &mut self, limits })
        {
            return Some(self);
        }
        let done = dispatch(exec.cpu, &mut self);
        (!done).then_some(self)
    }

    /// The slow twin.
    fn plain(self) {
        let [a, b] = self.terms;
        let term = |x: &Bytes<'_>, byte: u8| {
            let value = if x.signed { i32::from(byte as i8) } else { i32::from(byte) };
            value - x.zero_point
        };
        let ByteRange { zero_point, low, high } = self.range;
        for ((out, &x), &y) in self.out.iter_mut().zip(a.data).zip(b.data) {
            let sum = self.scales.sum([term(&a, x), term(&b, y)]);
            *out = (sum + zero_point).clamp(low, high) as u8;
        }
    }

    #[inline(always)]
    fn run<B: Blocks, const A_SIGNED: bool, const B_SIGNED: bool>(&mut self, b: B) {
        let [x, y] = self.terms;
        let [x_factor, y_factor] = self.scales.factors;
        let zeros = x.zero_point.wrapping_mul(x_factor);
        let zeros = zeros.wrapping_add(y.zero_point.wrapping_mul(y_factor));
        let (factors, zeros) = ([b.splat(x_factor), b.splat(y_factor)], b.splat(zeros));
        let (fixed, real) = ([self.scales.scale; PANEL], [real_scale(self.scales.scale); PANEL]);
        let scales = Scales { fixed: &fixed, real: &real };
        let ByteRange { zero_point, low, high } = self.range;
        let (low, high) = (low - zero_point, high - zero_point);
        let (outs, out_rest) = self.out.as_chunks_mut::<PANEL>();
        let (xs, x_rest) = x.data.as_chunks::<PANEL>();
        let (ys, y_rest) = y.data.as_chunks::<PANEL>();
        for ((out, x), y) in outs.iter_mut().zip(xs).zip(ys) {
            let x = b.mul(b.widen::<A_SIGNED>(x), factors[0]);
            let y = b.mul(b.widen::<B_SIGNED>(y), factors[1]);
            let sum = b.requantize(b.sub(b.add(x, y), zeros), scales);
            b.store_bytes(sum, low, high, zero_point, out);
        }
        if !out_rest.is_empty() {
            let (mut x, mut y, mut out) = ([0; PANEL], [0; PANEL], [0; PANEL]);
            x[..x_rest.len()].copy_from_slice(x_rest);
            y[..y_rest.len()].copy_from_slice(y_rest);
            let x = b.mul(b.widen::<A_SIGNED>(&x), factors[0]);
            let y = b.mul(b.widen::<B_SIGNED>(&y), factors[1]);
            let sum = b.requantize(b.sub(b.add(x, y), zeros), scales);
            b.store_bytes(sum, low, high, zero_point, &mut out);
            out_rest.copy_from_slice(&out[..out_rest.len()]);
        }
    }
}

/// The wide part of a sum: whole vectors of bytes.
struct Wide<'s, 'a> {
    sum: &'s mut Sum<'a>,
    limits: Limits,
}

impl Wide<'_, '_> {
    /// Computes the first elements and takes them off the sum.
    #[inline(always)]
    fn run<D: Dot, const A_SIGNED: bool, const B_SIGNED: bool>(self, d: D) {
        let Wide { sum: Sum { terms: [x, y], scales, out, .. }, limits } = self;
        let zeros = x.zero_point.wrapping_mul(scales.factors[0]);
        let zeros = zeros.wrapping_add(y.zero_point.wrapping_mul(scales.factors[1]));
        let scale = [real_scale(scales.scale); PANEL];
        let scale = [scale.as_ptr(); 4];
        let whole = out.len() / (4 * D::LANES) * (4 * D::LANES);
        // SAFETY: all three have `whole` bytes, and there are as many scales as lanes at most.
        unsafe {
            let splat = |x: i32| [x; PANEL];
            let (first, second) = (splat(scales.factors[0]), splat(scales.factors[1]));
            let (first, second) = (d.load_sum(first.as_ptr()), d.load_sum(second.as_ptr()));
            let base = d.load_sum(splat(zeros.wrapping_neg()).as_ptr());
            let mut at = 0;
            while at < whole {
                let (x, y) = (x.data.as_ptr().add(at), y.data.as_ptr().add(at));
                let mut sums = [base; 4];
                macro_rules! each {
                    ($($v:literal)*) => {$(
                        let a = d.widen_bytes::<A_SIGNED>(x.add($v * D::LANES));
                        let b = d.widen_bytes::<B_SIGNED>(y.add($v * D::LANES));
                        sums[$v] = d.mul_add(b, second, d.mul_add(a, first, base));
                    )*};
                }
                each!(0 1 2 3);
                d.store_whole(d.narrow::<false>(sums, scale, &limits), out.as_mut_ptr().add(at));
                at += 4 * D::LANES;
            }
        }
        (x.data, y.data) = (&x.data[whole..], &y.data[whole..]);
        *out = &mut std::mem::take(out)[whole..];
    }
}

impl DotOp for Wide<'_, '_> {
    #[inline(always)]
    fn eval<D: Dot>(self, d: D) {
        match self.sum.terms.map(|term| term.signed) {
            [false, false] => self.run::<_, false, false>(d),
            [false, true] => self.run::<_, false, true>(d),
            [true, false] => self.run::<_, true, false>(d),
            [true, true] => self.run::<_, true, true>(d),
        }
    }
}

impl DotOp for &mut Sum<'_> {
    #[inline(always)]
    fn eval<D: Dot>(self, d: D) {
        match self.terms.map(|term| term.signed) {
            [false, false] => self.run::<_, false, false>(d.blocks()),
            [false, true] => self.run::<_, false, true>(d.blocks()),
            [true, false] => self.run::<_, true, false>(d.blocks()),
            [true, true] => self.run::<_, true, true>(d.blocks()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Cpu, Pool, test_data};

    #[test]
    fn sums_are_the_rule_on_every_instruction_set() {
        for len in [0, 1, 15, 16, 100, 5000] {
            let bytes = |seed: u64| -> Vec<u8> {
                test_data(len, seed).iter().map(|x| (x * 128.0 + 128.0) as u8).collect()
            };
            let (a, b) = (bytes(1), bytes(2));
            for (a_signed, b_signed) in [(false, false), (true, false), (false, true), (true, true)]
            {
                let terms = [
                    Bytes { data: &a, signed: a_signed, zero_point: 7 },
                    Bytes { data: &b, signed: b_signed, zero_point: 100 },
                ];
                for ratios in [[0.5, 0.5], [0.013, 1.7], [3000.0, 1.0], [0.3, 0.002]] {
                    let scales = SumScales::new(ratios).unwrap();
                    let range = ByteRange { zero_point: -5, low: -5, high: 120 };
                    let mut expected = vec![0; len];
                    Sum { terms, scales, range, out: &mut expected }.plain();
                    for cpu in Cpu::available() {
                        let mut out = vec![0; len];
                        let exec = Exec { cpu, pool: Pool::inline() };
                        add_int8(exec, terms, scales, range, &mut out);
                        assert_eq!(out, expected, "{} {len} {ratios:?}", cpu.isa());
                    }
                }
            }
        }
    }
}
