//! Sums of two 8-bit tensors, each with a scale of its own.

use landfall_tensor::SumScales;

use super::blocks::real_scale;
use super::lanes::{Dot, DotOp, dispatch};
use super::narrow::Limits;
use super::{Bytes, check_zero_point};
use crate::gemm::PANEL;
use crate::shared::SharedMut;
use crate::{Cpu, Exec, parallel};

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
        Sum { terms, scales, range, out }.run(exec.cpu);
    });
}

struct Sum<'a> {
    terms: [Bytes<'a>; 2],
    scales: SumScales,
    range: ByteRange,
    out: &'a mut [u8],
}

impl<'a> Sum<'a> {
    fn run(mut self, cpu: Cpu) {
        let done = self.wide().is_some_and(|wide| dispatch(cpu, wide));
        if !done {
            self.plain();
        }
    }

    /// The sum as vectors compute it: only to bytes of one type, at a scale below 1.
    fn wide(&mut self) -> Option<Wide<'_, 'a>> {
        let ByteRange { zero_point, low, high } = self.range;
        let limits = Limits::new(zero_point, low, high)?;
        let scale = real_scale(self.scales.scale);
        (scale < 1.0).then_some(Wide { sum: self, scale: [scale; PANEL], limits })
    }

    /// The slow twin, for any range.
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
}

/// Most bytes of a vector.
const BYTES_MAX: usize = 4 * PANEL;

/// A sum, a vector of bytes at a time.
struct Wide<'s, 'a> {
    sum: &'s mut Sum<'a>,
    scale: [f64; PANEL],
    limits: Limits,
}

/// What all elements have in common.
struct Factors<'a, D: Dot> {
    first: D::Sum,
    second: D::Sum,
    /// Zero points times their factors, negated.
    base: D::Sum,
    scale: &'a [f64; PANEL],
    limits: &'a Limits,
}

impl<D: Dot> Factors<'_, D> {
    /// # Safety
    /// A vector of bytes is readable at `x` and `y` and writable at `to`.
    #[inline(always)]
    unsafe fn add<const X_SIGNED: bool, const Y_SIGNED: bool>(
        &self,
        d: D,
        [x, y]: [*const u8; 2],
        to: *mut u8,
    ) {
        let mut sums = [self.base; 4];
        macro_rules! each {
            ($($v:literal)*) => {$(
                let a = d.widen_bytes::<X_SIGNED>(x.add($v * D::LANES));
                let b = d.widen_bytes::<Y_SIGNED>(y.add($v * D::LANES));
                sums[$v] = d.mul_add(b, self.second, d.mul_add(a, self.first, self.base));
            )*};
        }
        // SAFETY: by the caller's promise; there are as many scales as lanes at most.
        unsafe {
            each!(0 1 2 3);
            let bytes = d.narrow::<false>(sums, [self.scale.as_ptr(); 4], self.limits);
            d.store_whole(bytes, to);
        }
    }
}

impl Wide<'_, '_> {
    #[inline(always)]
    fn run<D: Dot, const X_SIGNED: bool, const Y_SIGNED: bool>(self, d: D) {
        let Sum { terms: [x, y], scales, out, .. } = self.sum;
        let zeros = x.zero_point.wrapping_mul(scales.factors[0]);
        let zeros = zeros.wrapping_add(y.zero_point.wrapping_mul(scales.factors[1]));
        let splat = |x: i32| [x; PANEL];
        let (first, second) = (splat(scales.factors[0]), splat(scales.factors[1]));
        let base = splat(zeros.wrapping_neg());
        // SAFETY: a vector has no more lanes than the arrays have elements.
        let (first, second, base) = unsafe {
            (d.load_sum(first.as_ptr()), d.load_sum(second.as_ptr()), d.load_sum(base.as_ptr()))
        };
        let factors = Factors { first, second, base, scale: &self.scale, limits: &self.limits };
        let step = 4 * D::LANES;
        let whole = out.len() / step * step;
        for at in (0..whole).step_by(step) {
            // SAFETY: all three have `whole` bytes.
            unsafe {
                let terms = [x.data.as_ptr().add(at), y.data.as_ptr().add(at)];
                factors.add::<X_SIGNED, Y_SIGNED>(d, terms, out.as_mut_ptr().add(at));
            }
        }
        let rest = &mut out[whole..];
        if !rest.is_empty() {
            let [mut a, mut b, mut sums] = [[0u8; BYTES_MAX]; 3];
            a[..rest.len()].copy_from_slice(&x.data[whole..]);
            b[..rest.len()].copy_from_slice(&y.data[whole..]);
            let terms = [a.as_ptr(), b.as_ptr()];
            // SAFETY: the arrays are as long as a vector at least.
            unsafe { factors.add::<X_SIGNED, Y_SIGNED>(d, terms, sums.as_mut_ptr()) };
            rest.copy_from_slice(&sums[..rest.len()]);
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::Portable;
    use crate::{Pool, test_data};

    /// Of bytes signed and not, and beyond: zero point, low and high.
    const RANGES: [(i32, i32, i32); 5] =
        [(-5, -5, 120), (128, 0, 255), (255, 17, 200), (300, 0, 255), (-33_000, 0, 255)];

    fn check(terms: [Bytes<'_>; 2], scales: SumScales, range: ByteRange) {
        let len = terms[0].data.len();
        let mut expected = vec![0; len];
        Sum { terms, scales, range, out: &mut expected }.plain();
        for cpu in Cpu::tested() {
            let mut out = vec![0; len];
            let exec = Exec { cpu, pool: Pool::inline() };
            add_int8(exec, terms, scales, range, &mut out);
            assert_eq!(out, expected, "{} {len} {scales:?} {range:?}", cpu.isa());
        }
        let mut out = vec![0; len];
        if let Some(wide) = (Sum { terms, scales, range, out: &mut out }).wide() {
            Dot::run(Portable, wide);
            assert_eq!(out, expected, "{len} {scales:?} {range:?}");
        }
    }

    #[test]
    fn sums_are_the_rule_on_every_instruction_set() {
        for len in [0, 1, 15, 16, 31, 32, 63, 100, 5000] {
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
                    for (zero_point, low, high) in RANGES {
                        check(terms, scales, ByteRange { zero_point, low, high });
                    }
                }
            }
        }
    }
}
