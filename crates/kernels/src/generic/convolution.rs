//! Direct convolution.

use super::matmul::Scalar;
use super::{SPATIAL, Window3d};
use crate::Exec;
use crate::parallel::over_range;
use crate::shared::SharedMut;

/// A convolution with up to three spatial axes, in either layout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DirectConv {
    /// Images.
    pub batch: usize,
    /// Input channels.
    pub channels: usize,
    /// Output channels.
    pub out_channels: usize,
    /// Groups; divides both.
    pub groups: usize,
    /// Windows.
    pub window: Window3d,
    /// Channels innermost in input and output, not after the batch axis.
    pub channels_last: bool,
}

impl DirectConv {
    fn index(&self, extents: [usize; SPATIAL], channels: usize, at: [usize; 5]) -> usize {
        let [n, c, z, y, x] = at;
        let spatial = (z * extents[1] + y) * extents[2] + x;
        let pixels: usize = extents.iter().product();
        if self.channels_last {
            (n * pixels + spatial) * channels + c
        } else {
            (n * channels + c) * pixels + spatial
        }
    }
}

/// `out = conv(x, w)`; `w` is `[out_channels, channels / groups, kernel...]`. Sums run over taps,
/// then channels.
///
/// # Panics
/// If a slice has the wrong length.
pub fn direct_conv<T: Scalar>(exec: Exec<'_>, conv: &DirectConv, x: &[T], w: &[T], out: &mut [T]) {
    let window = &conv.window;
    let taps: usize = window.kernel.iter().product();
    let (inputs, outputs) = (conv.channels / conv.groups, conv.out_channels / conv.groups);
    let pixels: usize = window.output.iter().product();
    assert_eq!(out.len(), conv.batch * conv.out_channels * pixels, "output length");
    assert_eq!(w.len(), conv.out_channels * inputs * taps, "weights length");
    let shared = SharedMut::new(out);
    let cost = pixels.saturating_mul(inputs * taps);
    over_range(exec, conv.batch * conv.out_channels, cost, &|planes| {
        for plane in planes {
            let (n, o) = (plane / conv.out_channels, plane % conv.out_channels);
            let first = o / outputs * inputs;
            for position in window.positions() {
                let mut sum = T::ZERO;
                window.taps(position, |tap, [z, y, x_at]| {
                    for c in 0..inputs {
                        let at = [n, first + c, z, y, x_at];
                        let value = x[conv.index(window.input, conv.channels, at)];
                        sum = T::add_product(sum, value, w[(o * inputs + c) * taps + tap]);
                    }
                });
                let [z, y, x_at] = position;
                let at = conv.index(window.output, conv.out_channels, [n, o, z, y, x_at]);
                // SAFETY: every (image, channel, position) is one element, and planes are disjoint.
                unsafe { shared.range(at, 1)[0] = T::finish(sum) };
            }
        }
    });
}
