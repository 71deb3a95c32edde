//! Pooling over channels-last images.
//!
//! f32 accumulates in registers, several vectors of channels at a time; the loops over channels of
//! bytes are plain, and become vector code inside a function compiled for the instruction set. All
//! instruction sets, the scalar one too, give the same bits.

pub(super) mod vectors;

use std::ops::Range;

use super::Window2d;
use crate::simd::{Simd, SimdOp, dispatch};
use crate::{Exec, parallel};

/// Element types that have a largest value.
pub trait Maximum: Copy + Send + Sync + PartialOrd {
    /// What a window without elements gives.
    const LOWEST: Self;

    /// Does what [`max_pool`] does if there are kernels in registers; otherwise says `false`.
    #[doc(hidden)]
    fn max_in_registers(_: Exec<'_>, _: &Window2d, _: &[Self], _: &mut [Self]) -> bool {
        false
    }
}

impl Maximum for f32 {
    const LOWEST: f32 = f32::NEG_INFINITY;

    fn max_in_registers(exec: Exec<'_>, w: &Window2d, input: &[f32], out: &mut [f32]) -> bool {
        vectors::run::<vectors::Largest>(exec, w, input, out, &|_, _| 1.0)
    }
}

impl Maximum for u8 {
    const LOWEST: u8 = u8::MIN;
}

impl Maximum for i8 {
    const LOWEST: i8 = i8::MIN;
}

/// Runs `line(first position, output line)` for lines of output `[image, row]` in vector code.
fn over_lines<T: Send>(
    exec: Exec<'_>,
    w: &Window2d,
    out: &mut [T],
    line: impl Fn(usize, &mut [T]) + Sync,
) {
    assert_eq!(out.len(), w.positions() * w.channels, "output of the wrong length");
    let line_len = w.out_width * w.channels;
    let cost = w.taps().div_ceil(4);
    parallel::over_chunks(exec, out, line_len, cost, &|first, chunk| {
        let lines = Lines { first, chunk, line_len, line: &line };
        if let Some(lines) = enter(exec, lines) {
            lines.each();
        }
    });
}

/// Gives the work back if there is no vector code to run it in.
fn enter<'a, T, F: Fn(usize, &mut [T])>(
    exec: Exec<'_>,
    lines: Lines<'a, T, F>,
) -> Option<Lines<'a, T, F>> {
    if exec.cpu.isa() == crate::Isa::Reference {
        return Some(lines);
    }
    dispatch(exec.cpu, lines);
    None
}

struct Lines<'a, T, F> {
    first: usize,
    chunk: &'a mut [T],
    line_len: usize,
    line: &'a F,
}

impl<T, F: Fn(usize, &mut [T])> Lines<'_, T, F> {
    #[inline(always)]
    fn each(self) {
        for (i, out) in self.chunk.chunks_exact_mut(self.line_len).enumerate() {
            (self.line)(self.first + i, out);
        }
    }
}

impl<T, F: Fn(usize, &mut [T])> SimdOp for Lines<'_, T, F> {
    type Output = ();

    #[inline(always)]
    fn eval<S: Simd>(self, _: S) {
        self.each();
    }
}

/// Channels of an input pixel.
#[inline(always)]
fn pixel<'a, T>(w: &Window2d, input: &'a [T], [image, y, x]: [usize; 3]) -> &'a [T] {
    let start = ((image * w.height + y) * w.width + x) * w.channels;
    &input[start..start + w.channels]
}

/// Largest element of each window: `input[batch, height, width, channels]` to
/// `out[batch, out_height, out_width, channels]`. Padding never wins; NaN elements are passed over.
///
/// # Panics
/// If a slice has the wrong length.
pub fn max_pool<T: Maximum>(exec: Exec<'_>, w: &Window2d, input: &[T], out: &mut [T]) {
    assert_eq!(input.len(), w.input_len(), "input of the wrong length");
    if T::max_in_registers(exec, w, input, out) {
        return;
    }
    over_lines(
        exec,
        w,
        out,
        #[inline(always)]
        |line, out| {
            let (image, oy) = (line / w.out_height, line % w.out_height);
            for (ox, out) in out.chunks_exact_mut(w.channels).enumerate() {
                out.fill(T::LOWEST);
                for ky in w.valid_taps(0, oy) {
                    let y = w.input_index(0, oy, ky);
                    for kx in w.valid_taps(1, ox) {
                        let x = w.input_index(1, ox, kx);
                        for (best, &value) in out.iter_mut().zip(pixel(w, input, [image, y, x])) {
                            *best = if value > *best { value } else { *best };
                        }
                    }
                }
            }
        },
    );
}

/// Taps of a window that lie in the padded input.
fn padded_taps(w: &Window2d, axis: usize, out: usize) -> usize {
    let size = if axis == 0 { w.height } else { w.width };
    let padded = size + w.pads[axis] + w.pads[axis + 2];
    padded.saturating_sub(out * w.stride[axis]).div_ceil(w.dilation[axis]).min(w.kernel[axis])
}

/// Mean of each window: `input[batch, height, width, channels]` to
/// `out[batch, out_height, out_width, channels]`. With `count_padding`, padding counts as zeros.
///
/// # Panics
/// If a slice has the wrong length.
pub fn average_pool(
    exec: Exec<'_>,
    w: &Window2d,
    count_padding: bool,
    input: &[f32],
    out: &mut [f32],
) {
    assert_eq!(input.len(), w.input_len(), "input of the wrong length");
    let count = |oy: usize, ox: usize| {
        let taps = |axis: usize, out: usize| match count_padding {
            true => padded_taps(w, axis, out),
            false => w.valid_taps(axis, out).len(),
        };
        (taps(0, oy) * taps(1, ox)).max(1) as f32
    };
    if vectors::run::<vectors::Sum>(exec, w, input, out, &count) {
        return;
    }
    over_lines(exec, w, out, |line, out| {
        let (image, oy) = (line / w.out_height, line % w.out_height);
        for (ox, out) in out.chunks_exact_mut(w.channels).enumerate() {
            let (ys, xs) = (w.valid_taps(0, oy), w.valid_taps(1, ox));
            sum_window(w, input, [image, oy, ox], ys, xs, out);
            let count = count(oy, ox);
            out.iter_mut().for_each(|x| *x /= count);
        }
    });
}

/// Sums a window: kernel rows first, then their sums, so that the error of large windows grows with
/// their side rather than their area.
fn sum_window(
    w: &Window2d,
    input: &[f32],
    [image, oy, ox]: [usize; 3],
    ys: Range<usize>,
    xs: Range<usize>,
    out: &mut [f32],
) {
    for (channel, out) in out.iter_mut().enumerate() {
        *out = 0.0;
        for ky in ys.clone() {
            let y = w.input_index(0, oy, ky);
            let mut row = 0.0;
            for kx in xs.clone() {
                row += pixel(w, input, [image, y, w.input_index(1, ox, kx)])[channel];
            }
            *out += row;
        }
    }
}

/// Mean of each channel of each image: `input[batch, height, width, channels]` to
/// `out[batch, channels]`; zero for images without pixels.
///
/// # Panics
/// If a slice has the wrong length.
pub fn global_average_pool(
    exec: Exec<'_>,
    [batch, height, width, channels]: [usize; 4],
    input: &[f32],
    out: &mut [f32],
) {
    if height * width == 0 {
        out.fill(0.0);
        return;
    }
    let w = Window2d::new([batch, height, width, channels], [height, width]);
    average_pool(exec, &w, false, input, out);
}
