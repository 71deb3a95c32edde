//! 8-bit matrix products and convolutions with 32-bit sums.
//!
//! `sum[m, n] = Σ (a[m, k] - a_zero) (b[k, n] - b_zero[n]) + bias[n]`, exact modulo 2^32, then
//! stored, requantised to bytes by the one rule of `landfall_tensor`, or dequantised. Operands may
//! be signed or unsigned in any combination at one speed.

mod add;
mod blocks;
mod depthwise;
mod drive;
mod epilogue;
mod interleave;
mod lanes;
mod linear;
mod narrow;
mod nbits;
#[cfg(target_arch = "aarch64")]
mod neon;
mod pack;
mod reference;
mod spread;
mod taps;
#[cfg(test)]
mod tests;
mod tile;
#[cfg(target_arch = "x86_64")]
mod tiles;
mod unprepared;

pub use add::{ByteRange, add_int8};
pub use epilogue::ColumnScales;
pub use linear::{
    Division, Parameters, Quantum, Real, Steps, dequantize, dynamic_parameters, quantize,
};
pub use nbits::{NBits, PackedNBits, matmul_nbits};
pub use pack::{PackedInt8, column_sums_len, pack_int8, packed_int8_len};
pub use spread::Spread;
pub use unprepared::{DynamicEpilogue, conv2d_int8_planar, matmul_dynamic_int8, matmul_int8};

use drive::{DenseBytes, Product, run};
use epilogue::{Finish, Output};

use crate::Exec;
use crate::conv::Conv2d;
use crate::conv::rows::WindowRows;
use crate::math::Activation;
use crate::rows::{DenseRows, RowSource};

/// An 8-bit operand: bytes, whether they are signed, and the byte value that stands for zero.
#[derive(Debug, Clone, Copy)]
pub struct Bytes<'a> {
    /// The bytes; two's complement if signed.
    pub data: &'a [u8],
    /// Whether bytes are signed.
    pub signed: bool,
    /// Zero point, in the range of the type.
    pub zero_point: i32,
}

/// What to make of the sums, and where to put it: rows of `[M, N]`.
#[derive(Debug)]
pub enum Int8Output<'a> {
    /// The sums.
    I32(&'a mut [i32]),
    /// `clamp(requantize(sum, scales[n]) + zero_point, low, high)`.
    Bytes {
        /// Results, two's complement if signed.
        data: &'a mut [u8],
        /// Input scale · weight scale / output scale.
        scales: &'a ColumnScales,
        /// Of the output.
        zero_point: i32,
        /// At least the type's smallest; higher for a fused activation.
        low: i32,
        /// At most the type's largest.
        high: i32,
    },
    /// `activation(sum · (factor · scales[n]) + bias[n])`.
    F32 {
        /// Results.
        data: &'a mut [f32],
        /// Scale of the left operand.
        factor: f32,
        /// Scales of the right columns: `[N]`, or one.
        scales: &'a [f32],
        /// `[N]`.
        bias: Option<&'a [f32]>,
        /// Applied last.
        activation: Activation,
    },
}

/// The epilogue of an 8-bit product.
#[derive(Debug)]
pub struct Int8Epilogue<'a> {
    /// Zero points of the right columns, `[N]`; all zero if absent.
    pub right_zeros: Option<&'a [i32]>,
    /// `[N]`, at the scale of the sums.
    pub bias: Option<&'a [i32]>,
    /// Results.
    pub output: Int8Output<'a>,
    /// Elements from one output row to the next, at least N.
    pub stride: usize,
}

impl Int8Epilogue<'_> {
    /// # Panics
    /// If an operand does not fit `[m, n]`.
    fn finish<'f>(
        &'f mut self,
        (m, n): (usize, usize),
        depth: usize,
        left: &Bytes<'_>,
        column_sums: &'f [i32],
        right_offset: i32,
    ) -> Finish<'f> {
        let stride = self.stride;
        let fits = |len: usize| m == 0 || n == 0 || (m - 1) * stride + n <= len;
        assert!(m < 2 || stride >= n, "output rows overlap");
        assert!(self.right_zeros.is_none_or(|z| z.len() == n), "zero points are not [{n}]");
        assert!(self.bias.is_none_or(|b| b.len() == n), "bias is not [{n}]");
        let mut activation = Activation::None;
        let output = match &mut self.output {
            Int8Output::I32(data) => {
                assert!(fits(data.len()), "output shorter than [{m}, {n}]");
                Output::I32(data.as_mut_ptr())
            }
            Int8Output::Bytes { data, scales, zero_point, low, high } => {
                assert!(fits(data.len()), "output shorter than [{m}, {n}]");
                assert_eq!(scales.columns(), n, "scales of another number of columns");
                assert!(-256 < *low && low <= high && *high < 256, "bounds are not bytes");
                assert!(zero_point.abs() < 256, "zero point is not a byte");
                let data = data.as_mut_ptr();
                Output::Bytes { data, scales, zero_point: *zero_point, low: *low, high: *high }
            }
            Int8Output::F32 { data, factor, scales, bias, activation: applied } => {
                assert!(fits(data.len()), "output shorter than [{m}, {n}]");
                assert!(scales.len() == n || scales.len() == 1, "scales are not [{n}]");
                assert!(bias.is_none_or(|b| b.len() == n), "bias is not [{n}]");
                activation = *applied;
                let data = data.as_mut_ptr();
                Output::F32 { data, factor: *factor, scales, bias: *bias }
            }
        };
        Finish {
            column_sums,
            left_zero: left.zero_point + if left.signed { 128 } else { 0 },
            depth: depth as i32,
            right_zeros: self.right_zeros,
            right_offset,
            bias: self.bias,
            output,
            stride,
            first: 0,
            n,
            activation,
        }
    }
}

/// Product of `m` rows of bytes, `a_stride` apart, and a packed operand.
///
/// # Panics
/// If an operand is shorter than its shape, or a zero point is not in the range of its type.
pub fn gemm_int8(
    exec: Exec<'_>,
    m: usize,
    a: Bytes<'_>,
    a_stride: usize,
    b: PackedInt8<'_>,
    mut epilogue: Int8Epilogue<'_>,
) {
    check_zero_point(&a);
    let rows = DenseRows::new(a.data, m, b.k(), a_stride);
    let rows = DenseBytes { rows, pad: a.zero_point as u8 };
    let finish = epilogue.finish((m, b.n()), rows.depth(), &a, b.sums(), b.offset());
    run(exec, &Product { rows: &rows, signed: a.signed, right: b.as_ptr(), finish });
}

fn check_zero_point(a: &Bytes<'_>) {
    let range = if a.signed { -128..128 } else { 0..256 };
    assert!(range.contains(&a.zero_point), "zero point outside the type");
}

/// Weights of an 8-bit convolution, packed by [`pack_conv_int8`].
#[derive(Debug, Clone, Copy)]
pub struct ConvWeightsInt8<'a> {
    /// [`packed_conv_int8_len`] bytes.
    pub data: &'a [i8],
    /// [`conv_column_sums_len`] sums.
    pub sums: &'a [i32],
    /// Whether the weights were signed.
    pub signed: bool,
}

/// Bytes of the packed weights of a convolution: each group's matrix; depthwise `[taps, channels]`.
pub fn packed_conv_int8_len(conv: &Conv2d) -> usize {
    if conv.is_depthwise() {
        return conv.window.taps() * conv.out_channels;
    }
    conv.groups * packed_int8_len(conv.depth(), conv.group_outputs())
}

/// Length of the column sums of the packed weights of a convolution.
pub fn conv_column_sums_len(conv: &Conv2d) -> usize {
    if conv.is_depthwise() {
        return column_sums_len(conv.out_channels);
    }
    conv.groups * column_sums_len(conv.group_outputs())
}

/// Packs weights `[out_channels, channels / groups, kernel height, kernel width]`.
///
/// # Panics
/// If a slice has the wrong length.
pub fn pack_conv_int8(
    conv: &Conv2d,
    weights: &[u8],
    signed: bool,
    out: &mut [i8],
    sums: &mut [i32],
) {
    let (taps, depth, outputs) = (conv.window.taps(), conv.depth(), conv.group_outputs());
    assert_eq!(weights.len(), conv.out_channels * depth, "weights of the wrong length");
    assert_eq!(out.len(), packed_conv_int8_len(conv), "packed weights of the wrong length");
    assert_eq!(sums.len(), conv_column_sums_len(conv), "column sums of the wrong length");
    if conv.is_depthwise() {
        depthwise::pack(conv, weights, signed, out, sums);
        return;
    }
    let channels = conv.group_channels();
    let (len, sums_len) = (packed_int8_len(depth, outputs), column_sums_len(outputs));
    for group in 0..conv.groups {
        let at = |k: usize, n: usize| {
            let (tap, channel) = (k / channels, k % channels);
            weights[((group * outputs + n) * channels + channel) * taps + tap]
        };
        let out = &mut out[group * len..][..len];
        let sums = &mut sums[group * sums_len..][..sums_len];
        pack::pack_with(depth, outputs, signed, at, out, sums);
    }
}

/// 8-bit convolution of images `[batch, height, width, channels]`; rows of the output are
/// positions, columns output channels. Padding is the input's zero point.
///
/// # Panics
/// If an operand is shorter than its shape, or a zero point is not in the range of its type.
pub fn conv2d_int8(
    exec: Exec<'_>,
    conv: &Conv2d,
    input: Bytes<'_>,
    weights: ConvWeightsInt8<'_>,
    mut epilogue: Int8Epilogue<'_>,
) {
    check_zero_point(&input);
    assert_eq!(input.data.len(), conv.window.input_len(), "input of the wrong length");
    assert_eq!(weights.data.len(), packed_conv_int8_len(conv), "weights of the wrong length");
    assert_eq!(weights.sums.len(), conv_column_sums_len(conv), "column sums of the wrong length");
    let offset = if weights.signed { 0 } else { 128 };
    let shape = (conv.window.positions(), conv.out_channels);
    if conv.is_depthwise() {
        let depth = conv.window.taps();
        let finish = epilogue.finish(shape, depth, &input, weights.sums, offset);
        depthwise::run(exec, conv, &input, weights.data, &finish);
        return;
    }
    let (channels, outputs) = (conv.group_channels(), conv.group_outputs());
    let (len, sums_len) = (packed_int8_len(conv.depth(), outputs), column_sums_len(outputs));
    let pad = input.zero_point as u8;
    if conv.is_dense() {
        let rows = DenseRows::new(input.data, shape.0, channels, channels);
        let rows = DenseBytes { rows, pad };
        let finish = epilogue.finish(shape, rows.depth(), &input, weights.sums, offset);
        let right = weights.data.as_ptr();
        run(exec, &Product { rows: &rows, signed: input.signed, right, finish });
        return;
    }
    let depth = conv.depth().next_multiple_of(pack::GROUP);
    let whole = epilogue.finish(shape, depth, &input, &[], offset);
    for group in 0..conv.groups {
        let range = group * channels..(group + 1) * channels;
        let rows = WindowRows::new(input.data, conv.window, range, pad, pack::GROUP);
        let sums = &weights.sums[group * sums_len..][..sums_len];
        let finish = Finish { first: group * outputs, n: outputs, column_sums: sums, ..whole };
        let right = weights.data[group * len..].as_ptr();
        run(exec, &Product { rows: &rows, signed: input.signed, right, finish });
    }
}
