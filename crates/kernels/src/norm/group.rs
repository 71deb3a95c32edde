//! Group and instance normalisation: statistics over some channels of one image.

use super::channels::affine;
use super::{Float, Planes, Wide, lane_sum};
use crate::Exec;
use crate::parallel::over_chunks;
use crate::simd::in_vector_code;

/// Normalises `[batch, channels, pixels]` over `channels / groups` channels of an image at a time:
/// `(x - mean) / sqrt(variance + epsilon) * scale[c] + bias[c]`. As many groups as channels is
/// instance normalisation. Source: Y. Wu and K. He, "Group Normalization" (2018).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GroupNorm {
    /// The tensor.
    pub planes: Planes,
    /// Groups; divides the channels.
    pub groups: usize,
    /// Added to the variance.
    pub epsilon: f32,
}

/// Applies a group normalisation; `scale` and `bias` are `[channels]`.
///
/// # Panics
/// If a slice has the wrong length or the groups do not divide the channels.
pub fn group_normalize<T: Float>(
    exec: Exec<'_>,
    norm: &GroupNorm,
    [scale, bias]: [&[T]; 2],
    x: &[T],
    out: &mut [T],
) {
    let Planes { batch, channels, pixels } = norm.planes;
    assert!(norm.groups > 0 && channels % norm.groups == 0, "groups do not divide the channels");
    assert!(scale.len() == channels && bias.len() == channels, "channel lists");
    assert_eq!(x.len(), out.len(), "input and output lengths");
    assert_eq!(x.len(), batch * channels * pixels, "length of the planes");
    let members = channels / norm.groups;
    let len = members * pixels;
    over_chunks(exec, out, len, 3, &|first, chunk| {
        let x = &x[first * len..][..chunk.len()];
        in_vector_code(
            exec.cpu,
            #[inline(always)]
            || {
                let rows = x.chunks_exact(len).zip(chunk.chunks_exact_mut(len));
                for (i, (x, out)) in rows.enumerate() {
                    let start = (first + i) % norm.groups * members;
                    let (mean, inverse) = statistics(x, norm.epsilon);
                    let planes = x.chunks_exact(pixels).zip(out.chunks_exact_mut(pixels));
                    for (k, (x, out)) in planes.enumerate() {
                        let factor = inverse * scale[start + k].widen();
                        affine(x, mean, factor, bias[start + k].widen(), out);
                    }
                }
            },
        );
    });
}

/// Mean and `1 / sqrt(variance + epsilon)`, in two passes.
#[inline(always)]
fn statistics<T: Float>(row: &[T], epsilon: f32) -> (T::Wide, T::Wide) {
    let of = <T::Wide as Wide>::of;
    let count = of(row.len() as f64);
    let mean = lane_sum(
        row,
        #[inline(always)]
        |x| x,
    ) / count;
    let square = lane_sum(
        row,
        #[inline(always)]
        |x| (x - mean) * (x - mean),
    );
    let deviation = square / count + of(f64::from(epsilon));
    (mean, of(1.0) / deviation.apply(f32::sqrt, f64::sqrt))
}
