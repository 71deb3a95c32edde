//! Softmax and log-softmax over rows, with a scale and an additive mask.

use super::{EachRow, RowKernel, each_vector, load, store};
use crate::math::lanes;
use crate::simd::{Simd, dispatch};
use crate::{Exec, parallel};

/// Values added to the scaled rows before the softmax.
///
/// Row `r` takes the mask row `(r / repeat * period + r % period) % rows`. For scores
/// `[batch, heads, queries, keys]`: a mask `[batch, 1, queries, keys]` has `repeat` heads · queries
/// and `period` queries; `[batch, 1, 1, keys]` the same `repeat` and `period` 1; `[queries, keys]`
/// has both queries, and `[batch, heads, queries, keys]` has both 1.
#[derive(Debug, Clone, Copy)]
pub struct Mask<'a> {
    /// `[rows, len]`; minus infinity excludes an element.
    pub data: &'a [f32],
    /// Mask rows.
    pub rows: usize,
    /// Consecutive rows after which the mask moves on.
    pub repeat: usize,
    /// Mask rows that those rows cycle through.
    pub period: usize,
}

/// What to compute of `x = scale * row + mask`.
#[derive(Debug, Clone, Copy)]
pub struct Softmax<'a> {
    /// Factor of the row.
    pub scale: f32,
    /// Added after scaling.
    pub mask: Option<Mask<'a>>,
    /// `x - ln Σ e^x` instead of `e^x / Σ e^x`.
    pub log: bool,
}

impl Default for Softmax<'_> {
    fn default() -> Self {
        Softmax { scale: 1.0, mask: None, log: false }
    }
}

impl Softmax<'_> {
    fn mask_row(&self, row: usize, len: usize) -> Option<&[f32]> {
        let mask = self.mask?;
        let index = (row / mask.repeat * mask.period + row % mask.period) % mask.rows;
        Some(&mask.data[index * len..][..len])
    }

    /// The scalar twin. A row that the mask excludes wholly becomes NaN, as the quotient 0/0 is.
    fn reference(&self, row: usize, data: &mut [f32]) {
        let mask = self.mask_row(row, data.len());
        for (i, x) in data.iter_mut().enumerate() {
            *x = x.mul_add(self.scale, mask.map_or(0.0, |m| m[i]));
        }
        let most = data.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let sum: f64 = data.iter().map(|&x| f64::from(x - most).exp()).sum();
        for x in data {
            let shifted = f64::from(*x - most);
            *x = if self.log { shifted - sum.ln() } else { shifted.exp() / sum } as f32;
        }
    }
}

impl RowKernel for Softmax<'_> {
    #[inline(always)]
    fn row<S: Simd>(&self, s: S, row: usize, data: &mut [f32]) {
        let len = data.len();
        let mask = self.mask_row(row, len).map(<[f32]>::as_ptr);
        let p = data.as_mut_ptr();
        let scale = s.splat(self.scale);
        let mut most = s.splat(f32::NEG_INFINITY);
        each_vector(
            s,
            len,
            #[inline(always)]
            |i, n| {
                // SAFETY: `each_vector` stays inside the row; the operands are as long.
                unsafe {
                    let bias = mask.map_or(s.splat(0.0), |m| load(s, m.add(i), n));
                    let x = s.fma(load(s, p.add(i), n), scale, bias);
                    store(s, p.add(i), x, n);
                    // Absent lanes are zeros, which must not count as the largest.
                    let x = if n < S::LANES { partial_lowest(s, x, n) } else { x };
                    most = s.max(most, x);
                }
            },
        );
        let most = s.splat(s.max_lane(most));
        let mut sum = s.splat(0.0);
        each_vector(
            s,
            len,
            #[inline(always)]
            |i, n| {
                // SAFETY: `each_vector` stays inside the row; the operands are as long.
                unsafe {
                    let shifted = s.sub(load(s, p.add(i), n), most);
                    let e = lanes::exp(s, shifted);
                    store(s, p.add(i), if self.log { shifted } else { e }, n);
                    sum = s.add(sum, if n < S::LANES { partial_zero(s, e, n) } else { e });
                }
            },
        );
        let total = s.sum(sum);
        let (factor, offset) = match self.log {
            true => (s.splat(1.0), s.sub(s.splat(0.0), lanes::ln(s, s.splat(total)))),
            false => (s.splat(1.0 / total), s.splat(0.0)),
        };
        each_vector(
            s,
            len,
            #[inline(always)]
            |i, n| {
                // SAFETY: `each_vector` stays inside the row; the operands are as long.
                unsafe {
                    store(s, p.add(i), s.fma(load(s, p.add(i), n), factor, offset), n);
                }
            },
        );
    }
}

/// The first `n` lanes of `x`, then minus infinity.
#[inline(always)]
fn partial_lowest<S: Simd>(s: S, x: S::F, n: usize) -> S::F {
    let mut lanes = s.lanes(x);
    lanes[n..].fill(f32::NEG_INFINITY);
    // SAFETY: the array has 16 lanes, no vector has more.
    unsafe { s.load(lanes.as_ptr()) }
}

/// The first `n` lanes of `x`, then zeros.
#[inline(always)]
fn partial_zero<S: Simd>(s: S, x: S::F, n: usize) -> S::F {
    // SAFETY: the array has 16 lanes, no vector has more.
    unsafe { s.load_n(s.lanes(x).as_ptr(), n) }
}

/// Softmax of each row of `data[rows, len]` in place. Results are within 4 ULP plus the rounding of
/// a sum of `len` terms.
///
/// # Panics
/// If `data` is not whole rows, or the mask is not `[mask.rows, len]`.
pub fn softmax(exec: Exec<'_>, kind: &Softmax<'_>, len: usize, data: &mut [f32]) {
    if data.is_empty() {
        return;
    }
    assert!(len > 0 && data.len().is_multiple_of(len), "not whole rows of {len}");
    let valid =
        |m: &Mask<'_>| m.rows.min(m.repeat).min(m.period) > 0 && m.data.len() == m.rows * len;
    assert!(kind.mask.as_ref().is_none_or(valid), "mask is not [rows, {len}]");
    parallel::over_chunks(exec, data, len, 4, &|first, rows| {
        if exec.cpu.isa() == crate::Isa::Reference {
            let each = rows.chunks_exact_mut(len).enumerate();
            return each.for_each(|(i, row)| kind.reference(first + i, row));
        }
        dispatch(exec.cpu, EachRow { kernel: kind, first, rows, len });
    });
}
