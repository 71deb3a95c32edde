//! Batch normalisation: statistics and an affine map for every channel.

use super::{Float, Wide};
use crate::Exec;
use crate::parallel::over_chunks;
use crate::simd::in_vector_code;

/// A tensor `[batch, channels, pixels]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Planes {
    /// Images.
    pub batch: usize,
    /// Channels.
    pub channels: usize,
    /// Elements of one channel of one image.
    pub pixels: usize,
}

/// `out = (x - mean[c]) factor[c] + shift[c]` for every channel `c`; each list is `[channels]`.
///
/// # Panics
/// If a slice has the wrong length.
pub fn affine_channels<T: Float>(
    exec: Exec<'_>,
    planes: &Planes,
    [mean, factor, shift]: [&[T::Wide]; 3],
    x: &[T],
    out: &mut [T],
) {
    let channels = planes.channels;
    assert_eq!(x.len(), out.len(), "input and output lengths");
    assert_eq!(x.len(), planes.batch * channels * planes.pixels, "length of the planes");
    assert!([mean, factor, shift].iter().all(|list| list.len() == channels), "channel lists");
    if planes.pixels == 1 {
        over_chunks(exec, out, channels, 1, &|first, chunk| {
            let x = &x[first * channels..][..chunk.len()];
            in_vector_code(
                exec.cpu,
                #[inline(always)]
                || {
                    let rows = x.chunks_exact(channels).zip(chunk.chunks_exact_mut(channels));
                    for (x, out) in rows {
                        for c in 0..channels {
                            out[c] = T::narrow((x[c].widen() - mean[c]) * factor[c] + shift[c]);
                        }
                    }
                },
            );
        });
        return;
    }
    over_chunks(exec, out, planes.pixels, 1, &|first, chunk| {
        let x = &x[first * planes.pixels..][..chunk.len()];
        in_vector_code(
            exec.cpu,
            #[inline(always)]
            || {
                let rows = x.chunks_exact(planes.pixels);
                for (i, (x, out)) in rows.zip(chunk.chunks_exact_mut(planes.pixels)).enumerate() {
                    let c = (first + i) % channels;
                    affine(x, mean[c], factor[c], shift[c], out);
                }
            },
        );
    });
}

/// `out = (x - mean) factor + shift`.
#[inline(always)]
pub(super) fn affine<T: Float>(
    x: &[T],
    mean: T::Wide,
    factor: T::Wide,
    shift: T::Wide,
    out: &mut [T],
) {
    for (o, &x) in out.iter_mut().zip(x) {
        *o = T::narrow((x.widen() - mean) * factor + shift);
    }
}

/// Mean and population variance of channel `channel` over all images, in `f64` and two passes.
/// NaN if there are no elements.
///
/// # Panics
/// If `x` has the wrong length.
pub fn channel_moments<T: Float>(planes: &Planes, channel: usize, x: &[T]) -> (f64, f64) {
    assert_eq!(x.len(), planes.batch * planes.channels * planes.pixels, "length of the planes");
    let count = (planes.batch * planes.pixels) as f64;
    let sum = |f: &dyn Fn(f64) -> f64| -> f64 {
        let plane = |n: usize| &x[(n * planes.channels + channel) * planes.pixels..];
        (0..planes.batch)
            .flat_map(|n| &plane(n)[..planes.pixels])
            .map(|x| f(x.widen().to_f64()))
            .sum()
    };
    let mean = sum(&|x| x) / count;
    (mean, sum(&|x| (x - mean) * (x - mean)) / count)
}
