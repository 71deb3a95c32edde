//! 8-bit products whose operands are not yet in the form that tiles want: a right operand known
//! only while running, a left operand still in `f32`, images channels first. They are prepared in
//! scratch memory.

use super::linear::{Division, Parameters, dynamic_parameters, quantize};
use super::{
    Bytes, ConvWeightsInt8, Int8Epilogue, Int8Output, PackedInt8, Spread, column_sums_len,
    conv2d_int8, gemm_int8, pack_int8, packed_int8_len,
};
use crate::conv::Conv2d;
use crate::gemm::MatrixLayout;
use crate::math::Activation;
use crate::{Exec, permute, scratch};

/// Product of `a [m, k]` and `b [k, n]`, signed or not, both contiguous.
///
/// # Panics
/// If an operand is shorter than its shape, or a zero point is not in the range of its type.
pub fn matmul_int8(
    exec: Exec<'_>,
    [m, k, n]: [usize; 3],
    a: Bytes<'_>,
    b: &[u8],
    b_signed: bool,
    epilogue: Int8Epilogue<'_>,
) {
    scratch::with::<i8, _>(packed_int8_len(k, n), |data| {
        scratch::with::<i32, _>(column_sums_len(n), |sums| {
            pack_int8(b, b_signed, MatrixLayout::k_by_n(k, n), data, sums);
            if let Some(packed) = PackedInt8::new(data, sums, (k, n), b_signed) {
                gemm_int8(exec, m, a, k, packed, epilogue);
            }
        });
    });
}

/// What follows a product whose left operand is quantised while running.
#[derive(Debug, Clone, Copy)]
pub struct DynamicEpilogue<'a> {
    /// Zero points of the right columns, `[N]`; all zero if absent.
    pub right_zeros: Option<&'a [i32]>,
    /// Scales of the right columns: `[N]`, or one.
    pub scales: &'a [f32],
    /// `[N]`.
    pub bias: Option<&'a [f32]>,
    /// Applied last.
    pub activation: Activation,
}

/// `out [m, N]` of `a [m, K]`, quantised to `u8` over its range, and a packed operand.
///
/// # Panics
/// If an operand is shorter than its shape.
pub fn matmul_dynamic_int8(
    exec: Exec<'_>,
    m: usize,
    a: &[f32],
    b: PackedInt8<'_>,
    epilogue: DynamicEpilogue<'_>,
    out: &mut [f32],
) {
    let DynamicEpilogue { right_zeros, scales, bias, activation } = epilogue;
    let (scale, zero) = dynamic_parameters(exec, a);
    scratch::with::<u8, _>(a.len(), |data| {
        let parameters = Parameters { scales: &[scale], zero_points: &[i32::from(zero)] };
        let spread = Spread::per_tensor(a.len());
        quantize(exec, &spread, parameters, Division::F32, a, data);
        let left = Bytes { data, signed: false, zero_point: i32::from(zero) };
        let output = Int8Output::F32 { data: out, factor: scale, scales, bias, activation };
        let epilogue = Int8Epilogue { right_zeros, bias: None, output, stride: b.n() };
        gemm_int8(exec, m, left, b.k(), b, epilogue);
    });
}

/// [`conv2d_int8`] of images `[batch, channels, height, width]` to `[batch, out_channels,
/// out_height, out_width]`; `stride` of the epilogue does not count.
///
/// # Panics
/// As [`conv2d_int8`].
pub fn conv2d_int8_planar(
    exec: Exec<'_>,
    conv: &Conv2d,
    input: Bytes<'_>,
    weights: ConvWeightsInt8<'_>,
    epilogue: Int8Epilogue<'_>,
) {
    let w = &conv.window;
    let stride = conv.out_channels;
    let Int8Epilogue { right_zeros, bias, output, .. } = epilogue;
    let planes = [w.batch, w.channels, w.height * w.width];
    scratch::with::<u8, _>(input.data.len(), |data| {
        permute(exec, &planes, &[0, 2, 1], input.data, data);
        let input = Bytes { data, ..input };
        let run = |output: Int8Output<'_>| {
            let epilogue = Int8Epilogue { right_zeros, bias, output, stride };
            conv2d_int8(exec, conv, input, weights, epilogue);
        };
        match output {
            Int8Output::I32(data) => turned(exec, conv, data, |sums| run(Int8Output::I32(sums))),
            Int8Output::Bytes { data, scales, zero_point, low, high } => {
                turned(exec, conv, data, |data| {
                    run(Int8Output::Bytes { data, scales, zero_point, low, high });
                });
            }
            Int8Output::F32 { data, factor, scales, bias, activation } => {
                turned(exec, conv, data, |data| {
                    run(Int8Output::F32 { data, factor, scales, bias, activation });
                });
            }
        }
    });
}

/// Lets `fill` write an image channels last, then puts it channels first into `out`.
fn turned<T: bytemuck::AnyBitPattern + bytemuck::NoUninit + Send + Sync>(
    exec: Exec<'_>,
    conv: &Conv2d,
    out: &mut [T],
    fill: impl FnOnce(&mut [T]),
) {
    let w = &conv.window;
    scratch::with::<T, _>(out.len(), |image| {
        fill(image);
        let dims = [w.batch, w.out_height * w.out_width, conv.out_channels];
        permute(exec, &dims, &[0, 2, 1], image, out);
    });
}
