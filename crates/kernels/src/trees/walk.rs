//! Walking trees: rows to keys, keys to leaves, leaves to sums.

use std::ops::Range;

use super::Aggregate;
use super::key::Key;
use super::layout::{Column, Index, LANES, Leaves, Node, Trees};
use crate::elementwise::CastElement;

/// Trees whose weights are added among themselves first. A multiple of [`LANES`].
pub(super) const GROUP: usize = 64;

/// Steps between looks at whether all walks have ended.
const STRETCH: usize = 8;

/// Writes the columns of some rows: `keys` is `[rows / LANES, columns, LANES]`, `x` is
/// `[rows, row_len]`. Lanes beyond the last row repeat it.
pub(super) fn encode<T: CastElement, K: Key>(
    columns: &[Column<K>],
    x: &[T],
    row_len: usize,
    keys: &mut [K],
) {
    let rows = x.len() / row_len;
    let group_len = columns.len() * LANES;
    for (group, keys) in keys.chunks_exact_mut(group_len).enumerate() {
        let row = |lane: usize| (group * LANES + lane).min(rows - 1) * row_len;
        let starts: [usize; LANES] = std::array::from_fn(row);
        for (column, out) in columns.iter().zip(keys.chunks_exact_mut(LANES)) {
            let keys = starts.map(|start| K::of(x[start + column.feature].to_real()));
            match &column.members {
                None => {
                    for (o, key) in out.iter_mut().zip(keys) {
                        *o = key.unwrap_or(column.missing);
                    }
                }
                Some(_) => {
                    for (o, key) in out.iter_mut().zip(keys) {
                        *o = column.value(key);
                    }
                }
            }
        }
    }
}

/// The leaves that eight walks of at most `depth` steps end at. Walk `j` starts at node `at[j]` and
/// reads row `j` of the group if `STRIDE` is 1; if it is 0, all read the first row.
///
/// # Safety
/// `at` are indices of `nodes`, whose steps lead to indices of `nodes`; column `c` of every node
/// and lane `j` of those read are such that `c + j` is an index of `keys`.
#[inline(always)]
unsafe fn walk<K: Key, I: Index, const STRIDE: usize>(
    nodes: &[Node<K, I>],
    keys: &[K],
    mut at: [usize; LANES],
    depth: usize,
) -> [usize; LANES] {
    let mut left = depth;
    while left > 0 {
        let steps = left.min(STRETCH);
        for _ in 0..steps {
            for (lane, at) in at.iter_mut().enumerate() {
                // SAFETY: by the caller's promise.
                let (node, key) = unsafe {
                    let node = nodes.get_unchecked(*at);
                    (node, *keys.get_unchecked(node.column.get() + lane * STRIDE))
                };
                *at += node.step.get() + usize::from(key > node.threshold);
            }
        }
        left -= steps;
        if left > 0 && at.iter().all(|&at| nodes[at].step.get() == 0) {
            break;
        }
    }
    at
}

/// What evaluates some trees on some encoded rows.
pub(super) struct Walker<'a, K, I> {
    pub(super) trees: Trees<'a, K, I>,
    pub(super) targets: usize,
    pub(super) aggregate: Aggregate,
}

impl<K: Key, I: Index> Walker<'_, K, I> {
    /// Length of a group of rows in `keys`; one column at least, which leaves may read.
    pub(super) fn group_len(&self) -> usize {
        self.trees.columns.len() * LANES
    }

    /// Aggregates the trees `range` for `rows` encoded rows into `sums [rows, targets]`.
    pub(super) fn group(&self, range: Range<usize>, keys: &[K], rows: usize, sums: &mut [f64]) {
        sums.fill(self.aggregate.start());
        let full = rows / LANES;
        for tree in &self.trees.trees[range.clone()] {
            for group in 0..full {
                let keys = &keys[group * self.group_len()..][..self.group_len()];
                // SAFETY: opening checks that roots, steps and columns lead to nodes and to columns
                // of a group, which `keys` is.
                let leaves = unsafe {
                    let depth = tree.depth as usize;
                    walk::<K, I, 1>(self.trees.nodes, keys, [tree.root as usize; LANES], depth)
                };
                let sums = &mut sums[group * LANES * self.targets..][..LANES * self.targets];
                for (leaf, sums) in leaves.into_iter().zip(sums.chunks_exact_mut(self.targets)) {
                    self.add(leaf, sums);
                }
            }
        }
        for row in full * LANES..rows {
            let keys = &keys[full * self.group_len() + row % LANES..];
            self.one_row(range.clone(), keys, &mut sums[row * self.targets..][..self.targets]);
        }
    }

    /// One row, which is the first lane of `keys`, through eight trees at a time.
    fn one_row(&self, range: Range<usize>, keys: &[K], sums: &mut [f64]) {
        assert!(keys.len() + LANES > self.group_len());
        for trees in self.trees.trees[range].chunks(LANES) {
            let roots = std::array::from_fn(|lane| trees[lane.min(trees.len() - 1)].root as usize);
            let depth = trees.iter().map(|tree| tree.depth as usize).max().unwrap_or(0);
            // SAFETY: as above; columns begin at multiples of `LANES`, and only the first lane of
            // the slice is read.
            let leaves = unsafe { walk::<K, I, 0>(self.trees.nodes, keys, roots, depth) };
            for &leaf in leaves.iter().take(trees.len()) {
                self.add(leaf, sums);
            }
        }
    }

    #[inline(always)]
    fn add(&self, leaf: usize, sums: &mut [f64]) {
        match self.trees.leaves {
            Leaves::Single(weights) => {
                self.aggregate.add(&mut sums[0], f64::from(weights[leaf]));
            }
            Leaves::Lists { starts, weights } => {
                let list = starts[leaf] as usize..starts[leaf + 1] as usize;
                for weight in &weights[list] {
                    self.aggregate.add(&mut sums[weight.target as usize], weight.value);
                }
            }
        }
    }
}
