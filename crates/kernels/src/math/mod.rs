//! Elementary functions over slices, and activations.

mod activation;
pub(crate) mod lanes;
#[cfg(test)]
mod tests;

pub(crate) use activation::ActivateTile;
#[cfg(test)]
pub(crate) use activation::activate_slice;
pub use activation::{Activation, activate};

/// Error function in double precision, for twins: the Taylor series below 2.5, the continued
/// fraction of erfc above (Abramowitz and Stegun 7.1.5, 7.1.14); absolute error below 1e-12.
pub(crate) fn erf_f64(x: f64) -> f64 {
    let t = x.abs();
    if t.is_nan() {
        return x;
    }
    if t < 2.5 {
        let (mut term, mut sum, mut n) = (x, x, 0.0);
        while term.abs() > 1e-17 * sum.abs() {
            n += 1.0;
            term *= -x * x / n;
            sum += term / (2.0 * n + 1.0);
        }
        return sum * std::f64::consts::FRAC_2_SQRT_PI;
    }
    let mut fraction = t;
    for k in (1..=60).rev() {
        fraction = t + f64::from(k) / 2.0 / fraction;
    }
    (1.0 - (-t * t).exp() / (fraction * std::f64::consts::PI.sqrt())).copysign(x)
}
