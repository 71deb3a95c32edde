//! Reductions along axes, the extreme positions along one axis, and running sums and products.
//!
//! A reduction first merges neighbouring axes of one kind. If the innermost merged axis is reduced,
//! a result is the fold of contiguous rows, held in a block of lanes; if it is kept, a tile of
//! neighbouring results is folded row by row. Both are plain loops that the compiler vectorises for
//! the instruction set at hand, and both fold in an order that depends on shapes alone.

mod arg;
mod fold;
mod layout;
mod scan;
#[cfg(test)]
mod tests;

pub use arg::{ArgExtreme, arg_extreme, hard_max};
pub use fold::Reducible;
pub(crate) use fold::{larger, smaller};
pub use layout::ReduceLayout;
pub use scan::{Scan, scan};

use fold::{
    Finish, Fold, Largest, Product, Smallest, Sum, SumOfMagnitudes, SumOfSquares, finished,
    fold_row,
};
use layout::Inner;

use crate::simd::autovectorize;
use crate::{Exec, parallel};

/// What the elements are reduced to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReduceKind {
    /// `Σ |x|`.
    L1,
    /// `sqrt(Σ x²)`.
    L2,
    /// `ln Σ x`.
    LogSum,
    /// `ln Σ e^x`, computed without overflow.
    LogSumExp,
    /// The largest; NaN if any is; of nothing the lowest value of the type.
    Max,
    /// `Σ x / n`.
    Mean,
    /// The smallest; NaN if any is; of nothing the highest value of the type.
    Min,
    /// `Π x`.
    Product,
    /// `Σ x`.
    Sum,
    /// `Σ x²`.
    SumSquare,
}

/// Reduces `input` as `layout` says into `out`, one element for every result.
///
/// # Panics
/// If a length does not fit the layout.
pub fn reduce<T: Reducible>(
    exec: Exec<'_>,
    kind: ReduceKind,
    layout: &ReduceLayout,
    input: &[T],
    out: &mut [T],
) {
    assert_eq!(input.len(), layout.source_len(), "source length");
    assert_eq!(out.len(), layout.results, "result length");
    match kind {
        ReduceKind::L1 => fold::<T, SumOfMagnitudes>(exec, layout, Finish::Keep, input, out),
        ReduceKind::L2 => fold::<T, SumOfSquares>(exec, layout, Finish::SquareRoot, input, out),
        ReduceKind::LogSum => fold::<T, Sum>(exec, layout, Finish::Ln, input, out),
        ReduceKind::LogSumExp => log_sum_exp(exec, layout, input, out),
        ReduceKind::Max => fold::<T, Largest>(exec, layout, Finish::Keep, input, out),
        ReduceKind::Mean => fold::<T, Sum>(exec, layout, Finish::Mean, input, out),
        ReduceKind::Min => fold::<T, Smallest>(exec, layout, Finish::Keep, input, out),
        ReduceKind::Product => fold::<T, Product>(exec, layout, Finish::Keep, input, out),
        ReduceKind::Sum => fold::<T, Sum>(exec, layout, Finish::Keep, input, out),
        ReduceKind::SumSquare => fold::<T, SumOfSquares>(exec, layout, Finish::Keep, input, out),
    }
}

/// Neighbouring results folded together.
const TILE: usize = 256;
/// Rows after which a tile is joined to its total: bounds the rounding error of long sums.
const ROWS: usize = 1024;
/// Below this many neighbouring results, several rows are folded side by side.
const NARROW: usize = 64;

fn fold<T: Reducible, F: Fold<T>>(
    exec: Exec<'_>,
    layout: &ReduceLayout,
    finish: Finish,
    input: &[T],
    out: &mut [T],
) {
    if layout.count == 0 {
        out.fill(finished(F::START, finish, 0));
        return;
    }
    // Narrow rows are never split: the order of their folds depends on their width.
    let row_len = match layout.inner {
        Inner::Kept(width) if width < NARROW => width,
        _ => 1,
    };
    parallel::over_chunks(exec, out, row_len, layout.count, &|first, chunk| {
        let mut part = Part { layout, finish, input, first: first * row_len, out: chunk };
        autovectorize(
            exec.cpu,
            #[inline(always)]
            || part.run::<F>(),
        );
    });
}

/// Consecutive results from `first` on.
struct Part<'a, T> {
    layout: &'a ReduceLayout,
    finish: Finish,
    input: &'a [T],
    first: usize,
    out: &'a mut [T],
}

impl<T: Reducible> Part<'_, T> {
    #[inline(always)]
    fn run<F: Fold<T>>(&mut self) {
        match self.layout.inner {
            Inner::Reduced(len) => self.rows::<F>(len),
            Inner::Kept(width) if width < NARROW => self.narrow::<F>(width),
            Inner::Kept(width) => self.tiles::<F>(width),
        }
    }

    #[inline(always)]
    fn rows<F: Fold<T>>(&mut self, len: usize) {
        for (i, o) in self.out.iter_mut().enumerate() {
            let base = self.layout.base(self.first + i);
            let mut acc = F::START;
            for offset in self.layout.walk() {
                acc = F::join(acc, fold_row::<T, F>(&self.input[base + offset..][..len]));
            }
            *o = finished(acc, self.finish, self.layout.count);
        }
    }

    #[inline(always)]
    fn tiles<F: Fold<T>>(&mut self, width: usize) {
        let mut done = 0;
        while done < self.out.len() {
            let (row, column) = ((self.first + done) / width, (self.first + done) % width);
            let len = TILE.min(width - column).min(self.out.len() - done);
            let base = self.layout.base(row) + column;
            let mut total = [F::START; TILE];
            let mut tile = [F::START; TILE];
            let mut rows = 0;
            for offset in self.layout.walk() {
                take_row::<T, F>(&mut tile[..len], &self.input[base + offset..][..len]);
                rows += 1;
                if rows == ROWS {
                    join_row::<T, F>(&mut total, &tile);
                    tile = [F::START; TILE];
                    rows = 0;
                }
            }
            join_row::<T, F>(&mut total, &tile);
            for (o, &acc) in self.out[done..][..len].iter_mut().zip(&total) {
                *o = finished(acc, self.finish, self.layout.count);
            }
            done += len;
        }
    }

    /// Rows of few columns: as many as fill a tile are folded as one.
    #[inline(always)]
    fn narrow<F: Fold<T>>(&mut self, width: usize) {
        let span = TILE / width * width;
        for (i, out) in self.out.chunks_exact_mut(width).enumerate() {
            let base = self.layout.base(self.first / width + i);
            let mut total = [F::START; TILE];
            let (walk, rows) = self.layout.walk_blocks();
            for offset in walk {
                let block = &self.input[base + offset..][..rows * width];
                for blocks in block.chunks(ROWS * span) {
                    let mut tile = [F::START; TILE];
                    for several in blocks.chunks(span) {
                        take_row::<T, F>(&mut tile[..several.len()], several);
                    }
                    join_row::<T, F>(&mut total, &tile);
                }
            }
            for (column, o) in out.iter_mut().enumerate() {
                let lanes = total[column..span].iter().step_by(width);
                let acc = lanes.fold(F::START, |a, &b| F::join(a, b));
                *o = finished(acc, self.finish, self.layout.count);
            }
        }
    }
}

#[inline(always)]
fn take_row<T: Reducible, F: Fold<T>>(tile: &mut [T::Acc], row: &[T]) {
    for (acc, &x) in tile.iter_mut().zip(row) {
        *acc = F::take(*acc, x.accumulator());
    }
}

#[inline(always)]
fn join_row<T: Reducible, F: Fold<T>>(total: &mut [T::Acc], tile: &[T::Acc]) {
    for (a, &b) in total.iter_mut().zip(tile) {
        *a = F::join(*a, b);
    }
}

/// Two passes over every result's elements, in `f64`: the largest, then the sum of exponentials.
fn log_sum_exp<T: Reducible>(exec: Exec<'_>, layout: &ReduceLayout, input: &[T], out: &mut [T]) {
    if layout.count == 0 {
        out.fill(T::from_real(f64::NEG_INFINITY));
        return;
    }
    let (width, len) = match layout.inner {
        Inner::Reduced(len) => (1, len),
        Inner::Kept(width) => (width, 1),
    };
    let cost = layout.count.saturating_mul(16);
    parallel::over_chunks(exec, out, 1, cost, &|first, chunk| {
        for (i, o) in chunk.iter_mut().enumerate() {
            let result = first + i;
            let base = layout.base(result / width) + result % width;
            let elements = || {
                let rows = layout.walk().map(|offset| &input[base + offset..][..len]);
                rows.flat_map(|row| row.iter().map(|x| x.to_real()))
            };
            let most = elements().fold(f64::NEG_INFINITY, f64::max);
            // Infinite extremes are the answer already, unless there is a NaN.
            let shift = if most.is_finite() { most } else { 0.0 };
            let sum: f64 = elements().map(|x| (x - shift).exp()).sum();
            *o = T::from_real(shift + sum.ln());
        }
    });
}
