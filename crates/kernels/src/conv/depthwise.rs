//! Depthwise convolution, vectorised over channels, several output columns at a time.

use std::array::from_fn;
use std::ops::Range;

use super::taps::{self, MAX_ROWS, RowArgs};
use super::{Conv2d, Window2d};
use crate::gemm::{Epilogue, Finish, Product, Right, RowsMut};
use crate::math::ActivateTile;
use crate::rows::DenseRows;
use crate::simd::{Simd, SimdOp, dispatch};
use crate::{Exec, parallel};

/// Output columns computed together, sharing each weight.
const COLUMNS: usize = 4;

/// Bytes of output lines whose channels are computed vector by vector, so that input rows are still
/// in L1 for the next line.
const BLOCK_BYTES: usize = 128 << 10;

pub(super) fn run(
    exec: Exec<'_>,
    conv: &Conv2d,
    input: &[f32],
    weights: &[f32],
    epilogue: &Epilogue<'_>,
    out: &mut RowsMut<'_>,
) {
    let w = conv.window;
    let rows = DenseRows { start: input.as_ptr(), rows: w.positions(), depth: 0, stride: 0 };
    let right = Right::Packed(weights.as_ptr());
    let product = epilogue.product(&rows, right, conv.out_channels, out);
    let cost = w.out_width * w.channels * w.taps() / 4;
    parallel::over_range(exec, w.batch * w.out_height, cost, &|lines| {
        let part = Lines { window: &w, input, weights, product: &product, lines: lines.clone() };
        if dispatch(exec.cpu, part).is_none() {
            reference(&w, input, weights, &product, lines);
        }
    });
}

/// What the columns of one output line share.
struct Line {
    index: usize,
    /// Valid taps along the kernel's height.
    ys: Range<usize>,
    /// Input row of the first of them, counted over all images.
    first_row: usize,
    /// Output columns whose taps are all valid.
    interior: Range<usize>,
}

impl Line {
    fn new(w: &Window2d, index: usize) -> Line {
        let (image, y) = (index / w.out_height, index % w.out_height);
        let ys = w.valid_taps(0, y);
        let first = if ys.is_empty() { 0 } else { w.input_index(0, y, ys.start) };
        let interior = if ys.is_empty() { 0..0 } else { w.interior(1) };
        Line { index, ys, first_row: image * w.height + first, interior }
    }
}

/// Some output lines (image, output row).
pub(super) struct Lines<'a> {
    pub(super) window: &'a Window2d,
    pub(super) input: &'a [f32],
    pub(super) weights: &'a [f32],
    pub(super) product: &'a Product<'a>,
    pub(super) lines: Range<usize>,
}

impl SimdOp for Lines<'_> {
    type Output = ();

    #[inline(always)]
    fn eval<S: Simd>(self, s: S) {
        let w = self.window;
        let whole = if self.has_fast_rows() { w.channels / S::LANES * S::LANES } else { 0 };
        let bytes = w.out_width * w.channels * size_of::<f32>();
        let block = (BLOCK_BYTES / bytes.max(1)).max(1);
        for first in self.lines.clone().step_by(block) {
            let lines = first..self.lines.end.min(first + block);
            for c in (0..whole).step_by(S::LANES) {
                for line in lines.clone() {
                    // SAFETY: line and channels are inside the operands, which `run` checked.
                    unsafe { self.fast_row(s, &Line::new(w, line), c) };
                }
            }
            for line in lines {
                self.rest(s, &Line::new(w, line), whole);
                self.activate(s, line);
            }
        }
    }
}

impl Lines<'_> {
    fn has_fast_rows(&self) -> bool {
        let w = self.window;
        // With steps of two, rows are hardly read again: whole pixels in order suit memory better.
        let width = taps::has_width(w.kernel[1], w.stride[1], w.dilation[1]);
        width && w.stride == [1, 1] && w.kernel[0] <= MAX_ROWS
    }

    /// One vector of channels of one line.
    ///
    /// # Safety
    /// The channels exist.
    #[inline(always)]
    unsafe fn fast_row<S: Simd>(&self, s: S, line: &Line, c: usize) {
        let (w, p) = (self.window, self.product);
        let position = line.index * w.out_width;
        let finish = p.finish(position, c);
        let start = self.input.as_ptr();
        let row = |i: usize| (line.first_row + i * w.dilation[0]) * w.width * w.channels + c;
        let args = RowArgs {
            rows: from_fn(|i| start.wrapping_add(row(i))),
            count: line.ys.len(),
            weights: self
                .weights
                .as_ptr()
                .wrapping_add(line.ys.start * w.kernel[1] * w.channels + c),
            tap: w.channels,
            column: w.channels,
            width: w.width,
            pad: w.pads[1],
            out_width: w.out_width,
            out: p.out.wrapping_add(position * p.out_stride + c),
            out_column: p.out_stride,
            bias: finish.bias,
            residual: finish.residual,
            residual_column: finish.residual_stride,
            low: finish.low,
            high: finish.high,
        };
        // SAFETY: valid kernel rows are rows of the image; the channels exist.
        unsafe { taps::row(s, w.kernel[1], w.stride[1], &args) };
    }

    /// The channels of one line from `c` on.
    #[inline(always)]
    fn rest<S: Simd>(&self, s: S, line: &Line, mut c: usize) {
        let w = self.window;
        while c < w.channels {
            let lanes = S::LANES.min(w.channels - c);
            // SAFETY: line, columns and channels are inside the operands, which `run` checked.
            unsafe {
                let two = w.channels - c >= 2 * S::LANES;
                if two {
                    self.block::<S, 2>(s, line, c, S::LANES);
                } else {
                    self.block::<S, 1>(s, line, c, lanes);
                }
                c += if two { 2 * S::LANES } else { lanes };
            }
        }
    }

    /// One line, `V` vectors of channels from `c` (the last of `lanes` lanes).
    ///
    /// # Safety
    /// The channels exist.
    #[inline(always)]
    unsafe fn block<S: Simd, const V: usize>(&self, s: S, line: &Line, c: usize, lanes: usize) {
        let mut x = 0;
        while x < self.window.out_width {
            // SAFETY: by the caller's promise; grouped columns are interior, so all taps are valid.
            unsafe {
                if line.interior.start <= x && x + COLUMNS <= line.interior.end {
                    let xs = 0..self.window.kernel[1];
                    self.columns::<S, V, COLUMNS>(s, line, x, xs, c, lanes);
                    x += COLUMNS;
                } else {
                    let xs = self.window.valid_taps(1, x);
                    self.columns::<S, V, 1>(s, line, x, xs, c, lanes);
                    x += 1;
                }
            }
        }
    }

    /// `P` output columns from `x`, which share the same valid taps.
    ///
    /// # Safety
    /// The columns and channels exist and `xs` are valid taps of all columns.
    #[inline(always)]
    unsafe fn columns<S: Simd, const V: usize, const P: usize>(
        &self,
        s: S,
        line: &Line,
        x: usize,
        xs: Range<usize>,
        c: usize,
        lanes: usize,
    ) {
        let w = self.window;
        let mut acc = [[s.splat(0.0); V]; P];
        let step = w.stride[1] * w.channels;
        let mut row = line.first_row * w.width;
        let ys = if xs.is_empty() { 0..0 } else { line.ys.clone() };
        for ky in ys {
            let pixels = (row + w.input_index(1, x, xs.start)) * w.channels + c;
            let taps = (ky * w.kernel[1] + xs.start) * w.channels + c;
            row += w.dilation[0] * w.width;
            for kx in 0..xs.len() {
                let pixel = pixels + kx * w.dilation[1] * w.channels;
                let tap = taps + kx * w.channels;
                // SAFETY: valid taps of the columns are pixels of the image.
                unsafe {
                    let input = self.input.as_ptr().add(pixel);
                    let weight: [S::F; V] = vectors(s, self.weights.as_ptr().add(tap), lanes);
                    for (p, acc) in acc.iter_mut().enumerate() {
                        let value: [S::F; V] = vectors(s, input.add(p * step), lanes);
                        for v in 0..V {
                            acc[v] = s.fma(value[v], weight[v], acc[v]);
                        }
                    }
                }
            }
        }
        for (p, acc) in acc.iter_mut().enumerate() {
            let position = line.index * w.out_width + x + p;
            // SAFETY: the position and channels are inside the output.
            unsafe {
                let finish = self.product.finish(position, c);
                finish_point::<S, V>(s, &finish, acc, lanes);
                let out = self.product.out.add(position * self.product.out_stride + c);
                store_vectors::<S, V>(s, out, acc, lanes);
            }
        }
    }

    #[inline(always)]
    fn activate<S: Simd>(&self, s: S, line: usize) {
        let p = self.product;
        if p.activation.as_clamp().is_none() {
            let first = line * self.window.out_width;
            ActivateTile {
                activation: p.activation,
                start: p.out.wrapping_add(first * p.out_stride),
                rows: self.window.out_width,
                cols: self.window.channels,
                stride: p.out_stride,
            }
            .eval(s);
        }
    }
}

/// # Safety
/// The epilogue's operands reach these channels.
#[inline(always)]
unsafe fn finish_point<S: Simd, const V: usize>(
    s: S,
    finish: &Finish,
    acc: &mut [S::F; V],
    lanes: usize,
) {
    for operand in [finish.bias, finish.residual] {
        if !operand.is_null() {
            // SAFETY: as many channels as the output has here.
            let value: [S::F; V] = unsafe { vectors(s, operand, lanes) };
            (0..V).for_each(|v| acc[v] = s.add(acc[v], value[v]));
        }
    }
    let (low, high) = (s.splat(finish.low), s.splat(finish.high));
    (0..V).for_each(|v| acc[v] = s.min(high, s.max(low, acc[v])));
}

/// `V` vectors; a single one may be partial.
///
/// # Safety
/// The channels are readable.
#[inline(always)]
unsafe fn vectors<S: Simd, const V: usize>(s: S, p: *const f32, lanes: usize) -> [S::F; V] {
    // SAFETY: the channels are readable by the caller's promise.
    unsafe {
        if V == 1 && lanes < S::LANES {
            return [s.load_n(p, lanes); V];
        }
        from_fn(|v| s.load(p.add(v * S::LANES)))
    }
}

/// # Safety
/// The channels are writable.
#[inline(always)]
unsafe fn store_vectors<S: Simd, const V: usize>(s: S, p: *mut f32, x: &[S::F; V], lanes: usize) {
    // SAFETY: the channels are writable by the caller's promise.
    unsafe {
        if V == 1 && lanes < S::LANES {
            s.store_n(p, x[0], lanes);
            return;
        }
        (0..V).for_each(|v| s.store(p.add(v * S::LANES), x[v]));
    }
}

/// The scalar twin: taps in order, fused multiply-adds, then bias, residual and activation.
fn reference(w: &Window2d, input: &[f32], weights: &[f32], p: &Product<'_>, lines: Range<usize>) {
    for line in lines {
        let (image, y) = (line / w.out_height, line % w.out_height);
        for (x, c) in (0..w.out_width).flat_map(|x| (0..w.channels).map(move |c| (x, c))) {
            let mut sum = 0.0f32;
            for ky in w.valid_taps(0, y) {
                for kx in w.valid_taps(1, x) {
                    let (iy, ix) = (w.input_index(0, y, ky), w.input_index(1, x, kx));
                    let pixel = (image * w.height + iy) * w.width + ix;
                    let weight = weights[(ky * w.kernel[1] + kx) * w.channels + c];
                    sum = input[pixel * w.channels + c].mul_add(weight, sum);
                }
            }
            let position = line * w.out_width + x;
            // SAFETY: the position and channel are inside operands that `run` checked.
            unsafe {
                let finish = p.finish(position, c);
                for operand in [finish.bias, finish.residual] {
                    sum += if operand.is_null() { 0.0 } else { *operand };
                }
                *p.out.add(position * p.out_stride + c) = p.activation.reference(sum);
            }
        }
    }
}
