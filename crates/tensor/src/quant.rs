//! Quantisation parameters and the one rounding rule of integer inference.
//!
//! A real value is `scale * (q - zero_point)`. An accumulator is brought to the scale of an output
//! by a fixed-point multiplication: a 31-bit mantissa and a right shift, rounded to nearest with
//! ties to even. It is exact integer arithmetic, so a server's SIMD, C on a device and WebAssembly
//! agree to the last bit. Ties go to even because ONNX `QuantizeLinear` rounds so.
//! Source of the scheme: Jacob et al., "Quantization and Training of Neural Networks for Efficient
//! Integer-Arithmetic-Only Inference", section 2.2.

use crate::Tensor;

/// How integers of a tensor stand for real values.
#[derive(Debug, Clone, PartialEq)]
pub struct QuantParams {
    /// One positive scale, or one for each index along `axis`.
    pub scale: Vec<f32>,
    /// As many zero points as scales, in the range of the integer type.
    pub zero_point: Vec<i32>,
    /// The axis that the parameters run along; `None` for one pair for the whole tensor.
    pub axis: Option<usize>,
}

/// A positive real number below 2^31 as `mantissa * 2^-shift`, `mantissa` in `[2^30, 2^31)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FixedPointScale {
    /// 31-bit mantissa; 0 stands for the scale 0.
    pub mantissa: i32,
    /// Right shift, 0 to 62.
    pub shift: u32,
}

impl FixedPointScale {
    /// The nearest fixed-point number. `None` unless `0 <= scale < 2^30` and finite; scales below
    /// 2^-32 round to zero, which no accumulator can tell from the truth.
    pub fn new(scale: f64) -> Option<FixedPointScale> {
        if !(scale.is_finite() && (0.0..1_073_741_824.0).contains(&scale)) {
            return None;
        }
        let zero = FixedPointScale { mantissa: 0, shift: 0 };
        if scale == 0.0 {
            return Some(zero);
        }
        let exponent = scale.log2().floor() as i32 + 1;
        let mut shift = 31 - exponent;
        let mut mantissa = (scale * 2f64.powi(shift)).round_ties_even() as i64;
        if mantissa >= 1 << 31 {
            mantissa >>= 1;
            shift -= 1;
        } else if mantissa < 1 << 30 {
            mantissa <<= 1;
            shift += 1;
        }
        match u32::try_from(shift) {
            Ok(shift @ 0..=62) => Some(FixedPointScale { mantissa: mantissa as i32, shift }),
            Ok(_) => Some(zero),
            Err(_) => None,
        }
    }
}

/// An accumulator at the scale of an output: `round_ties_even(acc * scale)`, before the output's
/// zero point is added and the sum clamped.
pub fn requantize(acc: i32, scale: FixedPointScale) -> i32 {
    let product = i64::from(acc) * i64::from(scale.mantissa);
    if scale.shift == 0 {
        return product.clamp(i64::from(i32::MIN), i64::from(i32::MAX)) as i32;
    }
    let half = (1i64 << (scale.shift - 1)) - 1;
    let odd = (product >> scale.shift) & 1;
    let rounded = (product + half + odd) >> scale.shift;
    rounded.clamp(i64::from(i32::MIN), i64::from(i32::MAX)) as i32
}

/// How two quantised terms are brought to the scale of their sum: multiplied by integers, added,
/// and the accumulator requantised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SumScales {
    /// What the terms are multiplied by, at most 2^22 each: an accumulator of two terms of less
    /// than 256 steps fits an `i32`.
    pub factors: [i32; 2],
    /// Of the accumulator to the scale of the sum.
    pub scale: FixedPointScale,
}

impl SumScales {
    /// For terms whose steps are `ratios` steps of the sum. `None` unless both are positive and the
    /// larger one is between 2^-9 and 2^12, outside which the integers would lose too much.
    pub fn new(ratios: [f64; 2]) -> Option<SumScales> {
        let largest = ratios[0].max(ratios[1]);
        let positive = ratios.iter().all(|&ratio| ratio > 0.0);
        if !positive || !(2f64.powi(-9)..2f64.powi(12)).contains(&largest) {
            return None;
        }
        let shift = 21 - largest.log2().floor() as i32;
        let factor = |ratio: f64| (ratio * 2f64.powi(shift)).round_ties_even() as i32;
        let scale = FixedPointScale::new(2f64.powi(-shift))?;
        Some(SumScales { factors: ratios.map(factor), scale })
    }

    /// The sum at its scale, of terms less their zero points.
    pub fn sum(self, terms: [i32; 2]) -> i32 {
        requantize(terms[0] * self.factors[0] + terms[1] * self.factors[1], self.scale)
    }
}

/// ONNX `QuantizeLinear` for one value: `clamp(round_ties_even(value / scale) + zero_point)`.
/// NaN becomes `zero_point`.
pub fn quantize_value(value: f32, scale: f32, zero_point: i32, min: i32, max: i32) -> i32 {
    let rounded = (value / scale).round_ties_even();
    let sum = if rounded.is_nan() { 0.0 } else { f64::from(rounded) } + f64::from(zero_point);
    sum.clamp(f64::from(min), f64::from(max)) as i32
}

impl QuantParams {
    /// One scale and zero point for the whole tensor.
    pub fn per_tensor(scale: f32, zero_point: i32) -> QuantParams {
        QuantParams { scale: vec![scale], zero_point: vec![zero_point], axis: None }
    }

    /// From the constant `scale` and `zero_point` operands of a quantised operator.
    /// `None` if they are not constants of the expected kind or a scale is not positive and finite.
    pub fn from_tensors(scale: &Tensor, zero_point: Option<&Tensor>, axis: usize) -> Option<Self> {
        let scales = scale.aligned().as_slice::<f32>().ok()?.to_vec();
        let zero_point = match zero_point {
            None => vec![0; scales.len()],
            Some(t) => {
                let t = t.aligned();
                let i8s = t.as_slice::<i8>().map(|v| v.iter().map(|&x| x.into()).collect());
                let u8s = t.as_slice::<u8>().map(|v| v.iter().map(|&x| x.into()).collect());
                i8s.or(u8s).or(t.as_slice::<i32>().map(<[i32]>::to_vec)).ok()?
            }
        };
        let valid = zero_point.len() == scales.len()
            && scales.iter().all(|s| s.is_finite() && *s > 0.0)
            && !scales.is_empty();
        let axis = (scales.len() > 1).then_some(axis);
        valid.then_some(QuantParams { scale: scales, zero_point, axis })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_sum_is_within_rounding_of_the_real_one(
            ratios in prop::array::uniform2(0.01..100.0f64),
            terms in prop::array::uniform2(-255..=255i32),
        ) {
            let scales = SumScales::new(ratios).unwrap();
            let real = f64::from(terms[0]) * ratios[0] + f64::from(terms[1]) * ratios[1];
            // Half a step, and what rounding the factors does to 255 steps.
            let slack = 510.0 * 2f64.powi(-22) * ratios[0].max(ratios[1]);
            prop_assert!((f64::from(scales.sum(terms)) - real).abs() <= 0.5 + slack);
        }
    }

    #[test]
    fn sums_of_far_too_different_scales_are_refused() {
        assert_eq!(SumScales::new([1e-5, 1e-6]), None);
        assert_eq!(SumScales::new([5000.0, 1.0]), None);
        assert_eq!(SumScales::new([0.0, 1.0]), None);
        let largest = SumScales::new([4095.9, 4095.9]).unwrap();
        assert_eq!(largest.sum([255, 255]), (510.0 * 4095.9_f64).round_ties_even() as i32);
    }

    #[test]
    fn ties_go_to_even() {
        let half = FixedPointScale::new(0.5).unwrap();
        let halves = [-5, -3, -1, 1, 3, 5].map(|acc| requantize(acc, half));
        assert_eq!(halves, [-2, -2, 0, 0, 2, 2]);
    }

    proptest! {
        #[test]
        fn requantisation_is_the_rounded_product(acc: i32, scale in 1e-9f64..2.0) {
            let fixed = FixedPointScale::new(scale).unwrap();
            let exact = f64::from(acc) * scale;
            let got = f64::from(requantize(acc, fixed));
            let clamped = exact.clamp(f64::from(i32::MIN), f64::from(i32::MAX));
            prop_assert!((got - clamped).abs() <= 0.5 + clamped.abs() * 2f64.powi(-30));
        }
    }
}
