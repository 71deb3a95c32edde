//! f32 convolutions of `[batch, channels, spatial...]`, forward and transposed, with weights in their
//! own order: a matrix product of the weights with columns of the image, a block at a time.
//!
//! Forward, the windows of a block of output positions are gathered into columns. Transposed, the
//! product of a block of input positions is added to the output under its windows. Source:
//! V. Dumoulin and F. Visin, "A guide to convolution arithmetic for deep learning" (2016).

use std::ops::Range;

use crate::gemm::{Product, Right, run};
use crate::generic::{DirectConv, SPATIAL, Window3d};
use crate::parallel::over_range;
use crate::rows::DenseRows;
use crate::shared::SharedMut;
use crate::{Activation, Exec, Pool, scratch};

/// Elements of a block of columns: what L2 holds.
const BLOCK: usize = 1 << 16;
/// Rows that make a product worth packing its right operand.
const ROWS: usize = 64;

/// `out[m, n] = a[m, k] · b[k, n]` on this thread; `out` rows are `out_stride` apart.
///
/// # Safety
/// The output rectangle is inside one allocation and no other thread touches it.
unsafe fn product(
    exec: Exec<'_>,
    a: &[f32],
    k: usize,
    b: (&[f32], usize, usize),
    out: (*mut f32, usize),
) {
    let (b, b_stride, n) = b;
    assert!(k > 0 && (k - 1) * b_stride + n <= b.len(), "right operand too short");
    let rows = DenseRows::new(a, a.len() / k, k, k);
    let product = Product {
        rows: &rows,
        right: Right::Strided { start: b.as_ptr(), k_stride: b_stride, n_stride: 1 },
        n,
        out: out.0,
        out_stride: out.1,
        bias: std::ptr::null(),
        residual: std::ptr::null(),
        residual_stride: 0,
        activation: Activation::None,
    };
    run(Exec { cpu: exec.cpu, pool: Pool::inline() }, &product);
}

/// `out = conv(x, w) + bias` for channels before pixels; `w` is `[out_channels, channels / groups,
/// kernel...]`, `bias` `[out_channels]`.
///
/// # Panics
/// If a slice has the wrong length or the layout is channels last.
pub fn conv_planes(
    exec: Exec<'_>,
    conv: &DirectConv,
    [x, w]: [&[f32]; 2],
    bias: Option<&[f32]>,
    out: &mut [f32],
) {
    let window = &conv.window;
    let (inputs, outputs) = (conv.channels / conv.groups, conv.out_channels / conv.groups);
    let depth = inputs * window.kernel.iter().product::<usize>();
    let (pixels, area) = (size(window.output), size(window.input));
    assert!(!conv.channels_last, "channels are before pixels");
    assert_eq!(x.len(), conv.batch * conv.channels * area, "input length");
    assert_eq!(w.len(), conv.out_channels * depth, "weights length");
    assert_eq!(out.len(), conv.batch * conv.out_channels * pixels, "output length");
    if depth == 0 || out.is_empty() {
        out.fill(0.0);
    } else {
        let step = (BLOCK / depth).clamp(16, 1024).min(pixels);
        let blocks = pixels.div_ceil(step);
        let shared = SharedMut::new(out);
        let cost = (depth * outputs).saturating_mul(step) / 8;
        over_range(exec, conv.batch * conv.groups * blocks, cost, &|tasks| {
            for task in tasks {
                let (plane, block) = (task / blocks, task % blocks);
                let (image, group) = (plane / conv.groups, plane % conv.groups);
                let positions = block * step..((block + 1) * step).min(pixels);
                let x = &x[(image * conv.channels + group * inputs) * area..][..inputs * area];
                let w = &w[group * outputs * depth..][..outputs * depth];
                let first = (image * conv.out_channels + group * outputs) * pixels;
                let start = shared.ptr().wrapping_add(first + positions.start);
                scratch::with(depth * positions.len(), |columns| {
                    gather(window, x, positions.clone(), columns);
                    let right = (&columns[..], positions.len(), positions.len());
                    // SAFETY: tasks own disjoint columns of disjoint planes of the output.
                    unsafe { product(exec, w, depth, right, (start, pixels)) };
                });
            }
        });
    }
    add_bias(exec, bias, conv.out_channels, pixels, out);
}

fn size(extents: [usize; SPATIAL]) -> usize {
    extents.iter().product()
}

fn add_bias(exec: Exec<'_>, bias: Option<&[f32]>, channels: usize, pixels: usize, out: &mut [f32]) {
    let Some(bias) = bias else { return };
    assert_eq!(bias.len(), channels, "bias length");
    crate::parallel::over_chunks(exec, out, pixels, 1, &|first, chunk| {
        for (i, plane) in chunk.chunks_exact_mut(pixels).enumerate() {
            let bias = bias[(first + i) % channels];
            plane.iter_mut().for_each(|x| *x += bias);
        }
    });
}

/// Runs of positions along the innermost axis: `(row, first column, offset in the block)` with
/// their lengths.
fn runs(
    positions: Range<usize>,
    width: usize,
) -> impl Iterator<Item = (usize, usize, usize, usize)> {
    let first = positions.start;
    let mut at = first;
    std::iter::from_fn(move || {
        let (row, column) = (at / width, at % width);
        let len = (width - column).min(positions.end - at);
        let run = (row, column, at - first, len);
        at += len;
        (len > 0).then_some(run)
    })
}

/// Taps in order: `[z, y, x]`.
fn taps(window: &Window3d) -> impl Iterator<Item = [usize; SPATIAL]> + '_ {
    let [_, height, width] = window.kernel;
    (0..size(window.kernel)).map(move |i| [i / (height * width), i / width % height, i % width])
}

/// The columns `i` of `0..len` for which `(first + i) * stride + shift` lies in `0..limit`, and the
/// place of the first.
fn inside(
    first: usize,
    len: usize,
    stride: usize,
    shift: isize,
    limit: usize,
) -> (Range<usize>, usize) {
    let origin = (first * stride) as isize + shift;
    let begin = if origin < 0 { origin.unsigned_abs().div_ceil(stride) } else { 0 };
    let room = (limit as isize - origin).max(0).unsigned_abs();
    let end = room.div_ceil(stride).min(len).max(begin.min(len));
    let begin = begin.min(end);
    (begin..end, (origin + (begin * stride) as isize).max(0).unsigned_abs())
}

/// Where row `row` of positions, `height` rows a plane, meets an image of `rows` rows a plane under
/// a tap; `None` outside.
fn image_row(
    window: &Window3d,
    row: usize,
    tap: [usize; SPATIAL],
    [planes, rows]: [usize; 2],
    height: usize,
) -> Option<usize> {
    let at = |axis: usize, index: usize, limit: usize| {
        let place = index * window.stride[axis] + tap[axis] * window.dilation[axis];
        place.checked_sub(window.pad[axis]).filter(|&place| place < limit)
    };
    Some(at(0, row / height, planes)? * rows + at(1, row % height, rows)?)
}

/// The distance from a column times the stride to its place under a tap.
fn shift(window: &Window3d, tap: [usize; SPATIAL]) -> isize {
    (tap[2] * window.dilation[2]) as isize - window.pad[2] as isize
}

/// Gathers `columns[channel, tap, position]`, zero where a window leaves the image.
fn gather(window: &Window3d, x: &[f32], positions: Range<usize>, columns: &mut [f32]) {
    let [planes, rows, width] = window.input;
    let stride = window.stride[2];
    let mut lines = columns.chunks_exact_mut(positions.len());
    for image in x.chunks_exact(planes * rows * width) {
        for tap in taps(window) {
            let Some(line) = lines.next() else { return };
            for (row, column, offset, len) in runs(positions.clone(), window.output[2]) {
                let line = &mut line[offset..offset + len];
                let Some(source) = image_row(window, row, tap, [planes, rows], window.output[1])
                else {
                    line.fill(0.0);
                    continue;
                };
                let (range, first) = inside(column, len, stride, shift(window, tap), width);
                line[..range.start].fill(0.0);
                line[range.end..].fill(0.0);
                let source = &image[source * width..][..width];
                let line = &mut line[range];
                if line.is_empty() {
                    continue;
                }
                if stride == 1 {
                    line.copy_from_slice(&source[first..first + line.len()]);
                } else {
                    let source = source[first..].iter().step_by(stride);
                    line.iter_mut().zip(source).for_each(|(o, x)| *o = *x);
                }
            }
        }
    }
}

/// A transposed convolution with up to three spatial axes, channels before pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TransposedConv {
    /// Images.
    pub batch: usize,
    /// Input channels.
    pub channels: usize,
    /// Output channels.
    pub out_channels: usize,
    /// Groups; divides both.
    pub groups: usize,
    /// The windows of the forward convolution from `output` back to `input`.
    pub window: Window3d,
}

impl TransposedConv {
    /// Rows of a group's weights: `(out_channels / groups, kernel...)` of `channels / groups` each.
    fn group_rows(&self) -> usize {
        self.out_channels / self.groups * size(self.window.kernel)
    }

    /// Puts weights `[channels, out_channels / groups, kernel...]` in the order that
    /// [`transposed_conv`] reads: `[groups, out_channels / groups, kernel..., channels / groups]`.
    ///
    /// # Panics
    /// If a slice has the wrong length.
    pub fn pack_weights(&self, w: &[f32], out: &mut [f32]) {
        let (rows, depth) = (self.group_rows(), self.channels / self.groups);
        assert_eq!(w.len(), rows * self.channels, "weights length");
        assert_eq!(w.len(), out.len(), "packed weights length");
        if w.is_empty() {
            return;
        }
        let groups = w.chunks_exact(rows * depth).zip(out.chunks_exact_mut(rows * depth));
        for (w, out) in groups {
            for (row, out) in out.chunks_exact_mut(depth).enumerate() {
                out.iter_mut().zip(w[row..].iter().step_by(rows)).for_each(|(o, w)| *o = *w);
            }
        }
    }
}

/// `out = transposed_conv(x, w) + bias`, the weights packed.
///
/// # Panics
/// If a slice has the wrong length.
pub fn transposed_conv(
    exec: Exec<'_>,
    conv: &TransposedConv,
    [x, packed]: [&[f32]; 2],
    bias: Option<&[f32]>,
    out: &mut [f32],
) {
    let window = &conv.window;
    let (inputs, outputs) = (conv.channels / conv.groups, conv.out_channels / conv.groups);
    let (pixels, area) = (size(window.output), size(window.input));
    let taps = size(window.kernel);
    assert_eq!(x.len(), conv.batch * conv.channels * area, "input length");
    assert_eq!(packed.len(), conv.channels * conv.group_rows(), "weights length");
    assert_eq!(out.len(), conv.batch * conv.out_channels * pixels, "output length");
    out.fill(0.0);
    if !x.is_empty() && !packed.is_empty() && !out.is_empty() {
        let together = ROWS.div_ceil(taps).min(outputs);
        let blocks = outputs.div_ceil(together);
        let shared = SharedMut::new(out);
        let cost = (together * taps).saturating_mul(inputs * area) / 8;
        over_range(exec, conv.batch * conv.groups * blocks, cost, &|tasks| {
            for task in tasks {
                let (plane, block) = (task / blocks, task % blocks);
                let (image, group) = (plane / conv.groups, plane % conv.groups);
                let channels = block * together..((block + 1) * together).min(outputs);
                let x = &x[(image * conv.channels + group * inputs) * area..][..inputs * area];
                let first = (group * outputs + channels.start) * taps * inputs;
                let w = &packed[first..][..channels.len() * taps * inputs];
                let start = image * conv.out_channels + group * outputs + channels.start;
                // SAFETY: tasks own disjoint output planes.
                let out = unsafe { shared.range(start * pixels, channels.len() * pixels) };
                transposed_planes(exec, window, [x, w], inputs, out);
            }
        });
    }
    add_bias(exec, bias, conv.out_channels, pixels, out);
}

/// Adds to some output planes of one image, a block of input positions at a time.
fn transposed_planes(
    exec: Exec<'_>,
    window: &Window3d,
    [x, w]: [&[f32]; 2],
    depth: usize,
    out: &mut [f32],
) {
    let area = size(window.input);
    let rows = w.len() / depth;
    let step = (BLOCK / rows).clamp(16, 4096).min(area);
    for begin in (0..area).step_by(step) {
        let positions = begin..(begin + step).min(area);
        scratch::with(rows * positions.len(), |columns: &mut [f32]| {
            let target = (columns.as_mut_ptr(), positions.len());
            let right = (&x[begin..], area, positions.len());
            // SAFETY: the columns are this thread's own.
            unsafe { product(exec, w, depth, right, target) };
            scatter(window, columns, positions, out);
        });
    }
}

/// Adds `columns[channel, tap, position]` to the output under their windows.
fn scatter(window: &Window3d, columns: &[f32], positions: Range<usize>, out: &mut [f32]) {
    let [planes, rows, width] = window.output;
    let stride = window.stride[2];
    let mut lines = columns.chunks_exact(positions.len());
    for image in out.chunks_exact_mut(planes * rows * width) {
        for tap in taps(window) {
            let Some(line) = lines.next() else { return };
            for (row, column, offset, len) in runs(positions.clone(), window.input[2]) {
                let Some(target) = image_row(window, row, tap, [planes, rows], window.input[1])
                else {
                    continue;
                };
                let (range, first) = inside(column, len, stride, shift(window, tap), width);
                let line = &line[offset..offset + len][range];
                if line.is_empty() {
                    continue;
                }
                let target = &mut image[target * width..][..width][first..];
                if stride == 1 {
                    target.iter_mut().zip(line).for_each(|(o, x)| *o += x);
                } else {
                    target.iter_mut().step_by(stride).zip(line).for_each(|(o, x)| *o += x);
                }
            }
        }
    }
}

#[cfg(test)]
#[path = "planes_tests.rs"]
mod tests;
