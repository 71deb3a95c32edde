//! Positions of the largest or smallest element along an axis.

use super::Reducible;
use super::fold::{Largest, Smallest, fold_row};
use crate::simd::autovectorize;
use crate::{Exec, parallel};

/// Which position to find in a tensor `[outer, len, step]` along its middle axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ArgExtreme {
    /// Extent of the axis; not 0.
    pub len: usize,
    /// Distance of neighbours along the axis.
    pub step: usize,
    /// The largest element, not the smallest.
    pub largest: bool,
    /// Of equals the last, not the first.
    pub last: bool,
}

/// Neighbouring columns searched together.
const TILE: usize = 64;

impl ArgExtreme {
    /// Whether `x` takes the place of the best so far. NaN is more extreme than every number.
    #[inline(always)]
    fn replaces<T: Reducible>(&self, x: T::Acc, best: T::Acc) -> bool {
        let (nan, best_nan) = (T::is_nan(x), T::is_nan(best));
        let equal = x == best || (nan && best_nan);
        let beyond = if self.largest { x > best } else { x < best };
        beyond || (nan && !best_nan) || (equal && self.last)
    }

    #[inline(always)]
    fn in_row<T: Reducible>(&self, row: &[T]) -> usize {
        let extreme =
            if self.largest { fold_row::<T, Largest>(row) } else { fold_row::<T, Smallest>(row) };
        let nan = T::is_nan(extreme);
        let found = |x: &T| x.accumulator() == extreme || (nan && T::is_nan(x.accumulator()));
        let position =
            if self.last { row.iter().rposition(found) } else { row.iter().position(found) };
        position.unwrap_or(0)
    }

    /// The positions of columns `first..` of a block `[len, step]`.
    #[inline(always)]
    fn in_columns<T: Reducible>(&self, block: &[T], first: usize, out: &mut [i64]) {
        let mut best = [T::ZERO; TILE];
        for (best, x) in best.iter_mut().zip(&block[first..][..out.len()]) {
            *best = x.accumulator();
        }
        out.fill(0);
        for at in 1..self.len {
            let row = &block[at * self.step + first..][..out.len()];
            for ((o, best), x) in out.iter_mut().zip(&mut best).zip(row) {
                let x = x.accumulator();
                if self.replaces::<T>(x, *best) {
                    (*o, *best) = (at as i64, x);
                }
            }
        }
    }
}

/// The position of the extreme of every column of `input [outer, len, step]`, into
/// `out [outer, step]`. NaN is more extreme than every number.
///
/// # Panics
/// If `len` is 0 or a length does not fit.
pub fn arg_extreme<T: Reducible>(exec: Exec<'_>, kind: ArgExtreme, input: &[T], out: &mut [i64]) {
    let ArgExtreme { len, step, .. } = kind;
    if out.is_empty() {
        return;
    }
    assert!(len > 0 && input.len() == out.len() * len, "source length");
    parallel::over_chunks(exec, out, 1, len * 2, &|start, chunk| {
        autovectorize(
            exec.cpu,
            #[inline(always)]
            || {
                let mut done = 0;
                while done < chunk.len() {
                    let (outer, column) = ((start + done) / step, (start + done) % step);
                    let block = &input[outer * len * step..][..len * step];
                    let width = TILE.min(step - column).min(chunk.len() - done);
                    if step == 1 {
                        chunk[done] = kind.in_row(block) as i64;
                    } else {
                        kind.in_columns(block, column, &mut chunk[done..done + width]);
                    }
                    done += width;
                }
            },
        );
    });
}

/// One at the first largest element along the middle axis of `[outer, len, step]`, zero elsewhere.
///
/// # Panics
/// If a length does not fit.
pub fn hard_max<T: Reducible>(len: usize, step: usize, input: &[T], out: &mut [T]) {
    assert_eq!(input.len(), out.len());
    out.fill(T::element(T::ZERO));
    if input.is_empty() {
        return;
    }
    let kind = ArgExtreme { len, step, largest: true, last: false };
    let blocks = input.chunks_exact(len * step).zip(out.chunks_exact_mut(len * step));
    for (block, out) in blocks {
        for first in (0..step).step_by(TILE) {
            let mut at = [0i64; TILE];
            let at = &mut at[..TILE.min(step - first)];
            kind.in_columns(block, first, at);
            for (column, &at) in at.iter().enumerate() {
                out[at as usize * step + first + column] = T::element(T::ONE);
            }
        }
    }
}
