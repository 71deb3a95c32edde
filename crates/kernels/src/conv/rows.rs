//! A convolution's windows as rows of a matrix, `[positions, kernel height · kernel width · channels]`.

use std::ops::Range;
use std::ptr;

use super::Window2d;
use crate::rows::{RowSource, RowTable};

/// Channels below which a tap is too short to be a segment of its own.
const SHORT: usize = 8;

/// Windows over some channels of an image, read in place.
///
/// Where taps are neighbours in memory, a whole kernel row is one segment; rows of the tile that hang
/// over the left or right edge are copied. Otherwise each tap is a segment, or, if that is too short,
/// every row is copied.
#[derive(Debug, Clone, Copy)]
pub(crate) struct WindowRows<T> {
    start: *const T,
    window: Window2d,
    /// Channels read, of `window.channels`.
    channels: usize,
    /// Every byte of the value outside the image.
    pad: u8,
    /// Elements that each row is made a multiple of, by copying and appending zeros.
    align: usize,
    /// Elements of a row, the appended ones included.
    depth: usize,
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
        let start = data.as_ptr().wrapping_add(channels.start);
        let channels = channels.len();
        let depth = (window.taps() * channels).next_multiple_of(align);
        WindowRows { start, window, channels, pad, align, depth }
    }

    fn cut(&self) -> Cut {
        let w = &self.window;
        let dense = self.channels == w.channels && (w.dilation[1] == 1 || w.kernel[1] == 1);
        let aligned = |len: usize| len.is_multiple_of(self.align);
        if dense && aligned(w.kernel[1] * self.channels) {
            Cut::KernelRows
        } else if self.channels >= SHORT && aligned(self.channels) {
            Cut::Taps
        } else {
            Cut::Copies
        }
    }

    /// The first channel of an input pixel.
    fn pixel(&self, image: usize, y: usize, x: usize) -> *const T {
        let w = &self.window;
        self.start.wrapping_add(((image * w.height + y) * w.width + x) * w.channels)
    }

    /// Image, output row and output column of a matrix row.
    fn position(&self, row: usize) -> [usize; 3] {
        let w = &self.window;
        let line = row / w.out_width;
        [line / w.out_height, line % w.out_height, row % w.out_width]
    }

    /// Copies a whole window, padding included, to `to`.
    fn copy_window(&self, [image, oy, ox]: [usize; 3], to: *mut T) {
        let w = &self.window;
        let (ys, xs) = (w.valid_taps(0, oy), w.valid_taps(1, ox));
        let whole = ys.len() * xs.len() == w.taps();
        if !whole || self.depth > w.taps() * self.channels {
            // SAFETY: `to` has room for the row.
            unsafe { ptr::write_bytes(to.cast::<u8>(), self.pad, self.depth * size_of::<T>()) };
        }
        for ky in ys {
            let y = w.input_index(0, oy, ky);
            for kx in xs.clone() {
                let from = self.pixel(image, y, w.input_index(1, ox, kx));
                let offset = (ky * w.kernel[1] + kx) * self.channels;
                // SAFETY: valid taps are pixels of the image; the window fits `to`.
                unsafe { ptr::copy_nonoverlapping(from, to.add(offset), self.channels) };
            }
        }
    }

    /// One segment, every row a copy.
    fn fill_copies(&self, first: usize, count: usize, depth: Range<usize>, table: &mut RowTable) {
        let bytes = self.depth * size_of::<T>();
        table.reserve_copies(count * bytes);
        let segment = table.add_segment(depth.len(), ptr::null());
        for row in 0..count {
            let copy = table.take_copy(bytes).cast::<T>();
            self.copy_window(self.position(first + row), copy);
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
        table.reserve_copies(count * self.depth * size_of::<T>());
        for row in 0..count {
            let [image, oy, ox] = self.position(first + row);
            let (ys, xs) = (w.valid_taps(0, oy), w.valid_taps(1, ox));
            if taps > 1 && xs.len() < taps {
                let copy = table.take_copy(self.depth * size_of::<T>()).cast::<T>();
                self.copy_window([image, oy, ox], copy);
                for (slot, index) in segments.clone().enumerate() {
                    table.set(slot, row, copy.wrapping_add(cut(index).start).cast());
                }
                continue;
            }
            for (slot, index) in segments.clone().enumerate() {
                let (ky, kx) = (index * taps / w.kernel[1], index * taps % w.kernel[1]);
                if ys.contains(&ky) && xs.contains(&kx) {
                    let (y, x) = (w.input_index(0, oy, ky), w.input_index(1, ox, kx));
                    let skipped = cut(index).start - index * len;
                    let start = self.pixel(image, y, x).wrapping_add(skipped);
                    table.set(slot, row, start.cast());
                }
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
