//! Normalisations over axes other than the innermost, and the general forms of those over rows.
//!
//! The loops are plain and generic over the element type; inside a function compiled for the
//! instruction set they become vector code. Half-precision types compute in `f32`.

mod channels;
mod group;
mod lines;
mod local_response;
mod rows;
#[cfg(test)]
mod tests;

pub use channels::{Planes, affine_channels, channel_moments};
pub use group::{GroupNorm, group_normalize};
pub use lines::{LineNorm, Lines, normalize_lines};
pub use local_response::{LocalResponse, local_response};
pub use rows::{RowNorm, Spread, normalize_rows, row_statistics};

use crate::elementwise::{Float, Wide};

/// Partial sums kept side by side, so that the additions are independent.
const LANES: usize = 16;

/// `Σ f(x)` over a row, in `LANES` interleaved partial sums.
#[inline(always)]
fn lane_sum<T: Float>(row: &[T], f: impl Fn(T::Wide) -> T::Wide) -> T::Wide {
    let zero = <T::Wide as Wide>::of(0.0);
    let mut sums = [zero; LANES];
    let mut blocks = row.chunks_exact(LANES);
    for block in &mut blocks {
        for (sum, &x) in sums.iter_mut().zip(block) {
            *sum = *sum + f(x.widen());
        }
    }
    let tail = blocks.remainder().iter().fold(zero, |sum, &x| sum + f(x.widen()));
    let mut width = LANES / 2;
    while width > 0 {
        for i in 0..width {
            sums[i] = sums[i] + sums[i + width];
        }
        width /= 2;
    }
    sums[0] + tail
}
