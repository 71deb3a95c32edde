//! 8-bit products on AMX tiles: 32 rows by 32 columns at a time, over the whole depth.
//!
//! Sums are exact, so that these blocks and those of vectors may be mixed: products of few rows or
//! little depth stay with vectors, which need neither a configuration nor whole tiles. Where rows
//! are not read in place, the part of the depth that fills no tile goes to the end of a copy's last
//! tile, behind zeros, and meets the last whole tile of the columns.

use super::drive::Part;
use super::epilogue::{FinishBytes, FinishTile};
use super::lanes::{Dot, DotOp, dispatch};
use super::narrow::copy_few;
use super::pack::GROUP;
use super::tile::{Prepare, TileBytes};
use crate::amx::Tiles;
use crate::amx::{Amx, BLOCK_ROWS, Block, Operands, SUMS_STRIDE, Stretch, TILE_BYTES, TILE_ROWS};
use crate::gemm::PANEL;
use crate::rows::RowTable;
use crate::{parallel, scratch};

/// Bytes of a tile of right columns.
const TILE_LEN: usize = TILE_ROWS * TILE_BYTES;
/// Sums of a row of a block.
const SUMS_WIDTH: usize = SUMS_STRIDE / size_of::<i32>();
/// Panels of a block.
const WIDTH: usize = SUMS_WIDTH / PANEL;
/// Most pieces of rows that blocks read in place.
const STRETCHES: usize = 16;

/// Computes the part, if this processor has tiles and it is worth them.
pub(super) fn run_part(part: &Part<'_>) -> bool {
    let worth = part.rows.len() >= TILE_ROWS && part.product.rows.depth() >= TILE_BYTES;
    let amx = Amx::prove(part.cpu).filter(|_| worth);
    amx.is_some_and(|amx| dispatch(part.cpu, Tiled { amx, part }))
}

struct Tiled<'a> {
    amx: Amx,
    part: &'a Part<'a>,
}

/// Memory that a part works in.
struct Room<'a> {
    /// Copies of a block's rows.
    prepared: &'a mut [u8],
    /// Of a block: `[BLOCK_ROWS][SUMS_WIDTH]`.
    sums: &'a mut [i32],
}

/// Panels that are multiplied by all rows before the next are.
struct Columns<'a> {
    first: usize,
    end: usize,
    /// What the sums of each column begin with if `bytes`, unspecified otherwise.
    base: &'a [i32],
    /// The epilogue, if blocks can apply it themselves.
    bytes: Option<&'a FinishBytes<'a>>,
}

/// Rows of a block.
struct Left {
    first: usize,
    rows: usize,
    stretches: [Stretch; STRETCHES],
    count: usize,
    stride: usize,
    /// Sums of the unsigned bytes of each, if needed.
    sums: [i32; BLOCK_ROWS],
}

impl DotOp for Tiled<'_> {
    fn eval<D: Dot>(self, d: D) {
        assert!(D::ROW_BYTES == GROUP, "rows are prepared in another form");
        let part = self.part;
        let k = part.product.rows.depth();
        let panels_max = (part.caches.l2_bytes / 2 / (k * PANEL)).max(WIDTH) / WIDTH * WIDTH;
        let blocks = part.rows.len().div_ceil(BLOCK_ROWS);
        // Blocks have equally many rows, so that one configuration serves all: they overlap.
        let rows = part.rows.len().div_ceil(blocks);
        let bytes = part.product.finish.bytes();
        let work = |table: &mut RowTable, room: &mut Room<'_>, base: &mut [i32]| {
            let mut tiles = Tiles::new(self.amx);
            tiles.configure(rows);
            for first in part.panels.clone().step_by(panels_max) {
                let end = part.panels.end.min(first + panels_max);
                if bytes.is_some() {
                    part.fill_base(first, &mut base[..(end - first) * PANEL]);
                }
                let columns = Columns { first, end, base, bytes: bytes.as_ref() };
                for block in 0..blocks {
                    let share = parallel::share(part.rows.len(), blocks, block);
                    let start = (part.rows.start + share.start).min(part.rows.end - rows);
                    let left = self.left(d, (start, rows), table, room.prepared);
                    self.run_block(d, &left, &columns, room.sums, &mut tiles);
                }
            }
        };
        let base = panels_max.min(part.panels.len()).next_multiple_of(WIDTH) * PANEL;
        RowTable::with(BLOCK_ROWS, |table| {
            scratch::with(rows * k.next_multiple_of(TILE_BYTES), |prepared: &mut [u8]| {
                scratch::with(BLOCK_ROWS * SUMS_WIDTH, |sums: &mut [i32]| {
                    scratch::with(base, |base: &mut [i32]| {
                        work(table, &mut Room { prepared, sums }, base);
                    });
                });
            });
        });
    }
}

impl Tiled<'_> {
    /// The rows of a block: in place if they are unsigned and their pieces fill tiles.
    fn left<D: Dot>(
        &self,
        d: D,
        (first, rows): (usize, usize),
        table: &mut RowTable,
        prepared: &mut [u8],
    ) -> Left {
        let k = self.part.product.rows.depth();
        table.clear();
        self.part.product.rows.fill(first, rows, 0..k, table);
        let mut sums = [0; BLOCK_ROWS];
        if self.part.row_sums {
            self.part.sum_rows(table, &mut sums[..rows]);
        }
        let none = Stretch { left: prepared.as_ptr(), right: [std::ptr::null(); 2], tiles: 0 };
        let mut left =
            Left { first, rows, stretches: [none; STRETCHES], count: 0, stride: 0, sums };
        let fills = |len: &usize| len.is_multiple_of(TILE_BYTES);
        let whole = table.segments() <= STRETCHES && table.lens().iter().all(fills);
        let in_place = (whole && self.part.flip() == 0).then(|| table.row_stride(rows)).flatten();
        if let Some(stride) = in_place {
            for (index, len) in table.lens().iter().enumerate() {
                let (start, tiles) = (table.start(index, 0), len / TILE_BYTES);
                left.stretches[index] = Stretch { left: start, tiles, ..none };
            }
            (left.count, left.stride) = (table.segments(), stride);
            return left;
        }
        let (flip, row_stride) = (self.part.flip(), k.next_multiple_of(TILE_BYTES));
        d.run(Prepare { table, rows, flip, to: prepared, row_stride });
        let (whole, rest) = (k / TILE_BYTES * TILE_BYTES, k % TILE_BYTES);
        for row in prepared.chunks_exact_mut(row_stride).filter(|_| rest > 0) {
            row.copy_within(whole..k, row_stride - rest);
            row[whole..row_stride - rest].fill(0);
        }
        left.stretches[0] = Stretch { tiles: whole / TILE_BYTES, ..none };
        left.stretches[1] =
            Stretch { left: prepared[whole..].as_ptr(), tiles: usize::from(rest > 0), ..none };
        (left.count, left.stride) = (2, row_stride);
        left
    }

    /// One block's rows across some panels.
    fn run_block<D: Dot>(
        &self,
        d: D,
        left: &Left,
        columns: &Columns<'_>,
        sums: &mut [i32],
        tiles: &mut Tiles,
    ) {
        let finish = &self.part.product.finish;
        let zeros = [0i32; SUMS_WIDTH];
        for panel in (columns.first..columns.end).step_by(WIDTH) {
            let (col, width) = (panel * PANEL, WIDTH.min(columns.end - panel));
            let base = match columns.bytes {
                Some(_) => columns.base[col - columns.first * PANEL..].as_ptr(),
                None => zeros.as_ptr(),
            };
            let stretches = self.stretches(left, panel);
            let to = sums.as_mut_ptr().cast();
            // SAFETY: the rows are readable by the `RowSource` contract, or prepared; a panel has
            // a tile for each 64 bytes of depth; sums begin with two vectors and have room.
            unsafe {
                let stretches = &stretches[..left.count];
                let block = Block::new(stretches, left.stride, (base.cast(), 0), to);
                tiles.multiply(Operands::Bytes, width, &block);
            }
            let Some(bytes) = columns.bytes else {
                d.run(FinishTile {
                    finish,
                    sums,
                    stride: SUMS_WIDTH,
                    width: width * PANEL,
                    first_row: left.first,
                    row_sums: &left.sums,
                    rows: left.rows,
                    col,
                });
                continue;
            };
            let bytes = TileBytes {
                to: bytes.to.wrapping_add(left.first * bytes.stride + col),
                stride: bytes.stride,
                columns: (finish.n - col).min(width * PANEL),
                scales: bytes.scales[col..].as_ptr(),
                limits: bytes.limits,
            };
            d.run(Narrow { sums, rows: left.rows, width: width * PANEL, bytes: &bytes });
        }
        let cols = (columns.end * PANEL).min(finish.n) - columns.first * PANEL;
        self.part.activate(left.first, left.rows, columns.first * PANEL, cols);
    }

    /// A block's stretches at two panels.
    fn stretches(&self, left: &Left, panel: usize) -> [Stretch; STRETCHES] {
        let k = self.part.product.rows.depth();
        let at =
            |panel: usize| self.part.product.right.wrapping_add(panel * k * PANEL).cast::<u8>();
        let mut stretches = left.stretches;
        let mut tile = 0;
        for stretch in &mut stretches[..left.count] {
            let last = k * PANEL - TILE_LEN * stretch.tiles;
            let start = (tile * TILE_LEN).min(last);
            stretch.right = [at(panel).wrapping_add(start), at(panel + 1).wrapping_add(start)];
            tile += stretch.tiles;
        }
        stretches
    }
}

/// Requantises a block whose sums lie in a buffer: two rows at a time, or four of one panel.
struct Narrow<'a> {
    /// `[rows][SUMS_WIDTH]`.
    sums: &'a [i32],
    rows: usize,
    /// Columns that were computed: 16 or 32.
    width: usize,
    bytes: &'a TileBytes,
}

impl DotOp for Narrow<'_> {
    #[inline(always)]
    fn eval<D: Dot>(self, d: D) {
        const ROW: usize = SUMS_WIDTH;

        assert!(D::LANES == PANEL, "a row of sums is two vectors");
        let t = self.bytes;
        let mut room = [0u8; BLOCK_ROWS * ROW];
        let whole = t.columns == self.width;
        let (to, stride) = if whole { (t.to, t.stride) } else { (room.as_mut_ptr(), ROW) };
        let (first, second) = (t.scales, t.scales.wrapping_add(PANEL));
        let sums = self.sums.as_ptr();
        // SAFETY: the driver that fills the block vouches for every range.
        let at =
            |row: usize, panel: usize| unsafe { d.load_sum(sums.add(row * ROW + panel * PANEL)) };
        let last = self.rows - 1;
        for row in (0..self.rows).step_by(if self.width == ROW { 2 } else { 4 }) {
            let rows = [row, row + 1, row + 2, row + 3].map(|row| row.min(last));
            let to = rows.map(|row| to.wrapping_add(row * stride));
            // SAFETY: as above.
            unsafe {
                if self.width == ROW {
                    let sums = [at(row, 0), at(row, 1), at(rows[1], 0), at(rows[1], 1)];
                    let scales = [first, second, first, second];
                    let bytes = d.narrow::<false>(sums, scales, &t.limits);
                    d.store_halves(bytes, [to[0], to[1]]);
                } else {
                    let bytes =
                        d.narrow::<false>(rows.map(|row| at(row, 0)), [first; 4], &t.limits);
                    d.store_quarters(bytes, to);
                }
            }
        }
        for row in (0..self.rows).filter(|_| !whole) {
            // SAFETY: the block has `columns` columns, which were just stored in the room.
            unsafe { copy_few(room.as_ptr().add(row * ROW), t.to.add(row * t.stride), t.columns) };
        }
    }
}
