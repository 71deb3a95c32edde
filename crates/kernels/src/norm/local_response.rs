//! Local response normalisation: every element divided by a power of the energy of its neighbours
//! along the channel axis. Source: A. Krizhevsky and others, "ImageNet Classification with Deep
//! Convolutional Neural Networks" (2012), section 3.3.

use super::{Float, Planes, Wide};
use crate::Exec;
use crate::parallel::over_chunks;
use crate::simd::in_vector_code;

/// `x[c] / (bias + alpha / size * Σ x[k]²)^beta`, `k` over `size` channels around `c`: one more
/// after it than before if `size` is even.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LocalResponse {
    /// The tensor.
    pub planes: Planes,
    /// Channels summed; at least 1.
    pub size: usize,
    /// Weight of the mean square.
    pub alpha: f32,
    /// Exponent.
    pub beta: f32,
    /// Added to the weighted mean square.
    pub bias: f32,
}

/// Pixels worked on at a time: their sums stay in L1.
const BLOCK: usize = 256;

/// Applies a local response normalisation.
///
/// # Panics
/// If a slice has the wrong length or `size` is 0.
pub fn local_response<T: Float>(exec: Exec<'_>, norm: &LocalResponse, x: &[T], out: &mut [T]) {
    let Planes { batch, channels, pixels } = norm.planes;
    assert!(norm.size > 0, "a window of no channels");
    assert_eq!(x.len(), out.len(), "input and output lengths");
    assert_eq!(x.len(), batch * channels * pixels, "length of the planes");
    over_chunks(exec, out, pixels, norm.size.min(channels) + 8, &|first, chunk| {
        in_vector_code(
            exec.cpu,
            #[inline(always)]
            || {
                for (i, out) in chunk.chunks_exact_mut(pixels).enumerate() {
                    plane(norm, first + i, x, out);
                }
            },
        );
    });
}

/// One channel of one image.
#[inline(always)]
fn plane<T: Float>(norm: &LocalResponse, index: usize, x: &[T], out: &mut [T]) {
    let Planes { channels, pixels, .. } = norm.planes;
    let of = |value: f32| <T::Wide as Wide>::of(f64::from(value));
    let (image, c) = (index / channels, index % channels);
    let before = (norm.size - 1) / 2;
    let window = c.saturating_sub(before)..c.saturating_add(norm.size - before).min(channels);
    let weight = <T::Wide as Wide>::of(f64::from(norm.alpha) / norm.size as f64);
    let bias = of(norm.bias);
    for (block, out) in out.chunks_mut(BLOCK).enumerate() {
        let mut sums = [of(0.0); BLOCK];
        for k in window.clone() {
            let source = &x[(image * channels + k) * pixels + block * BLOCK..][..out.len()];
            for (sum, &value) in sums.iter_mut().zip(source) {
                *sum = *sum + value.widen() * value.widen();
            }
        }
        let source = &x[index * pixels + block * BLOCK..][..out.len()];
        let energy = sums.iter().map(
            #[inline(always)]
            |&sum| bias + weight * sum,
        );
        // The customary exponent is two square roots, which are vector instructions.
        if norm.beta == 0.75 {
            for ((o, &x), base) in out.iter_mut().zip(source).zip(energy) {
                let root = base.apply(f32::sqrt, f64::sqrt);
                *o = T::narrow(x.widen() / (root * root.apply(f32::sqrt, f64::sqrt)));
            }
        } else {
            let beta = of(norm.beta);
            for ((o, &x), base) in out.iter_mut().zip(source).zip(energy) {
                *o = T::narrow(x.widen() / base.power(beta));
            }
        }
    }
}
