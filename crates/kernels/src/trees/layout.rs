//! What is stored: nodes, columns and leaf weights.

use super::key::Key;

/// Walks that go side by side; columns of a block hold this many rows each.
pub(super) const LANES: usize = 8;

/// An integer that holds columns and steps.
pub(super) trait Index: bytemuck::Pod + Send + Sync + std::fmt::Debug {
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
#[repr(C)]
pub(super) struct Node<K, I> {
    /// The second child is next if the key is greater.
    pub(super) threshold: K,
    /// Where the column begins in a group of rows: its number times [`LANES`].
    pub(super) column: I,
    /// From here to the first child; 0 at a leaf.
    pub(super) step: I,
}

/// Nodes that are stored as they are.
macro_rules! plain_nodes {
    ($($key:ty, $index:ty;)*) => {$(
        const _: () = assert!(
            size_of::<Node<$key, $index>>() == size_of::<$key>() + 2 * size_of::<$index>()
        );
        // SAFETY: all its fields are plain numbers, for which zero is a value.
        unsafe impl bytemuck::Zeroable for Node<$key, $index> {}
        // SAFETY: its fields are plain numbers in the order written, without padding by the
        // assertion above.
        unsafe impl bytemuck::Pod for Node<$key, $index> {}
    )*};
}

plain_nodes! {
    u32, u16;
    u32, u32;
    u64, u32;
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
#[derive(Debug, Clone, Copy, bytemuck::Zeroable, bytemuck::Pod)]
#[repr(C)]
pub(super) struct Tree {
    /// Index of its root.
    pub(super) root: u64,
    /// Steps from the root to the deepest leaf.
    pub(super) depth: u64,
}

/// A weight of a leaf and the target that it is for.
#[derive(Debug, Clone, Copy, bytemuck::Zeroable, bytemuck::Pod)]
#[repr(C)]
pub(super) struct Weight {
    pub(super) value: f64,
    pub(super) target: u32,
    pub(super) unused: u32,
}

/// Weights of leaves, by index of the node.
#[derive(Debug, Clone, Copy)]
pub(super) enum Leaves<'a> {
    /// One target, one weight a leaf; `f32` holds every weight.
    Single(&'a [f32]),
    /// Weights `starts[node]..starts[node + 1]` of a list.
    Lists { starts: &'a [u32], weights: &'a [Weight] },
}

/// All trees.
#[derive(Debug, Clone, Copy)]
pub(super) struct Trees<'a, K, I> {
    pub(super) nodes: &'a [Node<K, I>],
    pub(super) trees: &'a [Tree],
    pub(super) columns: &'a [Column<K>],
    pub(super) leaves: Leaves<'a>,
}
