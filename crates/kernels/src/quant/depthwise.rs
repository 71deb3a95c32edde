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
        for line in self.lines.clone() {
            for first in (0..w.channels).step_by(PANEL) {
                let mut zeros = [-self.right_offset; PANEL];
                if let Some(right) = self.right_zeros {
                    zeros.iter_mut().zip(&right[first..]).for_each(|(z, r)| *z += r);
                }
                for x in 0..w.out_width {
                    let sums = if w.channels - first >= PANEL {
                        self.point::<true>(line, x, first, &zeros)
                    } else {
                        self.point::<false>(line, x, first, &zeros)
                    };
                    // SAFETY: the position and channels are inside the output, in this part's
                    // lines.
                    unsafe { self.finish.columns(line * w.out_width + x, first, 0, &sums) };
                }
            }
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
