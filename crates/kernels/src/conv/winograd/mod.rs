//! Convolution with windows of 3 by 3, step 1, by Winograd's algorithms.
//!
//! `y = Aᵀ [(G g Gᵀ) ⊙ (Bᵀ d B)] A` (Lavin and Gray, "Fast Algorithms for Convolutional Neural
//! Networks", 2016): tiles of `M` by `M` outputs from `N = M + 2` by `N` inputs, summed over the
//! channels between the transforms, which makes `N²` matrix products of all tiles by all filters.
//! Filters are transformed when they are packed.
//!
//! **Blocks.** A block of tiles is transformed to `[product][tile][channel]`. Then two panels (32
//! output channels) at a time are multiplied, all `N²` products, and transformed back with bias,
//! residual and activation while their sums, at most 432 KiB, are in a large L2; weights are packed
//! in the order in which this reads them. Where a block that fits a quarter of L2 has enough tiles,
//! or there are fewer panels than threads, each thread has blocks of its own. Otherwise (many
//! channels, or few tiles) blocks are larger, up to 96 tiles or 8 MiB (or what 12 tiles take, if
//! that is more) that the threads fill together, and each thread takes some panels: then every
//! weight is read once a block rather than once a block and thread. Blocks and sums are scratch of
//! threads, which comes on top of a run's planned memory.
//!
//! **Edges.** Inputs outside the image are zeros, outputs outside are computed and not stored.
//!
//! **Bits.** A tile's sums are chains of fused multiply-adds in order of channels, and transforms
//! are the same operations on every instruction set, so bits depend neither on blocks, threads and
//! instruction sets nor on other images.
//!
//! **Errors.** Points are 0, ±1, ∞ for 2 by 2 and 0, ±5/8, ±3/2, ∞ for 4 by 4, which gave the
//! smallest errors of a dozen sets of points that are short in binary (0, ±1, ±2, ∞ gave 2.3 times
//! as large ones). For every output the error is at most `(C + 16) 2⁻²⁴` times what the algorithm
//! gives in absolute values throughout; the tests hold all results to that. What to expect, with
//! uniform inputs and weights in [-1, 1), 16 by 16 outputs and 16 filters, in units of 2⁻²⁴ of the
//! outputs' root mean square, against sums in f64:
//!
//! | channels | direct: rms, max | 2 by 2: rms, max | 4 by 4: rms, max |
//! |---:|---:|---:|---:|
//! | 16 | 3.6, 23 | 2.3, 12 | 7.5, 54 |
//! | 64 | 6.9, 51 | 4.2, 21 | 12, 80 |
//! | 256 | 14, 109 | 8.3, 47 | 25, 153 |
//! | 512 | 21, 177 | 12, 60 | 33, 184 |
//!
//! An output's error is relative to the largest inputs of its tile, also those outside its own
//! window. So an input that is infinite, or so large that transforms overflow (the direct sum would
//! not), can make every output of the tiles that read it NaN or infinite; other tiles and images
//! are untouched.
//!
//! By the table, 2 by 2 is more accurate than the direct sum, whose chains are 9 times as long, and
//! 4 by 4 has 1.6 to 2.1 times its error (2.7 times with 16 channels of non-negative inputs). A
//! test holds 4 by 4 to 3 times the direct sum's root mean square and 4 times its maximum, 2 by 2
//! to once.

mod columns;
mod input;
mod multiply;
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
const ENOUGH_TILES: usize = 12;

/// Outputs along the edge of a tile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Edge {
    Two,
    Four,
}

impl Edge {
    pub(super) fn outputs(self) -> usize {
        match self {
            Edge::Two => 2,
            Edge::Four => 4,
        }
    }
}

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
pub(super) fn packed_len(conv: &Conv2d, edge: Edge) -> usize {
    let products = (edge.outputs() + 2).pow(2);
    conv.out_channels.next_multiple_of(PANEL) * conv.window.channels * products
}

/// Packs weights `[out_channels, channels, 3, 3]`.
pub(super) fn pack(conv: &Conv2d, edge: Edge, weights: &[f32], out: &mut [f32]) {
    match edge {
        Edge::Two => weights::pack::<F2, 4, 2>(conv, weights, out),
        Edge::Four => weights::pack::<F4, 6, 4>(conv, weights, out),
    }
}

/// Computes tiles of `edge` by `edge` outputs.
pub(super) fn run(
    exec: Exec<'_>,
    conv: &Conv2d,
    edge: Edge,
    input: &[f32],
    weights: &[f32],
    epilogue: &Epilogue<'_>,
    out: &mut RowsMut<'_>,
) {
    match edge {
        Edge::Two => run_tiles::<F2, 4, 2>(exec, conv, input, weights, epilogue, out),
        Edge::Four => run_tiles::<F4, 6, 4>(exec, conv, input, weights, epilogue, out),
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
    let own = exec.cpu.caches().l2_bytes / 4 / tile_bytes.max(1);
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
                Inputs { job, block, to, planes }.run::<N, M>(cpu, pool, threads);
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
    /// The tiles of Winograd's algorithms.
    pub(super) fn edge(self) -> Option<Edge> {
        match self {
            ConvAlgorithm::Gemm => None,
            ConvAlgorithm::Winograd2 => Some(Edge::Two),
            ConvAlgorithm::Winograd4 => Some(Edge::Four),
        }
    }
}
