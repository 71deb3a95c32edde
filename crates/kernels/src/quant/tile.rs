//! The register tile of 8-bit products: `MR` rows by `NV` vectors of columns over the whole depth.
//!
//! Rows are prepared copies, or the caller's own where they are unsigned, lie at one distance in
//! few pieces, and the instruction set reads bytes as they are. The results are sums for an
//! epilogue to finish, or bytes that the tile requantises from registers.

use std::array::from_fn;
use std::mem::MaybeUninit;

use super::lanes::{Dot, DotOp};
use super::narrow::{Limits, copy_few};
use super::pack::GROUP;
use crate::gemm::PANEL;
use crate::rows::RowTable;

/// One tile's operands.
#[derive(Clone, Copy)]
pub(crate) struct TileArgs<'a> {
    /// The rows, piece by piece: prepared, or the caller's own.
    pub(crate) segments: &'a [Segment],
    /// Bytes from one row to the next, in every piece.
    pub(crate) row_stride: usize,
    pub(crate) b: *const i8,
    /// Bytes from one panel to the next.
    pub(crate) panel_stride: usize,
    /// `[NV * LANES]`: what the sums begin with.
    pub(crate) base: *const i32,
    pub(crate) output: TileOutput<'a>,
}

/// Contiguous elements of rows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Segment {
    /// Those of the first row.
    pub(crate) start: *const u8,
    /// Groups of four elements.
    pub(crate) groups: usize,
}

/// Where a tile's results go.
#[derive(Clone, Copy)]
pub(crate) enum TileOutput<'a> {
    /// The sums, `[MR][NV * LANES]`.
    Sums(*mut i32),
    Bytes(&'a TileBytes),
}

/// A tile of bytes.
pub(crate) struct TileBytes {
    pub(crate) to: *mut u8,
    /// Bytes from one row to the next.
    pub(crate) stride: usize,
    /// Columns stored, at most those of the tile.
    pub(crate) columns: usize,
    /// Of the tile's columns: below 1.
    pub(crate) scales: *const f64,
    pub(crate) limits: Limits,
}

struct Tile<'a, const MR: usize, const NV: usize>(&'a TileArgs<'a>);

impl<const MR: usize, const NV: usize> DotOp for Tile<'_, MR, NV> {
    #[inline(always)]
    fn eval<D: Dot>(self, d: D) {
        // SAFETY: the driver that fills `TileArgs` vouches for every range.
        unsafe {
            let acc = accumulate::<D, MR, NV>(d, self.0);
            match self.0.output {
                TileOutput::Sums(sums) => store_sums(d, &acc, sums),
                TileOutput::Bytes(bytes) => store_bytes(d, &acc, bytes),
            }
        }
    }
}

/// # Safety
/// The tile is valid: see [`Tile::eval`].
#[inline(always)]
unsafe fn accumulate<D: Dot, const MR: usize, const NV: usize>(
    d: D,
    t: &TileArgs<'_>,
) -> [[D::Sum; NV]; MR] {
    // SAFETY: see `Tile::eval`.
    unsafe {
        let mut acc = [from_fn(|v| d.load_sum(t.base.add(v * D::LANES))); MR];
        let mut b = t.b;
        for segment in t.segments {
            let rows: [*const u8; MR] = from_fn(|i| segment.start.add(i * t.row_stride));
            for k in 0..segment.groups {
                let columns: [D::Columns; NV] = from_fn(|v| {
                    let (panel, lane) = (v * D::LANES / PANEL, v * D::LANES % PANEL);
                    d.columns(b.add(panel * t.panel_stride + lane * GROUP))
                });
                for i in 0..MR {
                    let row = d.row(rows[i].add(k * D::ROW_BYTES));
                    for v in 0..NV {
                        acc[i][v] = d.dot(acc[i][v], row, columns[v]);
                    }
                }
                b = b.add(PANEL * GROUP);
            }
        }
        acc
    }
}

/// Most rows of a tile.
const ROWS: usize = 12;

/// Evaluates an expression for every row of a tile. Written out row by row, since rows taken by an
/// index that varies would go through memory.
macro_rules! each_row {
    ($mr:expr, $i:ident => $do:expr) => {
        each_row!(@ $mr, $i, $do, 0 1 2 3 4 5 6 7 8 9 10 11)
    };
    (@ $mr:expr, $i:ident, $do:expr, $($row:literal)*) => {$(
        if $row < $mr {
            const $i: usize = $row;
            $do;
        }
    )*};
}

/// # Safety
/// The tile is valid: see [`Tile::eval`].
#[inline(always)]
unsafe fn store_sums<D: Dot, const MR: usize, const NV: usize>(
    d: D,
    acc: &[[D::Sum; NV]; MR],
    to: *mut i32,
) {
    each_row!(MR, I => {
        // SAFETY: see `Tile::eval`.
        unsafe {
            d.store(to.add(I * NV * D::LANES), acc[I][0]);
            if NV == 2 {
                d.store(to.add((I * NV + 1) * D::LANES), acc[I][NV - 1]);
            }
        }
    });
}

/// Stores requantised sums: two rows at a time, or four of a narrow tile.
///
/// # Safety
/// The tile is valid: see [`Tile::eval`].
#[inline(always)]
unsafe fn store_bytes<D: Dot, const MR: usize, const NV: usize>(
    d: D,
    acc: &[[D::Sum; NV]; MR],
    t: &TileBytes,
) {
    let width = NV * D::LANES;
    let mut room = MaybeUninit::<[[u8; 2 * PANEL]; ROWS]>::uninit();
    let room = room.as_mut_ptr().cast::<u8>();
    let whole = t.columns == width;
    let (to, stride) = if whole { (t.to, t.stride) } else { (room, 2 * PANEL) };
    let limits = t.limits;
    let (first, second) = (t.scales, t.scales.wrapping_add(D::LANES));
    each_row!(MR, I => {
        if NV == 1 && I.is_multiple_of(4) {
            // SAFETY: see `Tile::eval`.
            unsafe {
                let sums = [
                    acc[I][0],
                    acc[const { row_or_last(I + 1, MR) }][0],
                    acc[const { row_or_last(I + 2, MR) }][0],
                    acc[const { row_or_last(I + 3, MR) }][0],
                ];
                let bytes = d.narrow::<false>(sums, [first; 4], &limits);
                let row = |i: usize| to.add(row_or_last(i, MR) * stride);
                d.store_quarters(bytes, [row(I), row(I + 1), row(I + 2), row(I + 3)]);
            }
        }
        if NV == 2 && I.is_multiple_of(2) {
            // SAFETY: see `Tile::eval`.
            unsafe {
                let next = &acc[const { row_or_last(I + 1, MR) }];
                let sums = [acc[I][0], acc[I][NV - 1], next[0], next[NV - 1]];
                let bytes = d.narrow::<false>(sums, [first, second, first, second], &limits);
                let next = to.add(row_or_last(I + 1, MR) * stride);
                d.store_halves(bytes, [to.add(I * stride), next]);
            }
        }
    });
    if !whole {
        for i in 0..MR {
            // SAFETY: the tile has `columns` columns, which were just stored in the room.
            unsafe { copy_few(room.add(i * 2 * PANEL), t.to.add(i * t.stride), t.columns) };
        }
    }
}

const fn row_or_last(row: usize, rows: usize) -> usize {
    if row < rows { row } else { rows - 1 }
}

/// Copies the rows of a tile into the form that tiles read, side by side.
pub(crate) struct Prepare<'a> {
    pub(crate) table: &'a RowTable,
    pub(crate) rows: usize,
    /// What turns the rows' bytes unsigned.
    pub(crate) flip: u8,
    pub(crate) to: &'a mut [u8],
    pub(crate) row_stride: usize,
}

impl DotOp for Prepare<'_> {
    #[inline(always)]
    fn eval<D: Dot>(self, d: D) {
        assert!(self.rows * self.row_stride <= self.to.len(), "no room for the rows");
        for row in 0..self.rows {
            let mut to = self.to[row * self.row_stride..].as_mut_ptr();
            for (segment, &len) in self.table.lens().iter().enumerate() {
                // SAFETY: the segment is readable by the `RowSource` contract; a prepared row has
                // room for all segments of one.
                unsafe {
                    d.prepare(self.table.start(segment, row), len, self.flip, to);
                    to = to.add(len / GROUP * D::ROW_BYTES);
                }
            }
        }
    }
}

/// Vectors of columns that a tile may span, widest first.
pub(crate) fn widths<D: Dot>() -> &'static [usize] {
    if D::LANES == PANEL { &[2, 1] } else { &[2] }
}

/// Runs a tile of `rows` rows (at most `D::TILE_ROWS`) and `vectors` vectors of columns.
#[inline(always)]
pub(crate) fn run_tile<D: Dot>(d: D, rows: usize, vectors: usize, args: &TileArgs<'_>) {
    match (rows, vectors) {
        (1, 2) => d.run(Tile::<1, 2>(args)),
        (2, 2) => d.run(Tile::<2, 2>(args)),
        (3, 2) => d.run(Tile::<3, 2>(args)),
        (4, 2) => d.run(Tile::<4, 2>(args)),
        (5, 2) => d.run(Tile::<5, 2>(args)),
        (6, 2) => d.run(Tile::<6, 2>(args)),
        _ => wide_tile(d, rows, vectors, args),
    }
}

/// The tiles that only 32 registers of 16 lanes can hold.
fn wide_tile<D: Dot>(d: D, rows: usize, vectors: usize, args: &TileArgs<'_>) {
    assert!(D::LANES == PANEL, "tile of {rows} rows and {vectors} vectors");
    match (rows, vectors) {
        (7, 2) => d.run(Tile::<7, 2>(args)),
        (8, 2) => d.run(Tile::<8, 2>(args)),
        (9, 2) => d.run(Tile::<9, 2>(args)),
        (10, 2) => d.run(Tile::<10, 2>(args)),
        (11, 2) => d.run(Tile::<11, 2>(args)),
        (12, 2) => d.run(Tile::<12, 2>(args)),
        (1, 1) => d.run(Tile::<1, 1>(args)),
        (2, 1) => d.run(Tile::<2, 1>(args)),
        (3, 1) => d.run(Tile::<3, 1>(args)),
        (4, 1) => d.run(Tile::<4, 1>(args)),
        (5, 1) => d.run(Tile::<5, 1>(args)),
        (6, 1) => d.run(Tile::<6, 1>(args)),
        (7, 1) => d.run(Tile::<7, 1>(args)),
        (8, 1) => d.run(Tile::<8, 1>(args)),
        (9, 1) => d.run(Tile::<9, 1>(args)),
        (10, 1) => d.run(Tile::<10, 1>(args)),
        (11, 1) => d.run(Tile::<11, 1>(args)),
        (12, 1) => d.run(Tile::<12, 1>(args)),
        _ => unreachable!("tile of {rows} rows and {vectors} vectors"),
    }
}
