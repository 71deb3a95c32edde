//! Tuples of positions that each name a block of elements: `GatherND` and `ScatterND`.

use landfall_tensor::row_major_strides;

use super::{OutOfRange, Position};
use crate::{Exec, parallel};

/// A tuple of positions along the axes that follow the batch axes names a block: all elements with
/// those coordinates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TupleMap {
    /// Extent and stride of every axis that a tuple has a position for.
    axes: Vec<(usize, usize)>,
    batch_axes: usize,
    batches: usize,
    batch_len: usize,
    block: usize,
}

impl TupleMap {
    /// A map for data of extents `data`, whose first `batch_axes` axes pair data with tuples, and
    /// tuples of `length` positions. `None` if the data has fewer axes.
    pub fn new(data: &[usize], batch_axes: usize, length: usize) -> Option<TupleMap> {
        let after = data.get(batch_axes.checked_add(length)?..)?;
        let strides = row_major_strides(data);
        let axes = batch_axes..batch_axes + length;
        Some(TupleMap {
            axes: axes.map(|axis| (data[axis], strides[axis])).collect(),
            batch_axes,
            batches: data[..batch_axes].iter().product(),
            batch_len: data[batch_axes..].iter().product(),
            block: after.iter().product(),
        })
    }

    /// Elements of the block that one tuple names.
    pub fn block(&self) -> usize {
        self.block
    }

    /// The first position outside its axis, as an error.
    pub fn check<I: Position>(&self, indices: &[I]) -> Result<(), OutOfRange> {
        let length = self.axes.len().max(1);
        for (i, index) in indices.iter().enumerate() {
            let axis = i % length;
            let Some(&(extent, _)) = self.axes.get(axis) else { break };
            if index.resolve(extent).is_none() {
                let axis = self.batch_axes + axis;
                return Err(OutOfRange { index: index.as_given(), axis, extent });
            }
        }
        Ok(())
    }

    /// The offset within a batch of the block that a tuple names.
    #[inline(always)]
    fn offset<I: Position>(&self, tuple: &[I]) -> usize {
        let terms = tuple.iter().zip(&self.axes);
        terms.map(|(index, &(extent, stride))| index.resolve(extent).unwrap_or(0) * stride).sum()
    }

    fn tuple<'a, I>(&self, indices: &'a [I], at: usize) -> &'a [I] {
        &indices[at * self.axes.len()..][..self.axes.len()]
    }
}

/// The block of every one of the checked tuples, in order; the batches have equally many tuples.
///
/// # Panics
/// If a length does not fit the map.
pub fn gather_tuples<T: Clone + Send + Sync, I: Position>(
    exec: Exec<'_>,
    map: &TupleMap,
    data: &[T],
    indices: &[I],
    out: &mut [T],
) {
    if out.is_empty() {
        return;
    }
    assert_eq!(data.len(), map.batches * map.batch_len, "source length");
    let tuples = out.len() / map.block;
    let per_batch = tuples / map.batches;
    parallel::over_chunks(exec, out, map.block, 1, &|first, chunk| {
        for (i, out) in chunk.chunks_exact_mut(map.block).enumerate() {
            let at = first + i;
            let start = at / per_batch * map.batch_len + map.offset(map.tuple(indices, at));
            out.clone_from_slice(&data[start..start + map.block]);
        }
    });
}

/// `put(element, update)` for every element of the block of every one of the checked tuples, in
/// order. The map has no batch axes.
///
/// # Panics
/// If a length does not fit the map.
pub fn scatter_tuples<T, I: Position>(
    map: &TupleMap,
    indices: &[I],
    updates: &[T],
    out: &mut [T],
    put: impl Fn(&mut T, &T),
) {
    assert!(map.batch_axes == 0 && out.len() == map.batch_len, "result length");
    if map.block == 0 {
        return;
    }
    for (at, updates) in updates.chunks_exact(map.block).enumerate() {
        let start = map.offset(map.tuple(indices, at));
        for (o, update) in out[start..start + map.block].iter_mut().zip(updates) {
            put(o, update);
        }
    }
}
