//! One product of many tiles: rows of transformed inputs by some panels of weights, without what a
//! general matrix product needs (bias, blocks of depth, columns cut short).

use std::array::from_fn;

use crate::gemm::{PANEL, widths};
use crate::simd::{Simd, SimdOp};

/// Rows of depth `depth`, and where their sums go.
#[derive(Clone, Copy)]
pub(super) struct Rows {
    pub(super) start: *const f32,
    /// Elements from a row to the next.
    pub(super) stride: usize,
    pub(super) count: usize,
    pub(super) depth: usize,
    pub(super) sums: *mut f32,
    /// Elements from a row's sums to the next row's.
    pub(super) sums_stride: usize,
}

/// Panels of weights.
#[derive(Clone, Copy)]
pub(super) struct Panels {
    pub(super) start: *const f32,
    /// Elements from a panel to the next.
    pub(super) stride: usize,
    pub(super) count: usize,
}

/// Computes all rows by all panels.
///
/// # Safety
/// `depth` elements of each row and of each panel's columns are readable, and for each row the
/// sums of all panels are writable.
#[inline(always)]
pub(super) unsafe fn multiply<S: Simd>(s: S, rows: Rows, panels: Panels) {
    let parts = rows.count.div_ceil(S::TILE_ROWS);
    let (height, taller) = (rows.count / parts, rows.count % parts);
    let mut panel = 0;
    for &vectors in widths::<S>(height + usize::from(taller > 0)) {
        let across = vectors * S::LANES / PANEL;
        while panel + across <= panels.count {
            let b = panels.start.wrapping_add(panel * panels.stride);
            let mut first = 0;
            for (height, parts) in [(height + 1, taller), (height, parts - taller)] {
                let run = Run {
                    a: rows.start.wrapping_add(first * rows.stride),
                    rows,
                    parts,
                    b,
                    panel_stride: panels.stride,
                    sums: rows.sums.wrapping_add(first * rows.sums_stride + panel * PANEL),
                    fetch: first == 0,
                };
                first += height * parts;
                if parts > 0 {
                    run_tiles(s, height, vectors, &run);
                }
            }
            panel += across;
        }
    }
}

/// Tiles of equal height, one below the other, against the same columns.
struct Run {
    a: *const f32,
    rows: Rows,
    parts: usize,
    b: *const f32,
    panel_stride: usize,
    sums: *mut f32,
    /// Whether nobody has fetched what follows the columns yet.
    fetch: bool,
}

/// `R` rows by `NV` vectors.
struct Tiles<'a, const R: usize, const NV: usize>(&'a Run);

impl<const R: usize, const NV: usize> SimdOp for Tiles<'_, R, NV> {
    type Output = ();

    #[inline(always)]
    fn eval<S: Simd>(self, s: S) {
        let Run { rows, parts, fetch, .. } = *self.0;
        for part in 0..parts {
            // SAFETY: by the promise to `multiply`.
            unsafe {
                if fetch && part == 0 {
                    tile::<S, R, NV, true>(s, self.0, part);
                } else {
                    tile::<S, R, NV, false>(s, self.0, part);
                }
            }
        }
        debug_assert!(R * parts <= rows.count);
    }
}

/// # Safety
/// See [`multiply`].
#[inline(always)]
unsafe fn tile<S: Simd, const R: usize, const NV: usize, const FETCH: bool>(
    s: S,
    run: &Run,
    part: usize,
) {
    let Rows { stride, depth, sums_stride, .. } = run.rows;
    // SAFETY: by the promise to `multiply`; a prefetch reads nothing.
    unsafe {
        let a = run.a.add(part * R * stride);
        let a: [*const f32; R] = from_fn(|row| a.add(row * stride));
        let mut b = run.b;
        let mut acc = [[s.splat(0.0); NV]; R];
        for k in 0..depth {
            let columns: [S::F; NV] = from_fn(|v| {
                let (panel, lane) = (v * S::LANES / PANEL, v * S::LANES % PANEL);
                s.load(b.add(panel * run.panel_stride + lane))
            });
            if FETCH {
                for panel in 0..NV * S::LANES / PANEL {
                    s.prefetch(b.wrapping_add(panel * run.panel_stride + depth * PANEL));
                }
            }
            for row in 0..R {
                let x = s.splat(*a[row].add(k));
                for v in 0..NV {
                    acc[row][v] = s.fma(x, columns[v], acc[row][v]);
                }
            }
            b = b.add(PANEL);
        }
        for (row, acc) in acc.iter().enumerate() {
            let sums = run.sums.add((part * R + row) * sums_stride);
            for (v, &x) in acc.iter().enumerate() {
                s.store(sums.add(v * S::LANES), x);
            }
        }
    }
}

macro_rules! tiles {
    ($s:ident, $height:ident, $vectors:ident, $run:ident: $(($r:literal, $v:literal)),*) => {
        match ($height, $vectors) {
            $(($r, $v) => $s.run(Tiles::<$r, $v>($run)),)*
            _ => unreachable!("tile of {} rows and {} vectors", $height, $vectors),
        }
    };
}

fn run_tiles<S: Simd>(s: S, height: usize, vectors: usize, run: &Run) {
    if S::LANES < PANEL {
        tiles!(s, height, vectors, run: (1, 8), (2, 4), (3, 4), (1, 2), (2, 2), (3, 2), (4, 2),
            (5, 2), (6, 2));
    } else {
        tiles!(s, height, vectors, run: (1, 8), (2, 4), (3, 4), (4, 4), (1, 2), (2, 2), (3, 2),
            (4, 2), (5, 2), (6, 2), (7, 2), (8, 2), (9, 2), (10, 2), (11, 2), (12, 2), (1, 1),
            (2, 1), (3, 1), (4, 1), (5, 1), (6, 1), (7, 1), (8, 1), (9, 1), (10, 1), (11, 1),
            (12, 1));
    }
}
