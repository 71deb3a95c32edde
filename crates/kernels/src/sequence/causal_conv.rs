//! Depthwise causal convolution that continues from where the last call ended.

use crate::Exec;
use crate::elementwise::{Float, Wide};
use crate::parallel::over_chunks;

/// Extents and options of one causal convolution.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CausalConv {
    /// Channels.
    pub channels: usize,
    /// Steps.
    pub length: usize,
    /// Taps, at least 1.
    pub taps: usize,
    /// Results are multiplied by their sigmoid.
    pub silu: bool,
}

/// `out[n, c, t] = Σ w[c, j] padded[n, c, t + j] + bias[c]`, where `padded` is
/// `past [n, c, taps - 1]`, or zeros, then `x [n, c, length]`.
///
/// # Panics
/// If a slice is shorter than the extents demand.
pub fn causal_conv<T: Float>(
    exec: Exec<'_>,
    conv: &CausalConv,
    x: &[T],
    w: &[T],
    bias: Option<&[T]>,
    past: Option<&[T]>,
    out: &mut [T],
) {
    assert_eq!(x.len(), out.len(), "output length");
    let (length, kept) = (conv.length, conv.taps - 1);
    over_chunks(exec, out, length, conv.taps, &|first, chunk| {
        for (i, out) in chunk.chunks_exact_mut(length).enumerate() {
            let (plane, channel) = (first + i, (first + i) % conv.channels);
            let x = &x[plane * length..][..length];
            let past = past.map(|past| &past[plane * kept..][..kept]);
            let w = &w[channel * conv.taps..][..conv.taps];
            let zero = <T::Wide as Wide>::of(0.0);
            let start = bias.map_or(zero, |bias| bias[channel].widen());
            for (t, out) in out.iter_mut().enumerate() {
                let mut sum = start;
                for (j, w) in w.iter().enumerate() {
                    let value = match (t + j).checked_sub(kept) {
                        Some(at) => x[at].widen(),
                        None => past.map_or(zero, |past| past[t + j].widen()),
                    };
                    sum = sum + w.widen() * value;
                }
                if conv.silu {
                    let one = <T::Wide as Wide>::of(1.0);
                    sum = sum / (one + (-sum).apply(f32::exp, f64::exp));
                }
                *out = T::narrow(sum);
            }
        }
    });
}
