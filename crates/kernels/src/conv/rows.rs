//! A convolution's windows as rows of a matrix, `[positions, kernel height · kernel width ·
//! channels]`.

use std::ops::Range;
use std::ptr;

use super::Window2d;
use crate::rows::{RowSource, RowTable};

/// Channels below which a tap is too short to be a segment of its own.
const SHORT: usize = 8;
/// Bytes up to which a kernel row is copied as one vector, of this size or half of it.
const VECTOR: usize = 32;

/// Windows over some channels of an image, read in place.
///
/// Where taps are neighbours in memory, a whole kernel row is one segment; rows of the tile that
/// hang over the left or right edge are copied. Otherwise each tap is a segment, or, if that is too
/// short, every row is copied.
#[derive(Debug, Clone, Copy)]
pub(crate) struct WindowRows<T> {
    start: *const T,
    /// End of the images.
    end: *const T,
    window: Window2d,
    /// Channels read, of `window.channels`.
    channels: usize,
    /// Every byte of the value outside the image.
    pad: u8,
    /// Elements that each row is made a multiple of, by copying and appending zeros.
    align: usize,
    /// Elements of a row, the appended ones included.
    depth: usize,
    /// Output columns whose windows do not hang over the left or right edge.
    interior: (usize, usize),
}

/// Image, output row and output column of a matrix row.
#[derive(Clone, Copy)]
struct Position {
    image: usize,
    y: usize,
    x: usize,
}

// SAFETY: it only reads a slice that `new` borrowed and checked.
unsafe impl<T: Sync> Sync for WindowRows<T> {}

/// How rows become segments.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Cut {
    KernelRows,
    Taps,
    Copies,
}

impl<T: Copy + Sync> WindowRows<T> {
    /// Windows over channels `first..first + channels` of images in `data`. The padding value's
    /// bytes are all `pad`.
    ///
    /// # Panics
    /// If `data` is not the window's input or the channels are not inside it.
    pub(crate) fn new(
        data: &[T],
        window: Window2d,
        channels: Range<usize>,
        pad: u8,
        align: usize,
    ) -> WindowRows<T> {
        assert_eq!(data.len(), window.input_len(), "input of the wrong length");
        assert!(channels.end <= window.channels, "channels outside the image");
        let (start, end) = (data.as_ptr().wrapping_add(channels.start), data.as_ptr_range().end);
        let channels = channels.len();
        let depth = (window.taps() * channels).next_multiple_of(align);
        let interior = window.interior(1);
        let interior = (interior.start, interior.end);
        WindowRows { start, end, window, channels, pad, align, depth, interior }
    }

    /// Whether neighbouring taps of a kernel row are neighbours in memory.
    fn taps_touch(&self) -> bool {
        let w = &self.window;
        self.channels == w.channels && (w.dilation[1] == 1 || w.kernel[1] == 1)
    }

    /// Elements of a kernel row.
    fn row_len(&self) -> usize {
        self.window.kernel[1] * self.channels
    }

    /// Whether kernel rows are contiguous and short enough to be copied as one vector.
    fn has_short_rows(&self) -> bool {
        self.taps_touch() && self.row_len() * size_of::<T>() <= VECTOR
    }

    fn cut(&self) -> Cut {
        let w = &self.window;
        let dense = self.taps_touch();
        let aligned = |len: usize| len.is_multiple_of(self.align);
        if dense && aligned(w.kernel[1] * self.channels) {
            Cut::KernelRows
        } else if self.channels >= SHORT && aligned(self.channels) {
            Cut::Taps
        } else {
            Cut::Copies
        }
    }

    /// Where tap (0, 0) of a window lies, or would lie outside the image.
    fn origin(&self, p: Position) -> *const T {
        let w = &self.window;
        let y = (p.image * w.height + p.y * w.stride[0]) as isize - w.pads[0] as isize;
        let x = (p.x * w.stride[1]) as isize - w.pads[1] as isize;
        self.start.wrapping_offset((y * w.width as isize + x) * w.channels as isize)
    }

    /// Elements from tap (0, 0) to another tap.
    fn tap_offset(&self, ky: usize, kx: usize) -> usize {
        let w = &self.window;
        (ky * w.dilation[0] * w.width + kx * w.dilation[1]) * w.channels
    }

    fn position(&self, row: usize) -> Position {
        let w = &self.window;
        let line = row / w.out_width;
        Position { image: line / w.out_height, y: line % w.out_height, x: row % w.out_width }
    }

    /// Whether `count` windows from `p` on are of one output row and hang over no edge.
    fn is_inside(&self, p: Position, count: usize) -> bool {
        let in_row = self.interior.0 <= p.x && p.x + count <= self.interior.1;
        in_row && self.window.valid_taps(0, p.y) == (0..self.window.kernel[0])
    }

    fn next(&self, p: Position) -> Position {
        let w = &self.window;
        match (p.x + 1 < w.out_width, p.y + 1 < w.out_height) {
            (true, _) => Position { x: p.x + 1, ..p },
            (false, true) => Position { x: 0, y: p.y + 1, ..p },
            (false, false) => Position { x: 0, y: 0, image: p.image + 1 },
        }
    }

    /// Copies a whole window, padding included, to `to`, which has room for [`VECTOR`] bytes more.
    fn copy_window(&self, p: Position, to: *mut T) {
        let w = &self.window;
        let (ys, xs) = (w.valid_taps(0, p.y), w.valid_taps(1, p.x));
        let origin = self.origin(p);
        let elements = w.taps() * self.channels;
        let whole = ys.len() * xs.len() == w.taps();
        if whole && self.has_short_rows() {
            self.copy_short_rows(origin, to);
            // SAFETY: `to` has room for the row.
            unsafe { self.pad(to.add(elements), self.depth - elements) };
            return;
        }
        if !whole || self.depth > elements {
            // SAFETY: `to` has room for the row.
            unsafe { self.pad(to, self.depth) };
        }
        let stretch = if self.taps_touch() { xs.len().max(1) } else { 1 };
        for ky in ys {
            for kx in xs.clone().step_by(stretch) {
                let from = origin.wrapping_add(self.tap_offset(ky, kx));
                let offset = (ky * w.kernel[1] + kx) * self.channels;
                // SAFETY: valid taps are pixels of the image; the window fits `to`.
                unsafe { ptr::copy_nonoverlapping(from, to.add(offset), stretch * self.channels) };
            }
        }
    }

    /// Copies the kernel rows of a window inside the image, each of at most [`VECTOR`] bytes, as
    /// vectors: a call of `memcpy` takes longer. What a vector has too much lands where the next
    /// row, the padding or the next window will be.
    fn copy_short_rows(&self, origin: *const T, to: *mut T) {
        let len = self.window.kernel[1] * self.channels;
        for ky in 0..self.window.kernel[0] {
            let from = origin.wrapping_add(self.tap_offset(ky, 0)).cast::<[u8; VECTOR]>();
            let to = to.wrapping_add(ky * len);
            // SAFETY: the taps are pixels of the image, and a vector is read only where the images
            // go on for so long; `to` has room for the window and a vector.
            unsafe {
                match from.wrapping_add(1).cast() <= self.end {
                    true => to.cast::<[u8; VECTOR]>().write_unaligned(from.read_unaligned()),
                    false => ptr::copy_nonoverlapping(from.cast(), to, len),
                }
            }
        }
    }

    /// # Safety
    /// `elements` elements are writable at `to`.
    unsafe fn pad(&self, to: *mut T, elements: usize) {
        if elements == 0 {
            return;
        }
        // SAFETY: by the caller's promise.
        unsafe { ptr::write_bytes(to.cast::<u8>(), self.pad, elements * size_of::<T>()) }
    }

    /// Copies `count` neighbouring windows inside the image, kernel rows of at most `V` bytes, from
    /// element `start` on to `segment`.
    fn copy_short_windows<const V: usize>(
        &self,
        first: Position,
        count: usize,
        (segment, start): (usize, usize),
        table: &mut RowTable,
    ) {
        let w = &self.window;
        let (len, step) = (self.row_len(), w.stride[1] * w.channels);
        let to = table.take_copy(count * self.depth * size_of::<T>()).cast::<T>();
        let origin = self.origin(first);
        let last = origin.wrapping_add((count - 1) * step + self.tap_offset(w.kernel[0] - 1, 0));
        let inside = last.cast::<[u8; V]>().wrapping_add(1).cast() <= self.end;
        for row in 0..count {
            let (from, to) = (origin.wrapping_add(row * step), to.wrapping_add(row * self.depth));
            table.set(segment, row, to.wrapping_add(start).cast());
            if !inside {
                self.copy_short_rows(from, to);
            }
            for ky in 0..if inside { w.kernel[0] } else { 0 } {
                let from = from.wrapping_add(self.tap_offset(ky, 0)).cast::<[u8; V]>();
                let to = to.wrapping_add(ky * len).cast::<[u8; V]>();
                // SAFETY: a vector from the last tap on is inside the images; the copies have room
                // for the windows and a vector.
                unsafe { to.write_unaligned(from.read_unaligned()) }
            }
            let elements = w.taps() * self.channels;
            // SAFETY: the copy has `depth` elements.
            unsafe { self.pad(to.wrapping_add(elements), self.depth - elements) };
        }
    }

    /// One segment, every row a copy.
    fn fill_copies(&self, first: usize, count: usize, depth: Range<usize>, table: &mut RowTable) {
        let bytes = self.depth * size_of::<T>();
        table.reserve_copies(count * bytes + VECTOR);
        let segment = table.add_segment(depth.len(), ptr::null());
        table.set_row_stride(bytes);
        let mut position = self.position(first);
        if self.has_short_rows() && self.is_inside(position, count) {
            let (row_bytes, to) = (self.row_len() * size_of::<T>(), (segment, depth.start));
            match row_bytes <= VECTOR / 2 {
                true => self.copy_short_windows::<{ VECTOR / 2 }>(position, count, to, table),
                false => self.copy_short_windows::<VECTOR>(position, count, to, table),
            }
            return;
        }
        for row in 0..count {
            let copy = table.take_copy(bytes).cast::<T>();
            self.copy_window(position, copy);
            position = self.next(position);
            table.set(segment, row, copy.wrapping_add(depth.start).cast());
        }
    }

    /// A segment for each stretch of `taps` taps along a kernel row.
    fn fill_segments(
        &self,
        first: usize,
        count: usize,
        depth: Range<usize>,
        taps: usize,
        table: &mut RowTable,
    ) {
        let w = &self.window;
        let len = taps * self.channels;
        let padding = table.padding(len * size_of::<T>(), self.pad);
        let cut = |index: usize| {
            let (start, end) = (index * len, (index + 1) * len);
            start.max(depth.start)..end.min(depth.end)
        };
        let segments = depth.start / len..depth.end.div_ceil(len);
        for index in segments.clone() {
            table.add_segment(cut(index).len(), padding);
        }
        let mut position = self.position(first);
        let first_tap = (segments.start * taps / w.kernel[1], segments.start * taps % w.kernel[1]);
        let next_tap = |(ky, kx): (usize, usize)| {
            if kx + taps == w.kernel[1] { (ky + 1, 0) } else { (ky, kx + taps) }
        };
        if self.is_inside(position, count) {
            let (origin, step) = (self.origin(position), w.stride[1] * w.channels);
            table.set_row_stride(step * size_of::<T>());
            let mut tap = first_tap;
            for (slot, index) in segments.enumerate() {
                let skipped = cut(index).start - index * len;
                let start = origin.wrapping_add(self.tap_offset(tap.0, tap.1) + skipped);
                (0..count).for_each(|row| {
                    table.set(slot, row, start.wrapping_add(row * step).cast());
                });
                tap = next_tap(tap);
            }
            return;
        }
        table.reserve_copies(count * self.depth * size_of::<T>() + VECTOR);
        for row in 0..count {
            let p = position;
            position = self.next(p);
            let inside = (self.interior.0..self.interior.1).contains(&p.x);
            if taps > 1 && !inside {
                let copy = table.take_copy(self.depth * size_of::<T>()).cast::<T>();
                self.copy_window(p, copy);
                for (slot, index) in segments.clone().enumerate() {
                    table.set(slot, row, copy.wrapping_add(cut(index).start).cast());
                }
                continue;
            }
            let ys = w.valid_taps(0, p.y);
            let xs = if inside { 0..w.kernel[1] } else { w.valid_taps(1, p.x) };
            let origin = self.origin(p);
            let mut tap = first_tap;
            for (slot, index) in segments.clone().enumerate() {
                if ys.contains(&tap.0) && xs.contains(&tap.1) {
                    let skipped = cut(index).start - index * len;
                    let start = origin.wrapping_add(self.tap_offset(tap.0, tap.1) + skipped);
                    table.set(slot, row, start.cast());
                }
                tap = next_tap(tap);
            }
        }
    }
}

// SAFETY: pointers go to taps inside the image, to copies, or to padding; all as long as a segment.
unsafe impl<T: Copy + Sync> RowSource for WindowRows<T> {
    fn rows(&self) -> usize {
        self.window.positions()
    }

    fn depth(&self) -> usize {
        self.depth
    }

    fn fill(&self, first: usize, count: usize, depth: Range<usize>, table: &mut RowTable) {
        if depth.is_empty() {
            return;
        }
        match self.cut() {
            Cut::KernelRows => {
                self.fill_segments(first, count, depth, self.window.kernel[1], table);
            }
            Cut::Taps => self.fill_segments(first, count, depth, 1, table),
            Cut::Copies => self.fill_copies(first, count, depth, table),
        }
    }
}
