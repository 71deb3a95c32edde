//! Rows of a left-hand operand as lists of contiguous segments.
//!
//! A matrix product reads its left rows through pointers, so that a convolution's windows are rows
//! without being copied: kernel tiles walk segment by segment, all rows of a tile in step.

use std::cell::RefCell;
use std::ops::Range;

/// Pointers to the segments of the rows of one tile, reused from tile to tile.
#[derive(Default)]
pub(crate) struct RowTable {
    /// `[segment][width]`: where each row's segment starts.
    ptrs: Vec<*const u8>,
    /// Elements of each segment.
    lens: Vec<usize>,
    /// Copies of rows that are not contiguous in memory.
    copies: Vec<Line>,
    copies_len: usize,
    /// A run of padding values.
    padding: Vec<Line>,
    /// Bytes from each row to the next in every segment, if `fill` said so.
    stride: Option<usize>,
    width: usize,
}

#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([u8; 64]);

thread_local! {
    static FREE: RefCell<Vec<RowTable>> = const { RefCell::new(Vec::new()) };
}

impl RowTable {
    /// Lends this thread's table to `f`; `width` is the most rows of a tile.
    pub(crate) fn with<R>(width: usize, f: impl FnOnce(&mut RowTable) -> R) -> R {
        let mut table = FREE.with(|free| free.borrow_mut().pop()).unwrap_or_default();
        table.width = width;
        let result = f(&mut table);
        FREE.with(|free| free.borrow_mut().push(table));
        result
    }

    /// Forgets all segments.
    pub(crate) fn clear(&mut self) {
        self.ptrs.clear();
        self.lens.clear();
        self.copies_len = 0;
        self.stride = None;
    }

    /// Adds a segment of `len` elements; all rows point to `first` until set.
    pub(crate) fn add_segment(&mut self, len: usize, first: *const u8) -> usize {
        self.lens.push(len);
        self.ptrs.resize(self.ptrs.len() + self.width, first);
        self.lens.len() - 1
    }

    pub(crate) fn set(&mut self, segment: usize, row: usize, start: *const u8) {
        self.ptrs[segment * self.width + row] = start;
    }

    /// Makes room for copies of `bytes` bytes in all, before any is taken.
    pub(crate) fn reserve_copies(&mut self, bytes: usize) {
        let lines = bytes.div_ceil(64);
        if self.copies.len() < lines {
            self.copies.resize(lines, Line([0; 64]));
        }
    }

    /// Takes `bytes` bytes of the room reserved.
    pub(crate) fn take_copy(&mut self, bytes: usize) -> *mut u8 {
        let start = self.copies_len;
        self.copies_len += bytes;
        assert!(self.copies_len <= self.copies.len() * 64, "more copies than reserved");
        // SAFETY: inside the vector by the assertion.
        unsafe { self.copies.as_mut_ptr().cast::<u8>().add(start) }
    }

    /// At least `bytes` bytes, each `value`.
    pub(crate) fn padding(&mut self, bytes: usize, value: u8) -> *const u8 {
        let lines = bytes.div_ceil(64);
        if self.padding.len() < lines || self.padding.first().is_some_and(|l| l.0[0] != value) {
            self.padding.clear();
            self.padding.resize(lines.max(1), Line([value; 64]));
        }
        self.padding.as_ptr().cast()
    }

    pub(crate) fn segments(&self) -> usize {
        self.lens.len()
    }

    pub(crate) fn ptrs(&self) -> *const *const u8 {
        self.ptrs.as_ptr()
    }

    pub(crate) fn lens(&self) -> &[usize] {
        &self.lens
    }

    /// Says that in every segment the rows lie in one allocation, each `bytes` after the last.
    pub(crate) fn set_row_stride(&mut self, bytes: usize) {
        self.stride = Some(bytes);
    }

    /// Bytes by which any pointer of one of the first `rows` rows may be moved to the next row: as
    /// the operand said, since equal distances between allocations would not allow it.
    pub(crate) fn row_stride(&self, rows: usize) -> Option<usize> {
        if rows < 2 { Some(0) } else { self.stride }
    }

    /// The start of a row's segment.
    pub(crate) fn start(&self, segment: usize, row: usize) -> *const u8 {
        self.ptrs[segment * self.width + row]
    }
}

/// A left-hand operand.
///
/// # Safety
/// Every pointer that `fill` puts in the table must stay readable for its segment's length while
/// the operand is borrowed, or until the table is next filled. A row stride that `fill` sets must
/// lead from each row's pointer to the next row's inside one allocation, in every segment.
pub(crate) unsafe trait RowSource: Sync {
    /// Rows.
    fn rows(&self) -> usize;
    /// Elements of a row.
    fn depth(&self) -> usize;
    /// Where row `row` would start and the elements from one row to the next, if rows lie at one
    /// distance. The row need not exist, and then the pointer must not be read.
    fn at_distance(&self, _row: usize) -> Option<(*const u8, usize)> {
        None
    }

    /// Describes elements `depth` of rows `first..first + count` in a cleared table.
    fn fill(&self, first: usize, count: usize, depth: Range<usize>, table: &mut RowTable);
}

/// Rows at a constant distance.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DenseRows<T> {
    pub(crate) start: *const T,
    pub(crate) rows: usize,
    pub(crate) depth: usize,
    pub(crate) stride: usize,
}

// SAFETY: it only reads, and its makers check that all rows are inside a borrowed slice.
unsafe impl<T: Sync> Sync for DenseRows<T> {}

impl<T> DenseRows<T> {
    /// `rows` rows of `depth` elements, `stride` apart.
    ///
    /// # Panics
    /// If the last row ends outside `data`.
    pub(crate) fn new(data: &[T], rows: usize, depth: usize, stride: usize) -> DenseRows<T> {
        assert!(rows == 0 || (rows - 1) * stride + depth <= data.len(), "rows outside the data");
        DenseRows { start: data.as_ptr(), rows, depth, stride }
    }
}

// SAFETY: `new` checked that every row is inside the slice.
unsafe impl RowSource for DenseRows<f32> {
    fn rows(&self) -> usize {
        self.rows
    }

    fn depth(&self) -> usize {
        self.depth
    }

    fn at_distance(&self, row: usize) -> Option<(*const u8, usize)> {
        Some((self.start.wrapping_add(row * self.stride).cast(), self.stride))
    }

    fn fill(&self, first: usize, count: usize, depth: Range<usize>, table: &mut RowTable) {
        // SAFETY: inside the slice that `new` checked.
        let start = |row: usize| unsafe { self.start.add(row * self.stride + depth.start).cast() };
        let segment = table.add_segment(depth.len(), start(first));
        (0..count).for_each(|row| table.set(segment, row, start(first + row)));
    }
}
