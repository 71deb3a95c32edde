//! One block of memory that a plan cuts into tensors.
//!
//! A step of a plan reads some ranges and writes others of the same block. Rust cannot see that
//! they are disjoint, so [`Arena::slices`] checks it at run time (a step has a handful of ranges)
//! and then hands out all of them at once. Where several threads run steps at a time, a
//! [`SharedArena`] checks every step against those that the others are in.

use std::marker::PhantomData;
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

use smallvec::SmallVec;

use crate::TensorError;
use crate::buffer::{ALIGNMENT, Buffer, Line, zeroed_lines};

/// A zero-initialised, cache-line aligned block of bytes.
#[derive(Default)]
pub struct Arena {
    lines: Vec<Line>,
    /// Of those who share it; kept for its capacity.
    claims: Mutex<Claims>,
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
        Arena { lines: zeroed_lines(len), claims: Mutex::default() }
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
        check(self.len(), read_ranges, write_ranges)?;
        let base = self.lines.as_mut_ptr().cast::<u8>();
        // SAFETY: `base` points to `len` initialised bytes borrowed mutably for 'a; the ranges were
        // checked.
        Ok(unsafe { slices_at(base, read_ranges, write_ranges) })
    }

    /// The same block for several threads at a time.
    pub fn share(&mut self) -> SharedArena<'_> {
        let len = self.len();
        let Arena { lines, claims } = self;
        SharedArena { base: lines.as_mut_ptr().cast(), len, claims, borrow: PhantomData }
    }
}

/// An arena that several threads work in, each with ranges that no other writes.
pub struct SharedArena<'a> {
    base: *mut u8,
    len: usize,
    claims: &'a Mutex<Claims>,
    borrow: PhantomData<&'a mut [u8]>,
}

/// What every thread has in use.
#[derive(Default)]
struct Claims {
    next_id: u64,
    ranges: Vec<Ranges>,
}

struct Ranges {
    id: u64,
    reads: SmallVec<[Range<usize>; 8]>,
    writes: SmallVec<[Range<usize>; 4]>,
}

// SAFETY: it stands for an exclusive borrow of bytes; parts of them are handed out only after the
// check that no other part in use overlaps one that is written.
#[allow(unsafe_code, reason = "the pointer stands for an exclusive borrow")]
unsafe impl Send for SharedArena<'_> {}
// SAFETY: as above.
#[allow(unsafe_code, reason = "the pointer stands for an exclusive borrow")]
unsafe impl Sync for SharedArena<'_> {}

impl SharedArena<'_> {
    /// Runs `work` on the ranges of a step, as [`Arena::slices`] hands them out. Fails if one that
    /// is written overlaps one that another thread has in use, or the other way round. Allocates
    /// nothing for up to 8 reads and 4 writes once as many threads have shared the arena.
    #[allow(unsafe_code, reason = "disjointness is checked at run time; see SAFETY")]
    pub fn with_slices<R>(
        &self,
        read_ranges: &[Range<usize>],
        write_ranges: &[Range<usize>],
        work: impl FnOnce(Reads<'_>, Writes<'_>) -> R,
    ) -> Result<R, TensorError> {
        check(self.len, read_ranges, write_ranges)?;
        let claim = self.claim(read_ranges, write_ranges)?;
        // SAFETY: `base` points to `len` initialised bytes that this arena borrows exclusively; the
        // ranges were checked against one another and, until the claim is dropped, against those of
        // every other thread.
        let (reads, writes) = unsafe { slices_at(self.base, read_ranges, write_ranges) };
        let result = work(reads, writes);
        drop(claim);
        Ok(result)
    }

    fn lock(&self) -> MutexGuard<'_, Claims> {
        self.claims.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn claim(
        &self,
        reads: &[Range<usize>],
        writes: &[Range<usize>],
    ) -> Result<Claim<'_, '_>, TensorError> {
        let mut claims = self.lock();
        for other in &claims.ranges {
            let taken = |range: &&Range<usize>| other.writes.iter().any(|w| overlap(w, range));
            let read = |range: &&Range<usize>| other.reads.iter().any(|r| overlap(r, range));
            let conflict = reads
                .iter()
                .find(taken)
                .or_else(|| writes.iter().find(|range| taken(range) || read(range)));
            if let Some(range) = conflict {
                let (start, end) = (range.start, range.end);
                return Err(TensorError::ArenaRange { start, end, len: self.len });
            }
        }
        let id = claims.next_id;
        claims.next_id += 1;
        claims.ranges.push(Ranges { id, reads: reads.into(), writes: writes.into() });
        Ok(Claim { arena: self, id })
    }
}

/// Ranges in use until it is dropped, a panic included.
struct Claim<'a, 'b> {
    arena: &'a SharedArena<'b>,
    id: u64,
}

impl Drop for Claim<'_, '_> {
    fn drop(&mut self) {
        let mut claims = self.arena.lock();
        claims.ranges.retain(|ranges| ranges.id != self.id);
    }
}

/// Fails unless all ranges are inside `len` bytes and no range written overlaps another.
fn check(
    len: usize,
    read_ranges: &[Range<usize>],
    write_ranges: &[Range<usize>],
) -> Result<(), TensorError> {
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
    Ok(())
}

/// # Safety
/// `base` points to initialised bytes, `check` has passed for the ranges, and for 'a nothing else
/// writes what is read here nor touches what is written here.
#[allow(unsafe_code, reason = "disjointness is checked at run time; see SAFETY")]
unsafe fn slices_at<'a>(
    base: *mut u8,
    read_ranges: &[Range<usize>],
    write_ranges: &[Range<usize>],
) -> (Reads<'a>, Writes<'a>) {
    // SAFETY: every range lies inside the bytes, and no written range overlaps a read or another
    // written one, so no two of these slices alias unless both are shared.
    unsafe {
        let reads =
            read_ranges.iter().map(|r| std::slice::from_raw_parts(base.add(r.start), r.len()));
        let writes =
            write_ranges.iter().map(|r| std::slice::from_raw_parts_mut(base.add(r.start), r.len()));
        (reads.collect(), writes.collect())
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
    fn threads_get_only_what_no_other_uses() {
        let mut arena = Arena::new(192);
        let shared = arena.share();
        let one = |range: Range<usize>| [range, 0..0];
        let nested = |reads: &[Range<usize>], writes: &[Range<usize>]| {
            shared.with_slices(&one(0..64), &one(64..128), |_, mut ours| {
                ours[0].fill(1);
                shared.with_slices(reads, writes, |_, theirs| theirs.len())
            })
        };
        assert_eq!(nested(&one(0..64), &one(128..192)).unwrap(), Ok(2));
        assert!(nested(&one(100..132), &one(128..192)).unwrap().is_err(), "reads what is written");
        assert!(nested(&[], &one(60..64)).unwrap().is_err(), "writes what is read");
        assert!(nested(&[], &[127..128, 0..0]).unwrap().is_err(), "writes what is written");
        assert_eq!(shared.with_slices(&one(64..65), &one(0..64), |reads, _| reads[0][0]), Ok(1));
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
