//! 8-bit depthwise convolution, vectorised over channels.

use std::ops::Range;

use super::Bytes;
use super::epilogue::Finish;
use super::lanes::{Dot, DotOp, dispatch};
use super::pack::column_sums_len;
use crate::conv::{Conv2d, Window2d};
use crate::gemm::PANEL;
use crate::math::ActivateTile;
use crate::{Exec, parallel};

/// Taps of the largest kernel whose weights are widened once a line: 7×7.
const TAPS_MAX: usize = 49;

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
    // Zero points come off the factors, so that padding contributes nothing.
    let done = Finish { left_zero: 0, right_zeros: None, right_offset: 0, ..*finish };
    let cost = w.out_width * w.channels * w.taps() / 2;
    parallel::over_range(exec, w.batch * w.out_height, cost, &|lines| {
        let part = Lines {
            window: &w,
            input: input.data,
            flip: if input.signed { 0x80 } else { 0 },
            left_zero: finish.left_zero,
            weights,
            right_offset: finish.right_offset,
            right_zeros: finish.right_zeros,
            finish: &done,
            lines: lines.clone(),
        };
        if !dispatch(exec.cpu, &part) {
            part.run();
        }
        if let super::epilogue::Output::F32 { data, .. } = done.output {
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
    flip: u8,
    left_zero: i32,
    weights: &'a [i8],
    right_offset: i32,
    right_zeros: Option<&'a [i32]>,
    finish: &'a Finish<'a>,
    lines: Range<usize>,
}

impl DotOp for &Lines<'_> {
    #[inline(always)]
    fn eval<D: Dot>(self, _: D) {
        self.run();
    }
}

impl Lines<'_> {
    #[inline(always)]
    fn run(&self) {
        let w = self.window;
        let columns = w.interior(1);
        for line in self.lines.clone() {
            let ys = w.valid_taps(0, line % w.out_height);
            for first in (0..w.channels).step_by(PANEL) {
                let mut zeros = [-self.right_offset; PANEL];
                if let Some(right) = self.right_zeros {
                    zeros.iter_mut().zip(&right[first..]).for_each(|(z, r)| *z += r);
                }
                let whole = w.channels - first >= PANEL;
                let fast = whole && ys.len() == w.kernel[0] && w.taps() <= TAPS_MAX;
                let inner = if fast { columns.clone() } else { 0..0 };
                if fast && !columns.is_empty() {
                    self.interior(line, columns.clone(), first, &zeros);
                }
                for x in (0..inner.start).chain(inner.end..w.out_width) {
                    let sums = match whole {
                        true => self.point::<true>(line, x, first, &zeros),
                        false => self.point::<false>(line, x, first, &zeros),
                    };
                    // SAFETY: the position and channels are inside the output, in this part's
                    // lines.
                    unsafe { self.finish.columns(line * w.out_width + x, first, 0, &sums) };
                }
            }
        }
    }

    /// The columns of a line whose taps are all valid, for 16 channels from `first`: the left zero
    /// point comes off once instead of at each tap.
    #[inline(always)]
    fn interior(&self, line: usize, columns: Range<usize>, first: usize, zeros: &[i32; PANEL]) {
        let w = self.window;
        let (image, y) = (line / w.out_height, line % w.out_height);
        let mut weights = [[0i32; PANEL]; TAPS_MAX];
        let mut offset = [0i32; PANEL];
        for (tap, weights) in weights.iter_mut().enumerate().take(w.taps()) {
            let stored = &self.weights[tap * w.channels + first..][..PANEL];
            for j in 0..PANEL {
                weights[j] = i32::from(stored[j]) - zeros[j];
                offset[j] -= self.left_zero * weights[j];
            }
        }
        for x in columns {
            let mut sums = offset;
            for ky in 0..w.kernel[0] {
                let row = image * w.height + w.input_index(0, y, ky);
                let start = (row * w.width + w.input_index(1, x, 0)) * w.channels + first;
                for kx in 0..w.kernel[1] {
                    let at = start + kx * w.dilation[1] * w.channels;
                    let input = &self.input[at..at + PANEL];
                    let weights = &weights[ky * w.kernel[1] + kx];
                    for j in 0..PANEL {
                        sums[j] += i32::from(input[j] ^ self.flip) * weights[j];
                    }
                }
            }
            // SAFETY: the position and channels are inside the output, in this part's lines.
            unsafe { self.finish.columns(line * w.out_width + x, first, 0, &sums) };
        }
    }

    /// Sums of up to 16 channels from `first`, exactly 16 if `WHOLE`.
    #[inline(always)]
    fn point<const WHOLE: bool>(
        &self,
        line: usize,
        x: usize,
        first: usize,
        zeros: &[i32; PANEL],
    ) -> [i32; PANEL] {
        let w = self.window;
        let (image, y) = (line / w.out_height, line % w.out_height);
        let count = if WHOLE { PANEL } else { w.channels - first };
        let mut sums = [0i32; PANEL];
        let xs = w.valid_taps(1, x);
        for ky in w.valid_taps(0, y) {
            let row = image * w.height + w.input_index(0, y, ky);
            for kx in xs.clone() {
                let pixel = row * w.width + w.input_index(1, x, kx);
                let input = &self.input[pixel * w.channels + first..][..count];
                let tap = ky * w.kernel[1] + kx;
                let weights = &self.weights[tap * w.channels + first..][..count];
                for j in 0..count {
                    let left = i32::from(input[j] ^ self.flip) - self.left_zero;
                    sums[j] += left * (i32::from(weights[j]) - zeros[j]);
                }
            }
        }
        sums
    }
}
