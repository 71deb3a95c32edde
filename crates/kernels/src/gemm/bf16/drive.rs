//! Blocking of one part of a product.
//!
//! Unlike in f32, rows are copied anyway, so a group of them that fills a quarter of L2 is rounded
//! at once, a block of depth at a time, and all of it meets one tile's width of columns before the
//! next. Packed weights are then read from memory once for each group, evenly, and asked for a
//! tile ahead: few rows wait for memory no longer than it takes. The next group's rows are asked
//! for while the first columns are computed.

use std::ops::Range;

use super::lanes::{PairOp, Pairs, dispatch};
use super::tile::{Prepare, ROW_BYTES, TileArgs, row_elements, run_tile};
use super::{Element, PAIR};
use crate::gemm::PANEL;
use crate::gemm::drive::Product;
use crate::gemm::tile::{needed, widths};
use crate::math::ActivateTile;
use crate::rows::RowTable;
use crate::simd::Simd;
use crate::{Cpu, parallel, scratch};

/// Computes one rectangle of the output on this thread.
pub(in crate::gemm) fn run_part(
    cpu: Cpu,
    product: &Product<'_>,
    right: *const Element,
    rows: Range<usize>,
    panels: Range<usize>,
) {
    #[cfg(target_arch = "x86_64")]
    if let Some(amx) = crate::amx::Amx::prove(cpu) {
        super::tiles::run_part(amx, cpu, product, right, rows, panels);
        return;
    }
    let l2_bytes = cpu.caches().l2_bytes;
    let part = Part { product, right, rows: rows.clone(), panels: panels.clone(), l2_bytes };
    if !dispatch(cpu, part) {
        super::reference::run_part(cpu, product, right, rows, panels);
    }
}

struct Part<'a> {
    product: &'a Product<'a>,
    right: *const Element,
    rows: Range<usize>,
    panels: Range<usize>,
    l2_bytes: usize,
}

/// A group of rows in a block of depth.
struct Block {
    rows: Range<usize>,
    /// Tiles that the rows are shared by.
    tiles: usize,
    /// Elements.
    depth: Range<usize>,
    /// Sums of earlier blocks of depth wait in the output.
    resume: bool,
    /// The epilogue follows.
    last: bool,
}

impl PairOp for Part<'_> {
    fn eval<D: Pairs>(self, d: D) {
        let tile_rows = <D::Sums as Simd>::TILE_ROWS;
        let tiles = self.rows.len().div_ceil(tile_rows);
        let group_tiles = (self.l2_bytes / 4 / ROW_BYTES / tile_rows).max(1);
        let groups = tiles.div_ceil(group_tiles);
        let pairs = self.product.rows.depth().div_ceil(PAIR);
        let blocks = pairs.div_ceil(row_elements::<D>() / PAIR).max(1);
        let group_rows = self.rows.len().div_ceil(groups).div_ceil(tile_rows) * tile_rows;
        RowTable::with(tile_rows, |table| {
            scratch::with(group_rows * ROW_BYTES, |prepared: &mut [u8]| {
                for group in 0..groups {
                    for block in 0..blocks {
                        let block = self.block::<D>((group, groups), (block, blocks));
                        self.prepare(d, &block, table, prepared);
                        self.run_block(d, &block, prepared);
                    }
                }
            });
        });
    }
}

impl Part<'_> {
    fn block<D: Pairs>(&self, group: (usize, usize), block: (usize, usize)) -> Block {
        let rows = parallel::share(self.rows.len(), group.1, group.0);
        let rows = self.rows.start + rows.start..self.rows.start + rows.end;
        let depth = self.product.rows.depth();
        let share = parallel::share(depth.div_ceil(PAIR), block.1, block.0);
        Block {
            tiles: rows.len().div_ceil(<D::Sums as Simd>::TILE_ROWS),
            rows,
            depth: share.start * PAIR..(share.end * PAIR).min(depth),
            resume: block.0 > 0,
            last: block.0 + 1 == block.1,
        }
    }

    /// Rounds the rows of a block, side by side.
    fn prepare<D: Pairs>(&self, d: D, block: &Block, table: &mut RowTable, prepared: &mut [u8]) {
        for tile in 0..block.tiles {
            let rows = parallel::share(block.rows.len(), block.tiles, tile);
            let to = &mut prepared[rows.start * ROW_BYTES..rows.end * ROW_BYTES];
            table.clear();
            let first = block.rows.start + rows.start;
            self.product.rows.fill(first, rows.len(), block.depth.clone(), table);
            d.enter(Prepare { table, to, multiple: PAIR });
        }
    }

    /// All columns of the part for a block whose rows are prepared.
    fn run_block<D: Pairs>(&self, d: D, block: &Block, prepared: &[u8]) {
        let lanes = <D::Sums as Simd>::LANES;
        let most = block.rows.len().div_ceil(block.tiles);
        let mut panel = self.panels.start;
        for (vectors, width) in widths::<D::Sums>(most).iter().map(|v| (*v, v * lanes / PANEL)) {
            while panel + width <= self.panels.end {
                for tile in 0..block.tiles {
                    self.run_tile(d, block, prepared, (tile, panel, vectors));
                }
                panel += width;
            }
        }
    }

    /// What to ask for while a tile that begins at row `first` and `panel` is computed: the rows
    /// that a tile of the next group will be made of.
    #[inline(always)]
    fn next_rows(&self, block: &Block, first: usize, panel: usize) -> (*const f32, usize) {
        let next = first + block.rows.len();
        let found = self.product.rows.at_distance(next);
        match found.filter(|_| panel == self.panels.start && next < self.rows.end) {
            Some((start, stride)) => (start.cast::<f32>().wrapping_add(block.depth.start), stride),
            None => (std::ptr::null(), 0),
        }
    }

    /// One tile of rows, from the first column of a panel on.
    #[inline(always)]
    fn run_tile<D: Pairs>(
        &self,
        d: D,
        block: &Block,
        prepared: &[u8],
        (tile, panel, vectors): (usize, usize, usize),
    ) {
        let (p, col) = (self.product, panel * PANEL);
        let rows = parallel::share(block.rows.len(), block.tiles, tile);
        let (first, count) = (block.rows.start + rows.start, rows.len());
        let cols = (vectors * <D::Sums as Simd>::LANES).min(p.n - col);
        let panel_stride = p.rows.depth().next_multiple_of(PAIR) * PANEL;
        let b = self.right.wrapping_add(panel * panel_stride + block.depth.start * PANEL);
        let width = vectors * <D::Sums as Simd>::LANES / PANEL;
        let args = TileArgs {
            rows: prepared[rows.start * ROW_BYTES..].as_ptr(),
            pairs: block.depth.len().div_ceil(PAIR),
            b,
            next: if tile == 0 { b.wrapping_add(width * panel_stride) } else { b },
            next_rows: self.next_rows(block, first, panel),
            panel_stride,
            out: p.out.wrapping_add(first * p.out_stride + col),
            out_stride: p.out_stride,
            cols,
            resume: block.resume,
            finish: block.last.then(|| p.finish(first, col)),
        };
        run_tile(d, count, needed::<D::Sums>(vectors, cols), &args);
        if block.last && p.activation.as_clamp().is_none() {
            d.sums().run(ActivateTile {
                activation: p.activation,
                start: args.out,
                rows: count,
                cols,
                stride: p.out_stride,
            });
        }
    }
}
