//! Direct transposed convolution.

use super::{SPATIAL, Scalar};
use crate::Exec;
use crate::conv::TransposedConv;
use crate::parallel::over_chunks;

/// `out = transposed_conv(x, w)`; `w` is `[channels, out_channels / groups, kernel...]`. Sums run
/// over taps, then channels.
///
/// # Panics
/// If a slice has the wrong length.
pub fn direct_transposed<T: Scalar>(
    exec: Exec<'_>,
    conv: &TransposedConv,
    [x, w]: [&[T]; 2],
    out: &mut [T],
) {
    let window = &conv.window;
    let taps: usize = window.kernel.iter().product();
    let (inputs, outputs) = (conv.channels / conv.groups, conv.out_channels / conv.groups);
    let (area, pixels): (usize, usize) =
        (window.input.iter().product(), window.output.iter().product());
    assert_eq!(x.len(), conv.batch * conv.channels * area, "input length");
    assert_eq!(w.len(), conv.channels * outputs * taps, "weights length");
    assert_eq!(out.len(), conv.batch * conv.out_channels * pixels, "output length");
    over_chunks(exec, out, pixels, taps.saturating_mul(inputs), &|first, chunk| {
        for (i, plane) in chunk.chunks_exact_mut(pixels).enumerate() {
            let (image, o) = ((first + i) / conv.out_channels, (first + i) % conv.out_channels);
            let source = image * conv.channels + o / outputs * inputs;
            for (value, position) in plane.iter_mut().zip(window.positions()) {
                let mut sum = T::ZERO;
                for tap in 0..taps {
                    let Some(at) = meeting(conv, position, tap) else { continue };
                    for c in 0..inputs {
                        let weight = (o / outputs * inputs + c) * outputs + o % outputs;
                        let x = x[(source + c) * area + at];
                        sum = T::add_product(sum, x, w[weight * taps + tap]);
                    }
                }
                *value = T::finish(sum);
            }
        }
    });
}

/// The input position whose window puts `tap` on an output position.
fn meeting(conv: &TransposedConv, out: [usize; SPATIAL], tap: usize) -> Option<usize> {
    let window = &conv.window;
    let [_, height, width] = window.kernel;
    let tap = [tap / (height * width), tap / width % height, tap % width];
    let mut at = 0;
    for axis in 0..SPATIAL {
        let place = out[axis] + window.pad[axis];
        let distance = place.checked_sub(tap[axis] * window.dilation[axis])?;
        let index = distance / window.stride[axis];
        if distance % window.stride[axis] != 0 || index >= window.input[axis] {
            return None;
        }
        at = at * window.input[axis] + index;
    }
    Some(at)
}
