//! 8-bit depthwise convolution by dot products of four taps.
//!
//! The bytes of four input rows at one pixel are interleaved, so that one vector holds four taps
//! along the kernel's height for each of its channels. Interleaved columns of a stretch of a line
//! lie in scratch memory and serve all taps along the kernel's width; where lines step by one, also
//! two output lines, whose weights are the same but shifted by a tap. Columns and rows outside the
//! image hold the zero point, so every window is whole, and zero points come off by one term for
//! each channel. Interleaving goes by 128-bit lanes; weights, biases and scales go through the same
//! order, and packing the results undoes it.

use std::ops::Range;

use super::Bytes;
use super::epilogue::{Finish, FinishBytes};
use super::interleave::{Taps, channel};
use super::lanes::{Dot, DotOp, dispatch};
use super::narrow::{Limits, Quad, copy_few};
use crate::conv::Window2d;
use crate::gemm::PANEL;
use crate::{Cpu, scratch};

/// Taps of a dot product.
const GROUP: usize = 4;
/// Bytes of interleaved columns that a stretch of a line may take: half of a first-level cache.
const STRETCH_BYTES: usize = 16384;
/// Lines between which channels change: enough to hide what a change costs, few enough for L2.
const LINES: usize = 8;
/// Most bytes of a vector of taps.
const TAPS_BYTES_MAX: usize = 64;
/// Most channels of a vector.
const CHANNELS_MAX: usize = 64;

/// Evaluates an expression for constants `$i` from 0 up to `$count`, at most 4. Written out, since
/// vectors taken by an index that varies would go through memory.
macro_rules! each {
    ($count:expr, $i:ident => $do:expr) => {
        each!(@ $count, $i, $do, 0 1 2 3)
    };
    (@ $count:expr, $i:ident, $do:expr, $($value:literal)*) => {$(
        if $value < $count {
            const $i: usize = $value;
            $do;
        }
    )*};
}

/// Some lines of an 8-bit depthwise convolution to bytes.
pub(super) struct TapLines<'a> {
    window: Window2d,
    input: &'a [u8],
    /// What turns the input's bytes unsigned.
    flip: u8,
    /// The input's zero point.
    pad: u8,
    weights: &'a [i8],
    finish: &'a Finish<'a>,
    bytes: FinishBytes<'a>,
    lines: Range<usize>,
}

impl<'a> TapLines<'a> {
    /// `None` unless the results are bytes and zero points come off the left operand only.
    pub(super) fn new(
        window: Window2d,
        input: &Bytes<'a>,
        weights: &'a [i8],
        finish: &'a Finish<'a>,
        lines: Range<usize>,
    ) -> Option<TapLines<'a>> {
        let bytes = finish.bytes()?;
        Some(TapLines {
            window,
            input: input.data,
            flip: if input.signed { 0x80 } else { 0 },
            pad: input.zero_point as u8,
            weights,
            finish,
            bytes,
            lines,
        })
    }

    /// Groups of four taps along the kernel's height.
    fn groups(&self) -> usize {
        self.window.kernel[0].div_ceil(GROUP)
    }

    /// Output lines that interleaved columns serve.
    fn together(&self) -> usize {
        let w = &self.window;
        let spare = GROUP * self.groups() - w.kernel[0];
        if w.stride[0] == 1 && w.dilation[0] == 1 && spare > 0 { 2 } else { 1 }
    }

    /// Outputs of a line whose columns are interleaved together.
    fn stretch(&self, column_bytes: usize) -> usize {
        let w = &self.window;
        let columns = STRETCH_BYTES / column_bytes;
        let reach = (w.kernel[1] - 1) * w.dilation[1] + 1;
        let outputs = (columns.saturating_sub(reach) / w.stride[1] + 1).max(8);
        outputs.min(w.out_width)
    }

    /// Columns that so many outputs reach.
    fn columns(&self, outputs: usize) -> usize {
        let w = &self.window;
        (outputs - 1) * w.stride[1] + (w.kernel[1] - 1) * w.dilation[1] + 1
    }
}

impl TapLines<'_> {
    /// Computes the lines; `false` where there are no vectors.
    pub(super) fn run(&self, cpu: Cpu) -> bool {
        self.window.out_width == 0 || self.with_room(|work| dispatch(cpu, work))
    }

    /// Computes the lines with arrays for vectors.
    #[cfg(test)]
    pub(super) fn run_portable(&self) {
        if self.window.out_width > 0 {
            self.with_room(|work| Dot::run(crate::simd::Portable, work));
        }
    }

    fn with_room<R>(&self, run: impl FnOnce(Work<'_>) -> R) -> R {
        let w = &self.window;
        let column_bytes = self.groups() * 4 * TAPS_BYTES_MAX;
        let columns = self.columns(self.stretch(column_bytes)) * column_bytes;
        let weights = column_bytes * w.kernel[1] * self.together();
        scratch::with(columns + weights, |room: &mut [u8]| {
            let (weights, columns) = room.split_at_mut(weights);
            run(Work { lines: self, weights, columns })
        })
    }
}

/// Lines and room for what is interleaved: outside the function that is compiled for the
/// instruction set, since closures are not.
struct Work<'a> {
    lines: &'a TapLines<'a>,
    weights: &'a mut [u8],
    columns: &'a mut [u8],
}

impl DotOp for Work<'_> {
    #[inline(always)]
    fn eval<D: Dot>(self, d: D) {
        let Work { lines: all, weights, columns } = self;
        let channels = all.window.channels;
        let mut start = all.lines.start;
        while start < all.lines.end {
            let lines = start..all.lines.end.min(start + LINES);
            start = lines.end;
            let mut first = 0;
            while first < channels {
                if channels - first >= 4 * D::LANES {
                    all.channels(d, first, &lines, weights, columns);
                    first += 4 * D::LANES;
                } else {
                    all.channels(d.half(), first, &lines, weights, columns);
                    first += 4 * <D::Half as Quad>::LANES;
                }
            }
        }
    }
}

/// Up to `4 * LANES` channels.
struct Channels<'a> {
    first: usize,
    count: usize,
    /// `[groups][kernel width][4][lines together]` right vectors.
    weights: &'a [u8],
    /// What the sums begin with, in the order of interleaved lanes.
    base: [i32; CHANNELS_MAX],
    scales: [f64; CHANNELS_MAX],
    limits: Limits,
}

/// A row of the image, or of padding.
#[derive(Clone, Copy)]
struct Row<'a> {
    /// From the first channel of the first column on.
    start: &'a [u8],
    /// Elements from one column to the next.
    step: usize,
}

impl Row<'_> {
    /// A vector of column `i`; what is beyond the image is unspecified.
    #[inline(always)]
    fn load<D: Taps>(&self, d: D, i: usize) -> D::Bytes {
        let at = i * self.step;
        if at + 4 * D::LANES <= self.start.len() {
            // SAFETY: just compared.
            return unsafe { d.load_bytes(self.start.as_ptr().add(at)) };
        }
        let mut bytes = [0u8; CHANNELS_MAX];
        let rest = &self.start[at..];
        bytes[..rest.len()].copy_from_slice(rest);
        // SAFETY: there are as many bytes as a vector has at most.
        unsafe { d.load_bytes(bytes.as_ptr()) }
    }
}

impl TapLines<'_> {
    #[inline(always)]
    fn channels<D: Taps>(
        &self,
        d: D,
        first: usize,
        lines: &Range<usize>,
        weights: &mut [u8],
        columns: &mut [u8],
    ) {
        let w = &self.window;
        self.interleave_weights(d, first, weights);
        let count = (4 * D::LANES).min(w.channels - first);
        let mut channels = Channels {
            first,
            count,
            weights,
            base: [0; CHANNELS_MAX],
            scales: [0.0; CHANNELS_MAX],
            limits: self.bytes.limits,
        };
        let finish = self.finish.with_left(D::LEFT_SIGNED);
        let mut base = [0; CHANNELS_MAX];
        for (block, base) in base.as_chunks_mut::<PANEL>().0.iter_mut().enumerate() {
            if block * PANEL < count {
                *base = finish.columns(first + block * PANEL).base;
            }
        }
        for i in 0..4 * D::LANES {
            let channel = channel(i / D::LANES, i % D::LANES);
            if channel < count {
                channels.base[i] = base[channel];
                channels.scales[i] = self.bytes.scales[first + channel];
            }
        }
        let stretch = self.stretch(self.groups() * 4 * TAPS_BYTES_MAX);
        let mut line = lines.start;
        while line < lines.end {
            let both = self.together() == 2
                && line + 1 < lines.end
                && !(line + 1).is_multiple_of(w.out_height);
            for x in (0..w.out_width).step_by(stretch) {
                let outputs = x..w.out_width.min(x + stretch);
                self.interleave_columns(d, line, &outputs, first, columns);
                // SAFETY: the columns and weights of these outputs were just interleaved; the
                // outputs are in this part's lines.
                unsafe {
                    match both {
                        true => self.outputs::<D, 2, 2>(d, line, outputs, &channels, columns),
                        false => self.outputs::<D, 1, 4>(d, line, outputs, &channels, columns),
                    }
                }
            }
            line += if both { 2 } else { 1 };
        }
    }

    /// Fills `weights`: see [`Channels::weights`].
    #[inline(always)]
    fn interleave_weights<D: Taps>(&self, d: D, first: usize, weights: &mut [u8]) {
        let w = &self.window;
        let [height, width] = w.kernel;
        let count = (4 * D::LANES).min(w.channels - first);
        let together = self.together();
        let mut rows = [[0u8; CHANNELS_MAX]; GROUP];
        for index in 0..self.groups() * width * together {
            let (line, column) = (index % together, index / together);
            let (group, kx) = (column / width, column % width);
            for (tap, row) in rows.iter_mut().enumerate() {
                *row = [0; CHANNELS_MAX];
                if let Some(ky) = (group * GROUP + tap).checked_sub(line)
                    && ky < height
                {
                    let at = (ky * width + kx) * w.channels + first;
                    let stored = bytemuck::cast_slice(&self.weights[at..at + count]);
                    row[..count].copy_from_slice(stored);
                }
            }
            let step = together * D::TAPS_BYTES;
            let to = &mut weights[column * 4 * step + line * D::TAPS_BYTES..];
            assert!(3 * step + D::TAPS_BYTES <= to.len(), "no room for the weights");
            // SAFETY: rows are as long as a vector at least; asserted above.
            unsafe {
                let rows = [
                    d.load_bytes(rows[0].as_ptr()),
                    d.load_bytes(rows[1].as_ptr()),
                    d.load_bytes(rows[2].as_ptr()),
                    d.load_bytes(rows[3].as_ptr()),
                ];
                let (taps, to) = (d.interleave(rows), to.as_mut_ptr());
                each!(4, V => d.store_right(taps[V], to.add(V * step)));
            }
        }
    }

    /// Fills `columns`, `[columns][groups][4]` left vectors, with all that outputs `outputs` of
    /// output line `line` and the next reach.
    #[inline(always)]
    fn interleave_columns<D: Taps>(
        &self,
        d: D,
        line: usize,
        outputs: &Range<usize>,
        first: usize,
        columns: &mut [u8],
    ) {
        let w = &self.window;
        let (image, y) = (line / w.out_height, line % w.out_height);
        let column_bytes = self.groups() * 4 * D::TAPS_BYTES;
        let count = self.columns(outputs.len());
        assert!(count * column_bytes <= columns.len(), "no room for the columns");
        let left = (outputs.start * w.stride[1]) as isize - w.pads[1] as isize;
        let begin = (-left).clamp(0, count as isize);
        let end = (w.width as isize - left).clamp(begin, count as isize);
        let inside = begin as usize..end as usize;
        // The first column inside; none is if the stretch ends left of the image.
        let from = (left + begin).max(0) as usize * w.channels + first;
        let pad = [self.pad; CHANNELS_MAX];
        for group in 0..self.groups() {
            let mut rows = [Row { start: &pad, step: 0 }; GROUP];
            for (tap, row) in rows.iter_mut().enumerate() {
                let at = y * w.stride[0] + (group * GROUP + tap) * w.dilation[0];
                if let Some(at) = at.checked_sub(w.pads[0])
                    && at < w.height
                {
                    let at = (image * w.height + at) * w.width * w.channels + from;
                    *row = Row { start: &self.input[at.min(self.input.len())..], step: w.channels };
                }
            }
            let to = columns[group * 4 * D::TAPS_BYTES..].as_mut_ptr();
            // SAFETY: asserted above.
            unsafe {
                for column in (0..inside.start).chain(inside.end..count) {
                    let column = to.add(column * column_bytes);
                    self.interleave(d, &[Row { start: &pad, step: 0 }; GROUP], 0, column);
                }
                for (i, column) in inside.clone().enumerate() {
                    self.interleave(d, &rows, i, to.add(column * column_bytes));
                }
            }
        }
    }

    /// Interleaves column `i` of four rows into `to`.
    ///
    /// # Safety
    /// Four left vectors are writable at `to`.
    #[inline(always)]
    unsafe fn interleave<D: Taps>(&self, d: D, rows: &[Row<'_>; GROUP], i: usize, to: *mut u8) {
        let flip = if D::LEFT_SIGNED { self.flip ^ 0x80 } else { self.flip };
        let bytes = [
            d.flip(rows[0].load(d, i), flip),
            d.flip(rows[1].load(d, i), flip),
            d.flip(rows[2].load(d, i), flip),
            d.flip(rows[3].load(d, i), flip),
        ];
        let taps = d.interleave(bytes);
        // SAFETY: by the caller's promise.
        unsafe {
            each!(4, V => d.store_left(taps[V], to.add(V * D::TAPS_BYTES)));
        }
    }

    /// Outputs of `R` lines from `line` on, `P` at a time.
    ///
    /// # Safety
    /// Columns and weights are those of the outputs, which no other thread writes.
    #[inline(always)]
    unsafe fn outputs<D: Taps, const R: usize, const P: usize>(
        &self,
        d: D,
        line: usize,
        outputs: Range<usize>,
        channels: &Channels<'_>,
        columns: &[u8],
    ) {
        let w = &self.window;
        let column_bytes = self.groups() * 4 * D::TAPS_BYTES;
        let position = line * w.out_width + outputs.start;
        let mut tile = Tile {
            columns: columns.as_ptr(),
            pixel: w.stride[1] * column_bytes,
            tap: w.dilation[1] * column_bytes,
            groups: self.groups(),
            width: w.kernel[1],
            weights: channels.weights.as_ptr(),
            together: self.together(),
            to: self.bytes.to.wrapping_add(position * self.bytes.stride + channels.first),
            stride: self.bytes.stride,
            line: w.out_width * self.bytes.stride,
            channels,
        };
        let mut left = outputs.len();
        while left > 0 {
            let now = if left >= P { P } else { 1 };
            // SAFETY: by the caller's promise.
            unsafe {
                if now == P {
                    tile.run::<D, R, P>(d);
                } else {
                    tile.run::<D, R, 1>(d);
                }
            }
            tile.columns = tile.columns.wrapping_add(now * tile.pixel);
            tile.to = tile.to.wrapping_add(now * tile.stride);
            left -= now;
        }
    }
}

/// A few outputs in registers.
struct Tile<'a> {
    /// The first output's first column.
    columns: *const u8,
    /// Bytes from one output's first column to the next's.
    pixel: usize,
    /// Bytes from one tap's column to the next's.
    tap: usize,
    groups: usize,
    /// Taps along the kernel's width.
    width: usize,
    weights: *const u8,
    /// Lines whose weights lie together.
    together: usize,
    to: *mut u8,
    /// Bytes from one output to the next, and to that of the next line.
    stride: usize,
    line: usize,
    channels: &'a Channels<'a>,
}

impl Tile<'_> {
    /// # Safety
    /// Everything that the fields say is readable or writable.
    #[inline(always)]
    unsafe fn run<D: Taps, const R: usize, const P: usize>(&self, d: D) {
        let base = self.channels.base.as_ptr();
        // SAFETY: `base` has four vectors; the rest by the caller's promise.
        unsafe {
            let base = [
                d.load_sum(base),
                d.load_sum(base.add(D::LANES)),
                d.load_sum(base.add(2 * D::LANES)),
                d.load_sum(base.add(3 * D::LANES)),
            ];
            let mut sums = [[base; R]; P];
            let mut weights = self.weights;
            for group in 0..self.groups {
                let mut columns = self.columns.add(group * 4 * D::TAPS_BYTES);
                for _ in 0..self.width {
                    each!(4, V => {
                        let mut right = [d.load_right(weights); R];
                        if R == 2 {
                            right[R - 1] = d.load_right(weights.add(D::TAPS_BYTES));
                        }
                        each!(P, I => {
                            let at = columns.add(I * self.pixel + V * D::TAPS_BYTES);
                            let left = d.load_left(at);
                            each!(R, L => {
                                sums[I][L][V] = d.dot_taps(sums[I][L][V], left, right[L]);
                            });
                        });
                        weights = weights.add(self.together * D::TAPS_BYTES);
                    });
                    columns = columns.add(self.tap);
                }
            }
            let scales = self.channels.scales.as_ptr();
            let scales = [0, 1, 2, 3].map(|v| scales.add(v * D::LANES));
            each!(P, I => each!(R, L => {
                let bytes = d.narrow::<true>(sums[I][L], scales, &self.channels.limits);
                let to = self.to.add(I * self.stride + L * self.line);
                if self.channels.count == 4 * D::LANES {
                    d.store_whole(bytes, to);
                } else {
                    let mut room = [0u8; CHANNELS_MAX];
                    d.store_whole(bytes, room.as_mut_ptr());
                    copy_few(room.as_ptr(), to, self.channels.count);
                }
            }));
        }
    }
}
