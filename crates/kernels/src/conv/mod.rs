//! f32 convolution and pooling over channels-last images.
//!
//! A convolution is a matrix product whose left rows are windows of the image, read in place, or,
//! if its windows are 3 by 3, fewer products of transformed tiles (`algorithm`). A depthwise
//! convolution is computed directly, vectorised over channels, and with the 1×1 convolutions around
//! it band by band (`chain`).

mod algorithm;
mod chain;
mod depthwise;
mod planes;
mod pooling;
pub(crate) mod rows;
mod taps;
#[cfg(test)]
mod tests;
mod window;
mod winograd;

pub use algorithm::{ConvAlgorithm, conv2d_by};
pub use chain::{ConvChain, ConvStage, conv_chain};
pub use planes::{TransposedConv, conv_planes, transposed_conv};
pub use pooling::{average_pool, global_average_pool, max_pool};
pub use window::Window2d;

use std::ops::Range;

use half::bf16;
use rows::WindowRows;

use crate::gemm::{
    Epilogue, Extents, PANEL, Product, Right, RowsMut, grid, pack_bf16_with, packed_b_len,
    packed_bf16_len, run, run_part,
};
use crate::rows::DenseRows;
use crate::{Exec, parallel};

/// A convolution of images `[batch, height, width, channels]` to `[batch, out_height, out_width,
/// out_channels]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Conv2d {
    /// Windows over the input.
    pub window: Window2d,
    /// Output channels, a multiple of `groups`.
    pub out_channels: usize,
    /// Groups; divides the input channels.
    pub groups: usize,
}

impl Conv2d {
    /// Whether every channel has its own single filter.
    pub fn is_depthwise(&self) -> bool {
        self.groups > 1 && self.groups == self.window.channels && self.groups == self.out_channels
    }

    /// Input channels of a group.
    pub fn group_channels(&self) -> usize {
        self.window.channels / self.groups
    }

    /// Output channels of a group.
    pub fn group_outputs(&self) -> usize {
        self.out_channels / self.groups
    }

    /// Elements of a window in one group: the depth of the product.
    pub fn depth(&self) -> usize {
        self.window.taps() * self.group_channels()
    }

    /// Whether the pixels already are rows of the left matrix: 1×1, step 1, no padding.
    pub(crate) fn is_pointwise(&self) -> bool {
        let w = &self.window;
        w.taps() == 1 && w.stride == [1, 1] && w.pads == [0; 4]
    }

    /// Whether the input already is the left matrix: [`Conv2d::is_pointwise`] with one group.
    pub(crate) fn is_dense(&self) -> bool {
        self.is_pointwise() && self.groups == 1
    }

    /// Elements of the packed weights.
    pub fn packed_weights_len(&self) -> usize {
        if self.is_depthwise() {
            return self.window.taps() * self.out_channels;
        }
        self.groups * packed_b_len(self.depth(), self.group_outputs())
    }

    /// Elements of the weights packed in bf16.
    pub fn packed_weights_bf16_len(&self) -> usize {
        self.groups * packed_bf16_len(self.depth(), self.group_outputs())
    }

    /// Packs weights as [`Conv2d::pack_weights`] does those that are not depthwise, in bf16.
    ///
    /// # Panics
    /// If a slice has the wrong length.
    pub fn pack_weights_bf16(&self, weights: &[f32], out: &mut [bf16]) {
        let (taps, depth, outputs) = (self.window.taps(), self.depth(), self.group_outputs());
        assert_eq!(weights.len(), self.out_channels * depth, "weights of the wrong length");
        assert_eq!(out.len(), self.packed_weights_bf16_len(), "packed weights' length");
        if weights.is_empty() {
            return;
        }
        let channels = self.group_channels();
        let groups = weights.chunks_exact(outputs * depth);
        for (weights, out) in groups.zip(out.chunks_exact_mut(packed_bf16_len(depth, outputs))) {
            // Element (tap, channel) of an output, which holds its channels first.
            let at = |k: usize, n: usize| weights[n * depth + k % channels * taps + k / channels];
            pack_bf16_with(depth, outputs, at, out);
        }
    }

    /// Packs weights `[out_channels, channels / groups, kernel height, kernel width]`: for each
    /// group a packed matrix of depth (tap, channel); depthwise, `[taps, channels]`.
    ///
    /// # Panics
    /// If a slice has the wrong length.
    pub fn pack_weights(&self, weights: &[f32], out: &mut [f32]) {
        let (taps, depth, outputs) = (self.window.taps(), self.depth(), self.group_outputs());
        assert_eq!(weights.len(), self.out_channels * depth, "weights of the wrong length");
        assert_eq!(out.len(), self.packed_weights_len(), "packed weights of the wrong length");
        let channels = self.group_channels();
        let weight = |output: usize, tap: usize, channel: usize| {
            weights[(output * channels + channel) * taps + tap]
        };
        if self.is_depthwise() {
            for (i, x) in out.iter_mut().enumerate() {
                *x = weight(i % self.out_channels, i / self.out_channels, 0);
            }
            return;
        }
        for (row, out) in out.chunks_exact_mut(PANEL).enumerate() {
            let (panel, k) = (row / depth, row % depth);
            let panels = outputs.div_ceil(PANEL);
            let (group, first) = (panel / panels, panel % panels * PANEL);
            for (j, x) in out.iter_mut().enumerate() {
                let used = first + j < outputs;
                let output = group * outputs + first + j;
                *x = if used { weight(output, k / channels, k % channels) } else { 0.0 };
            }
        }
    }
}

/// `out[position, o] = activation(conv(input)[position, o] + bias[o] + residual[position, o])`,
/// with weights packed by [`Conv2d::pack_weights`]; positions are (image, row, column).
///
/// # Panics
/// If an operand is shorter than its shape.
pub fn conv2d(
    exec: Exec<'_>,
    conv: &Conv2d,
    input: &[f32],
    weights: &[f32],
    epilogue: &Epilogue<'_>,
    mut out: RowsMut<'_>,
) {
    assert_eq!(weights.len(), conv.packed_weights_len(), "packed weights of the wrong length");
    if conv.is_depthwise() {
        assert_eq!(input.len(), conv.window.input_len(), "input of the wrong length");
        depthwise::run(exec, conv, input, weights, epilogue, &mut out);
        return;
    }
    let group = packed_b_len(conv.depth(), conv.group_outputs());
    let right = |index: usize| Right::Packed(weights[index * group..].as_ptr());
    products(exec, conv, input, &right, epilogue, &mut out);
}

/// The same with the products' operands in bf16 and weights packed by
/// [`Conv2d::pack_weights_bf16`]: the arithmetic of [`gemm_bf16`](crate::gemm_bf16).
///
/// # Panics
/// If an operand is shorter than its shape, or the convolution is depthwise.
pub fn conv2d_bf16(
    exec: Exec<'_>,
    conv: &Conv2d,
    input: &[f32],
    weights: &[bf16],
    epilogue: &Epilogue<'_>,
    mut out: RowsMut<'_>,
) {
    assert_eq!(weights.len(), conv.packed_weights_bf16_len(), "packed weights' length");
    assert!(!conv.is_depthwise(), "a depthwise convolution is no matrix product");
    let group = packed_bf16_len(conv.depth(), conv.group_outputs());
    let right = |index: usize| Right::PackedBf16(weights[index * group..].as_ptr());
    products(exec, conv, input, &right, epilogue, &mut out);
}

/// A convolution as matrix products; `right` gives each group's packed weights.
fn products(
    exec: Exec<'_>,
    conv: &Conv2d,
    input: &[f32],
    right: &(dyn Fn(usize) -> Right + Sync),
    epilogue: &Epilogue<'_>,
    out: &mut RowsMut<'_>,
) {
    assert_eq!(input.len(), conv.window.input_len(), "input of the wrong length");
    if conv.is_dense() {
        let channels = conv.window.channels;
        let rows = DenseRows::new(input, conv.window.positions(), channels, channels);
        run(exec, &epilogue.product(&rows, right(0), conv.out_channels, out));
        return;
    }
    let rows = WindowRows::new(input, conv.window, 0..conv.window.channels, 0, 1);
    let whole = epilogue.product(&rows, right(0), conv.out_channels, out);
    if conv.groups == 1 {
        run(exec, &whole);
    } else {
        run_groups(exec, conv, input, right, &whole);
    }
}

/// Computes every group's columns of `whole`. Threads share the positions rather than the groups as
/// far as that is as even: what follows reads whole positions, and groups may meet in a cache line.
fn run_groups(
    exec: Exec<'_>,
    conv: &Conv2d,
    input: &[f32],
    right: &(dyn Fn(usize) -> Right + Sync),
    whole: &Product<'_>,
) {
    let (positions, channels) = (conv.window.positions(), conv.group_channels());
    let (outputs, packed) =
        (conv.group_outputs(), packed_b_len(conv.depth(), conv.group_outputs()));
    let one = |group: usize, positions: Range<usize>| {
        let range = group * channels..(group + 1) * channels;
        let right = right(group);
        let columns = whole.columns(group * outputs, outputs);
        let panels = 0..outputs.div_ceil(PANEL);
        if conv.is_pointwise() && !positions.is_empty() {
            let input = &input[range.start..];
            let all = conv.window.positions();
            let rows = DenseRows::new(input, all, channels, conv.window.channels);
            run_part(exec.cpu, &Product { rows: &rows, right, ..columns }, positions, panels);
        } else {
            let rows = WindowRows::new(input, conv.window, range, 0, 1);
            run_part(exec.cpu, &Product { rows: &rows, right, ..columns }, positions, panels);
        }
    };
    let cost = positions.saturating_mul(packed).saturating_mul(conv.groups) / 8;
    let threads = parallel::useful_parts(exec, cost, positions.saturating_mul(conv.groups));
    let apart = whole.has_panels_apart() && outputs.is_multiple_of(PANEL);
    let extents = Extents { rows: positions, panels: conv.groups, depth: packed / PANEL, apart };
    let grid = grid(threads, extents);
    exec.pool.run(grid.row_parts * grid.panel_parts, &|part| {
        let positions = parallel::share(positions, grid.row_parts, part / grid.panel_parts);
        let groups = parallel::share(conv.groups, grid.panel_parts, part % grid.panel_parts);
        groups.for_each(|group| one(group, positions.clone()));
    });
}
