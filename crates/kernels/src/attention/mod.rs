//! Scaled dot-product attention: `softmax(scale q kᵀ + mask) v` for every batch and head.
//!
//! The scores of a head are never held whole: a tile of query rows meets all keys, is normalised
//! and multiplied by the values while it is in the level 2 cache. Heads are read where they lie, so
//! nothing is transposed. Tiles are shared out among the threads; how many there are changes no
//! result, for a row is summed the same way whichever tile holds it.

mod direct;
mod fused;
#[cfg(test)]
mod tests;

use std::ops::Range;

pub use direct::{Scores, attention_direct};
pub use fused::{attention, attention_scratch_len};

/// Where the rows of every batch and head lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeadLayout {
    /// Extents `[heads, rows, columns]`.
    extents: [usize; 3],
    /// Elements between batches, heads and rows; columns are contiguous.
    strides: [usize; 3],
}

impl HeadLayout {
    /// `[batch, heads, rows, columns]`.
    pub fn heads_first(heads: usize, rows: usize, columns: usize) -> HeadLayout {
        let strides = [heads * rows * columns, rows * columns, columns];
        HeadLayout { extents: [heads, rows, columns], strides }
    }

    /// `[batch, rows, heads columns]`.
    pub fn rows_first(heads: usize, rows: usize, columns: usize) -> HeadLayout {
        let strides = [heads * rows * columns, columns, heads * columns];
        HeadLayout { extents: [heads, rows, columns], strides }
    }

    /// The first element of a row.
    pub fn row(&self, batch: usize, head: usize, row: usize) -> usize {
        batch * self.strides[0] + head * self.strides[1] + row * self.strides[2]
    }

    /// Elements from one row of a head to the next.
    pub fn row_stride(&self) -> usize {
        self.strides[2]
    }

    /// Elements of a row.
    pub fn columns(&self) -> usize {
        self.extents[2]
    }

    fn elements(&self, batch: usize) -> usize {
        batch * self.extents.iter().product::<usize>()
    }
}

/// The keys of one batch that queries may attend to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyRange {
    /// Keys that come before the first query: query `i` stands at `offset + i`.
    pub offset: i64,
    /// Keys that exist; later ones are padding.
    pub valid: usize,
}

/// Limits on the distance from a query to its keys.
#[derive(Debug, Clone, Copy)]
pub struct Window<'a> {
    /// Keys before the query's position, if bounded.
    pub left: Option<i64>,
    /// Keys after the query's position, if bounded; 0 is causal.
    pub right: Option<i64>,
    /// `[batch]`.
    pub keys: &'a [KeyRange],
}

/// What is added to the scaled scores, or which of them count.
#[derive(Debug, Clone, Copy)]
pub enum MaskValues<'a, T> {
    /// Added; minus infinity excludes.
    Add(&'a [T]),
    /// Scores at 0 are excluded.
    Keep(&'a [u8]),
}

/// A mask that broadcasts to `[batch, heads, queries, keys]`.
#[derive(Debug, Clone, Copy)]
pub struct AttentionMask<'a, T> {
    /// The elements.
    pub values: MaskValues<'a, T>,
    /// Elements from one batch, head, query and key to the next; 0 repeats.
    pub strides: [usize; 4],
    /// Keys that the mask covers; later ones are excluded.
    pub keys: usize,
}

/// Extents, layouts and options of one attention.
#[derive(Debug, Clone, Copy)]
pub struct Attention<'a> {
    /// Batches.
    pub batch: usize,
    /// Heads of queries.
    pub heads: usize,
    /// Heads of keys and values; divides `heads`.
    pub kv_heads: usize,
    /// Query rows.
    pub queries: usize,
    /// Key rows.
    pub keys: usize,
    /// `[batch, heads, queries, depth]`.
    pub q: HeadLayout,
    /// `[batch, kv_heads, keys, depth]`.
    pub k: HeadLayout,
    /// `[batch, kv_heads, keys, columns]`.
    pub v: HeadLayout,
    /// `[batch, heads, queries, columns]`.
    pub out: HeadLayout,
    /// Factor of the scores.
    pub scale: f32,
    /// Scores become `softcap tanh(score / softcap)` unless this is 0.
    pub softcap: f32,
    /// Limits on which keys a query sees.
    pub window: Option<Window<'a>>,
    /// A query that sees no key gives zeros instead of NaN.
    pub zero_if_blind: bool,
}

impl Attention<'_> {
    /// Asserts that operands of these lengths fit.
    fn check(&self, q: usize, k: usize, v: usize, out: usize) {
        let Attention { batch, heads, kv_heads, queries, keys, .. } = *self;
        let depth = self.q.columns();
        assert!(kv_heads > 0 && heads.is_multiple_of(kv_heads), "{heads} heads over {kv_heads}");
        assert_eq!(self.q.extents, [heads, queries, depth], "query layout");
        assert_eq!(self.k.extents, [kv_heads, keys, depth], "key layout");
        assert_eq!(self.v.extents, [kv_heads, keys, self.out.columns()], "value layout");
        assert_eq!(self.out.extents[..2], [heads, queries], "output layout");
        assert_eq!(q, self.q.elements(batch), "query length");
        assert_eq!(k, self.k.elements(batch), "key length");
        assert_eq!(v, self.v.elements(batch), "value length");
        assert_eq!(out, self.out.elements(batch), "output length");
        assert!(self.window.is_none_or(|w| w.keys.len() == batch), "key ranges are not [batch]");
    }

    /// The keys' head that a query head reads.
    fn kv_head(&self, head: usize) -> usize {
        head / (self.heads / self.kv_heads)
    }

    /// The keys that a query may see.
    fn visible(&self, batch: usize, query: usize) -> Range<usize> {
        let Some(window) = &self.window else { return 0..self.keys };
        let range = window.keys[batch];
        let valid = range.valid.min(self.keys);
        let at = range.offset.saturating_add(query as i64);
        let bound = |x: i64| usize::try_from(x.max(0)).unwrap_or(usize::MAX).min(valid);
        let first = window.left.map_or(0, |left| bound(at.saturating_sub(left)));
        let last = window.right.map_or(valid, |r| bound(at.saturating_add(r).saturating_add(1)));
        first..last.max(first)
    }
}

impl<T: Copy> AttentionMask<'_, T> {
    fn check(&self, a: &Attention<'_>) {
        let extents = [a.batch, a.heads, a.queries, a.keys.min(self.keys)];
        if extents.contains(&0) {
            return;
        }
        let last: usize = extents.iter().zip(self.strides).map(|(n, s)| (n - 1) * s).sum();
        let len = match self.values {
            MaskValues::Add(values) => values.len(),
            MaskValues::Keep(values) => values.len(),
        };
        assert!(last < len, "mask shorter than its strides demand");
    }

    /// The mask's element for the first key.
    fn start(&self, batch: usize, head: usize, query: usize) -> usize {
        batch * self.strides[0] + head * self.strides[1] + query * self.strides[2]
    }
}
