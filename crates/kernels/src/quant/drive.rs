//! Blocking and partition of 8-bit products: as for f32, but over the whole depth at once, since
//! eight-bit operands are small. Tiles read rows of the operand where they lie, if they can, and
//! else copies that are made once for all columns of a block.

use std::ops::Range;

use super::epilogue::{Finish, FinishBytes, FinishTile};
use super::lanes::{Dot, DotOp, dispatch};
use super::pack::GROUP;
use super::tile::{Prepare, Segment, TileArgs, TileBytes, TileOutput, run_tile, widths};
use crate::gemm::{Extents, PANEL, grid};
use crate::math::ActivateTile;
use crate::rows::{DenseRows, RowSource, RowTable};
use crate::{CacheSizes, Cpu, Exec, parallel, scratch};

/// Most pieces of rows that tiles read in place.
const SEGMENTS: usize = 16;
/// Most sums of a tile: 12 rows of 32 columns.
const TILE_SUMS: usize = 12 * 2 * PANEL;

/// One product: raw operands that its makers have checked.
#[derive(Clone, Copy)]
pub(crate) struct Product<'a> {
    /// Rows of bytes, padded to a multiple of 4 with their zero point.
    pub(crate) rows: &'a dyn RowSource,
    /// Whether the rows' bytes are signed.
    pub(crate) signed: bool,
    /// Packed right operand.
    pub(crate) right: *const i8,
    pub(crate) finish: Finish<'a>,
}

// SAFETY: its makers borrow all operands for the call, and parts write disjoint rectangles.
unsafe impl Sync for Product<'_> {}

/// Runs a product on as many threads as are worth it.
pub(crate) fn run(exec: Exec<'_>, product: &Product<'_>) {
    let (m, k) = (product.rows.rows(), product.rows.depth());
    let panels = product.finish.n.div_ceil(PANEL);
    if m == 0 || panels == 0 {
        return;
    }
    let cost = m.saturating_mul(k).saturating_mul(product.finish.n) / 16;
    // A cache line holds bytes of four panels.
    let extents = Extents { rows: m, panels, depth: k / 4, apart: false };
    let grid = grid(parallel::useful_parts(exec, cost, m * panels), extents);
    let row_sums = product.finish.needs_row_sums();
    exec.pool.run(grid.row_parts * grid.panel_parts, &|part| {
        let rows = parallel::share(m, grid.row_parts, part / grid.panel_parts);
        let panels = parallel::share(panels, grid.panel_parts, part % grid.panel_parts);
        let caches = exec.cpu.caches();
        let left_signed = false;
        let part = Part { product, left_signed, rows, panels, caches, row_sums, cpu: exec.cpu };
        if !part.rows.is_empty() && !part.panels.is_empty() {
            part.run();
        }
    });
}

/// A rectangle of the output.
pub(crate) struct Part<'a> {
    pub(crate) product: &'a Product<'a>,
    /// Whether the rows' bytes are multiplied as signed ones.
    pub(crate) left_signed: bool,
    pub(crate) rows: Range<usize>,
    pub(crate) panels: Range<usize>,
    pub(crate) caches: CacheSizes,
    pub(crate) row_sums: bool,
    pub(crate) cpu: Cpu,
}

impl Part<'_> {
    fn run(&self) {
        #[cfg(target_arch = "x86_64")]
        if super::tiles::run_part(self) {
            return;
        }
        if !dispatch(self.cpu, self) {
            super::reference::run_part(self);
        }
    }

    /// What turns the rows' bytes into those that are multiplied.
    pub(crate) fn flip(&self) -> u8 {
        if self.product.signed != self.left_signed { 0x80 } else { 0 }
    }

    /// Sums of the tile's first rows, their bytes as they are multiplied.
    pub(crate) fn sum_rows(&self, table: &RowTable, sums: &mut [i32]) {
        let flip = self.flip();
        for (row, sum) in sums.iter_mut().enumerate() {
            let segments = table.lens().iter().enumerate();
            *sum = segments
                .map(|(segment, &len)| {
                    // SAFETY: the segment is readable by the `RowSource` contract.
                    let bytes =
                        unsafe { std::slice::from_raw_parts(table.start(segment, row), len) };
                    match self.left_signed {
                        true => bytes.iter().map(|&b| i32::from((b ^ flip) as i8)).sum::<i32>(),
                        false => bytes.iter().map(|&b| i32::from(b ^ flip)).sum::<i32>(),
                    }
                })
                .sum();
        }
    }

    /// Applies the activation of f32 outputs to a finished tile.
    pub(crate) fn activate(&self, first: usize, rows: usize, col: usize, cols: usize) {
        let finish = &self.product.finish;
        if let super::epilogue::Output::F32 { data, .. } = finish.output {
            let start = data.wrapping_add(first * finish.stride + finish.first + col);
            let activation = finish.activation;
            let tile = ActivateTile { activation, start, rows, cols, stride: finish.stride };
            tile.apply(self.cpu);
        }
    }
}

impl DotOp for &Part<'_> {
    fn eval<D: Dot>(self, d: D) {
        let finish = self.product.finish.with_left(D::LEFT_SIGNED);
        let product = Product { finish, ..*self.product };
        let (rows, panels) = (self.rows.clone(), self.panels.clone());
        let left_signed = D::LEFT_SIGNED;
        Part { product: &product, left_signed, rows, panels, ..*self }.run_blocks(d);
    }
}

impl Part<'_> {
    fn run_blocks<D: Dot>(&self, d: D) {
        let k = self.product.rows.depth();
        let panels_max = (self.caches.l2_bytes / 2 / (k * PANEL).max(1)).max(2) & !1;
        let row_bytes = k / GROUP * D::ROW_BYTES;
        let bytes = self.product.finish.bytes();
        let work = |table: &mut RowTable, prepared: &mut [u8], base: &mut [i32]| {
            let mut first = self.panels.start;
            while first < self.panels.end {
                let panels = first..self.panels.end.min(first + panels_max);
                first = panels.end;
                let base = &mut base[..panels.len() * PANEL];
                if bytes.is_some() {
                    self.fill_base(panels.start, base);
                }
                self.run_block(d, Block { panels, base, bytes: bytes.as_ref() }, table, prepared);
            }
        };
        let base = panels_max.min(self.panels.len()) * PANEL;
        RowTable::with(D::TILE_ROWS, |table| {
            scratch::with(D::TILE_ROWS * row_bytes, |prepared: &mut [u8]| {
                scratch::with(base, |base: &mut [i32]| work(table, prepared, base));
            });
        });
    }
}

/// Panels that are multiplied by all rows before the next are.
struct Block<'a> {
    panels: Range<usize>,
    /// What the sums of each column begin with if `bytes`, unspecified otherwise.
    base: &'a [i32],
    /// The epilogue, if tiles can apply it themselves.
    bytes: Option<&'a FinishBytes<'a>>,
}

/// Rows of a tile.
struct Left<'a> {
    rows: Range<usize>,
    segments: &'a [Segment],
    row_stride: usize,
}

impl Part<'_> {
    /// Everything that is added to the sums of the columns of some panels.
    pub(super) fn fill_base(&self, first_panel: usize, base: &mut [i32]) {
        for (i, base) in base.as_chunks_mut::<PANEL>().0.iter_mut().enumerate() {
            *base = self.product.finish.columns((first_panel + i) * PANEL).base;
        }
    }

    fn run_block<D: Dot>(&self, d: D, block: Block<'_>, table: &mut RowTable, prepared: &mut [u8]) {
        let k = self.product.rows.depth();
        let mut sums = [0i32; TILE_SUMS];
        let tiles = self.rows.len().div_ceil(D::TILE_ROWS);
        for tile in 0..tiles {
            let rows = parallel::share(self.rows.len(), tiles, tile);
            let rows = self.rows.start + rows.start..self.rows.start + rows.end;
            table.clear();
            self.product.rows.fill(rows.start, rows.len(), 0..k, table);
            let mut segments = [Segment { start: prepared.as_ptr(), groups: k / GROUP }; SEGMENTS];
            let (mut count, mut row_stride) = (1, k / GROUP * D::ROW_BYTES);
            let as_they_are = D::ROW_BYTES == GROUP && self.flip() == 0;
            let in_place = as_they_are && table.segments() <= SEGMENTS;
            match in_place.then(|| table.row_stride(rows.len())).flatten() {
                Some(stride) => {
                    (count, row_stride) = (table.segments(), stride);
                    for (index, len) in table.lens().iter().enumerate() {
                        let (start, groups) = (table.start(index, 0), len / GROUP);
                        segments[index] = Segment { start, groups };
                    }
                }
                None => {
                    let (rows, flip) = (rows.len(), self.flip());
                    d.run(Prepare { table, rows, flip, to: prepared, row_stride });
                }
            }
            let segments = &segments[..count];
            let left = Left { rows, segments, row_stride };
            self.run_row(d, &left, &block, table, &mut sums);
        }
    }

    /// One tile's rows across a block of columns.
    fn run_row<D: Dot>(
        &self,
        d: D,
        left: &Left<'_>,
        block: &Block<'_>,
        table: &RowTable,
        sums: &mut [i32; TILE_SUMS],
    ) {
        let (finish, rows) = (&self.product.finish, &left.rows);
        let groups = self.product.rows.depth() / GROUP;
        let panel_stride = groups * GROUP * PANEL;
        let zeros = [0i32; 2 * PANEL];
        let mut row_sums = [0i32; 12];
        if self.row_sums {
            self.sum_rows(table, &mut row_sums[..rows.len()]);
        }
        let mut panel = block.panels.start;
        for (vectors, width) in widths::<D>().iter().map(|v| (*v, v * D::LANES / PANEL)) {
            while panel + width <= block.panels.end {
                let args = TileArgs {
                    segments: left.segments,
                    row_stride: left.row_stride,
                    b: self.product.right.wrapping_add(panel * panel_stride),
                    panel_stride,
                    base: zeros.as_ptr(),
                    output: TileOutput::Sums(sums.as_mut_ptr()),
                };
                let col = panel * PANEL;
                panel += width;
                if let Some(bytes) = block.bytes {
                    let base = block.base[col - block.panels.start * PANEL..].as_ptr();
                    let bytes = TileBytes {
                        to: bytes.to.wrapping_add(rows.start * bytes.stride + col),
                        stride: bytes.stride,
                        columns: (finish.n - col).min(width * PANEL),
                        scales: bytes.scales[col..].as_ptr(),
                        limits: bytes.limits,
                    };
                    let output = TileOutput::Bytes(&bytes);
                    run_tile(d, rows.len(), vectors, &TileArgs { base, output, ..args });
                    continue;
                }
                run_tile(d, rows.len(), vectors, &args);
                d.run(FinishTile {
                    finish,
                    sums,
                    stride: width * PANEL,
                    width: width * PANEL,
                    first_row: rows.start,
                    row_sums: &row_sums,
                    rows: rows.len(),
                    col,
                });
            }
        }
        let cols = (block.panels.end * PANEL).min(finish.n) - block.panels.start * PANEL;
        self.activate(rows.start, rows.len(), block.panels.start * PANEL, cols);
    }
}

/// Dense rows of bytes, their ends padded to a multiple of 4 with `pad`.
pub(crate) struct DenseBytes {
    pub(crate) rows: DenseRows<u8>,
    pub(crate) pad: u8,
}

// SAFETY: `DenseRows::new` checked that every row is inside the slice; the rest are copies.
unsafe impl RowSource for DenseBytes {
    fn rows(&self) -> usize {
        self.rows.rows
    }

    fn depth(&self) -> usize {
        self.rows.depth.next_multiple_of(GROUP)
    }

    fn fill(&self, first: usize, count: usize, _: Range<usize>, table: &mut RowTable) {
        let (whole, rest) = (self.rows.depth / GROUP * GROUP, self.rows.depth % GROUP);
        let start = |row: usize| self.rows.start.wrapping_add(row * self.rows.stride);
        match (whole, rest) {
            (_, 0) => table.set_row_stride(self.rows.stride),
            (0, _) => table.set_row_stride(GROUP),
            _ => {}
        }
        if whole > 0 {
            let segment = table.add_segment(whole, start(first));
            (0..count).for_each(|row| table.set(segment, row, start(first + row)));
        }
        if rest > 0 {
            table.reserve_copies(count * GROUP);
            let segment = table.add_segment(GROUP, std::ptr::null());
            for row in 0..count {
                let copy = table.take_copy(GROUP);
                // SAFETY: the copy has 4 bytes; the row has `rest` more after `whole`.
                unsafe {
                    std::ptr::write_bytes(copy, self.pad, GROUP);
                    std::ptr::copy_nonoverlapping(start(first + row).add(whole), copy, rest);
                }
                table.set(segment, row, copy);
            }
        }
    }
}
