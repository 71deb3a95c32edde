//! The largest or smallest elements along an axis.

use std::cmp::Ordering;

use crate::reduce::Reducible;
use crate::shared::SharedMut;
use crate::{Exec, parallel};

/// Which elements to find along the middle axis of a tensor `[outer, len, step]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TopK {
    /// Extent of the axis.
    pub len: usize,
    /// Distance of neighbours along the axis.
    pub step: usize,
    /// How many; at most `len`.
    pub k: usize,
    /// The largest, in descending order; else the smallest, ascending.
    pub largest: bool,
}

/// Up to this many are kept sorted while the row is scanned; for more the row is partitioned.
const FEW: usize = 32;

impl TopK {
    /// `Less` if `a` comes before `b`. NaN is larger than every number; equals come by position.
    #[inline(always)]
    fn order<T: Reducible>(&self, a: &(T::Acc, usize), b: &(T::Acc, usize)) -> Ordering {
        let by_value = a.0.partial_cmp(&b.0);
        let value = by_value.unwrap_or_else(|| T::is_nan(a.0).cmp(&T::is_nan(b.0)));
        let value = if self.largest { value.reverse() } else { value };
        value.then(a.1.cmp(&b.1))
    }

    /// Leaves the chosen elements of a row in `chosen`, in order.
    fn choose<T: Reducible>(
        &self,
        row: impl Iterator<Item = T>,
        chosen: &mut Vec<(T::Acc, usize)>,
    ) {
        chosen.clear();
        let entries = row.enumerate().map(|(at, x)| (x.accumulator(), at));
        if self.k > FEW || self.k == self.len {
            chosen.extend(entries);
            if self.k < self.len {
                chosen.select_nth_unstable_by(self.k, |a, b| self.order::<T>(a, b));
                chosen.truncate(self.k);
            }
            chosen.sort_unstable_by(|a, b| self.order::<T>(a, b));
            return;
        }
        for entry in entries {
            if chosen.len() == self.k {
                let last = chosen.len() - 1;
                if self.order::<T>(&chosen[last], &entry) == Ordering::Less {
                    continue;
                }
                chosen.pop();
            }
            let before = |other: &(T::Acc, usize)| self.order::<T>(other, &entry) == Ordering::Less;
            chosen.insert(chosen.partition_point(before), entry);
        }
    }
}

/// The `k` most extreme elements of every column of `input [outer, len, step]` and their positions
/// along the axis, into `values` and `indices`, both `[outer, k, step]`.
///
/// # Panics
/// If `k` is more than `len` or a length does not fit.
pub fn top_k<T: Reducible>(
    exec: Exec<'_>,
    kind: TopK,
    input: &[T],
    values: &mut [T],
    indices: &mut [i64],
) {
    let TopK { len, step, k, .. } = kind;
    assert!(k <= len && values.len() == indices.len(), "operand length");
    if values.is_empty() {
        return;
    }
    let columns = values.len() / k;
    assert!(values.len() == columns * k && input.len() == columns * len, "operand length");
    let (values, indices) = (SharedMut::new(values), SharedMut::new(indices));
    let cost = len.saturating_mul(8);
    parallel::over_range(exec, columns, cost, &|range| {
        let mut chosen = Vec::with_capacity(if k > FEW { len } else { k });
        for column in range {
            let (outer, inner) = (column / step, column % step);
            let row = input[outer * len * step + inner..].iter().step_by(step).take(len);
            kind.choose(row.copied(), &mut chosen);
            for (i, &(value, at)) in chosen.iter().enumerate() {
                let place = (outer * k + i) * step + inner;
                // SAFETY: a column's places are its own.
                unsafe {
                    values.range(place, 1)[0] = T::element(value);
                    indices.range(place, 1)[0] = at as i64;
                }
            }
        }
    });
}
