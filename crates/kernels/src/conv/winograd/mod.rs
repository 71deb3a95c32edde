//! Convolution with windows of 3 by 3, step 1, by Winograd's algorithms.

mod columns;
mod input;
#[cfg(test)]
mod tests;
mod tiles;
mod transform;
mod weights;

use std::ops::Range;

use columns::{Columns, panels_at_once};
use input::Inputs;
use tiles::{Planes, Tiles};
use transform::{F2, F4, Variant};

use super::Conv2d;
use super::algorithm::ConvAlgorithm;
use crate::gemm::{Epilogue, PANEL, Product, Right, RowsMut};
use crate::rows::DenseRows;
use crate::{Cpu, Exec, Pool, parallel, scratch};

/// Most bytes of transformed inputs at a time, where threads share them.
const SHARED_BYTES: usize = 8 << 20;
/// Most tiles at a time: their sums for two panels fit half of a large L2.
const TILES: usize = 96;
/// Tiles that are worth reading all weights for.
const ENOUGH_TILES: usize = 24;

/// One convolution.
struct Job<'a, V> {
    conv: &'a Conv2d,
    input: &'a [f32],
    weights: &'a [f32],
    product: Product<'a>,
    tiles: Tiles,
    variant: std::marker::PhantomData<V>,
}

/// Elements of the packed weights.
pub(super) fn packed_len(conv: &Conv2d, edge: usize) -> usize {
    let products = (edge + 2) * (edge + 2);
    conv.out_channels.next_multiple_of(PANEL) * conv.window.channels * products
}

/// Packs weights `[out_channels, channels, 3, 3]`.
pub(super) fn pack(conv: &Conv2d, edge: usize, weights: &[f32], out: &mut [f32]) {
    match edge {
        2 => weights::pack::<F2, 4, 2>(conv, weights, out),
        _ => weights::pack::<F4, 6, 4>(conv, weights, out),
    }
}

/// Computes tiles of `edge` by `edge` outputs.
pub(super) fn run(
    exec: Exec<'_>,
    conv: &Conv2d,
    edge: usize,
    input: &[f32],
    weights: &[f32],
    epilogue: &Epilogue<'_>,
    out: &mut RowsMut<'_>,
) {
    match edge {
        2 => run_tiles::<F2, 4, 2>(exec, conv, input, weights, epilogue, out),
        _ => run_tiles::<F4, 6, 4>(exec, conv, input, weights, epilogue, out),
    }
}

fn run_tiles<V: Variant<N, M>, const N: usize, const M: usize>(
    exec: Exec<'_>,
    conv: &Conv2d,
    input: &[f32],
    weights: &[f32],
    epilogue: &Epilogue<'_>,
    out: &mut RowsMut<'_>,
) {
    let w = &conv.window;
    let rows = DenseRows { start: input.as_ptr(), rows: w.positions(), depth: 0, stride: 0 };
    let right = Right::Packed(weights.as_ptr());
    let product = epilogue.product(&rows, right, conv.out_channels, out);
    let tiles = Tiles::new(w, M);
    let count = w.batch * tiles.per_image();
    if count == 0 || conv.out_channels == 0 {
        return;
    }
    let variant = std::marker::PhantomData::<V>;
    let job = Job { conv, input, weights, product, tiles, variant };
    let cost = (N * N * w.channels).saturating_mul(conv.out_channels) / 8;
    let threads = parallel::useful_parts(exec, cost.saturating_mul(count), count);
    let tile_bytes = N * N * w.channels.next_multiple_of(PANEL) * size_of::<f32>();
    let own = exec.cpu.caches().l2_bytes / 2 / tile_bytes.max(1);
    let alone = own >= ENOUGH_TILES && count >= threads * ENOUGH_TILES;
    if alone || conv.out_channels.div_ceil(PANEL) < threads {
        exec.pool.run(threads, &|part| {
            let range = parallel::share(count, threads, part);
            let most = own.clamp(ENOUGH_TILES, TILES);
            job.blocks::<N, M>(exec.cpu, Pool::inline(), 1, range, most);
        });
    } else {
        let most = (SHARED_BYTES / tile_bytes.max(1)).clamp(ENOUGH_TILES, TILES);
        job.blocks::<N, M>(exec.cpu, exec.pool, threads, 0..count, most);
    }
}

impl<V> Job<'_, V> {
    /// Computes some tiles in blocks of at most `most`, each on the threads of `pool`.
    fn blocks<const N: usize, const M: usize>(
        &self,
        cpu: Cpu,
        pool: &Pool,
        threads: usize,
        tiles: Range<usize>,
        most: usize,
    ) where
        V: Variant<N, M>,
    {
        let blocks = tiles.len().div_ceil(most);
        let panels = self.conv.out_channels.div_ceil(PANEL);
        for block in 0..blocks {
            let share = parallel::share(tiles.len(), blocks, block);
            let planes = Planes::new(share.len(), self.conv.window.channels);
            let at_once = panels_at_once(share.len()).min(panels.div_ceil(threads));
            let groups = panels.div_ceil(at_once);
            let block = (tiles.start + share.start, tiles.start + share.end);
            scratch::with(N * N * planes.plane, |memory: &mut [f32]| {
                let (job, to) = (self, memory.as_mut_ptr());
                Inputs { job, block, to, planes }.run::<N, M>(cpu, pool);
                let columns = Columns { job, block, from: to, planes };
                let parts = threads.min(groups);
                pool.run(parts, &|part| {
                    let groups = parallel::share(groups, parts, part);
                    let panels = groups.start * at_once..panels.min(groups.end * at_once);
                    columns.run::<N, M>(cpu, at_once, panels);
                });
            });
        }
    }
}

impl ConvAlgorithm {
    /// Outputs along a tile's edge, of Winograd's algorithms.
    pub(super) fn edge(self) -> Option<usize> {
        match self {
            ConvAlgorithm::Gemm => None,
            ConvAlgorithm::Winograd2 => Some(2),
            ConvAlgorithm::Winograd4 => Some(4),
        }
    }
}
