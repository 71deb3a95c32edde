//! The packed 8-bit right-hand operand: `[N/16][K/4][16][4]`, zero padded, always stored signed.
//!
//! Four consecutive elements of a column lie together, as every dot-product instruction wants them
//! (AVX-VNNI, AVX512-VNNI, AMX); AVX2 widens the same bytes. Unsigned weights are stored minus 128,
//! so that all four combinations of signs run through one unsigned × signed kernel. Beside the
//! bytes go the columns' sums, by which the zero point of the left operand is taken out afterwards.

use crate::gemm::{MatrixLayout, PANEL};

/// Depth elements that lie together.
pub(crate) const GROUP: usize = 4;

/// Bytes of a packed `[K, N]` operand.
pub fn packed_int8_len(k: usize, n: usize) -> usize {
    n.div_ceil(PANEL) * PANEL * k.next_multiple_of(GROUP)
}

/// Length of the column sums of a packed operand of `n` columns: whole panels.
pub fn column_sums_len(n: usize) -> usize {
    n.next_multiple_of(PANEL)
}

/// Packs the 8-bit matrix `source`, signed or not, into `out` ([`packed_int8_len`] bytes) and
/// `sums` ([`column_sums_len`]).
///
/// # Panics
/// If a slice has the wrong length.
pub fn pack_int8(
    source: &[u8],
    signed: bool,
    layout: MatrixLayout,
    out: &mut [i8],
    sums: &mut [i32],
) {
    assert!(source.len() >= layout.span(), "matrix shorter than its layout");
    let at = |k: usize, n: usize| source[k * layout.k_stride + n * layout.n_stride];
    pack_with(layout.k, layout.n, signed, at, out, sums);
}

/// Packs the matrix whose element (k, n) is `at(k, n)`.
pub(crate) fn pack_with(
    k: usize,
    n: usize,
    signed: bool,
    at: impl Fn(usize, usize) -> u8,
    out: &mut [i8],
    sums: &mut [i32],
) {
    assert_eq!(out.len(), packed_int8_len(k, n), "packed matrix of the wrong length");
    assert_eq!(sums.len(), column_sums_len(n), "column sums of the wrong length");
    let flip = if signed { 0 } else { 0x80 };
    sums.fill(0);
    out.fill(0);
    let depth = k.next_multiple_of(GROUP);
    for (col, sum) in sums.iter_mut().enumerate().take(n) {
        let panel = &mut out[col / PANEL * PANEL * depth..][..PANEL * depth];
        for row in 0..k {
            let value = (at(row, col) ^ flip) as i8;
            panel[(row / GROUP * PANEL + col % PANEL) * GROUP + row % GROUP] = value;
            *sum += i32::from(value);
        }
    }
}

/// A packed 8-bit operand, borrowed from wherever it lives.
#[derive(Debug, Clone, Copy)]
pub struct PackedInt8<'a> {
    data: &'a [i8],
    sums: &'a [i32],
    k: usize,
    n: usize,
    signed: bool,
}

impl<'a> PackedInt8<'a> {
    /// Views what [`pack_int8`] made of `k` rows and `n` columns. `None` if a length does not fit.
    pub fn new(
        data: &'a [i8],
        sums: &'a [i32],
        (k, n): (usize, usize),
        signed: bool,
    ) -> Option<PackedInt8<'a>> {
        let fits = data.len() == packed_int8_len(k, n) && sums.len() == column_sums_len(n);
        fits.then_some(PackedInt8 { data, sums, k, n, signed })
    }

    /// Rows: the depth of the product.
    pub fn k(&self) -> usize {
        self.k
    }

    /// Columns: outputs.
    pub fn n(&self) -> usize {
        self.n
    }

    pub(crate) fn as_ptr(&self) -> *const i8 {
        self.data.as_ptr()
    }

    pub(crate) fn sums(&self) -> &'a [i32] {
        self.sums
    }

    /// What was subtracted from the elements to store them signed.
    pub(crate) fn offset(&self) -> i32 {
        if self.signed { 0 } else { 128 }
    }
}
