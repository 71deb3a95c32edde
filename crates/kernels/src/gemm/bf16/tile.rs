//! The register tile: `MR` rows by `NV` vectors of columns, accumulated over a block of depth.

use std::array::from_fn;

use super::lanes::{PairOp, Pairs, Sum};
use super::{Element, PAIR};
use crate::gemm::PANEL;
use crate::gemm::tile::{Finish, finish_row, load_row, store_row};
use crate::rows::RowTable;
use crate::simd::Simd;

/// Bytes from one prepared row to the next: a constant, so that one register addresses all rows of
/// a tile; 12 rows fill half of L1, and an odd number of cache lines spreads them over its sets.
pub(super) const ROW_BYTES: usize = 21 * 64;

/// Elements of a prepared row, an even number.
pub(super) const fn row_elements<D: Pairs>() -> usize {
    ROW_BYTES / D::ELEMENT_BYTES
}

/// One tile's operands.
#[derive(Clone, Copy)]
pub(super) struct TileArgs {
    /// First of the prepared rows.
    pub(super) rows: *const u8,
    /// Pairs of this block of depth.
    pub(super) pairs: usize,
    /// First panel at the first pair of this block of depth.
    pub(super) b: *const Element,
    /// What will be wanted as `b` in a while; never read, so it may point anywhere.
    pub(super) next: *const Element,
    /// Rows that will be prepared in a while, at this block of depth, and the elements from one to
    /// the next; never read, so they may lie anywhere. Null where there are none.
    pub(super) next_rows: (*const f32, usize),
    /// Elements from one panel to the next.
    pub(super) panel_stride: usize,
    pub(super) out: *mut f32,
    pub(super) out_stride: usize,
    /// Valid columns, at most the tile's.
    pub(super) cols: usize,
    /// Whether `out` holds the sum over the depth before this block.
    pub(super) resume: bool,
    /// What to do after the last block of depth.
    pub(super) finish: Option<Finish>,
}

struct Tile<'a, const MR: usize, const NV: usize>(&'a TileArgs);

impl<const MR: usize, const NV: usize> PairOp for Tile<'_, MR, NV> {
    #[inline(always)]
    fn eval<D: Pairs>(self, d: D) {
        let (t, s) = (self.0, d.sums());
        // SAFETY: the driver that fills `TileArgs` vouches for every range: it prepares the rows,
        // and the product's makers checked panels, output and epilogue operands.
        unsafe {
            let mut acc = [[s.splat(0.0); NV]; MR];
            if t.resume {
                for (i, row) in acc.iter_mut().enumerate() {
                    *row = load_row::<D::Sums, NV>(s, t.out.add(i * t.out_stride), t.cols);
                }
            }
            accumulate::<D, MR, NV>(d, t, &mut acc);
            for (i, row) in acc.iter_mut().enumerate() {
                if let Some(finish) = &t.finish {
                    finish_row::<D::Sums, NV>(s, finish, i, t.cols, row);
                }
                store_row::<D::Sums, NV>(s, t.out.add(i * t.out_stride), t.cols, row);
            }
        }
    }
}

/// # Safety
/// The tile is valid: see [`Tile::eval`].
#[inline(always)]
unsafe fn accumulate<D: Pairs, const MR: usize, const NV: usize>(
    d: D,
    t: &TileArgs,
    acc: &mut [[Sum<D>; NV]; MR],
) {
    let lanes = <D::Sums as Simd>::LANES;
    let (mut rows, mut b, mut next) = (t.rows, t.b, t.next);
    for pair in 0..t.pairs {
        // SAFETY: see `Tile::eval`.
        unsafe {
            let columns: [D::Columns; NV] = from_fn(|v| {
                let (panel, lane) = (v * lanes / PANEL, v * lanes % PANEL);
                d.columns(b.add(panel * t.panel_stride + lane * PAIR))
            });
            for panel in 0..(NV * lanes).div_ceil(PANEL) {
                d.sums().prefetch(next.wrapping_add(panel * t.panel_stride));
            }
            let starts: [*const u8; MR] = from_fn(|i| rows.add(i * ROW_BYTES));
            for i in 0..MR {
                let row = d.row(starts[i]);
                for v in 0..NV {
                    acc[i][v] = d.dot(acc[i][v], row, columns[v]);
                }
            }
            let (start, stride) = t.next_rows;
            if !start.is_null() {
                // A line holds 8 pairs of a row: 8 steps ask for those of 16 rows.
                let line = start.wrapping_add(pair % 8 * 2 * stride + pair / 8 * 16);
                d.sums().prefetch(line);
                d.sums().prefetch(line.wrapping_add(stride));
            }
            (rows, b) = (rows.add(PAIR * D::ELEMENT_BYTES), b.add(PANEL * PAIR));
            next = next.wrapping_add(PANEL * PAIR);
        }
    }
}

/// Rounds the rows of a tile, and completes them with zeros.
pub(super) struct Prepare<'a> {
    pub(super) table: &'a RowTable,
    /// Elements of which prepared rows have a multiple.
    pub(super) multiple: usize,
    /// [`ROW_BYTES`] for each row.
    pub(super) to: &'a mut [u8],
}

impl PairOp for Prepare<'_> {
    #[inline(always)]
    fn eval<D: Pairs>(self, d: D) {
        let lens = self.table.lens();
        let depth = lens.iter().sum::<usize>().next_multiple_of(self.multiple);
        for (row, to) in self.to.chunks_exact_mut(ROW_BYTES).enumerate() {
            let to = &mut to[..depth * D::ELEMENT_BYTES];
            let mut at = 0;
            for (segment, &len) in lens.iter().enumerate() {
                // SAFETY: the segment is readable by the `RowSource` contract; `to` has room for
                // the elements of all segments.
                unsafe {
                    let from = self.table.start(segment, row).cast();
                    d.prepare(from, len, to.as_mut_ptr().add(at));
                }
                at += len * D::ELEMENT_BYTES;
            }
            if at < to.len() {
                to[at..].fill(0);
            }
        }
    }
}

/// Runs a tile of `rows` rows (at most `TILE_ROWS`) and `vectors` vectors of columns.
#[inline(always)]
pub(super) fn run_tile<D: Pairs>(d: D, rows: usize, vectors: usize, args: &TileArgs) {
    match (rows, vectors) {
        (1, 8) => d.enter(Tile::<1, 8>(args)),
        (2, 4) => d.enter(Tile::<2, 4>(args)),
        (3, 4) => d.enter(Tile::<3, 4>(args)),
        (1, 2) => d.enter(Tile::<1, 2>(args)),
        (2, 2) => d.enter(Tile::<2, 2>(args)),
        (3, 2) => d.enter(Tile::<3, 2>(args)),
        (4, 2) => d.enter(Tile::<4, 2>(args)),
        (5, 2) => d.enter(Tile::<5, 2>(args)),
        (6, 2) => d.enter(Tile::<6, 2>(args)),
        (1, 1) => d.enter(Tile::<1, 1>(args)),
        (2, 1) => d.enter(Tile::<2, 1>(args)),
        (3, 1) => d.enter(Tile::<3, 1>(args)),
        (4, 1) => d.enter(Tile::<4, 1>(args)),
        (5, 1) => d.enter(Tile::<5, 1>(args)),
        (6, 1) => d.enter(Tile::<6, 1>(args)),
        _ => wide_tile(d, rows, vectors, args),
    }
}

/// The tiles that only 32 registers of 16 lanes can hold.
fn wide_tile<D: Pairs>(d: D, rows: usize, vectors: usize, args: &TileArgs) {
    assert!(<D::Sums as Simd>::LANES == PANEL, "tile of {rows} rows and {vectors} vectors");
    match (rows, vectors) {
        (4, 4) => d.enter(Tile::<4, 4>(args)),
        (7, 2) => d.enter(Tile::<7, 2>(args)),
        (8, 2) => d.enter(Tile::<8, 2>(args)),
        (9, 2) => d.enter(Tile::<9, 2>(args)),
        (10, 2) => d.enter(Tile::<10, 2>(args)),
        (11, 2) => d.enter(Tile::<11, 2>(args)),
        (12, 2) => d.enter(Tile::<12, 2>(args)),
        (7, 1) => d.enter(Tile::<7, 1>(args)),
        (8, 1) => d.enter(Tile::<8, 1>(args)),
        (9, 1) => d.enter(Tile::<9, 1>(args)),
        (10, 1) => d.enter(Tile::<10, 1>(args)),
        (11, 1) => d.enter(Tile::<11, 1>(args)),
        (12, 1) => d.enter(Tile::<12, 1>(args)),
        _ => unreachable!("tile of {rows} rows and {vectors} vectors"),
    }
}
