//! One position for every element: `GatherElements` and `ScatterElements`.

use landfall_tensor::row_major_strides;

use super::{OutOfRange, Position};
use crate::{Exec, parallel};

/// Element `c` of an index tensor stands for the data element at `c` with the coordinate of one axis
/// replaced by the index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ElementMap {
    /// Outer axes of the index tensor, innermost first: extent, and stride in the data.
    outer: Vec<(usize, usize)>,
    /// Extent of the innermost axis of the index tensor, and its stride in the data.
    inner: (usize, usize),
    axis: usize,
    extent: usize,
    stride: usize,
    data_len: usize,
    index_len: usize,
}

impl ElementMap {
    /// A map for data of extents `data` and indices of extents `index`, both of one rank above 0.
    /// `None` if the ranks differ, `axis` is none of the axes, or the indices extend beyond the
    /// data along another axis.
    pub fn new(data: &[usize], index: &[usize], axis: usize) -> Option<ElementMap> {
        let inside = |(i, (d, n)): (usize, (&usize, &usize))| i == axis || n <= d;
        let fits = data.iter().zip(index).enumerate().all(inside);
        if data.len() != index.len() || axis >= data.len() || !fits {
            return None;
        }
        let strides = row_major_strides(data);
        let step = |i: usize| (index[i], if i == axis { 0 } else { strides[i] });
        Some(ElementMap {
            outer: (0..data.len() - 1).rev().map(step).collect(),
            inner: step(data.len() - 1),
            axis,
            extent: data[axis],
            stride: strides[axis],
            data_len: data.iter().product(),
            index_len: index.iter().product(),
        })
    }

    /// The first position outside the axis, as an error.
    pub fn check<I: Position>(&self, indices: &[I]) -> Result<(), OutOfRange> {
        match indices.iter().find(|index| index.resolve(self.extent).is_none()) {
            None => Ok(()),
            Some(index) => {
                Err(OutOfRange { index: index.as_given(), axis: self.axis, extent: self.extent })
            }
        }
    }

    /// The data offset of row `row` of the index tensor, without the axis.
    fn base(&self, row: usize) -> usize {
        let mut rest = row;
        let mut base = 0;
        for &(extent, stride) in &self.outer {
            base += rest % extent * stride;
            rest /= extent;
        }
        base
    }

    /// The data offset of element `column` of a row that starts at `base`.
    #[inline(always)]
    fn target<I: Position>(&self, base: usize, column: usize, index: I) -> usize {
        base + column * self.inner.1 + index.resolve(self.extent).unwrap_or(0) * self.stride
    }
}

/// `out[c] = data[target(c)]` for every element `c` of the checked `indices`.
///
/// # Panics
/// If a length does not fit the map.
pub fn gather_elements<T: Clone + Send + Sync, I: Position>(
    exec: Exec<'_>,
    map: &ElementMap,
    data: &[T],
    indices: &[I],
    out: &mut [T],
) {
    assert!(data.len() == map.data_len && indices.len() == map.index_len, "operand length");
    assert_eq!(out.len(), map.index_len, "result length");
    let row = map.inner.0;
    parallel::over_chunks(exec, out, row, 2, &|first, chunk| {
        let indices = &indices[first * row..][..chunk.len()];
        let rows = chunk.chunks_exact_mut(row).zip(indices.chunks_exact(row));
        for (i, (out, indices)) in rows.enumerate() {
            let base = map.base(first + i);
            for (column, (o, &index)) in out.iter_mut().zip(indices).enumerate() {
                o.clone_from(&data[map.target(base, column, index)]);
            }
        }
    });
}

/// `put(out[target(c)], updates[c])` for every element `c` of the checked `indices`, in order.
///
/// # Panics
/// If a length does not fit the map.
pub fn scatter_elements<T, I: Position>(
    map: &ElementMap,
    indices: &[I],
    updates: &[T],
    out: &mut [T],
    put: impl Fn(&mut T, &T),
) {
    assert!(updates.len() == map.index_len && indices.len() == map.index_len, "operand length");
    assert_eq!(out.len(), map.data_len, "result length");
    if indices.is_empty() {
        return;
    }
    let row = map.inner.0;
    for (i, (indices, updates)) in
        indices.chunks_exact(row).zip(updates.chunks_exact(row)).enumerate()
    {
        let base = map.base(i);
        for (column, (&index, update)) in indices.iter().zip(updates).enumerate() {
            put(&mut out[map.target(base, column, index)], update);
        }
    }
}
