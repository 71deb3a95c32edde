//! f32 convolution and pooling over channels-last images.
//!
//! A convolution is a matrix product whose left rows are windows of the image, read in place. A
//! depthwise convolution is computed directly, vectorised over channels.

mod depthwise;
mod planes;
mod pooling;
pub(crate) mod rows;
#[cfg(test)]
mod tests;
mod window;

pub use planes::{TransposedConv, conv_planes, transposed_conv};
pub use pooling::{average_pool, global_average_pool, max_pool};
pub use window::Window2d;

use rows::WindowRows;

use crate::gemm::{Epilogue, PANEL, Product, Right, RowsMut, packed_b_len, run};
use crate::rows::DenseRows;
use crate::{Exec, Pool, parallel};

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
    assert_eq!(input.len(), conv.window.input_len(), "input of the wrong length");
    if conv.is_depthwise() {
        depthwise::run(exec, conv, input, weights, epilogue, &mut out);
        return;
    }
    let packed = packed_b_len(conv.depth(), conv.group_outputs());
    let positions = conv.window.positions();
    if conv.is_dense() {
        let channels = conv.window.channels;
        let rows = DenseRows::new(input, positions, channels, channels);
        let right = Right::Packed(weights.as_ptr());
        run(exec, &epilogue.product(&rows, right, conv.out_channels, &mut out));
        return;
    }
    let rows = WindowRows::new(input, conv.window, 0..conv.window.channels, 0, 1);
    let right = Right::Packed(weights.as_ptr());
    let whole = epilogue.product(&rows, right, conv.out_channels, &mut out);
    let one = |exec: Exec<'_>, group: usize| {
        let (channels, outputs) = (conv.group_channels(), conv.group_outputs());
        let range = group * channels..(group + 1) * channels;
        let right = Right::Packed(weights[group * packed..].as_ptr());
        let columns = whole.columns(group * outputs, outputs);
        if conv.is_pointwise() && positions > 0 {
            let input = &input[range.start..];
            let rows = DenseRows::new(input, positions, channels, conv.window.channels);
            run(exec, &Product { rows: &rows, right, ..columns });
        } else {
            let rows = WindowRows::new(input, conv.window, range, 0, 1);
            run(exec, &Product { rows: &rows, right, ..columns });
        }
    };
    if conv.groups < exec.pool.threads() {
        (0..conv.groups).for_each(|group| one(exec, group));
        return;
    }
    let cost = positions.saturating_mul(packed) / 8;
    parallel::over_range(exec, conv.groups, cost, &|groups| {
        let exec = Exec { cpu: exec.cpu, pool: Pool::inline() };
        groups.for_each(|group| one(exec, group));
    });
}
