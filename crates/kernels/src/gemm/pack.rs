//! The packed right-hand operand: panels of 16 columns, `[N/16][K][16]`, zero padded.
//!
//! AVX2 and NEON (two vectors a panel) and AVX-512 (one vector a panel) read it as it is, so a
//! package can hold weights packed and nothing is repacked at load.

use crate::Cpu;
use crate::permute::transpose_block;

/// Columns of a panel.
pub const PANEL: usize = 16;

/// A matrix of `k` rows and `n` columns in memory of any strides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MatrixLayout {
    /// Rows: the depth of the product.
    pub k: usize,
    /// Columns: outputs.
    pub n: usize,
    /// Elements from one row to the next.
    pub k_stride: usize,
    /// Elements from one column to the next.
    pub n_stride: usize,
}

impl MatrixLayout {
    /// Contiguous `[K, N]`.
    pub fn k_by_n(k: usize, n: usize) -> MatrixLayout {
        MatrixLayout { k, n, k_stride: n, n_stride: 1 }
    }

    /// Contiguous `[N, K]`.
    pub fn n_by_k(k: usize, n: usize) -> MatrixLayout {
        MatrixLayout { k, n, k_stride: 1, n_stride: k }
    }

    /// Elements that the matrix spans.
    pub(crate) fn span(&self) -> usize {
        match (self.k, self.n) {
            (0, _) | (_, 0) => 0,
            (k, n) => (k - 1) * self.k_stride + (n - 1) * self.n_stride + 1,
        }
    }
}

/// Elements of a packed `[K, N]` operand.
pub fn packed_b_len(k: usize, n: usize) -> usize {
    n.div_ceil(PANEL) * PANEL * k
}

/// Packs a matrix into `out`, which has [`packed_b_len`] elements.
///
/// # Panics
/// If `source` or `out` is shorter than the layout says.
pub fn pack_b(source: &[f32], layout: MatrixLayout, out: &mut [f32]) {
    assert!(source.len() >= layout.span(), "matrix shorter than its layout");
    let panels = layout.n.div_ceil(PANEL);
    let out = &mut out[..packed_b_len(layout.k, layout.n)];
    // SAFETY: the layout lies inside `source`.
    unsafe { pack_panels(Cpu::detect(), source.as_ptr(), layout, 0..panels, out) };
}

/// Packs some panels of a matrix.
///
/// # Safety
/// Every element of the layout is readable from `source`.
pub(crate) unsafe fn pack_panels(
    cpu: Cpu,
    source: *const f32,
    layout: MatrixLayout,
    panels: std::ops::Range<usize>,
    out: &mut [f32],
) {
    if layout.k == 0 {
        return;
    }
    for (panel, out) in panels.zip(out.chunks_exact_mut(layout.k * PANEL)) {
        let cols = PANEL.min(layout.n - panel * PANEL);
        // SAFETY: the panel's first column is inside the layout.
        let start = unsafe { source.add(panel * PANEL * layout.n_stride) };
        if cols == PANEL && layout.n_stride == 1 {
            for (k, row) in out.chunks_exact_mut(PANEL).enumerate() {
                // SAFETY: 16 contiguous elements of row k are inside the layout.
                row.copy_from_slice(unsafe {
                    std::slice::from_raw_parts(start.add(k * layout.k_stride), PANEL)
                });
            }
            continue;
        }
        if cols == PANEL && layout.k_stride == 1 {
            // SAFETY: 16 columns of k contiguous elements are inside the layout; so is `out`.
            unsafe {
                let (from, to) = ((start, layout.n_stride), (out.as_mut_ptr(), PANEL));
                transpose_block(cpu, (PANEL, layout.k), from, to);
            }
            continue;
        }
        for (k, row) in out.chunks_exact_mut(PANEL).enumerate() {
            for (j, x) in row.iter_mut().enumerate() {
                let offset = k * layout.k_stride + j * layout.n_stride;
                // SAFETY: row k and column j are inside the layout.
                *x = if j < cols { unsafe { *start.add(offset) } } else { 0.0 };
            }
        }
    }
}

/// The inverse of [`pack_b`]: writes a contiguous `[K, N]` matrix.
///
/// # Panics
/// If a slice has the wrong length.
pub fn unpack_b(packed: PackedB<'_>, out: &mut [f32]) {
    assert_eq!(out.len(), packed.k * packed.n, "output of the wrong length");
    for (k, row) in out.chunks_exact_mut(packed.n.max(1)).enumerate() {
        for (n, x) in row.iter_mut().enumerate() {
            *x = packed.at(k, n);
        }
    }
}

/// A packed operand, borrowed from wherever it lives (a package file, a buffer).
#[derive(Debug, Clone, Copy)]
pub struct PackedB<'a> {
    data: &'a [f32],
    k: usize,
    n: usize,
}

impl<'a> PackedB<'a> {
    /// Views `data`, made by [`pack_b`] of a matrix of `k` rows and `n` columns. `None` if its
    /// length is not [`packed_b_len`].
    pub fn new(data: &'a [f32], k: usize, n: usize) -> Option<PackedB<'a>> {
        (data.len() == packed_b_len(k, n)).then_some(PackedB { data, k, n })
    }

    /// Rows: the depth of the product.
    pub fn k(&self) -> usize {
        self.k
    }

    /// Columns: outputs.
    pub fn n(&self) -> usize {
        self.n
    }

    pub(crate) fn as_ptr(&self) -> *const f32 {
        self.data.as_ptr()
    }

    pub(crate) fn at(&self, k: usize, n: usize) -> f32 {
        self.data[(n / PANEL * self.k + k) * PANEL + n % PANEL]
    }
}
