//! Products in bf16 on AMX tiles: 32 rows by 32 columns at a time.
//!
//! Rows are rounded and grouped as in `drive.rs`. Depth is cut between tiles of 32 elements only,
//! counted from the first one, so that no block of depth changes what is added to what. The last
//! tile is completed with zeros: rows in their copies, columns in a copy of the panels' ends, since
//! what lies behind them need not be finite.

use std::ops::Range;

use super::lanes::{PairOp, Pairs, dispatch};
use super::tile::{Prepare, ROW_BYTES};
use super::{Element, PAIR, TILE_DEPTH};
use crate::amx::{
    Amx, BLOCK_ROWS, Block as BlockArgs, Operands, SUMS_STRIDE, Stretch, TILE_BYTES, Tiles,
};
use crate::gemm::PANEL;
use crate::gemm::drive::Product;
use crate::gemm::tile::{Finish, finish_row, load_row, store_row};
use crate::math::ActivateTile;
use crate::rows::RowTable;
use crate::simd::Simd;
use crate::{Cpu, parallel, scratch};

const _: () = assert!(TILE_DEPTH == TILE_BYTES / size_of::<Element>());
/// Elements of a tile of right columns.
const TILE_LEN: usize = TILE_DEPTH * PANEL;
/// Elements of a row of sums.
const SUMS_WIDTH: usize = SUMS_STRIDE / size_of::<f32>();
/// Panels of a block.
const WIDTH: usize = SUMS_WIDTH / PANEL;

/// Computes one rectangle of the output on this thread.
pub(super) fn run_part(
    amx: Amx,
    cpu: Cpu,
    product: &Product<'_>,
    right: *const Element,
    rows: Range<usize>,
    panels: Range<usize>,
) {
    let l2_bytes = cpu.caches().l2_bytes;
    let done = dispatch(cpu, Part { amx, product, right, rows, panels, l2_bytes });
    assert!(done, "a processor with AMX has vectors");
}

struct Part<'a> {
    amx: Amx,
    product: &'a Product<'a>,
    right: *const Element,
    rows: Range<usize>,
    panels: Range<usize>,
    l2_bytes: usize,
}

/// A group of rows in some tiles of depth.
struct Group {
    rows: Range<usize>,
    /// Blocks that the rows are shared by.
    blocks: usize,
    /// Rows of the largest one.
    most: usize,
    tiles: Range<usize>,
    /// Sums of earlier tiles wait in the output.
    resume: bool,
    /// The epilogue follows.
    last: bool,
}

/// Memory that a part works in.
struct Room<'a> {
    /// Rows of [`ROW_BYTES`], and a block more that may be read, whatever it holds.
    prepared: &'a mut [u8],
    /// The last tiles of a block's panels.
    ends: &'a mut [u16],
    /// Of a block: `[BLOCK_ROWS][SUMS_WIDTH]`.
    sums: &'a mut [f32],
}

impl PairOp for Part<'_> {
    fn eval<D: Pairs>(self, d: D) {
        assert!(D::ELEMENT_BYTES == size_of::<Element>(), "rows are prepared in another form");
        let blocks = self.rows.len().div_ceil(BLOCK_ROWS);
        let group_blocks = (self.l2_bytes / 4 / ROW_BYTES / BLOCK_ROWS).max(1);
        let groups = blocks.div_ceil(group_blocks);
        let tiles = self.product.rows.depth().div_ceil(TILE_DEPTH);
        let steps = tiles.div_ceil(ROW_BYTES / TILE_BYTES).max(1);
        let rows = self.rows.len().div_ceil(groups) + BLOCK_ROWS;
        RowTable::with(BLOCK_ROWS, |table| {
            scratch::with(rows * ROW_BYTES, |prepared: &mut [u8]| {
                scratch::with(WIDTH * TILE_LEN, |ends: &mut [u16]| {
                    scratch::with(BLOCK_ROWS * SUMS_WIDTH, |sums: &mut [f32]| {
                        let mut room = Room { prepared, ends, sums };
                        let mut tiles = Tiles::new(self.amx);
                        for group in 0..groups {
                            for step in 0..steps {
                                let group = self.group((group, groups), (step, steps));
                                self.prepare(d, &group, table, room.prepared);
                                self.run_group(d, &group, &mut room, &mut tiles);
                            }
                        }
                    });
                });
            });
        });
    }
}

impl Part<'_> {
    fn group(&self, group: (usize, usize), step: (usize, usize)) -> Group {
        let rows = parallel::share(self.rows.len(), group.1, group.0);
        let rows = self.rows.start + rows.start..self.rows.start + rows.end;
        let blocks = rows.len().div_ceil(BLOCK_ROWS);
        let tiles = self.product.rows.depth().div_ceil(TILE_DEPTH);
        Group {
            most: rows.len().div_ceil(blocks),
            rows,
            blocks,
            tiles: parallel::share(tiles, step.1, step.0),
            resume: step.0 > 0,
            last: step.0 + 1 == step.1,
        }
    }

    /// Rounds the rows of a group, side by side.
    fn prepare<D: Pairs>(&self, d: D, group: &Group, table: &mut RowTable, prepared: &mut [u8]) {
        let depth = self.product.rows.depth();
        let depth = group.tiles.start * TILE_DEPTH..(group.tiles.end * TILE_DEPTH).min(depth);
        for block in 0..group.blocks {
            let rows = parallel::share(group.rows.len(), group.blocks, block);
            let to = &mut prepared[rows.start * ROW_BYTES..rows.end * ROW_BYTES];
            table.clear();
            let first = group.rows.start + rows.start;
            self.product.rows.fill(first, rows.len(), depth.clone(), table);
            d.enter(Prepare { table, to, multiple: TILE_DEPTH });
        }
    }

    /// All columns of the part for a group whose rows are prepared.
    fn run_group<D: Pairs>(&self, d: D, group: &Group, room: &mut Room<'_>, tiles: &mut Tiles) {
        tiles.configure(group.most);
        for panel in self.panels.clone().step_by(WIDTH) {
            let columns = WIDTH.min(self.panels.end - panel);
            let whole = self.whole_tiles(group);
            if whole < group.tiles.len() {
                for (i, end) in room.ends.chunks_exact_mut(TILE_LEN).enumerate().take(columns) {
                    self.copy_end(panel + i, end);
                }
            }
            for block in 0..group.blocks {
                self.run_block(d, group, (block, panel, columns), room, tiles);
            }
        }
    }

    /// Elements from one panel to the next.
    fn panel_stride(&self) -> usize {
        self.product.rows.depth().next_multiple_of(PAIR) * PANEL
    }

    /// Tiles of the group that every panel has in full.
    fn whole_tiles(&self, group: &Group) -> usize {
        (self.panel_stride() / TILE_LEN).min(group.tiles.end) - group.tiles.start
    }

    /// Copies the incomplete tile at the end of a panel.
    fn copy_end(&self, panel: usize, to: &mut [u16]) {
        let stride = self.panel_stride();
        let len = stride % TILE_LEN;
        // SAFETY: the packed operand has a panel for every 16 columns.
        let end = unsafe {
            let start = self.right.add((panel + 1) * stride - len);
            std::slice::from_raw_parts(start.cast::<u16>(), len)
        };
        to[..len].copy_from_slice(end);
        to[len..].fill(0);
    }

    /// One block of a group, from the first column of a panel on.
    fn run_block<D: Pairs>(
        &self,
        d: D,
        group: &Group,
        (block, panel, columns): (usize, usize, usize),
        room: &mut Room<'_>,
        tiles: &mut Tiles,
    ) {
        let (p, col) = (self.product, panel * PANEL);
        let rows = parallel::share(group.rows.len(), group.blocks, block);
        let (first, count) = (group.rows.start + rows.start, rows.len());
        let cols = (columns * PANEL).min(p.n - col);
        let whole = self.whole_tiles(group);
        let left = room.prepared[rows.start * ROW_BYTES..].as_ptr();
        let at = panel * self.panel_stride() + group.tiles.start * TILE_LEN;
        let right = self.right.wrapping_add(at);
        let next = right.wrapping_add(self.panel_stride());
        let ends = [0, TILE_LEN].map(|at| room.ends.as_ptr().wrapping_add(at).cast());
        let stretches = [
            Stretch { left, right: [right.cast(), next.cast()], tiles: whole },
            Stretch {
                left: left.wrapping_add(whole * TILE_BYTES),
                right: ends,
                tiles: group.tiles.len() - whole,
            },
        ];
        let out = p.out.wrapping_add(first * p.out_stride + col);
        let zeros = [0f32; SUMS_WIDTH];
        let mut from = (zeros.as_ptr().cast(), 0);
        if group.resume {
            // SAFETY: the product's makers checked the output, of which this part is ours.
            unsafe { load_sums(out, (count, cols), p.out_stride, room.sums) };
            from = (room.sums.as_ptr().cast(), SUMS_STRIDE);
        }
        let sums = room.sums.as_mut_ptr().cast();
        // SAFETY: rows are prepared, and so are a block of them more than there are; panels have
        // whole tiles up to the copied ones; there is room for the sums of a block.
        unsafe {
            let block = BlockArgs::new(&stretches, ROW_BYTES, from, sums);
            tiles.multiply(Operands::Bf16, columns, &block);
        }
        let finish = group.last.then(|| p.finish(first, col));
        let (sums, stride) = (&*room.sums, p.out_stride);
        d.enter(Store { sums, rows: count, cols, out, stride, finish });
        if group.last && p.activation.as_clamp().is_none() {
            let activation = p.activation;
            d.sums().run(ActivateTile { activation, start: out, rows: count, cols, stride });
        }
    }
}

/// Takes the sums of a block from the output.
///
/// # Safety
/// `cols` elements of every row are readable at `out`.
unsafe fn load_sums(
    out: *const f32,
    (rows, cols): (usize, usize),
    stride: usize,
    sums: &mut [f32],
) {
    for (row, sums) in sums.chunks_exact_mut(SUMS_WIDTH).enumerate().take(rows) {
        // SAFETY: by the caller's promise.
        let from = unsafe { std::slice::from_raw_parts(out.add(row * stride), cols) };
        sums[..cols].copy_from_slice(from);
    }
}

/// Puts the sums of a block into the output, with the epilogue if it follows.
struct Store<'a> {
    sums: &'a [f32],
    rows: usize,
    cols: usize,
    out: *mut f32,
    stride: usize,
    finish: Option<Finish>,
}

impl PairOp for Store<'_> {
    #[inline(always)]
    fn eval<D: Pairs>(self, d: D) {
        const VECTORS: usize = SUMS_WIDTH / PANEL;

        let s = d.sums();
        assert!(<D::Sums as Simd>::LANES == PANEL, "a row of sums is two vectors");
        for (row, sums) in self.sums.chunks_exact(SUMS_WIDTH).enumerate().take(self.rows) {
            // SAFETY: the driver's block is inside its part of the output and of the epilogue's
            // operands, which the product's makers checked.
            unsafe {
                let mut sums = load_row::<D::Sums, VECTORS>(s, sums.as_ptr(), SUMS_WIDTH);
                if let Some(finish) = &self.finish {
                    finish_row::<D::Sums, VECTORS>(s, finish, row, self.cols, &mut sums);
                }
                let out = self.out.add(row * self.stride);
                store_row::<D::Sums, VECTORS>(s, out, self.cols, &sums);
            }
        }
    }
}
