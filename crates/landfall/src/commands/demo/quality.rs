//! How good probabilities were, once the labels are known.

/// The quality of a binary classifier's probabilities.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Quality {
    /// Fraction of positive labels.
    pub(super) base_rate: f64,
    /// Probability that a random positive is scored above a random negative, ties counting half.
    pub(super) auc: f64,
    /// Mean negative log-likelihood, in nats.
    pub(super) log_loss: f64,
    /// The log-loss of always answering the base rate.
    pub(super) base_log_loss: f64,
}

/// Probabilities closer to 0 and 1 than this count as this, so that a loss is finite.
const CLOSEST: f64 = 1e-7;

impl Quality {
    /// Of one probability for each label.
    pub(super) fn of(labels: &[bool], probabilities: &[f64]) -> Quality {
        let count = labels.len().max(1) as f64;
        let positives = labels.iter().filter(|&&label| label).count() as f64;
        let base_rate = positives / count;
        let loss = |label: bool, p: f64| -(if label { p } else { 1.0 - p }).max(CLOSEST).ln();
        let mean = |p: &dyn Fn(usize) -> f64| {
            labels.iter().enumerate().map(|(i, &label)| loss(label, p(i))).sum::<f64>() / count
        };
        Quality {
            base_rate,
            auc: auc(labels, probabilities),
            log_loss: mean(&|i| probabilities[i]),
            base_log_loss: mean(&|_| base_rate),
        }
    }
}

/// By ranks. Source: Hanley and McNeil, "The Meaning and Use of the Area under a ROC Curve".
fn auc(labels: &[bool], scores: &[f64]) -> f64 {
    let mut order: Vec<usize> = (0..labels.len()).collect();
    order.sort_by(|&a, &b| scores[a].total_cmp(&scores[b]));
    let mut rank_sum = 0.0;
    let mut first = 0;
    while first < order.len() {
        let ties = order[first..].iter().take_while(|&&i| scores[i] == scores[order[first]]);
        // A NaN equals nothing, not even itself.
        let end = first + ties.count().max(1);
        let mean_rank = (first + 1 + end) as f64 / 2.0;
        let positives = order[first..end].iter().filter(|&&i| labels[i]).count();
        rank_sum += mean_rank * positives as f64;
        first = end;
    }
    let positives = labels.iter().filter(|&&label| label).count() as f64;
    let negatives = labels.len() as f64 - positives;
    (rank_sum - positives * (positives + 1.0) / 2.0) / (positives * negatives)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quality_is_as_defined() {
        let quality = Quality::of(&[false, true, false, true], &[0.1, 0.4, 0.4, 0.8]);
        // Of four pairs three are in order and one is tied.
        assert_eq!(quality.auc, 3.5 / 4.0);
        assert_eq!(quality.base_rate, 0.5);
        let expected = -(0.9f64.ln() + 0.4f64.ln() + 0.6f64.ln() + 0.8f64.ln()) / 4.0;
        assert!((quality.log_loss - expected).abs() < 1e-12);
        assert!((quality.base_log_loss - 2f64.ln()).abs() < 1e-12);
        assert!(Quality::of(&[true, false], &[0.0, 1.0]).log_loss.is_finite());
    }
}
