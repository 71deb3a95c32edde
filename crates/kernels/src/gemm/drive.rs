//! Blocking and partition of a matrix product.
//!
//! A part owns a rectangle of the output. Inside it: blocks of columns whose panels fit half of L2,
//! blocks of depth whose tile of left rows fits half of L1, then tiles. Sums between depth blocks
//! wait in the output as f32, which changes nothing: every element is one chain of fused
//! multiply-adds in order of depth, whatever the blocking, the instruction set or the number of
//! threads.

use std::ops::Range;

use super::bf16;
use super::pack::{MatrixLayout, PANEL, pack_panels};
use super::tile::{Ahead, Finish, TileArgs, needed, run_tile, widths};
use crate::math::{ActivateTile, Activation};
use crate::rows::{RowSource, RowTable};
use crate::simd::{Simd, SimdOp, dispatch};
use crate::{CacheSizes, Cpu, Exec, parallel, scratch};

/// The right-hand operand of a product in flight.
#[derive(Clone, Copy)]
pub(crate) enum Right {
    /// Panels.
    Packed(*const f32),
    /// Panels that a product just before this one read, so that caches hold them as far as they
    /// can.
    PackedAgain(*const f32),
    /// Panels of bf16 pairs: the product has operands in bf16.
    PackedBf16(*const bf16::Element),
    /// A matrix known only now, packed block by block by whoever needs it.
    Strided { start: *const f32, k_stride: usize, n_stride: usize },
}

impl Right {
    /// Elements of depth that one lane multiplies at a time.
    fn elements_per_lane(&self) -> usize {
        if let Right::PackedBf16(_) = self { bf16::PAIR } else { 1 }
    }
}

/// One matrix product: raw operands that its makers have checked.
#[derive(Clone, Copy)]
pub(crate) struct Product<'a> {
    pub(crate) rows: &'a dyn RowSource,
    pub(crate) right: Right,
    /// Columns.
    pub(crate) n: usize,
    pub(crate) out: *mut f32,
    pub(crate) out_stride: usize,
    pub(crate) bias: *const f32,
    pub(crate) residual: *const f32,
    pub(crate) residual_stride: usize,
    pub(crate) activation: Activation,
}

// SAFETY: its makers borrow all operands for the call, and parts write disjoint rectangles.
unsafe impl Sync for Product<'_> {}

/// Bytes.
const CACHE_LINE: usize = 64;

/// A grid of parts over a product's rows and panels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Grid {
    pub(crate) row_parts: usize,
    pub(crate) panel_parts: usize,
}

/// What a cache line that two cores write in turn costs, in vectors of sums: about 100 ns where the
/// cores share a cache, several times that where they do not.
const SHARED_LINE: usize = 1024;

/// What reading a cache line of left rows costs, in that unit. A part that owns some rows mostly
/// finds them in its own caches, since the step before was cut alike; a part that reads all rows
/// fetches those of others from another core's.
const LEFT_LINE: usize = 8;

/// The same for a line of the right operand, of which every core may keep a copy.
const RIGHT_LINE: usize = 4;

/// Tiles of rows at most that ask for the panels needed next. With more, waiting for panels is a
/// small share of the time.
const TILES_AHEAD: usize = 16;

/// What a product's parts are cut from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Extents {
    pub(crate) rows: usize,
    pub(crate) panels: usize,
    pub(crate) depth: usize,
    /// Whether panels of the output lie in cache lines of their own.
    pub(crate) apart: bool,
}

/// The grid of at most `threads` parts whose largest part is cheapest to compute and to read.
/// Where neighbouring panels share a cache line in every row, cutting between them costs that.
pub(crate) fn grid(threads: usize, extents: Extents) -> Grid {
    let Extents { rows, panels, depth, apart } = extents;
    let candidates = (1..=threads).map(|row_parts| {
        let panel_parts = threads / row_parts;
        let (r, p) = (rows.div_ceil(row_parts), panels.div_ceil(panel_parts));
        let cuts = if apart { 0 } else { panel_parts - 1 };
        let sums = r.next_multiple_of(6) * p * depth;
        let reads = r * depth.div_ceil(PANEL) * LEFT_LINE + p * depth * RIGHT_LINE;
        (sums + reads + r * cuts * SHARED_LINE, Grid { row_parts, panel_parts })
    });
    let best = candidates.min_by_key(|(cost, _)| *cost);
    best.map_or(Grid { row_parts: 1, panel_parts: 1 }, |(_, grid)| grid)
}

/// Runs a product on as many threads as are worth it.
pub(crate) fn run(exec: Exec<'_>, product: &Product<'_>) {
    let (m, k, panels) = (product.rows.rows(), product.rows.depth(), product.n.div_ceil(PANEL));
    if m == 0 || panels == 0 {
        return;
    }
    let depth = k.div_ceil(product.right.elements_per_lane());
    let cost = m.saturating_mul(depth).saturating_mul(product.n) / 8;
    let threads = parallel::useful_parts(exec, cost, m * panels);
    let apart = product.has_panels_apart();
    let grid = grid(threads, Extents { rows: m, panels, depth, apart });
    exec.pool.run(grid.row_parts * grid.panel_parts, &|part| {
        let rows = parallel::share(m, grid.row_parts, part / grid.panel_parts);
        let panels = parallel::share(panels, grid.panel_parts, part % grid.panel_parts);
        run_part(exec.cpu, product, rows, panels);
    });
}

/// Computes one rectangle of the output on this thread.
pub(crate) fn run_part(cpu: Cpu, product: &Product<'_>, rows: Range<usize>, panels: Range<usize>) {
    if rows.is_empty() || panels.is_empty() {
        return;
    }
    if let Right::PackedBf16(right) = product.right {
        bf16::run_part(cpu, product, right, rows, panels);
        return;
    }
    let part =
        Part { product, rows: rows.clone(), panels: panels.clone(), cpu, caches: cpu.caches() };
    if dispatch(cpu, part).is_none() {
        super::reference::run_part(product, rows, panels);
    }
}

pub(crate) struct Part<'a> {
    pub(crate) product: &'a Product<'a>,
    pub(crate) rows: Range<usize>,
    pub(crate) panels: Range<usize>,
    pub(crate) cpu: Cpu,
    pub(crate) caches: CacheSizes,
}

impl SimdOp for Part<'_> {
    type Output = ();

    fn eval<S: Simd>(self, s: S) {
        let k = self.product.rows.depth();
        let depth_max = (self.caches.l1_bytes / 2 / 4 / S::TILE_ROWS).max(64);
        let depth_blocks = k.div_ceil(depth_max).max(1);
        let depth = k.div_ceil(depth_blocks).max(1);
        // The next block of panels comes into L2 beside this one.
        let kept = self.caches.l2_bytes / if self.asks_ahead::<S>() { 4 } else { 2 };
        let panels_max = (kept / (depth * PANEL * size_of::<f32>())).max(2) & !1;
        let mut first = self.panels.start;
        while first < self.panels.end {
            let block = first..self.panels.end.min(first + panels_max);
            first = block.end;
            match self.product.right {
                Right::Packed(start) | Right::PackedAgain(start) => {
                    // SAFETY: the packed operand has a panel for every 16 columns.
                    let b = unsafe { start.add(block.start * k * PANEL) };
                    let next = start.wrapping_add(block.end * k * PANEL);
                    let next = (block.end < self.panels.end).then_some(next);
                    self.run_columns(s, block, (b, next), depth_blocks);
                }
                Right::PackedBf16(_) => unreachable!("products in bf16 have a driver of their own"),
                Right::Strided { start, k_stride, n_stride } => {
                    let layout = MatrixLayout { k, n: self.product.n, k_stride, n_stride };
                    scratch::with(block.len() * k * PANEL, |packed: &mut [f32]| {
                        // SAFETY: the makers of the product checked the layout.
                        unsafe { pack_panels(self.cpu, start, layout, block.clone(), packed) };
                        self.run_columns(s, block, (packed.as_ptr(), None), depth_blocks);
                    });
                }
            }
        }
    }
}

impl Part<'_> {
    /// Whether tiles ask for the panels that are needed next.
    fn asks_ahead<S: Simd>(&self) -> bool {
        let tiles = self.rows.len().div_ceil(S::TILE_ROWS);
        tiles <= TILES_AHEAD && !matches!(self.product.right, Right::PackedAgain(_))
    }

    /// All rows of the part for one block of columns, `b` pointing to its first panel and `next` to
    /// that of the next block, if there is one.
    fn run_columns<S: Simd>(
        &self,
        s: S,
        block: Range<usize>,
        (b, next): (*const f32, Option<*const f32>),
        depth_blocks: usize,
    ) {
        let tiles = self.rows.len().div_ceil(S::TILE_ROWS);
        let k = self.product.rows.depth();
        RowTable::with(S::TILE_ROWS, |table| {
            for depth_block in 0..depth_blocks {
                let depth = parallel::share(k, depth_blocks, depth_block);
                let last = depth_block + 1 == depth_blocks;
                let next = if last { next } else { Some(b.wrapping_add(depth.end * PANEL)) };
                let ahead = match next.filter(|_| self.asks_ahead::<S>()) {
                    Some(next) => Ahead::new(next, tiles),
                    None => Ahead::NOTHING,
                };
                // SAFETY: inside the first panel.
                let b = unsafe { b.add(depth.start * PANEL) };
                for tile in 0..tiles {
                    let rows = parallel::share(self.rows.len(), tiles, tile);
                    let first = self.rows.start + rows.start;
                    table.clear();
                    self.product.rows.fill(first, rows.len(), depth.clone(), table);
                    let ahead = ahead.moved(depth.len() * tile / tiles * PANEL);
                    let state = Progress { resume: depth_block > 0, last, ahead };
                    self.run_row(s, first, rows.len(), block.clone(), b, table, state);
                }
            }
        });
    }

    /// One tile's rows across a block of columns.
    #[allow(clippy::too_many_arguments, reason = "the loop variables of one nest, cut at its core")]
    fn run_row<S: Simd>(
        &self,
        s: S,
        first: usize,
        count: usize,
        block: Range<usize>,
        b: *const f32,
        table: &RowTable,
        state: Progress,
    ) {
        let panel_stride = self.product.rows.depth() * PANEL;
        let mut panel = block.start;
        for (vectors, tile_panels) in widths::<S>(count).iter().map(|v| (*v, v * S::LANES / PANEL))
        {
            while panel + tile_panels <= block.end {
                let to_panel = (panel - block.start) * panel_stride;
                let b = b.wrapping_add(to_panel);
                let state = Progress { ahead: state.ahead.moved(to_panel), ..state };
                self.run_one(s, first, count, panel * PANEL, vectors, b, table, state);
                panel += tile_panels;
            }
        }
    }

    /// One tile, from column `col`.
    #[inline(always)]
    #[allow(clippy::too_many_arguments, reason = "the loop variables of one nest, cut at its core")]
    fn run_one<S: Simd>(
        &self,
        s: S,
        first: usize,
        count: usize,
        col: usize,
        vectors: usize,
        b: *const f32,
        table: &RowTable,
        state: Progress,
    ) {
        let p = self.product;
        let cols = (vectors * S::LANES).min(p.n - col);
        let args = TileArgs {
            ptrs: table.ptrs().cast(),
            lens: table.lens().as_ptr(),
            segments: table.segments(),
            b,
            panel_stride: p.rows.depth() * PANEL,
            ahead: state.ahead,
            out: p.out.wrapping_add(first * p.out_stride + col),
            out_stride: p.out_stride,
            cols,
            resume: state.resume,
            finish: state.last.then(|| p.finish(first, col)),
        };
        run_tile(s, count, needed::<S>(vectors, cols), &args);
        if state.last && p.activation.as_clamp().is_none() {
            s.run(ActivateTile {
                activation: p.activation,
                start: args.out,
                rows: count,
                cols,
                stride: p.out_stride,
            });
        }
    }
}

/// Where a block of depth stands among all.
#[derive(Clone, Copy)]
struct Progress {
    /// Sums of earlier blocks wait in the output.
    resume: bool,
    /// The epilogue follows.
    last: bool,
    /// The panels that are needed next.
    ahead: Ahead,
}

impl<'a> Product<'a> {
    /// Whether panels of the output lie in cache lines of their own.
    pub(crate) fn has_panels_apart(&self) -> bool {
        self.out.addr().is_multiple_of(CACHE_LINE)
            && (self.out_stride * size_of::<f32>()).is_multiple_of(CACHE_LINE)
    }

    /// The same rows into `count` columns of the output from `first` on.
    pub(crate) fn columns(&self, first: usize, count: usize) -> Product<'a> {
        let finish = self.finish(0, first);
        Product {
            n: count,
            out: self.out.wrapping_add(first),
            bias: finish.bias,
            residual: finish.residual,
            ..*self
        }
    }

    /// The epilogue of a tile that begins at a row and column of the output.
    #[inline(always)]
    pub(crate) fn finish(&self, row: usize, col: usize) -> Finish {
        let (low, high) = self.activation.as_clamp().unwrap_or((f32::NEG_INFINITY, f32::INFINITY));
        let offset = |p: *const f32, by: usize| if p.is_null() { p } else { p.wrapping_add(by) };
        Finish {
            bias: offset(self.bias, col),
            residual: offset(self.residual, row * self.residual_stride + col),
            residual_stride: self.residual_stride,
            low,
            high,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grids_are_even_and_read_little() {
        let grid = |threads, rows, panels| {
            let Grid { row_parts, panel_parts } =
                super::grid(threads, Extents { rows, panels, depth: 64, apart: true });
            [row_parts, panel_parts]
        };
        assert_eq!(grid(4, 1, 64), [1, 4]);
        assert_eq!(grid(4, 10_000, 1), [4, 1]);
        assert_eq!(grid(4, 480, 64), [2, 2]);
        assert_eq!(grid(1, 5, 5), [1, 1]);
    }

    #[test]
    fn grids_cut_many_rows_rather_than_few_panels() {
        // An expanding 1×1 convolution: halves of its panels would be six rows more even.
        let extents = Extents { rows: 112 * 112, panels: 6, depth: 16, apart: true };
        assert_eq!(grid(2, extents), Grid { row_parts: 2, panel_parts: 1 });
        let few_rows = Extents { rows: 7 * 7, panels: 80, depth: 320, apart: true };
        assert_eq!(grid(2, few_rows), Grid { row_parts: 1, panel_parts: 2 });
    }

    #[test]
    fn grids_do_not_cut_where_every_row_would_share_a_cache_line() {
        let grid = |rows, panels, depth, apart| {
            let grid = super::grid(2, Extents { rows, panels, depth, apart });
            [grid.row_parts, grid.panel_parts]
        };
        assert_eq!(grid(8, 2, 256, true), [1, 2]);
        assert_eq!(grid(8, 2, 256, false), [2, 1]);
        assert_eq!(grid(1, 64, 256, false), [1, 2], "one row shares one line");
    }
}
