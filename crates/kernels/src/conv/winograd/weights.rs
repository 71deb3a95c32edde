//! Transformed filters, packed `[outputs / 16][N · N][channels][16]`: for each panel of output
//! channels one panel of a right-hand operand for each of the tile's products, in the order in
//! which they are read. They are computed in double precision and rounded once, without fused
//! operations, so a package holds the same bits whatever machine wrote it.

use super::transform::Variant;
use crate::gemm::PANEL;
use crate::simd::autovectorize;
use crate::{Conv2d, Cpu};

/// Filters of one channel for a panel of outputs: `[tap][output]`.
type Taps = [[f64; PANEL]; 9];

/// Packs weights `[outputs, channels, 3, 3]`.
pub(super) fn pack<V: Variant<N, M>, const N: usize, const M: usize>(
    conv: &Conv2d,
    weights: &[f32],
    out: &mut [f32],
) {
    let (channels, outputs) = (conv.window.channels, conv.out_channels);
    if channels == 0 {
        return;
    }
    autovectorize(
        Cpu::detect(),
        #[inline(always)]
        || {
            for (panel, out) in out.chunks_exact_mut(N * N * channels * PANEL).enumerate() {
                let first = panel * PANEL;
                let used = PANEL.min(outputs - first);
                for c in 0..channels {
                    let mut taps: Taps = [[0.0; PANEL]; 9];
                    for j in 0..used {
                        let filter = &weights[((first + j) * channels + c) * 9..][..9];
                        for (tap, &x) in taps.iter_mut().zip(filter) {
                            tap[j] = f64::from(x);
                        }
                    }
                    transform::<V, N, M>(&taps, &mut out[c * PANEL..], channels * PANEL);
                }
            }
        },
    );
}

/// Writes `N · N` vectors, `stride` elements apart.
#[inline(always)]
fn transform<V: Variant<N, M>, const N: usize, const M: usize>(
    taps: &Taps,
    out: &mut [f32],
    stride: usize,
) {
    let weighted = |row: &[f64; 3], lines: [&[f64; PANEL]; 3], to: &mut [f64; PANEL]| {
        for (j, x) in to.iter_mut().enumerate() {
            *x = row[0] * lines[0][j] + row[1] * lines[1][j] + row[2] * lines[2][j];
        }
    };
    let mut half = [[[0.0; PANEL]; 3]; N];
    for (row, half) in V::FILTER.iter().zip(&mut half) {
        for (x, half) in half.iter_mut().enumerate() {
            weighted(row, [&taps[x], &taps[3 + x], &taps[6 + x]], half);
        }
    }
    for (y, half) in half.iter().enumerate() {
        for (x, row) in V::FILTER.iter().enumerate() {
            let mut whole = [0.0; PANEL];
            weighted(row, [&half[0], &half[1], &half[2]], &mut whole);
            let out = &mut out[(y * N + x) * stride..][..PANEL];
            for (to, x) in out.iter_mut().zip(whole) {
                *to = x as f32;
            }
        }
    }
}
