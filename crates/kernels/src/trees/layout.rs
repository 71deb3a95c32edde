//! What is stored: nodes, columns and leaf weights.

use super::key::Key;

/// Walks that go side by side; columns of a block hold this many rows each.
pub(super) const LANES: usize = 8;

/// An integer that holds columns and steps.
pub(super) trait Index: Copy + Send + Sync + std::fmt::Debug + 'static {
    fn new(value: usize) -> Option<Self>;
    fn get(self) -> usize;
}

impl Index for u16 {
    fn new(value: usize) -> Option<u16> {
        value.try_into().ok()
    }
    #[inline(always)]
    fn get(self) -> usize {
        usize::from(self)
    }
}

impl Index for u32 {
    fn new(value: usize) -> Option<u32> {
        value.try_into().ok()
    }
    #[inline(always)]
    fn get(self) -> usize {
        self as usize
    }
}

/// A node of a tree.
#[derive(Debug, Clone, Copy)]
pub(super) struct Node<K, I> {
    /// The second child is next if the key is greater.
    pub(super) threshold: K,
    /// Where the column begins in a group of rows: its number times [`LANES`].
    pub(super) column: I,
    /// From here to the first child; 0 at a leaf.
    pub(super) step: I,
}

/// What the nodes test, computed once for each row.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Column<K> {
    /// Column of the input.
    pub(super) feature: usize,
    /// What NaN becomes.
    pub(super) missing: K,
    /// The keys of the set that the column tells membership of, ascending; `None` for the key
    /// itself.
    pub(super) members: Option<Vec<K>>,
}

impl<K: Key> Column<K> {
    /// The column's value for an input.
    #[inline(always)]
    pub(super) fn value(&self, key: Option<K>) -> K {
        match (key, &self.members) {
            (None, _) => self.missing,
            (Some(key), None) => key,
            (Some(key), Some(members)) => match members.binary_search(&key) {
                Ok(_) => K::ONE,
                Err(_) => K::LOWEST,
            },
        }
    }
}

/// One tree among the nodes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tree {
    /// Index of its root.
    pub(super) root: usize,
    /// Steps from the root to the deepest leaf.
    pub(super) depth: usize,
}

/// Weights of leaves, by index of the node.
#[derive(Debug)]
pub(super) enum Leaves {
    /// One target, one weight a leaf; `f32` holds every weight.
    Single(Vec<f32>),
    /// Weights `starts[node]..starts[node + 1]` of a list of targets and weights.
    Lists { starts: Vec<u32>, weights: Vec<(u32, f64)> },
}

/// All trees.
#[derive(Debug)]
pub(super) struct Trees<K, I> {
    pub(super) nodes: Vec<Node<K, I>>,
    pub(super) trees: Vec<Tree>,
    pub(super) columns: Vec<Column<K>>,
    pub(super) leaves: Leaves,
}

impl<K, I> Trees<K, I> {
    pub(super) fn bytes(&self) -> usize {
        let members = self.columns.iter().filter_map(|column| column.members.as_ref());
        let leaves = match &self.leaves {
            Leaves::Single(weights) => size_of_val(weights.as_slice()),
            Leaves::Lists { starts, weights } => {
                size_of_val(starts.as_slice()) + size_of_val(weights.as_slice())
            }
        };
        size_of_val(self.nodes.as_slice())
            + size_of_val(self.trees.as_slice())
            + size_of_val(self.columns.as_slice())
            + members.map(|members| size_of_val(members.as_slice())).sum::<usize>()
            + leaves
    }
}
