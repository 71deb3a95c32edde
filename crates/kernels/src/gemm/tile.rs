//! The register tile: `MR` rows by `NV` vectors of columns, accumulated over a block of depth.

use std::array::from_fn;

use super::pack::PANEL;
use crate::simd::{Simd, SimdOp};

/// One tile's operands.
#[derive(Clone, Copy)]
pub(crate) struct TileArgs {
    /// `[segment][S::TILE_ROWS]` starts of the rows' segments.
    pub(crate) ptrs: *const *const f32,
    /// Elements of each segment.
    pub(crate) lens: *const usize,
    pub(crate) segments: usize,
    /// First panel at the first element of this block of depth.
    pub(crate) b: *const f32,
    /// Elements from one panel to the next.
    pub(crate) panel_stride: usize,
    pub(crate) ahead: Ahead,
    pub(crate) out: *mut f32,
    pub(crate) out_stride: usize,
    /// Valid columns, at most the tile's.
    pub(crate) cols: usize,
    /// Whether `out` holds the sum over the depth before this block.
    pub(crate) resume: bool,
    /// What to do after the last block of depth.
    pub(crate) finish: Option<Finish>,
}

/// Panels that will be needed later, which tiles ask for meanwhile.
#[derive(Clone, Copy)]
pub(crate) struct Ahead {
    /// Of the first panel; the others lie a tile's `panel_stride` apart. It may point anywhere.
    start: *const f32,
    /// Bytes by which it moves with each element of depth; 0 if there is nothing to ask for.
    step: usize,
}

impl Ahead {
    pub(crate) const NOTHING: Ahead = Ahead { start: std::ptr::null(), step: 0 };

    /// Panels at `start`, of which each of `tiles` tiles, from its own start on, asks for an equal
    /// share of the depth.
    pub(crate) fn new(start: *const f32, tiles: usize) -> Ahead {
        Ahead { start, step: PANEL * size_of::<f32>() / tiles }
    }

    /// The same from some elements further on.
    pub(crate) fn moved(self, elements: usize) -> Ahead {
        Ahead { start: self.start.wrapping_add(elements), ..self }
    }
}

/// Bias, residual and clamp, from the tile's first column and row. Null where absent.
#[derive(Clone, Copy)]
pub(crate) struct Finish {
    pub(crate) bias: *const f32,
    pub(crate) residual: *const f32,
    pub(crate) residual_stride: usize,
    pub(crate) low: f32,
    pub(crate) high: f32,
}

pub(crate) struct Tile<'a, const MR: usize, const NV: usize>(pub(crate) &'a TileArgs);

impl<const MR: usize, const NV: usize> SimdOp for Tile<'_, MR, NV> {
    type Output = ();

    #[inline(always)]
    fn eval<S: Simd>(self, s: S) {
        let t = self.0;
        // SAFETY: the driver that fills `TileArgs` vouches for every range: rows through the
        // `RowSource` contract, panels, output and epilogue operands by its own assertions.
        unsafe {
            let mut acc = [[s.splat(0.0); NV]; MR];
            if t.resume {
                acc = load_tile::<S, MR, NV>(s, t);
            }
            match t.ahead.step {
                0 => accumulate::<S, MR, NV, false>(s, t, &mut acc),
                _ => accumulate::<S, MR, NV, true>(s, t, &mut acc),
            }
            finish_tile::<S, MR, NV>(s, t, acc);
        }
    }
}

/// The sums that wait in the output.
///
/// # Safety
/// The tile is valid: see [`Tile::eval`].
#[inline(always)]
unsafe fn load_tile<S: Simd, const MR: usize, const NV: usize>(
    s: S,
    t: &TileArgs,
) -> [[S::F; NV]; MR] {
    // SAFETY: see `Tile::eval`.
    unsafe {
        if t.cols == NV * S::LANES {
            let row = |i: usize| t.out.add(i * t.out_stride);
            return from_fn(|i| from_fn(|v| s.load(row(i).add(v * S::LANES))));
        }
        let mut sums = [[s.splat(0.0); NV]; MR];
        for (i, row) in sums.iter_mut().enumerate() {
            *row = load_row::<S, NV>(s, t.out.add(i * t.out_stride), t.cols);
        }
        sums
    }
}

/// Applies the epilogue, if it follows, and stores the sums.
///
/// # Safety
/// The tile is valid: see [`Tile::eval`].
#[inline(always)]
unsafe fn finish_tile<S: Simd, const MR: usize, const NV: usize>(
    s: S,
    t: &TileArgs,
    acc: [[S::F; NV]; MR],
) {
    // SAFETY: see `Tile::eval`.
    unsafe {
        if t.cols == NV * S::LANES {
            finish_vectors::<S, MR, NV, false>(s, t, acc);
        } else if t.cols > (NV - 1) * S::LANES {
            finish_vectors::<S, MR, NV, true>(s, t, acc);
        } else {
            let mut sums = acc;
            for (i, row) in sums.iter_mut().enumerate() {
                if let Some(finish) = &t.finish {
                    finish_row::<S, NV>(s, finish, i, t.cols, row);
                }
                store_row::<S, NV>(s, t.out.add(i * t.out_stride), t.cols, row);
            }
        }
    }
}

/// The same for whole vectors, but for the last one if it is `PARTIAL`. Each loop does one thing
/// without branches: then it is unrolled, and sums stay in registers.
///
/// # Safety
/// The tile is valid: see [`Tile::eval`].
#[inline(always)]
unsafe fn finish_vectors<S: Simd, const MR: usize, const NV: usize, const PARTIAL: bool>(
    s: S,
    t: &TileArgs,
    mut acc: [[S::F; NV]; MR],
) {
    let rest = t.cols - (NV - 1) * S::LANES;
    // SAFETY: see `Tile::eval`.
    unsafe {
        let load = |p: *const f32, v: usize| match PARTIAL && v + 1 == NV {
            true => s.load_n(p.add(v * S::LANES), rest),
            false => s.load(p.add(v * S::LANES)),
        };
        if let Some(finish) = &t.finish {
            if !finish.bias.is_null() {
                let bias: [S::F; NV] = from_fn(|v| load(finish.bias, v));
                acc = from_fn(|i| from_fn(|v| s.add(acc[i][v], bias[v])));
            }
            if !finish.residual.is_null() {
                let start = |i: usize| finish.residual.add(i * finish.residual_stride);
                acc = from_fn(|i| from_fn(|v| s.add(acc[i][v], load(start(i), v))));
            }
            let (low, high) = (s.splat(finish.low), s.splat(finish.high));
            acc = from_fn(|i| from_fn(|v| s.min(high, s.max(low, acc[i][v]))));
        }
        for (i, row) in acc.iter().enumerate() {
            let out = t.out.add(i * t.out_stride);
            for (v, &sum) in row.iter().enumerate() {
                match PARTIAL && v + 1 == NV {
                    true => s.store_n(out.add(v * S::LANES), sum, rest),
                    false => s.store(out.add(v * S::LANES), sum),
                }
            }
        }
    }
}

/// # Safety
/// The tile is valid: see [`Tile::eval`].
#[inline(always)]
unsafe fn accumulate<S: Simd, const MR: usize, const NV: usize, const AHEAD: bool>(
    s: S,
    t: &TileArgs,
    acc: &mut [[S::F; NV]; MR],
) {
    // SAFETY: see `Tile::eval`.
    unsafe {
        let (mut b, mut next) = (t.b, t.ahead.start);
        for segment in 0..t.segments {
            let len = *t.lens.add(segment);
            let starts = t.ptrs.add(segment * S::TILE_ROWS);
            let rows: [*const f32; MR] = from_fn(|i| *starts.add(i));
            for k in 0..len {
                let columns: [S::F; NV] = from_fn(|v| {
                    let (panel, lane) = (v * S::LANES / PANEL, v * S::LANES % PANEL);
                    s.load(b.add(panel * t.panel_stride + lane))
                });
                if AHEAD {
                    for panel in 0..(NV * S::LANES).div_ceil(PANEL) {
                        s.prefetch(next.wrapping_add(panel * t.panel_stride));
                    }
                    next = next.wrapping_byte_add(t.ahead.step);
                }
                for i in 0..MR {
                    let x = s.splat(*rows[i].add(k));
                    for v in 0..NV {
                        acc[i][v] = s.fma(x, columns[v], acc[i][v]);
                    }
                }
                b = b.add(PANEL);
            }
        }
    }
}

/// # Safety
/// The epilogue's operands reach row `row` and `cols` columns.
#[inline(always)]
pub(super) unsafe fn finish_row<S: Simd, const NV: usize>(
    s: S,
    finish: &Finish,
    row: usize,
    cols: usize,
    acc: &mut [S::F; NV],
) {
    // SAFETY: see `Tile::eval`.
    unsafe {
        if !finish.bias.is_null() {
            let bias = load_row::<S, NV>(s, finish.bias, cols);
            (0..NV).for_each(|v| acc[v] = s.add(acc[v], bias[v]));
        }
        if !finish.residual.is_null() {
            let start = finish.residual.add(row * finish.residual_stride);
            let residual = load_row::<S, NV>(s, start, cols);
            (0..NV).for_each(|v| acc[v] = s.add(acc[v], residual[v]));
        }
        let (low, high) = (s.splat(finish.low), s.splat(finish.high));
        (0..NV).for_each(|v| acc[v] = s.min(high, s.max(low, acc[v])));
    }
}

/// `cols` elements as vectors; zeros beyond.
///
/// # Safety
/// `cols` elements are readable.
#[inline(always)]
pub(super) unsafe fn load_row<S: Simd, const NV: usize>(
    s: S,
    p: *const f32,
    cols: usize,
) -> [S::F; NV] {
    // SAFETY: `cols` elements are readable.
    unsafe {
        if cols == NV * S::LANES {
            return from_fn(|v| s.load(p.add(v * S::LANES)));
        }
        from_fn(|v| match cols.saturating_sub(v * S::LANES) {
            0 => s.splat(0.0),
            n if n < S::LANES => s.load_n(p.add(v * S::LANES), n),
            _ => s.load(p.add(v * S::LANES)),
        })
    }
}

/// # Safety
/// `cols` elements are writable.
#[inline(always)]
pub(super) unsafe fn store_row<S: Simd, const NV: usize>(
    s: S,
    p: *mut f32,
    cols: usize,
    row: &[S::F; NV],
) {
    // SAFETY: `cols` elements are writable.
    unsafe {
        if cols == NV * S::LANES {
            (0..NV).for_each(|v| s.store(p.add(v * S::LANES), row[v]));
            return;
        }
        for (v, &x) in row.iter().enumerate() {
            match cols.saturating_sub(v * S::LANES) {
                0 => {}
                n if n < S::LANES => s.store_n(p.add(v * S::LANES), x, n),
                _ => s.store(p.add(v * S::LANES), x),
            }
        }
    }
}

/// Vectors of columns that a tile of `rows` rows may span, widest first: few rows take more columns
/// to keep enough sums in flight.
pub(crate) fn widths<S: Simd>(rows: usize) -> &'static [usize] {
    match (rows, S::LANES == PANEL) {
        (1, false) => &[8, 2],
        (2 | 3, false) => &[4, 2],
        (_, false) => &[2],
        (1, true) => &[8, 2, 1],
        (2..=4, true) => &[4, 2, 1],
        (_, true) => &[2, 1],
    }
}

/// Vectors worth computing of a tile's `vectors` where only `cols` columns exist.
#[inline(always)]
pub(crate) fn needed<S: Simd>(vectors: usize, cols: usize) -> usize {
    if vectors == 2 && cols <= S::LANES { 1 } else { vectors }
}

/// Runs a tile of `rows` rows (at most `S::TILE_ROWS`) and `vectors` vectors of columns.
#[inline(always)]
pub(crate) fn run_tile<S: Simd>(s: S, rows: usize, vectors: usize, args: &TileArgs) {
    match (rows, vectors) {
        (1, 8) => s.run(Tile::<1, 8>(args)),
        (1, 2) => s.run(Tile::<1, 2>(args)),
        (2, 4) => s.run(Tile::<2, 4>(args)),
        (2, 2) => s.run(Tile::<2, 2>(args)),
        (3, 4) => s.run(Tile::<3, 4>(args)),
        (3, 2) => s.run(Tile::<3, 2>(args)),
        (4, 2) => s.run(Tile::<4, 2>(args)),
        (5, 2) => s.run(Tile::<5, 2>(args)),
        (6, 2) => s.run(Tile::<6, 2>(args)),
        (1, 1) => s.run(Tile::<1, 1>(args)),
        (2, 1) => s.run(Tile::<2, 1>(args)),
        (3, 1) => s.run(Tile::<3, 1>(args)),
        (4, 1) => s.run(Tile::<4, 1>(args)),
        (5, 1) => s.run(Tile::<5, 1>(args)),
        (6, 1) => s.run(Tile::<6, 1>(args)),
        _ => wide_tile(s, rows, vectors, args),
    }
}

/// The tiles that only 32 registers of 16 lanes can hold.
fn wide_tile<S: Simd>(s: S, rows: usize, vectors: usize, args: &TileArgs) {
    assert!(S::LANES == PANEL, "tile of {rows} rows and {vectors} vectors");
    match (rows, vectors) {
        (4, 4) => s.run(Tile::<4, 4>(args)),
        (7, 2) => s.run(Tile::<7, 2>(args)),
        (8, 2) => s.run(Tile::<8, 2>(args)),
        (9, 2) => s.run(Tile::<9, 2>(args)),
        (10, 2) => s.run(Tile::<10, 2>(args)),
        (11, 2) => s.run(Tile::<11, 2>(args)),
        (12, 2) => s.run(Tile::<12, 2>(args)),
        (7, 1) => s.run(Tile::<7, 1>(args)),
        (8, 1) => s.run(Tile::<8, 1>(args)),
        (9, 1) => s.run(Tile::<9, 1>(args)),
        (10, 1) => s.run(Tile::<10, 1>(args)),
        (11, 1) => s.run(Tile::<11, 1>(args)),
        (12, 1) => s.run(Tile::<12, 1>(args)),
        _ => unreachable!("tile of {rows} rows and {vectors} vectors"),
    }
}
