//! One block of memory that a plan cuts into tensors.
//!
//! A step of a plan reads some ranges and writes others of the same block. Rust cannot see that
//! they are disjoint, so [`Arena::slices`] checks it at run time (a step has a handful of ranges)
//! and then hands out all of them at once.

use std::ops::Range;

use smallvec::SmallVec;

use crate::TensorError;
use crate::buffer::{ALIGNMENT, Buffer, Line, zeroed_lines};

/// A zero-initialised, cache-line aligned block of bytes.
#[derive(Default)]
pub struct Arena {
    lines: Vec<Line>,
}

/// Slices read by a step, in the order asked for.
pub type Reads<'a> = SmallVec<[&'a [u8]; 8]>;
/// Slices written by a step, in the order asked for.
pub type Writes<'a> = SmallVec<[&'a mut [u8]; 4]>;

impl Arena {
    /// A block of at least `len` bytes.
    ///
    /// # Panics
    /// If the system has not that much memory.
    pub fn new(len: usize) -> Arena {
        Arena { lines: zeroed_lines(len) }
    }

    /// The first `len` bytes, no longer to be changed and not copied.
    ///
    /// # Panics
    /// If the block is shorter.
    pub fn into_buffer(self, len: usize) -> Buffer {
        Buffer::of_lines(self.lines, len)
    }

    /// Size in bytes.
    pub fn len(&self) -> usize {
        self.lines.len() * ALIGNMENT
    }

    /// Whether the block has no bytes.
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// One range to write.
    pub fn slice_mut(&mut self, range: Range<usize>) -> Result<&mut [u8], TensorError> {
        let len = self.len();
        let error = TensorError::ArenaRange { start: range.start, end: range.end, len };
        bytemuck::cast_slice_mut(&mut self.lines).get_mut(range).ok_or(error)
    }

    /// One range to read.
    pub fn slice(&self, range: Range<usize>) -> Result<&[u8], TensorError> {
        let error = TensorError::ArenaRange { start: range.start, end: range.end, len: self.len() };
        bytemuck::cast_slice(&self.lines).get(range).ok_or(error)
    }

    /// All ranges of a step. No range written may touch any other non-empty range; ranges read may
    /// overlap one another. Allocates nothing for up to 8 reads and 4 writes.
    #[allow(unsafe_code, reason = "disjointness is checked at run time; see SAFETY")]
    pub fn slices<'a>(
        &'a mut self,
        read_ranges: &[Range<usize>],
        write_ranges: &[Range<usize>],
    ) -> Result<(Reads<'a>, Writes<'a>), TensorError> {
        let len = self.len();
        let error = |r: &Range<usize>| TensorError::ArenaRange { start: r.start, end: r.end, len };
        for range in read_ranges.iter().chain(write_ranges) {
            if range.start > range.end || range.end > len {
                return Err(error(range));
            }
        }
        for (i, write) in write_ranges.iter().enumerate() {
            let others = read_ranges.iter().chain(&write_ranges[..i]);
            if others.into_iter().any(|other| overlap(write, other)) {
                return Err(error(write));
            }
        }
        let base = self.lines.as_mut_ptr().cast::<u8>();
        // SAFETY: `base` points to `len` initialised bytes borrowed mutably for 'a, every range was
        // checked to lie inside them, and no written range overlaps a read or another written one,
        // so no two of these slices alias unless both are shared.
        unsafe {
            let reads =
                read_ranges.iter().map(|r| std::slice::from_raw_parts(base.add(r.start), r.len()));
            let writes = write_ranges
                .iter()
                .map(|r| std::slice::from_raw_parts_mut(base.add(r.start), r.len()));
            Ok((reads.collect(), writes.collect()))
        }
    }
}

fn overlap(a: &Range<usize>, b: &Range<usize>) -> bool {
    !a.is_empty() && !b.is_empty() && a.start < b.end && b.start < a.end
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn disjoint_ranges_are_handed_out_together() {
        let mut arena = Arena::new(128);
        let (reads, mut writes) = arena.slices(&[0..4, 2..8], &[64..68, 8..8]).unwrap();
        writes[0].fill(7);
        assert_eq!(reads[1].len(), 6);
        drop((reads, writes));
        assert_eq!(arena.slice(64..68).unwrap(), &[7; 4]);
    }

    #[test]
    fn overlapping_or_outside_ranges_are_refused() {
        let mut arena = Arena::new(64);
        let refused: [(&[_], &[_]); 3] =
            [(&[0..8, 20..24], &[4..12, 30..31]), (&[], &[0..8, 7..9]), (&[0..8, 60..65], &[])];
        for (reads, writes) in refused {
            assert!(arena.slices(reads, writes).is_err());
        }
    }
}
