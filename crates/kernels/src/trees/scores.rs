//! From rows to scores: dividing rows or trees among threads, and what follows the sum.

use std::ops::Range;

use super::key::Key;
use super::layout::{Index, LANES, Trees};
use super::walk::{GROUP, Walker, encode};
use super::{Forest, Layout};
use crate::classical::Transform;
use crate::elementwise::CastElement;
use crate::parallel::{over_range, useful_parts};
use crate::shared::SharedMut;
use crate::{Exec, scratch};

/// Encoded rows of a block fill at most this much of the first-level cache.
const BLOCK_BYTES: usize = 16 << 10;

/// How the weights of the leaves reached make one score.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Aggregate {
    /// Their sum.
    #[default]
    Sum,
    /// Their sum divided by the number of trees.
    Average,
    /// The least.
    Min,
    /// The greatest.
    Max,
}

impl Aggregate {
    /// Of no weights: NaN stands for "none yet" of extremes.
    pub(super) fn start(self) -> f64 {
        match self {
            Aggregate::Sum | Aggregate::Average => 0.0,
            Aggregate::Min | Aggregate::Max => f64::NAN,
        }
    }

    #[inline(always)]
    pub(super) fn add(self, sum: &mut f64, weight: f64) {
        *sum = match self {
            Aggregate::Sum | Aggregate::Average => *sum + weight,
            Aggregate::Min => sum.min(weight),
            Aggregate::Max => sum.max(weight),
        };
    }

    fn finish(self, sum: f64, trees: usize) -> f64 {
        match self {
            Aggregate::Sum => sum,
            Aggregate::Average => sum / trees.max(1) as f64,
            Aggregate::Min | Aggregate::Max if sum.is_nan() => 0.0,
            Aggregate::Min | Aggregate::Max => sum,
        }
    }
}

/// What scores decide.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Decision {
    /// Nothing: the scores are the answer.
    #[default]
    Regression,
    /// The class of the greatest score, the first among equals.
    Largest,
    /// Two classes by one target: the second class if its score is positive, or above one half if
    /// it is a probability. The result has both classes' scores; there is no softmax of them.
    Binary {
        /// Whether the score is a probability already: no weight is negative.
        probability: bool,
    },
}

/// What follows the aggregation.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Finish {
    /// How leaves combine.
    pub aggregate: Aggregate,
    /// Added to the scores: one for each target, or none.
    pub base: Vec<f64>,
    /// Applied to the scores.
    pub transform: Transform,
    /// Which class wins.
    pub decision: Decision,
}

impl Finish {
    /// Scores of a row, given the number of targets.
    pub fn columns(&self, targets: usize) -> usize {
        if matches!(self.decision, Decision::Binary { .. }) { 2 } else { targets }
    }

    /// Turns the aggregates of a row into its scores, in `row[..columns]`; gives the class.
    fn row(&self, trees: usize, targets: usize, row: &mut [f64]) -> usize {
        for (target, score) in row[..targets].iter_mut().enumerate() {
            *score = self.aggregate.finish(*score, trees);
            *score += self.base.get(target).copied().unwrap_or(0.0);
        }
        let class = match self.decision {
            Decision::Regression => 0,
            Decision::Largest => largest(&row[..targets]),
            Decision::Binary { probability } => {
                let score = row[0];
                let probability = probability && self.transform != Transform::Logistic;
                row[0] = if probability { 1.0 - score } else { -score };
                row[1] = score;
                usize::from(score > if probability { 0.5 } else { 0.0 })
            }
        };
        let pair = matches!(self.decision, Decision::Binary { .. });
        if !pair || matches!(self.transform, Transform::Logistic | Transform::Probit) {
            self.transform.apply(&mut row[..self.columns(targets)]);
        }
        class
    }
}

/// Index of the first greatest number.
pub(crate) fn largest(scores: &[f64]) -> usize {
    let mut best = 0;
    for (index, &score) in scores.iter().enumerate() {
        if score > scores[best] || (scores[best].is_nan() && !score.is_nan()) {
            best = index;
        }
    }
    best
}

impl Forest {
    /// Scores every row of `x [rows, row_len]` into `scores [rows, columns]`; `classes [rows]`
    /// gets the indices of the winners, if it is given.
    ///
    /// Panics if a row has fewer columns than [`Forest::features`], or a length does not fit.
    pub fn evaluate<T: CastElement, O: CastElement>(
        &self,
        exec: Exec<'_>,
        finish: &Finish,
        (x, row_len): (&[T], usize),
        scores: &mut [O],
        classes: Option<&mut [i64]>,
    ) {
        assert!(row_len >= self.features.max(1), "rows of {row_len}, {} needed", self.features);
        let rows = x.len() / row_len;
        if rows == 0 {
            return;
        }
        let columns = finish.columns(self.targets);
        assert_eq!(scores.len(), rows * columns, "scores of {rows} rows");
        assert!(classes.as_ref().is_none_or(|classes| classes.len() == rows));
        let scores = SharedMut::new(scores);
        let classes = classes.map(SharedMut::new);
        let width = columns.max(self.targets);
        let emit = |row: usize, sums: &[f64]| {
            scratch::with::<f64, _>(width, |values| {
                values[..self.targets].copy_from_slice(sums);
                let class = finish.row(self.trees, self.targets, values);
                // SAFETY: each row is emitted once, by one thread.
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
            });
        };
        let run = Run { exec, targets: self.targets, aggregate: finish.aggregate, emit: &emit };
        match &self.layout {
            Layout::Narrow(stored) => run.all(stored.trees(), x, row_len),
            Layout::Wide(stored) => run.all(stored.trees(), x, row_len),
            Layout::Double(stored) => run.all(stored.trees(), x, row_len),
        }
    }
}

/// One evaluation.
struct Run<'a> {
    exec: Exec<'a>,
    targets: usize,
    aggregate: Aggregate,
    /// Takes the aggregates of a row.
    emit: &'a (dyn Fn(usize, &[f64]) + Sync),
}

impl Run<'_> {
    fn all<T: CastElement, K: Key, I: Index>(
        &self,
        trees: Trees<'_, K, I>,
        x: &[T],
        row_len: usize,
    ) {
        let walker = Walker { trees, targets: self.targets, aggregate: self.aggregate };
        let rows = x.len() / row_len;
        let steps: usize = trees.trees.iter().map(|tree| tree.depth as usize + 1).sum();
        let cost = steps.saturating_mul(2);
        let threads = useful_parts(self.exec, rows.saturating_mul(cost), usize::MAX);
        let groups = trees.trees.len().div_ceil(GROUP);
        if rows < threads * LANES && groups > 1 {
            return self.over_trees(&walker, x, row_len, threads);
        }
        let group_bytes = walker.group_len() * size_of::<K>();
        let most = (BLOCK_BYTES / group_bytes).clamp(1, 32) * LANES;
        let block = rows.div_ceil(threads).next_multiple_of(LANES).min(most);
        let blocks = rows.div_ceil(block.max(1));
        over_range(self.exec, blocks, cost.saturating_mul(block), &|range| {
            for index in range {
                let first = index * block;
                let count = block.min(rows - first);
                let x = &x[first * row_len..][..count * row_len];
                let keys_len = count.div_ceil(LANES) * walker.group_len();
                scratch::with::<K, _>(keys_len, |keys| {
                    encode(trees.columns, x, row_len, keys);
                    self.block(&walker, keys, first..first + count);
                });
            }
        });
    }

    /// Every tree on the rows `range`, which are encoded.
    fn block<K: Key, I: Index>(&self, walker: &Walker<'_, K, I>, keys: &[K], range: Range<usize>) {
        let len = range.len() * self.targets;
        scratch::with::<f64, _>(2 * len, |sums| {
            let (totals, sums) = sums.split_at_mut(len);
            totals.fill(self.aggregate.start());
            let trees = walker.trees.trees.len();
            for first in (0..trees).step_by(GROUP) {
                walker.group(first..trees.min(first + GROUP), keys, range.len(), sums);
                self.fold(totals, sums);
            }
            self.emit_all(range.start, totals);
        });
    }

    /// A few rows: the groups of trees are divided among the threads.
    fn over_trees<T: CastElement, K: Key, I: Index>(
        &self,
        walker: &Walker<'_, K, I>,
        x: &[T],
        row_len: usize,
        threads: usize,
    ) {
        let rows = x.len() / row_len;
        let trees = walker.trees.trees.len();
        let groups = trees.div_ceil(GROUP);
        let len = rows * self.targets;
        scratch::with::<K, _>(rows.div_ceil(LANES) * walker.group_len(), |keys| {
            encode(walker.trees.columns, x, row_len, keys);
            scratch::with::<f64, _>((groups + 1) * len, |sums| {
                let (totals, sums) = sums.split_at_mut(len);
                let shared = SharedMut::new(sums);
                let keys: &[K] = keys;
                self.exec.pool.run(threads.min(groups), &|part| {
                    for group in (part..groups).step_by(threads.min(groups)) {
                        // SAFETY: each group is one part's.
                        let sums = unsafe { shared.range(group * len, len) };
                        let first = group * GROUP;
                        walker.group(first..trees.min(first + GROUP), keys, rows, sums);
                    }
                });
                totals.fill(self.aggregate.start());
                for sums in sums.chunks_exact(len) {
                    self.fold(totals, sums);
                }
                self.emit_all(0, totals);
            });
        });
    }

    fn fold(&self, totals: &mut [f64], sums: &[f64]) {
        for (total, &sum) in totals.iter_mut().zip(sums) {
            self.aggregate.add(total, sum);
        }
    }

    fn emit_all(&self, first: usize, totals: &[f64]) {
        for (row, sums) in totals.chunks_exact(self.targets).enumerate() {
            (self.emit)(first + row, sums);
        }
    }
}
