//! 8-bit depthwise convolution, vectorised over channels: the kernel for every epilogue.
//!
//! Where results are bytes, all scales are below 1 and right zero points are what was taken off the
//! weights to store them signed, `taps` runs instead, if there are vectors. That leaves this one
//! i32 and f32 results, asymmetric weights, larger scales, and bounds that are no [`Limits`].
//!
//! Groups of lines go through 16 channels at a time, whose weights are widened once for the group.
//! Zero points come off the weights when they are widened, and off the inputs by one term for each
//! channel, so that the inner loop is a widening load, a product and a sum.
//!
//! [`Limits`]: super::narrow::Limits

use std::ops::Range;

use super::Bytes;
use super::blocks::{Block, Blocks, Scalar};
use super::epilogue::{Columns, Finish, Output, RowSums};
use super::lanes::{Dot, DotOp, dispatch};
use super::pack::column_sums_len;
use super::taps::TapLines;
use crate::conv::{Conv2d, Window2d};
use crate::gemm::PANEL;
use crate::math::ActivateTile;
use crate::{Exec, parallel, scratch};

/// Outputs of a line whose sums are kept in registers together.
const ACROSS: usize = 4;
/// Lines that share widened weights: enough to hide the widening, few enough to stay in L2.
const LINES: usize = 8;

/// Packs weights `[channels, 1, kernel height, kernel width]` as signed `[taps, channels]`.
pub(super) fn pack(conv: &Conv2d, weights: &[u8], signed: bool, out: &mut [i8], sums: &mut [i32]) {
    let (taps, channels) = (conv.window.taps(), conv.out_channels);
    debug_assert_eq!(sums.len(), column_sums_len(channels));
    let flip = if signed { 0 } else { 0x80 };
    sums.fill(0);
    for (i, x) in out.iter_mut().enumerate() {
        let (tap, channel) = (i / channels, i % channels);
        *x = (weights[channel * taps + tap] ^ flip) as i8;
        sums[channel] += i32::from(*x);
    }
}

pub(super) fn run(
    exec: Exec<'_>,
    conv: &Conv2d,
    input: &Bytes<'_>,
    weights: &[i8],
    finish: &Finish<'_>,
) {
    let w = conv.window;
    assert_eq!(input.data.len(), w.input_len(), "input of the wrong length");
    // Zero points come off here, so that padding contributes nothing.
    let done = Finish { left_zero: 0, right_zeros: None, right_offset: 0, ..*finish };
    let cost = w.out_width * w.channels * w.taps() / 2;
    parallel::over_range(exec, w.batch * w.out_height, cost, &|lines| {
        let taps = TapLines::new(w, input, weights, finish, lines.clone());
        if let Some(taps) = taps
            && taps.run(exec.cpu)
        {
            return;
        }
        let part = Lines {
            window: &w,
            input: input.data,
            signed: input.signed,
            left_zero: input.zero_point,
            weights,
            right_offset: finish.right_offset,
            right_zeros: finish.right_zeros,
            finish: &done,
            lines: lines.clone(),
        };
        scratch::with(w.taps() * PANEL, |room: &mut [i32]| {
            let (widened, _) = room.as_chunks_mut::<PANEL>();
            if !dispatch(exec.cpu, Work { lines: &part, widened }) {
                part.run_plain();
            }
        });
        if let Output::F32 { data, .. } = done.output {
            let first = lines.start * w.out_width;
            ActivateTile {
                activation: done.activation,
                start: data.wrapping_add(first * done.stride),
                rows: lines.len() * w.out_width,
                cols: w.channels,
                stride: done.stride,
            }
            .apply(exec.cpu);
        }
    });
}

struct Lines<'a> {
    window: &'a Window2d,
    input: &'a [u8],
    signed: bool,
    left_zero: i32,
    weights: &'a [i8],
    right_offset: i32,
    right_zeros: Option<&'a [i32]>,
    finish: &'a Finish<'a>,
    lines: Range<usize>,
}

/// Lines, and room for the widened weights of 16 channels.
struct Work<'a, 'w> {
    lines: &'a Lines<'a>,
    widened: &'w mut [Block],
}

impl DotOp for Work<'_, '_> {
    #[inline(always)]
    fn eval<D: Dot>(self, d: D) {
        match self.lines.signed {
            true => self.lines.run::<_, true>(d.blocks(), self.widened),
            false => self.lines.run::<_, false>(d.blocks(), self.widened),
        }
    }
}

/// Up to 16 channels.
struct Channels<'a> {
    first: usize,
    /// `[taps]`: weights less their zero points; zeros beyond the last channel.
    weights: &'a [Block],
    /// `-left_zero` times the sum of all weights.
    offset: Block,
    columns: Columns,
}

impl Lines<'_> {
    #[inline(always)]
    fn run<B: Blocks, const SIGNED: bool>(&self, b: B, widened: &mut [Block]) {
        let channels = self.window.channels;
        for start in self.lines.clone().step_by(LINES) {
            let lines = start..self.lines.end.min(start + LINES);
            for first in (0..channels).step_by(PANEL) {
                let group = self.widen(first, widened);
                for line in lines.clone() {
                    if channels - first >= PANEL {
                        self.line::<B, SIGNED, true>(b, line, &group);
                    } else {
                        self.line::<B, SIGNED, false>(b, line, &group);
                    }
                }
            }
        }
    }

    #[inline(always)]
    fn widen<'w>(&self, first: usize, weights: &'w mut [Block]) -> Channels<'w> {
        let channels = self.window.channels;
        let count = PANEL.min(channels - first);
        let mut zeros = [-self.right_offset; PANEL];
        if let Some(right) = self.right_zeros {
            zeros.iter_mut().zip(&right[first..]).for_each(|(z, r)| *z += r);
        }
        let mut offset = [0; PANEL];
        for (tap, weights) in weights.iter_mut().enumerate() {
            let stored = &self.weights[tap * channels + first..][..count];
            *weights = [0; PANEL];
            for (j, &stored) in stored.iter().enumerate() {
                weights[j] = i32::from(stored) - zeros[j];
                offset[j] -= self.left_zero * weights[j];
            }
        }
        Channels { first, weights, offset, columns: self.finish.columns(first) }
    }

    /// One line of the output; `WHOLE` if there are exactly 16 channels.
    #[inline(always)]
    fn line<B: Blocks, const SIGNED: bool, const WHOLE: bool>(
        &self,
        b: B,
        line: usize,
        group: &Channels<'_>,
    ) {
        let w = self.window;
        let ys = w.valid_taps(0, line % w.out_height);
        let inner = if ys.len() == w.kernel[0] { w.interior(1) } else { 0..0 };
        let mut x = 0;
        while x < w.out_width {
            if inner.contains(&x) && x + ACROSS <= inner.end {
                let taps = Taps { ys: ys.clone(), xs: 0..w.kernel[1] };
                self.outputs::<B, SIGNED, WHOLE, ACROSS>(b, line, x, &taps, group);
                x += ACROSS;
            } else {
                let taps = Taps { ys: ys.clone(), xs: w.valid_taps(1, x) };
                self.outputs::<B, SIGNED, WHOLE, 1>(b, line, x, &taps, group);
                x += 1;
            }
        }
    }

    /// `N` outputs from column `x` on, all with the same valid taps.
    #[inline(always)]
    fn outputs<B: Blocks, const SIGNED: bool, const WHOLE: bool, const N: usize>(
        &self,
        b: B,
        line: usize,
        x: usize,
        taps: &Taps,
        group: &Channels<'_>,
    ) {
        let w = self.window;
        let (image, y) = (line / w.out_height, line % w.out_height);
        let mut base = group.offset;
        if taps.ys.len() * taps.xs.len() < w.taps() {
            base = [0; PANEL];
            for (ky, kx) in taps.all() {
                let weights = &group.weights[ky * w.kernel[1] + kx];
                (0..PANEL).for_each(|j| base[j] -= self.left_zero * weights[j]);
            }
        }
        let mut sums = [b.load(&base); N];
        for ky in taps.ys.clone() {
            let row = (image * w.height + w.input_index(0, y, ky)) * w.width;
            for kx in taps.xs.clone() {
                let weights = b.load(&group.weights[ky * w.kernel[1] + kx]);
                let at = (row + w.input_index(1, x, kx)) * w.channels + group.first;
                for (i, sums) in sums.iter_mut().enumerate() {
                    let at = at + i * w.stride[1] * w.channels;
                    let input = b.widen::<SIGNED>(&self.input::<WHOLE>(at));
                    *sums = b.add(*sums, b.mul(input, weights));
                }
            }
        }
        let mut room = [[0; PANEL]; N];
        for (room, sums) in room.iter_mut().zip(sums) {
            b.store(sums, room);
        }
        let sums = RowSums { sums: room.as_flattened(), stride: PANEL, rows: N, left: &[] };
        // SAFETY: the positions and channels are inside the output, in this part's lines.
        unsafe { self.finish.rows(b, line * w.out_width + x, &group.columns, &sums) };
    }

    /// Inputs from element `at` on: 16 if `WHOLE`, else those of a pixel's last channels.
    #[inline(always)]
    fn input<const WHOLE: bool>(&self, at: usize) -> [u8; PANEL] {
        let mut bytes = [0u8; PANEL];
        if WHOLE {
            debug_assert!(at + PANEL <= self.input.len(), "outside the image");
            // SAFETY: the taps asked for are valid and the pixel has 16 channels from here on.
            return unsafe { self.input.as_ptr().add(at).cast::<[u8; PANEL]>().read_unaligned() };
        }
        let count = self.window.channels % PANEL;
        bytes[..count].copy_from_slice(&self.input[at..at + count]);
        bytes
    }

    /// The slow twin: one output and one tap after the other.
    fn run_plain(&self) {
        let w = self.window;
        for (line, x) in self.lines.clone().flat_map(|l| (0..w.out_width).map(move |x| (l, x))) {
            let (image, y) = (line / w.out_height, line % w.out_height);
            let taps = Taps { ys: w.valid_taps(0, y), xs: w.valid_taps(1, x) };
            for first in (0..w.channels).step_by(PANEL) {
                let mut sums = [0; PANEL];
                for (j, channel) in (first..w.channels.min(first + PANEL)).enumerate() {
                    for (ky, kx) in taps.all() {
                        let row = image * w.height + w.input_index(0, y, ky);
                        let pixel = row * w.width + w.input_index(1, x, kx);
                        let byte = self.input[pixel * w.channels + channel];
                        let left: i32 = if self.signed { (byte as i8).into() } else { byte.into() };
                        let stored = self.weights[(ky * w.kernel[1] + kx) * w.channels + channel];
                        let zero = self.right_zeros.map_or(0, |zeros| zeros[channel]);
                        let right = i32::from(stored) + self.right_offset - zero;
                        sums[j] += (left - self.left_zero) * right;
                    }
                }
                let columns = self.finish.columns(first);
                let sums = RowSums { sums: &sums, stride: PANEL, rows: 1, left: &[] };
                // SAFETY: the position and channels are inside the output, in this part's lines.
                unsafe { self.finish.rows(Scalar, line * w.out_width + x, &columns, &sums) };
            }
        }
    }
}

/// Taps of a window that meet the input.
struct Taps {
    ys: Range<usize>,
    xs: Range<usize>,
}

impl Taps {
    #[inline(always)]
    fn all(&self) -> impl Iterator<Item = (usize, usize)> {
        self.ys.clone().flat_map(|ky| self.xs.clone().map(move |kx| (ky, kx)))
    }
}
