//! The packed right-hand operand: `[N/16][K/2][16][2]`, zero padded.

use half::bf16;

use super::{PAIR, rounded_bits};
use crate::gemm::{MatrixLayout, PANEL};

/// Elements of a packed `[K, N]` operand.
pub fn packed_bf16_len(k: usize, n: usize) -> usize {
    n.div_ceil(PANEL) * PANEL * k.next_multiple_of(PAIR)
}

/// Packs a matrix, rounded to bf16, into `out`, which has [`packed_bf16_len`] elements.
///
/// # Panics
/// If `source` is shorter than the layout says or `out` has the wrong length.
pub fn pack_bf16(source: &[f32], layout: MatrixLayout, out: &mut [bf16]) {
    assert!(source.len() >= layout.span(), "matrix shorter than its layout");
    let at = |k: usize, n: usize| source[k * layout.k_stride + n * layout.n_stride];
    pack_bf16_with(layout.k, layout.n, at, out);
}

/// Packs the matrix whose element (k, n) is `at(k, n)`.
pub(crate) fn pack_bf16_with(
    k: usize,
    n: usize,
    at: impl Fn(usize, usize) -> f32,
    out: &mut [bf16],
) {
    assert_eq!(out.len(), packed_bf16_len(k, n), "packed matrix of the wrong length");
    let pairs = k.div_ceil(PAIR);
    for (row, out) in out.chunks_exact_mut(PANEL * PAIR).enumerate() {
        let (first, pair) = (row / pairs * PANEL, row % pairs);
        for (j, out) in out.chunks_exact_mut(PAIR).enumerate() {
            for (h, x) in out.iter_mut().enumerate() {
                let (k_at, n_at) = (pair * PAIR + h, first + j);
                let value = if k_at < k && n_at < n { at(k_at, n_at) } else { 0.0 };
                *x = bf16::from_bits(rounded_bits(value));
            }
        }
    }
}

/// A packed operand, borrowed from wherever it lives (a package file, a buffer).
#[derive(Debug, Clone, Copy)]
pub struct PackedBf16<'a> {
    data: &'a [bf16],
    k: usize,
    n: usize,
}

impl<'a> PackedBf16<'a> {
    /// Views `data`, made by [`pack_bf16`] of a matrix of `k` rows and `n` columns. `None` if its
    /// length is not [`packed_bf16_len`].
    pub fn new(data: &'a [bf16], k: usize, n: usize) -> Option<PackedBf16<'a>> {
        (data.len() == packed_bf16_len(k, n)).then_some(PackedBf16 { data, k, n })
    }

    /// Rows: the depth of the product.
    pub fn k(&self) -> usize {
        self.k
    }

    /// Columns: outputs.
    pub fn n(&self) -> usize {
        self.n
    }

    pub(crate) fn as_ptr(&self) -> *const bf16 {
        self.data.as_ptr()
    }
}
