//! The second phase: products and their transform back, some panels of output channels at a time.

use std::ops::Range;

use super::Job;
use super::multiply::{Panels, Rows, multiply};
use super::tiles::Planes;
use super::transform::{Scalar, Variant, Vector, output_tile};
use crate::gemm::{Finish, PANEL};
use crate::math::ActivateTile;
use crate::simd::{Simd, SimdOp, dispatch};
use crate::{Cpu, scratch};

/// Rows of a tile up to which it spans four panels.
const FEW_ROWS: usize = 4;

/// Output channels of a block of tiles.
#[derive(Clone, Copy)]
pub(super) struct Columns<'a, V> {
    pub(super) job: &'a Job<'a, V>,
    /// Tiles of the block.
    pub(super) block: (usize, usize),
    /// Transformed inputs.
    pub(super) from: *const f32,
    pub(super) planes: Planes,
}

// SAFETY: parts read what its maker lends for the call and write disjoint columns.
unsafe impl<V: Sync> Sync for Columns<'_, V> {}

/// Panels computed together: their sums of a block of tiles stay in L2.
pub(super) fn panels_at_once(tiles: usize) -> usize {
    if tiles <= FEW_ROWS { 4 } else { 2 }
}

/// Some panels, and the memory of the sums: `[tile][product][column]`.
struct Part<'a, V, const N: usize, const M: usize> {
    columns: Columns<'a, V>,
    panels: Range<usize>,
    sums: *mut f32,
    /// Elements from a product's sums to the next product's.
    width: usize,
}

impl<V> Columns<'_, V> {
    /// Computes some panels of the block on this thread, `at_once` at a time.
    pub(super) fn run<const N: usize, const M: usize>(
        self,
        cpu: Cpu,
        at_once: usize,
        panels: Range<usize>,
    ) where
        V: Variant<N, M>,
    {
        let tiles = self.block.1 - self.block.0;
        let width = at_once * PANEL;
        scratch::with(tiles * N * N * width, |sums: &mut [f32]| {
            let mut first = panels.start;
            while first < panels.end {
                let panels = first..panels.end.min(first + at_once);
                first = panels.end;
                let sums = sums.as_mut_ptr();
                let part: Part<'_, V, N, M> =
                    Part { columns: self, panels: panels.clone(), sums, width };
                if dispatch(cpu, part).is_none() {
                    let part: Part<'_, V, N, M> = Part { columns: self, panels, sums, width };
                    part.reference();
                }
            }
        });
    }
}

impl<V: Variant<N, M>, const N: usize, const M: usize> SimdOp for Part<'_, V, N, M> {
    type Output = ();

    #[inline(always)]
    fn eval<S: Simd>(self, s: S) {
        for product in 0..N * N {
            self.multiply(s, product);
        }
        let Columns { job, block, .. } = self.columns;
        let first = self.panels.start * PANEL;
        let cols = job.conv.out_channels.min(self.panels.end * PANEL) - first;
        for tile in block.0..block.1 {
            let mut c = 0;
            while c < cols {
                let lanes = S::LANES.min(cols - c);
                self.finish(s, tile, first, c, lanes);
                c += lanes;
            }
            self.activate(s, tile, first, cols);
        }
    }
}

impl<V: Variant<N, M>, const N: usize, const M: usize> Part<'_, V, N, M> {
    /// Elements from a tile's sums to the next tile's.
    fn tile_stride(&self) -> usize {
        N * N * self.width
    }

    /// The first panel's weights of a product.
    fn weights(&self, product: usize) -> *const f32 {
        let job = self.columns.job;
        let panel = self.panels.start * self.panel_stride();
        job.weights[panel + product * job.conv.window.channels * PANEL..].as_ptr()
    }

    /// Elements from a panel's weights to the next panel's.
    fn panel_stride(&self) -> usize {
        N * N * self.columns.job.conv.window.channels * PANEL
    }

    /// One of the tile's products, for all tiles and columns.
    #[inline(always)]
    fn multiply<S: Simd>(&self, s: S, product: usize) {
        let Columns { job, block, from, planes } = self.columns;
        let rows = Rows {
            start: from.wrapping_add(product * planes.plane),
            stride: planes.row,
            count: block.1 - block.0,
            depth: job.conv.window.channels,
            sums: self.sums.wrapping_add(product * self.width),
            sums_stride: self.tile_stride(),
        };
        let start = self.weights(product);
        let panels = Panels { start, stride: self.panel_stride(), count: self.panels.len() };
        // SAFETY: the planes hold the block's rows, the weights a panel for every 16 columns, the
        // sums a width of columns for every tile and product.
        unsafe { multiply(s, rows, panels) };
    }

    /// The outputs of one tile, `lanes` columns from `first + c`.
    #[inline(always)]
    fn finish<S: Simd>(&self, s: S, tile: usize, first: usize, c: usize, lanes: usize) {
        let (w, place) = (&self.columns.job.conv.window, self.columns.job.tiles.at(tile));
        let (ys, xs) = (place.outputs(w, 0, M), place.outputs(w, 1, M));
        if ys == M && xs == M && lanes == S::LANES {
            self.vector::<S, true>(s, tile, [ys, xs], [first, c], lanes);
        } else {
            self.vector::<S, false>(s, tile, [ys, xs], [first, c], lanes);
        }
    }

    /// `WHOLE` if all `valid` rows and columns of the tile and all lanes exist.
    #[inline(always)]
    fn vector<S: Simd, const WHOLE: bool>(
        &self,
        s: S,
        tile: usize,
        valid: [usize; 2],
        [first, c]: [usize; 2],
        lanes: usize,
    ) {
        let job = self.columns.job;
        let sums = (tile - self.columns.block.0) * self.tile_stride() + c;
        let sums = self.sums.wrapping_add(sums);
        let load = |p: *const f32| {
            // SAFETY: `lanes` elements of an operand that the product's maker checked.
            unsafe { if WHOLE || lanes == S::LANES { s.load(p) } else { s.load_n(p, lanes) } }
        };
        let position = self.position(tile);
        let finish = job.product.finish(position, first + c);
        let (low, high) = (s.splat(finish.low), s.splat(finish.high));
        let bias = if finish.bias.is_null() { s.splat(0.0) } else { load(finish.bias) };
        let out = job.product.out.wrapping_add(position * job.product.out_stride + first + c);
        let store = |y: usize, x: usize, value: S::F| {
            if !WHOLE && (y >= valid[0] || x >= valid[1]) {
                return;
            }
            let offset = y * job.conv.window.out_width + x;
            let mut value = if finish.bias.is_null() { value } else { s.add(value, bias) };
            if !finish.residual.is_null() {
                let residual = finish.residual.wrapping_add(offset * finish.residual_stride);
                value = s.add(value, load(residual));
            }
            let value = s.min(high, s.max(low, value));
            let out = out.wrapping_add(offset * job.product.out_stride);
            // SAFETY: a position and columns of the output.
            unsafe {
                if WHOLE || lanes == S::LANES {
                    s.store(out, value);
                } else {
                    s.store_n(out, value, lanes);
                }
            }
        };
        let sum = |y: usize, x: usize| {
            // SAFETY: a whole vector of the sums.
            unsafe { s.load(sums.wrapping_add((y * N + x) * self.width)) }
        };
        output_tile::<_, V, N, M>(Vector(s), sum, store);
    }

    /// The output position of a tile's first element.
    fn position(&self, tile: usize) -> usize {
        let (w, place) = (&self.columns.job.conv.window, self.columns.job.tiles.at(tile));
        (place.image * w.out_height + place.y) * w.out_width + place.x
    }

    /// Applies an activation that does more than clamp to the outputs of a tile.
    #[inline(always)]
    fn activate<S: Simd>(&self, s: S, tile: usize, first: usize, cols: usize) {
        let job = self.columns.job;
        let p = &job.product;
        if p.activation.as_clamp().is_some() {
            return;
        }
        let (w, place) = (&job.conv.window, job.tiles.at(tile));
        for y in 0..place.outputs(w, 0, M) {
            let position = self.position(tile) + y * w.out_width;
            ActivateTile {
                activation: p.activation,
                start: p.out.wrapping_add(position * p.out_stride + first),
                rows: place.outputs(w, 1, M),
                cols,
                stride: p.out_stride,
            }
            .eval(s);
        }
    }

    /// The scalar twin: chains of fused multiply-adds in order of channels, then the transform,
    /// bias, residual and activation.
    fn reference(&self) {
        let Columns { job, block, from, planes } = self.columns;
        let (w, channels) = (&job.conv.window, job.conv.window.channels);
        let columns = self.panels.start * PANEL..job.conv.out_channels.min(self.panels.end * PANEL);
        for (tile, col) in (block.0..block.1).flat_map(|t| columns.clone().map(move |c| (t, c))) {
            let place = job.tiles.at(tile);
            let (ys, xs) = (place.outputs(w, 0, M), place.outputs(w, 1, M));
            let sum = |y: usize, x: usize| {
                let product = y * N + x;
                let row = product * planes.plane + (tile - block.0) * planes.row;
                let weights = (col / PANEL * N * N + product) * channels * PANEL;
                // SAFETY: rows of the planes hold all channels.
                let row = unsafe { std::slice::from_raw_parts(from.wrapping_add(row), channels) };
                let weights = job.weights[weights..].chunks_exact(PANEL);
                row.iter().zip(weights).fold(0.0f32, |sum, (x, w)| x.mul_add(w[col % PANEL], sum))
            };
            output_tile::<_, V, N, M>(Scalar, sum, |y, x, mut value| {
                if y >= ys || x >= xs {
                    return;
                }
                let position = self.position(tile) + y * w.out_width + x;
                let Finish { bias, residual, .. } = job.product.finish(position, col);
                // SAFETY: a position and column of operands that the product's maker checked.
                unsafe {
                    for operand in [bias, residual] {
                        value = if operand.is_null() { value } else { value + *operand };
                    }
                    let out = job.product.out.add(position * job.product.out_stride + col);
                    *out = job.product.activation.reference(value);
                }
            });
        }
    }
}
