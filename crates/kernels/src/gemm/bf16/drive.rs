//! Blocking of one part of a product: as for f32, but of pairs.

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
    let l2_bytes = cpu.caches().l2_bytes;
    let part = Part { product, right, rows: rows.clone(), panels: panels.clone(), l2_bytes };
    if !dispatch(cpu, part) {
        super::reference::run_part(product, right, rows, panels);
    }
}

struct Part<'a> {
    product: &'a Product<'a>,
    right: *const Element,
    rows: Range<usize>,
    panels: Range<usize>,
    l2_bytes: usize,
}

/// A block of depth among all.
struct Block {
    /// Elements.
    depth: Range<usize>,
    /// Sums of earlier blocks wait in the output.
    resume: bool,
    /// The epilogue follows.
    last: bool,
}

/// Rows of one tile, rounded.
struct Rows<'a> {
    first: usize,
    count: usize,
    prepared: &'a [u8],
}

impl PairOp for Part<'_> {
    fn eval<D: Pairs>(self, d: D) {
        let pairs = self.product.rows.depth().div_ceil(PAIR);
        let blocks = pairs.div_ceil(row_elements::<D>() / PAIR).max(1);
        let block_bytes = pairs.div_ceil(blocks).max(1) * PAIR * PANEL * size_of::<Element>();
        let panels_max = (self.l2_bytes / 2 / block_bytes).max(2) & !1;
        let tile_rows = <D::Sums as Simd>::TILE_ROWS;
        RowTable::with(tile_rows, |table| {
            scratch::with(tile_rows * ROW_BYTES, |prepared: &mut [u8]| {
                let mut first = self.panels.start;
                while first < self.panels.end {
                    let panels = first..self.panels.end.min(first + panels_max);
                    first = panels.end;
                    for block in 0..blocks {
                        let block = self.block(pairs, blocks, block);
                        self.run_rows(d, &block, panels.clone(), table, prepared);
                    }
                }
            });
        });
    }
}

impl Part<'_> {
    fn block(&self, pairs: usize, blocks: usize, index: usize) -> Block {
        let share = parallel::share(pairs, blocks, index);
        let depth = share.start * PAIR..(share.end * PAIR).min(self.product.rows.depth());
        Block { depth, resume: index > 0, last: index + 1 == blocks }
    }

    /// All rows of the part for one block of columns and depth.
    fn run_rows<D: Pairs>(
        &self,
        d: D,
        block: &Block,
        panels: Range<usize>,
        table: &mut RowTable,
        prepared: &mut [u8],
    ) {
        let tiles = self.rows.len().div_ceil(<D::Sums as Simd>::TILE_ROWS);
        for tile in 0..tiles {
            let rows = parallel::share(self.rows.len(), tiles, tile);
            let (first, count) = (self.rows.start + rows.start, rows.len());
            table.clear();
            self.product.rows.fill(first, count, block.depth.clone(), table);
            d.enter(Prepare { table, rows: count, to: prepared });
            self.run_row(d, block, &Rows { first, count, prepared }, panels.clone());
        }
    }

    /// One tile's rows across a block of columns.
    fn run_row<D: Pairs>(&self, d: D, block: &Block, rows: &Rows<'_>, panels: Range<usize>) {
        let lanes = <D::Sums as Simd>::LANES;
        let mut panel = panels.start;
        for (vectors, width) in
            widths::<D::Sums>(rows.count).iter().map(|v| (*v, v * lanes / PANEL))
        {
            while panel + width <= panels.end {
                self.run_one(d, block, rows, panel, vectors);
                panel += width;
            }
        }
    }

    /// One tile, from the first column of a panel.
    #[inline(always)]
    fn run_one<D: Pairs>(
        &self,
        d: D,
        block: &Block,
        rows: &Rows<'_>,
        panel: usize,
        vectors: usize,
    ) {
        let (p, col) = (self.product, panel * PANEL);
        let cols = (vectors * <D::Sums as Simd>::LANES).min(p.n - col);
        let panel_stride = p.rows.depth().next_multiple_of(PAIR) * PANEL;
        let args = TileArgs {
            rows: rows.prepared.as_ptr(),
            pairs: block.depth.len().div_ceil(PAIR),
            b: self.right.wrapping_add(panel * panel_stride + block.depth.start * PANEL),
            panel_stride,
            out: p.out.wrapping_add(rows.first * p.out_stride + col),
            out_stride: p.out_stride,
            cols,
            resume: block.resume,
            finish: block.last.then(|| p.finish(rows.first, col)),
        };
        run_tile(d, rows.count, needed::<D::Sums>(vectors, cols), &args);
        if block.last && p.activation.as_clamp().is_none() {
            d.sums().run(ActivateTile {
                activation: p.activation,
                start: args.out,
                rows: rows.count,
                cols,
                stride: p.out_stride,
            });
        }
    }
}
