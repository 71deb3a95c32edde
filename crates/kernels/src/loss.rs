//! Losses over classes, and the logarithms of softmax that they take.

use crate::elementwise::{CastElement, Float, Wide};

/// `[batch, classes, positions]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Classes {
    /// Samples.
    pub batch: usize,
    /// Classes.
    pub classes: usize,
    /// Positions of one sample.
    pub positions: usize,
}

/// `out = ln softmax(scores)` over the classes.
///
/// # Panics
/// If a slice has the wrong length.
pub fn log_softmax<T: Float + CastElement>(shape: &Classes, scores: &[T], out: &mut [f64]) {
    let Classes { classes, positions, .. } = *shape;
    assert_eq!(scores.len(), out.len(), "output length");
    let block = classes * positions;
    for start in (0..shape.batch).flat_map(|n| (0..positions).map(move |p| n * block + p)) {
        let at = |c: usize| scores[start + c * positions].widen().to_f64();
        let most = (0..classes).map(at).fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = (0..classes).map(|c| (at(c) - most).exp()).sum();
        let log = most + sum.ln();
        (0..classes).for_each(|c| out[start + c * positions] = at(c) - log);
    }
}

/// Loss of every sample and position, and the weight that it counts with: `-weight log_prob` of its
/// label; `None` for a label that is not a class. Ignored labels count nothing.
pub fn losses<'a>(
    shape: &'a Classes,
    log_probs: &'a [f64],
    labels: &'a [i64],
    weights: Option<&'a [f64]>,
    ignored: Option<i64>,
) -> impl Iterator<Item = Option<[f64; 2]>> + 'a {
    let Classes { classes, positions, .. } = *shape;
    labels.iter().enumerate().map(move |(i, &label)| {
        if ignored == Some(label) {
            return Some([0.0, 0.0]);
        }
        let class = usize::try_from(label).ok().filter(|&class| class < classes)?;
        let (sample, position) = (i / positions, i % positions);
        let log = log_probs.get((sample * classes + class) * positions + position)?;
        let weight = match weights {
            Some(weights) => *weights.get(class)?,
            None => 1.0,
        };
        Some([-weight * log, weight])
    })
}
