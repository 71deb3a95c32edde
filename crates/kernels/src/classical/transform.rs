//! What a classical model does to the scores of a row.

/// A function of the scores of one row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Transform {
    /// Nothing.
    #[default]
    None,
    /// `e^s / Σ e^s`.
    Softmax,
    /// `1 / (1 + e^-s)` of each.
    Logistic,
    /// Softmax over the scores that are not zero; zeros stay zero.
    SoftmaxZero,
    /// The quantile function of the normal distribution of each.
    Probit,
}

impl Transform {
    /// Transforms one row.
    pub fn apply(self, scores: &mut [f64]) {
        match self {
            Transform::None => (),
            Transform::Softmax => softmax(scores, |_| true),
            Transform::SoftmaxZero => softmax(scores, |score| score.abs() > 1e-7),
            Transform::Logistic => scores.iter_mut().for_each(|score| *score = logistic(*score)),
            Transform::Probit => scores.iter_mut().for_each(|score| *score = probit(*score)),
        }
    }
}

/// `1 / (1 + e^-x)`.
pub(crate) fn logistic(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

fn softmax(scores: &mut [f64], counts: impl Fn(f64) -> bool) {
    let largest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let mut sum = 0.0;
    for score in scores.iter_mut() {
        if counts(*score) {
            *score = (*score - largest).exp();
            sum += *score;
        } else {
            *score = 0.0;
        }
    }
    if sum > 0.0 {
        scores.iter_mut().for_each(|score| *score /= sum);
    }
}

/// `√2 erf⁻¹(2 p - 1)`: a rational start (Winitzki, "A handy approximation for the error function
/// and its inverse", 2008, relative error 2e-3) and two steps of Newton's method.
fn probit(p: f64) -> f64 {
    if !(p > 0.0 && p < 1.0) {
        return match p {
            0.0 => f64::NEG_INFINITY,
            1.0 => f64::INFINITY,
            _ => f64::NAN,
        };
    }
    let x = 2.0 * p - 1.0;
    let a = 0.147;
    let log = (4.0 * p * (1.0 - p)).ln();
    let v = 2.0 / (std::f64::consts::PI * a) + 0.5 * log;
    let mut root = ((v * v - log / a).sqrt() - v).max(0.0).sqrt().copysign(x);
    for _ in 0..2 {
        let slope = std::f64::consts::FRAC_2_SQRT_PI * (-root * root).exp();
        if slope > 1e-300 {
            root -= (crate::erf_f64(root) - x) / slope;
        }
    }
    std::f64::consts::SQRT_2 * root
}
