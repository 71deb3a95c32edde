//! Random numbers by position.
//!
//! Number `i` of a seed is a function of both and of nothing else: it does not depend on threads,
//! on earlier calls or on how many numbers are asked for. The generator is Philox4x32-10 of Salmon,
//! Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3" (SC 2011), with the seed as
//! key and the position as counter.

use crate::elementwise::CastElement;

/// A stream of random numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Random {
    key: [u32; 2],
}

/// Multipliers and key increments of Philox4x32.
const MULTIPLIERS: [u32; 2] = [0xd251_1f53, 0xcd9e_8d57];
const WEYL: [u32; 2] = [0x9e37_79b9, 0xbb67_ae85];
const ROUNDS: usize = 10;

impl Random {
    /// The stream of a seed.
    pub fn new(seed: u64) -> Random {
        Random { key: [seed as u32, (seed >> 32) as u32] }
    }

    /// The four words of a counter.
    fn words(&self, mut counter: [u32; 4]) -> [u32; 4] {
        let mut key = self.key;
        for _ in 0..ROUNDS {
            let wide = |i: usize| u64::from(MULTIPLIERS[i]) * u64::from(counter[2 * i]);
            let (a, b) = (wide(0), wide(1));
            counter = [
                (b >> 32) as u32 ^ counter[1] ^ key[0],
                b as u32,
                (a >> 32) as u32 ^ counter[3] ^ key[1],
                a as u32,
            ];
            key = [key[0].wrapping_add(WEYL[0]), key[1].wrapping_add(WEYL[1])];
        }
        counter
    }

    /// Two numbers for a position, each uniform in [0, 1) with 53 bits.
    fn pair(&self, position: u64) -> [f64; 2] {
        let [a, b, c, d] = self.words([position as u32, (position >> 32) as u32, 0, 0]);
        let unit = |high: u32, low: u32| {
            let bits = u64::from(high) << 32 | u64::from(low);
            (bits >> 11) as f64 / (1u64 << 53) as f64
        };
        [unit(a, b), unit(c, d)]
    }

    /// A number uniform in [0, 1).
    pub fn uniform(&self, position: u64) -> f64 {
        self.pair(position)[0]
    }

    /// A number of the standard normal distribution, by the method of Box and Muller.
    pub fn normal(&self, position: u64) -> f64 {
        let [u, v] = self.pair(position);
        // `1 - u` is above 0, so that its logarithm is finite.
        (-2.0 * (1.0 - u).ln()).sqrt() * (std::f64::consts::TAU * v).cos()
    }
}

/// Numbers uniform in [`low`, `high`); rounding to the element type may give `high`.
pub fn sample_uniform<T: CastElement>(random: Random, low: f64, high: f64, out: &mut [T]) {
    for (i, o) in out.iter_mut().enumerate() {
        *o = T::from_real(low + (high - low) * random.uniform(i as u64));
    }
}

/// Normally distributed numbers.
pub fn sample_normal<T: CastElement>(random: Random, mean: f64, deviation: f64, out: &mut [T]) {
    for (i, o) in out.iter_mut().enumerate() {
        *o = T::from_real(mean + deviation * random.normal(i as u64));
    }
}

/// True with the probability that each element is.
pub fn sample_bernoulli<T: CastElement, U: CastElement>(
    random: Random,
    probabilities: &[T],
    out: &mut [U],
) {
    for (i, (o, p)) in out.iter_mut().zip(probabilities).enumerate() {
        *o = U::from_integer(i128::from(random.uniform(i as u64) < p.to_real()));
    }
}

/// Classes drawn with probabilities proportional to the exponentials of `logits [rows, classes]`,
/// into `out [rows, samples]`. Classes of logit minus infinity are never drawn.
///
/// # Panics
/// If there are no classes, or a length does not fit.
pub fn sample_classes<T: CastElement, U: CastElement>(
    random: Random,
    classes: usize,
    logits: &[T],
    out: &mut [U],
) {
    if out.is_empty() {
        return;
    }
    let rows = logits.len() / classes;
    let samples = out.len() / rows;
    assert!(logits.len() == rows * classes && out.len() == rows * samples, "operand length");
    let mut sums = vec![0.0; classes];
    let drawn = out.chunks_exact_mut(samples).zip(logits.chunks_exact(classes));
    for (row, (out, logits)) in drawn.enumerate() {
        let real = logits.iter().map(|x| x.to_real());
        let most = real.clone().fold(f64::NEG_INFINITY, f64::max);
        let mut total = 0.0;
        for (sum, x) in sums.iter_mut().zip(real) {
            total += if x > f64::NEG_INFINITY { (x - most).exp() } else { 0.0 };
            *sum = total;
        }
        for (i, o) in out.iter_mut().enumerate() {
            let point = random.uniform((row * samples + i) as u64) * total;
            let class = sums.partition_point(|&sum| sum <= point).min(classes - 1);
            *o = U::from_integer(class as i128);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Known answers published with the generator's reference implementation.
    #[test]
    fn words_match_the_known_answers() {
        let zero = Random::new(0).words([0; 4]);
        assert_eq!(zero, [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
        let ones = Random::new(u64::MAX).words([u32::MAX; 4]);
        assert_eq!(ones, [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]);
    }

    #[test]
    fn moments_are_those_of_the_distribution() {
        let count = 100_000;
        let random = Random::new(7);
        let moments = |sample: &dyn Fn(u64) -> f64| {
            let numbers: Vec<f64> = (0..count).map(sample).collect();
            let mean = numbers.iter().sum::<f64>() / count as f64;
            let square = numbers.iter().map(|x| (x - mean).powi(2)).sum::<f64>();
            (mean, square / count as f64)
        };
        let (mean, variance) = moments(&|i| random.uniform(i));
        assert!((mean - 0.5).abs() < 4e-3 && (variance - 1.0 / 12.0).abs() < 2e-3);
        let (mean, variance) = moments(&|i| random.normal(i));
        assert!(mean.abs() < 0.015 && (variance - 1.0).abs() < 0.025);
    }

    #[test]
    fn classes_are_drawn_by_their_weights() {
        let weights = [0.0f64, 1.0, 3.0];
        let logits: Vec<f64> = weights.iter().map(|w| w.ln()).collect();
        let mut out = vec![0i32; 40_000];
        sample_classes(Random::new(1), 3, &logits, &mut out);
        let of = |class: i32| out.iter().filter(|&&c| c == class).count() as f64;
        assert_eq!(of(0), 0.0);
        assert!((of(2) / of(1) - 3.0).abs() < 0.15, "{} {}", of(1), of(2));
    }
}
