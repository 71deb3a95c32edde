//! Rows of their own lengths or places: sequences reversed, and caches written to.

/// Rows `[outer, inner]` of `len` elements, of which one axis is time and the other the batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReverseRows {
    /// Extent of the outer axis.
    pub outer: usize,
    /// Extent of the inner axis.
    pub inner: usize,
    /// Elements of a row.
    pub len: usize,
    /// The outer axis is time, not the inner one.
    pub time_is_outer: bool,
}

/// Reverses the first `lengths[b]` rows of every sequence `b` and copies the others. Lengths are at
/// most the extent of time.
///
/// # Panics
/// If a length does not fit.
pub fn reverse_rows<T: Clone>(kind: ReverseRows, lengths: &[usize], input: &[T], out: &mut [T]) {
    let ReverseRows { outer, inner, len, time_is_outer } = kind;
    assert!(input.len() == outer * inner * len && out.len() == input.len(), "operand length");
    if len == 0 {
        return;
    }
    for (row, out) in out.chunks_exact_mut(len).enumerate() {
        let (i, j) = (row / inner, row % inner);
        let (time, batch) = if time_is_outer { (i, j) } else { (j, i) };
        let from = if time < lengths[batch] { lengths[batch] - 1 - time } else { time };
        let from = if time_is_outer { from * inner + j } else { i * inner + from };
        out.clone_from_slice(&input[from * len..][..len]);
    }
}

/// A write of `update [batch, rows, new, len]` into `cache [batch, rows, capacity, len]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CacheWrite {
    /// Rows of one batch entry: the axes between the batch and the sequence.
    pub rows: usize,
    /// Sequence positions of the cache.
    pub capacity: usize,
    /// Sequence positions of the update.
    pub new: usize,
    /// Elements of one position.
    pub len: usize,
}

/// Writes each batch entry's update from position `starts[b]` on, around the end of the cache.
///
/// # Panics
/// If a length does not fit.
pub fn write_cache<T: Clone>(kind: CacheWrite, starts: &[usize], update: &[T], cache: &mut [T]) {
    let CacheWrite { rows, capacity, new, len } = kind;
    assert_eq!(cache.len(), starts.len() * rows * capacity * len, "cache length");
    assert_eq!(update.len(), starts.len() * rows * new * len, "update length");
    if update.is_empty() {
        return;
    }
    for (i, update) in update.chunks_exact(len).enumerate() {
        let (row, at) = (i / new, i % new);
        let at = (starts[row / rows] + at) % capacity;
        cache[(row * capacity + at) * len..][..len].clone_from_slice(update);
    }
}
