//! Copies that rearrange elements: strided reads, blocks, and index tables.
//!
//! Nothing here looks at elements, so everything works on bytes with a given element size. A
//! strided copy covers transpose, slice, expand and tile: the result is written in order, each of
//! its axes reading with some signed step.

use crate::parallel::over_chunks;
use crate::{Exec, permute};

/// One axis of a strided copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Axis {
    /// Extent in the result.
    pub extent: usize,
    /// Step in the source, in elements; 0 repeats, negative walks backwards.
    pub step: isize,
}

/// A walk over a source that gives the result in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StridedCopy {
    axes: Vec<Axis>,
    offset: usize,
}

impl StridedCopy {
    /// Axes outermost first; `offset` is the source element that the first result element reads.
    /// Axes that continue one another are merged.
    pub fn new(axes: &[Axis], offset: usize) -> StridedCopy {
        let mut merged: Vec<Axis> = Vec::with_capacity(axes.len());
        for &axis in axes.iter().filter(|axis| axis.extent != 1) {
            match merged.last_mut() {
                Some(outer) if outer.step == axis.step * axis.extent as isize => {
                    *outer = Axis { extent: outer.extent * axis.extent, step: axis.step };
                }
                _ => merged.push(axis),
            }
        }
        if merged.is_empty() {
            merged.push(Axis { extent: 1, step: 1 });
        }
        StridedCopy { axes: merged, offset }
    }

    /// Whether the result is one contiguous piece of the source.
    pub fn is_contiguous(&self) -> bool {
        matches!(self.axes.as_slice(), [Axis { step: 1, .. }])
    }

    /// Elements of the result.
    pub fn elements(&self) -> usize {
        self.axes.iter().map(|axis| axis.extent).product()
    }

    /// Whether every read lies within a source of `len` elements.
    pub fn fits(&self, len: usize) -> bool {
        if self.elements() == 0 {
            return true;
        }
        let (mut low, mut high) = (self.offset as isize, self.offset as isize);
        for axis in &self.axes {
            let span = (axis.extent as isize - 1) * axis.step;
            if span < 0 { low += span } else { high += span }
        }
        low >= 0 && high < len as isize
    }

    /// Fills `out` from `source`, elements of `size` bytes (1, 2, 4, 8 or 16).
    ///
    /// # Panics
    /// If a length does not fit.
    pub fn run(&self, exec: Exec<'_>, source: &[u8], out: &mut [u8], size: usize) {
        assert_eq!(out.len(), self.elements() * size, "result length");
        assert!(self.fits(source.len() / size), "a read lies outside the source");
        if out.is_empty() {
            return;
        }
        match size {
            1 => self.run_sized::<1>(exec, source, out),
            2 => self.run_sized::<2>(exec, source, out),
            4 => self.run_sized::<4>(exec, source, out),
            8 => self.run_sized::<8>(exec, source, out),
            16 => self.run_sized::<16>(exec, source, out),
            _ => panic!("elements of {size} bytes"),
        }
    }

    fn run_sized<const S: usize>(&self, exec: Exec<'_>, source: &[u8], out: &mut [u8]) {
        let (source, _) = source.as_chunks::<S>();
        let (out, _) = out.as_chunks_mut::<S>();
        if self.is_contiguous() {
            over_chunks(exec, out, 1, 1, &|start, chunk| {
                let start = self.offset + start;
                chunk.copy_from_slice(&source[start..start + chunk.len()]);
            });
            return;
        }
        if permute::transposed(exec, &self.axes, &source[self.offset..], out) {
            return;
        }
        let (outer, row) = self.axes.split_at(self.axes.len() - 1);
        let row = row[0];
        over_chunks(exec, out, row.extent, 2, &|first, chunk| {
            let mut walk = Walk::new(outer, self.offset, first);
            for piece in chunk.chunks_exact_mut(row.extent) {
                copy_row(source, walk.offset(), row.step, piece);
                walk.advance();
            }
        });
    }
}

#[inline(always)]
fn copy_row<T: Copy>(source: &[T], start: usize, step: isize, out: &mut [T]) {
    match step {
        0 => out.fill(source[start]),
        1 => out.copy_from_slice(&source[start..start + out.len()]),
        _ if step > 0 => {
            for (o, x) in out.iter_mut().zip(source[start..].iter().step_by(step as usize)) {
                *o = *x;
            }
        }
        _ => {
            let reversed = source[..=start].iter().rev().step_by(step.unsigned_abs());
            for (o, x) in out.iter_mut().zip(reversed) {
                *o = *x;
            }
        }
    }
}

/// The source offset of each row in turn.
struct Walk<'a> {
    axes: &'a [Axis],
    position: [usize; landfall_tensor::MAX_RANK * 2],
    offset: isize,
}

impl<'a> Walk<'a> {
    fn new(axes: &'a [Axis], offset: usize, row: usize) -> Walk<'a> {
        let mut walk =
            Walk { axes, position: [0; landfall_tensor::MAX_RANK * 2], offset: offset as isize };
        let mut rest = row;
        for (index, axis) in axes.iter().enumerate().rev() {
            walk.position[index] = rest % axis.extent;
            walk.offset += walk.position[index] as isize * axis.step;
            rest /= axis.extent;
        }
        walk
    }

    fn offset(&self) -> usize {
        self.offset as usize
    }

    fn advance(&mut self) {
        for (index, axis) in self.axes.iter().enumerate().rev() {
            self.position[index] += 1;
            self.offset += axis.step;
            if self.position[index] < axis.extent {
                return;
            }
            self.position[index] = 0;
            self.offset -= axis.step * axis.extent as isize;
        }
    }
}

/// Copies `rows` blocks of `bytes` bytes, from every `source_stride` to every `out_stride` bytes.
///
/// # Panics
/// If a block lies outside its slice.
pub fn copy_blocks(
    source: &[u8],
    source_stride: usize,
    out: &mut [u8],
    out_stride: usize,
    bytes: usize,
    rows: usize,
) {
    if bytes == 0 {
        return;
    }
    if bytes == source_stride && bytes == out_stride {
        out[..bytes * rows].copy_from_slice(&source[..bytes * rows]);
        return;
    }
    for row in 0..rows {
        let block = &source[row * source_stride..][..bytes];
        out[row * out_stride..][..bytes].copy_from_slice(block);
    }
}

/// `out[o, i, :] = source[o, index[i], :]`: rows of `bytes` bytes chosen by an index, for every
/// outer block. `index` gives positions below `extent`.
///
/// # Panics
/// If a length does not fit or an index is out of range.
pub fn take_rows(
    exec: Exec<'_>,
    source: &[u8],
    extent: usize,
    bytes: usize,
    index: &(dyn Fn(usize) -> usize + Sync),
    count: usize,
    out: &mut [u8],
) {
    if bytes == 0 || count == 0 {
        return;
    }
    over_chunks(exec, out, bytes, 1, &|first, chunk| {
        for (k, row) in chunk.chunks_exact_mut(bytes).enumerate() {
            let (outer, i) = ((first + k) / count, (first + k) % count);
            let start = (outer * extent + index(i)) * bytes;
            row.copy_from_slice(&source[start..start + bytes]);
        }
    });
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{Cpu, Pool};

    proptest! {
        #[test]
        fn permutations_and_reversals_read_the_right_elements(
            dims in prop::collection::vec(1usize..10, 1..5),
            seed in any::<u64>(),
            reverse in any::<u8>(),
        ) {
            let mut perm: Vec<usize> = (0..dims.len()).collect();
            perm.sort_by_key(|&axis| seed.rotate_left(axis as u32 * 13) % 97);
            let strides = landfall_tensor::row_major_strides(&dims);
            let source: Vec<u32> = (0..dims.iter().product::<usize>() as u32).collect();
            let mut offset = 0;
            let axes: Vec<Axis> = perm.iter().map(|&axis| {
                let flip = reverse >> axis & 1 == 1;
                if flip {
                    offset += strides[axis] * (dims[axis] - 1);
                }
                let step = strides[axis] as isize * if flip { -1 } else { 1 };
                Axis { extent: dims[axis], step }
            }).collect();
            let mut out = vec![0u32; source.len()];
            let pool = Pool::new(2).unwrap();
            let exec = Exec { cpu: Cpu::detect(), pool: &pool };
            let bytes = bytemuck::cast_slice_mut(&mut out);
            StridedCopy::new(&axes, offset).run(exec, bytemuck::cast_slice(&source), bytes, 4);
            for (flat, &value) in out.iter().enumerate() {
                let (mut rest, mut at) = (flat, offset as isize);
                for axis in axes.iter().rev() {
                    at += (rest % axis.extent) as isize * axis.step;
                    rest /= axis.extent;
                }
                prop_assert_eq!(value as isize, at);
            }
        }
    }

    #[test]
    fn reads_outside_are_noticed() {
        let copy = StridedCopy::new(&[Axis { extent: 3, step: -1 }], 1);
        assert!(!copy.fits(10));
        assert!(StridedCopy::new(&[Axis { extent: 3, step: -1 }], 2).fits(3));
        assert!(!StridedCopy::new(&[Axis { extent: 3, step: 2 }], 0).fits(4));
    }
}
