//! Elementary functions of one vector. Coefficients are minimax fits (Lawson's algorithm, weighted
//! by relative error, computed in double precision) made for this crate; range reductions after
//! Cody and Waite, *Software Manual for the Elementary Functions*. Bounds are tested over the whole
//! range.

use crate::simd::Simd;

const LOG2_E: f32 = std::f32::consts::LOG2_E;
/// ln 2 in two parts: the first has 9 significant bits, so its product with an exponent is exact.
const LN2_HIGH: f32 = 355.0 / 512.0;
const LN2_LOW: f32 = -2.121_944_4e-4;

/// `c[0] + x (c[1] + x (c[2] + ...))`.
#[inline(always)]
fn polynomial<S: Simd, const N: usize>(s: S, x: S::F, c: [f32; N]) -> S::F {
    let mut sum = s.splat(c[N - 1]);
    for i in (0..N - 1).rev() {
        sum = s.fma(sum, x, s.splat(c[i]));
    }
    sum
}

/// `e^x`, at most 1 ULP off over all of f32; overflows to infinity, underflows through subnormals.
///
/// `x = n ln 2 + r`, `|r| <= ln 2 / 2`; `e^r = 1 + r + r² P(r)`; two scalings by powers of two, so
/// that results below the smallest normal number round once.
#[inline(always)]
pub(crate) fn exp<S: Simd>(s: S, x: S::F) -> S::F {
    let x = s.max(s.splat(-105.0), s.min(s.splat(89.0), x));
    let n = s.round(s.mul(x, s.splat(LOG2_E)));
    let r = s.fma(n, s.splat(-LN2_HIGH), x);
    let r = s.fma(n, s.splat(-LN2_LOW), r);
    let p = polynomial(
        s,
        r,
        [0.5, 0.166_666_67, 0.041_666_29, 0.008_333_499, 0.001_394_494_3, 1.979_006_2e-4],
    );
    let p = s.add(s.fma(s.mul(r, r), p, r), s.splat(1.0));
    let n = s.to_int(n);
    let half = s.sar_i::<1>(n);
    let rest = s.sub_i(n, half);
    s.mul(s.mul(p, power_of_two(s, half)), power_of_two(s, rest))
}

/// `2^n` for `-126 <= n <= 127`.
#[inline(always)]
fn power_of_two<S: Simd>(s: S, n: S::I) -> S::F {
    s.float_from_bits(s.shl_i::<23>(s.add_i(n, s.splat_i(127))))
}

/// Natural logarithm, at most 1 ULP off over all of f32, subnormals included; NaN below zero.
///
/// `x = 2^e m`, `m` in `[√½, √2)`; `ln m = f - f²/2 + f³ P(f)`, `f = m - 1`.
#[inline(always)]
pub(crate) fn ln<S: Simd>(s: S, x: S::F) -> S::F {
    let subnormal = s.less(x, s.splat(f32::MIN_POSITIVE));
    let scaled = s.select(subnormal, s.mul(x, s.splat(8_388_608.0)), x);
    let bias = s.select(subnormal, s.splat(-23.0), s.splat(0.0));
    let root = s.splat_i(std::f32::consts::FRAC_1_SQRT_2.to_bits() as i32);
    let offset = s.sub_i(s.bits(scaled), root);
    let exponent = s.sar_i::<23>(offset);
    let mantissa = s.add_i(s.and_i(offset, s.splat_i(0x007f_ffff)), root);
    let e = s.add(s.to_float(exponent), bias);
    let f = s.sub(s.float_from_bits(mantissa), s.splat(1.0));
    let p = polynomial(
        s,
        f,
        [
            0.333_333_13,
            -0.250_000_1,
            0.200_021_19,
            -0.166_679_96,
            0.142_195_52,
            -0.124_055_89,
            0.118_881_62,
            -0.116_756_52,
            0.067_466_41,
        ],
    );
    let square = s.mul(f, f);
    let tail = s.mul(s.mul(square, f), p);
    let tail = s.fma(e, s.splat(LN2_LOW), tail);
    let tail = s.fma(square, s.splat(-0.5), tail);
    let normal = s.fma(e, s.splat(LN2_HIGH), s.add(f, tail));
    let infinite = s.less(s.splat(f32::MAX), x);
    let result = s.select(infinite, x, normal);
    let positive = s.less(s.splat(0.0), x);
    let zero = s.less(s.splat(-f32::from_bits(1)), x);
    let other = s.select(zero, s.splat(f32::NEG_INFINITY), s.splat(f32::NAN));
    s.select(positive, result, other)
}

/// Hyperbolic tangent, at most 2 ULP off.
///
/// An odd polynomial below 0.625, `1 - 2 / (e^2x + 1)` above.
#[inline(always)]
pub(crate) fn tanh<S: Simd>(s: S, x: S::F) -> S::F {
    let z = s.mul(x, x);
    let p = polynomial(
        s,
        z,
        [-0.333_332_8, 0.133_314_42, -0.053_739_715, 0.020_639_088, -0.005_704_987_3],
    );
    let small = s.fma(s.mul(z, p), x, x);
    let t = s.abs(x);
    let e = exp(s, s.add(t, t));
    let large = s.sub(s.splat(1.0), s.div(s.splat(2.0), s.add(e, s.splat(1.0))));
    let large = s.with_sign_of(large, x);
    s.select(s.less(t, s.splat(0.625)), small, s.select(s.is_nan(x), x, large))
}

/// `1 / (1 + e^-x)`, at most 3 ULP off, subnormal results included.
#[inline(always)]
pub(crate) fn sigmoid<S: Simd>(s: S, x: S::F) -> S::F {
    let e = exp(s, s.neg(s.abs(x)));
    let one = s.splat(1.0);
    let numerator = s.select(s.less(x, s.splat(0.0)), e, one);
    s.div(numerator, s.add(e, one))
}

/// Error function, at most 2 ULP off.
///
/// `x + x P(x²)` below 0.92, `1 - e^(-t Q(t))` above; 1 from 4 on, where 1 is the nearest f32.
#[inline(always)]
pub(crate) fn erf<S: Simd>(s: S, x: S::F) -> S::F {
    let z = s.mul(x, x);
    let p = polynomial(
        s,
        z,
        [
            0.128_379_17,
            -0.376_126_32,
            0.112_836_875,
            -0.026_858_943,
            0.005_199_907,
            -8.130_017e-4,
            8.316_788e-5,
        ],
    );
    let small = s.fma(x, p, x);
    let t = s.min(s.splat(4.0), s.abs(x));
    let q = polynomial(
        s,
        t,
        [1.128_510_7, 0.635_731, 0.105_244_63, -0.022_878_59, 0.003_211_310_6, -2.135_320_1e-4],
    );
    let large = s.sub(s.splat(1.0), exp(s, s.neg(s.mul(t, q))));
    let large = s.with_sign_of(large, x);
    s.select(s.less(s.abs(x), s.splat(0.92)), small, s.select(s.is_nan(x), x, large))
}

/// `x Φ(x)`, the Gaussian error linear unit; absolute error at most 4 ULP of `max(|x|, 2^-126)`.
#[inline(always)]
pub(crate) fn gelu<S: Simd>(s: S, x: S::F) -> S::F {
    let half = s.mul(x, s.splat(0.5));
    let phi = erf(s, s.mul(x, s.splat(std::f32::consts::FRAC_1_SQRT_2)));
    s.fma(half, phi, half)
}

/// `x/2 (1 + tanh(√(2/π) (x + 0.044715 x³)))`, the usual approximation of GELU.
#[inline(always)]
pub(crate) fn gelu_tanh<S: Simd>(s: S, x: S::F) -> S::F {
    let cubic = s.fma(s.mul(x, x), s.splat(0.044_715), s.splat(1.0));
    let inner = s.mul(s.mul(x, s.splat(0.797_884_6)), cubic);
    let half = s.mul(x, s.splat(0.5));
    s.fma(half, tanh(s, inner), half)
}
