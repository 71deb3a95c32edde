//! Models that score one row at a time.

use crate::elementwise::CastElement;
use crate::parallel::over_range;
use crate::shared::SharedMut;
use crate::{Exec, scratch};

/// A model that looks at one row at a time.
pub trait RowModel: Sync {
    /// Columns of an input row.
    fn features(&self) -> usize;
    /// Scores of an output row.
    fn columns(&self) -> usize;
    /// Numbers that [`RowModel::row`] works with; at least [`RowModel::columns`].
    fn width(&self) -> usize;
    /// Elementary operations for a row.
    fn cost(&self) -> usize;
    /// Scores the row `x` into `values[..columns]`; gives the winning class. The rest of `values`
    /// may hold anything, before and after.
    fn row(&self, x: &[f64], values: &mut [f64]) -> usize;
}

/// Scores every row of `x [rows, features]` into `scores [rows, columns]`; `classes [rows]` gets
/// the winners, if it is given. Panics if a length does not fit.
pub fn score_rows<T: CastElement, O: CastElement>(
    exec: Exec<'_>,
    model: &dyn RowModel,
    x: &[T],
    scores: &mut [O],
    classes: Option<&mut [i64]>,
) {
    let (features, columns) = (model.features(), model.columns());
    let rows = x.len().checked_div(features).unwrap_or(0);
    assert_eq!(x.len(), rows * features, "whole rows of {features}");
    assert_eq!(scores.len(), rows * columns, "scores of {rows} rows");
    assert!(classes.as_ref().is_none_or(|classes| classes.len() == rows));
    let scores = SharedMut::new(scores);
    let classes = classes.map(SharedMut::new);
    over_range(exec, rows, model.cost(), &|range| {
        scratch::with::<f64, _>(features + model.width(), |values| {
            let (input, values) = values.split_at_mut(features);
            for row in range {
                for (value, &x) in input.iter_mut().zip(&x[row * features..]) {
                    *value = x.to_real();
                }
                let class = model.row(input, values);
                // SAFETY: parts are disjoint.
                let (out, winner) = unsafe {
                    let out = scores.range(row * columns, columns);
                    (out, classes.map(|classes| classes.range(row, 1)))
                };
                for (o, &value) in out.iter_mut().zip(values.iter()) {
                    *o = O::from_real(value);
                }
                if let Some([winner]) = winner {
                    *winner = class as i64;
                }
            }
        });
    });
}

/// `Σ a b` in a fixed order: four sums side by side, then pairwise.
#[inline]
pub(super) fn dot(a: &[f64], b: &[f32]) -> f64 {
    let mut sums = [0.0; 4];
    let (a4, b4) = (a.chunks_exact(4), b.chunks_exact(4));
    let rest: f64 = a4.remainder().iter().zip(b4.remainder()).map(|(a, &b)| a * f64::from(b)).sum();
    for (a, b) in a4.zip(b4) {
        for ((sum, a), &b) in sums.iter_mut().zip(a).zip(b) {
            *sum += a * f64::from(b);
        }
    }
    (sums[0] + sums[2]) + (sums[1] + sums[3]) + rest
}
