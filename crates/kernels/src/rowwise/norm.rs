//! Layer and root-mean-square normalisation of rows, with an optional residual added first.

use super::{EachRow, RowKernel, each_vector, load, store};
use crate::simd::{Simd, dispatch};
use crate::{Exec, parallel};

/// Which statistics a row is normalised by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NormKind {
    /// `(x - mean) / sqrt(variance + epsilon)`: Ba, Kiros and Hinton, "Layer Normalization".
    Layer,
    /// `x / sqrt(mean(x²) + epsilon)`: Zhang and Sennrich, "Root Mean Square Layer Normalization".
    RootMeanSquare,
}

/// A normalisation of rows, then `* scale + bias`.
#[derive(Debug, Clone, Copy)]
pub struct Normalize<'a> {
    /// The statistics.
    pub kind: NormKind,
    /// Added to the variance or mean square.
    pub epsilon: f32,
    /// `[len]`.
    pub scale: Option<&'a [f32]>,
    /// `[len]`.
    pub bias: Option<&'a [f32]>,
    /// `[rows, len]`, added to the input before the statistics.
    pub residual: Option<&'a [f32]>,
}

impl Normalize<'_> {
    fn residual_row(&self, row: usize, len: usize) -> Option<&[f32]> {
        self.residual.map(|r| &r[row * len..][..len])
    }

    /// The scalar twin, in double precision inside.
    fn reference(&self, row: usize, data: &mut [f32]) {
        let len = data.len();
        if let Some(residual) = self.residual_row(row, len) {
            data.iter_mut().zip(residual).for_each(|(x, r)| *x += r);
        }
        let mean = match self.kind {
            NormKind::Layer => data.iter().map(|&x| f64::from(x)).sum::<f64>() / len as f64,
            NormKind::RootMeanSquare => 0.0,
        };
        let square: f64 = data.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum();
        let inverse = 1.0 / (square / len as f64 + f64::from(self.epsilon)).sqrt();
        for (i, x) in data.iter_mut().enumerate() {
            let scale = self.scale.map_or(1.0, |s| f64::from(s[i]));
            let bias = self.bias.map_or(0.0, |b| f64::from(b[i]));
            *x = ((f64::from(*x) - mean) * inverse * scale + bias) as f32;
        }
    }
}

impl RowKernel for Normalize<'_> {
    #[inline(always)]
    fn row<S: Simd>(&self, s: S, row: usize, data: &mut [f32]) {
        let len = data.len();
        let p = data.as_mut_ptr();
        let residual = self.residual_row(row, len).map(<[f32]>::as_ptr);
        let mut sums = s.splat(0.0);
        each_vector(
            s,
            len,
            #[inline(always)]
            |i, n| {
                // SAFETY: `each_vector` stays inside the row; the operands are as long.
                unsafe {
                    let mut x = load(s, p.add(i), n);
                    if let Some(residual) = residual {
                        x = s.add(x, load(s, residual.add(i), n));
                        store(s, p.add(i), x, n);
                    }
                    sums = s.add(sums, x);
                }
            },
        );
        let mean = match self.kind {
            NormKind::Layer => s.sum(sums) / len as f32,
            NormKind::RootMeanSquare => 0.0,
        };
        let shift = s.splat(mean);
        let mut squares = s.splat(0.0);
        let full = len / S::LANES * S::LANES;
        each_vector(
            s,
            full,
            #[inline(always)]
            |i, n| {
                // SAFETY: `each_vector` stays inside the row; the operands are as long.
                unsafe {
                    let x = s.sub(load(s, p.add(i), n), shift);
                    squares = s.fma(x, x, squares);
                }
            },
        );
        let tail: f32 = data[full..].iter().map(|x| (x - mean) * (x - mean)).sum();
        let square = (s.sum(squares) + tail) / len as f32;
        let inverse = s.splat(1.0 / (square + self.epsilon).sqrt());
        let p = data.as_mut_ptr();
        let (scale, bias) = (self.scale.map(<[f32]>::as_ptr), self.bias.map(<[f32]>::as_ptr));
        each_vector(
            s,
            len,
            #[inline(always)]
            |i, n| {
                // SAFETY: `each_vector` stays inside the row; the operands are as long.
                unsafe {
                    let x = s.mul(s.sub(load(s, p.add(i), n), shift), inverse);
                    let scale = scale.map_or(s.splat(1.0), |q| load(s, q.add(i), n));
                    let bias = bias.map_or(s.splat(0.0), |q| load(s, q.add(i), n));
                    store(s, p.add(i), s.fma(x, scale, bias), n);
                }
            },
        );
    }
}

/// Normalises each row of `data[rows, len]` in place; with a residual, `data + residual`.
/// Statistics take two passes, so that a large mean does not cancel the variance.
///
/// # Panics
/// If `data` is not whole rows or an operand has the wrong length.
pub fn normalize(exec: Exec<'_>, norm: &Normalize<'_>, len: usize, data: &mut [f32]) {
    if data.is_empty() {
        return;
    }
    assert!(len > 0 && data.len().is_multiple_of(len), "not whole rows of {len}");
    assert!(norm.scale.is_none_or(|s| s.len() == len), "scale is not [{len}]");
    assert!(norm.bias.is_none_or(|b| b.len() == len), "bias is not [{len}]");
    assert!(norm.residual.is_none_or(|r| r.len() == data.len()), "residual of the wrong length");
    parallel::over_chunks(exec, data, len, 1, &|first, rows| {
        if exec.cpu.isa() == crate::Isa::Reference {
            let each = rows.chunks_exact_mut(len).enumerate();
            return each.for_each(|(i, row)| norm.reference(first + i, row));
        }
        dispatch(exec.cpu, EachRow { kernel: norm, first, rows, len });
    });
}
