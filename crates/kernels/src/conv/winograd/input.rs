//! The first phase: tiles of the input, transformed.

use std::ops::Range;

use super::Job;
use super::tiles::Planes;
use super::transform::{Scalar, Variant, Vector, input_tile};
use crate::simd::{Simd, SimdOp, dispatch};
use crate::{Cpu, Pool, parallel};

/// Some channels of some tiles of a block, to `[product][tile][channel]`. Channels beyond the last
/// up to a whole vector are written as zeros.
#[derive(Clone, Copy)]
pub(super) struct Inputs<'a, V> {
    pub(super) job: &'a Job<'a, V>,
    /// Tiles of the block.
    pub(super) block: (usize, usize),
    pub(super) to: *mut f32,
    pub(super) planes: Planes,
}

// SAFETY: parts write disjoint tiles or channels of memory that its maker lends for the call.
unsafe impl<V: Sync> Sync for Inputs<'_, V> {}

/// A part of the phase: tiles counted in the block, and channels.
struct Part<'a, V, const N: usize, const M: usize> {
    inputs: Inputs<'a, V>,
    tiles: Range<usize>,
    channels: Range<usize>,
}

impl<V> Inputs<'_, V> {
    /// Transforms the block on `threads` threads of `pool`: each takes some tiles, or some channels
    /// of all where tiles are few.
    pub(super) fn run<const N: usize, const M: usize>(self, cpu: Cpu, pool: &Pool, threads: usize)
    where
        V: Variant<N, M>,
    {
        let (tiles, channels) = (self.block.1 - self.block.0, self.job.conv.window.channels);
        let vectors = channels.div_ceil(LINE);
        let by_tiles = tiles >= threads * 4 || vectors < threads;
        let parts = if by_tiles { threads.min(tiles) } else { threads };
        pool.run(parts, &|part| {
            let (tiles, channels) = if by_tiles {
                (parallel::share(tiles, parts, part), 0..channels)
            } else {
                let share = parallel::share(vectors, parts, part);
                (0..tiles, share.start * LINE..channels.min(share.end * LINE))
            };
            let part: Part<'_, V, N, M> = Part { inputs: self, tiles, channels };
            part.run(cpu);
        });
    }
}

/// Elements of a cache line.
const LINE: usize = 16;

impl<V: Variant<N, M>, const N: usize, const M: usize> Part<'_, V, N, M> {
    fn run(self, cpu: Cpu) {
        let Part { inputs, tiles, channels } = &self;
        let (inputs, tiles, channels) = (*inputs, tiles.clone(), channels.clone());
        if dispatch(cpu, self).is_none() {
            for (tile, c) in tiles.flat_map(|tile| channels.clone().map(move |c| (tile, c))) {
                let place = inputs.place::<N, M>(tile);
                let load = |y: usize, x: usize| match place.holds(y, x) {
                    // SAFETY: an element of the image.
                    true => unsafe { *place.at(&inputs, y, x).add(c) },
                    false => 0.0,
                };
                input_tile::<_, V, N, M>(Scalar, load, |y, x, value| {
                    // SAFETY: an element of the block's planes.
                    unsafe { *inputs.plane::<N>(tile, y, x).add(c) = value }
                });
            }
        }
    }
}

/// Where a tile's inputs lie.
struct Place {
    ys: Range<usize>,
    xs: Range<usize>,
    /// Element of input (0, 0), or where it would lie outside the image.
    origin: isize,
}

impl Place {
    #[inline(always)]
    fn holds(&self, y: usize, x: usize) -> bool {
        self.ys.contains(&y) && self.xs.contains(&x)
    }

    #[inline(always)]
    fn at<V>(&self, inputs: &Inputs<'_, V>, y: usize, x: usize) -> *const f32 {
        let w = &inputs.job.conv.window;
        let offset = self.origin + ((y * w.width + x) * w.channels) as isize;
        inputs.job.input.as_ptr().wrapping_offset(offset)
    }
}

impl<V> Inputs<'_, V> {
    fn place<const N: usize, const M: usize>(&self, tile: usize) -> Place {
        let w = &self.job.conv.window;
        let tile = self.job.tiles.at(self.block.0 + tile);
        let y = (tile.image * w.height + tile.y) as isize - w.pads[0] as isize;
        let x = tile.x as isize - w.pads[1] as isize;
        let (ys, xs) = (tile.inside(w, 0, N), tile.inside(w, 1, N));
        Place { ys, xs, origin: (y * w.width as isize + x) * w.channels as isize }
    }

    #[inline(always)]
    fn plane<const N: usize>(&self, tile: usize, y: usize, x: usize) -> *mut f32 {
        let offset = (y * N + x) * self.planes.plane + tile * self.planes.row;
        self.to.wrapping_add(offset)
    }
}

impl<V: Variant<N, M>, const N: usize, const M: usize> SimdOp for Part<'_, V, N, M> {
    type Output = ();

    #[inline(always)]
    fn eval<S: Simd>(self, s: S) {
        for tile in self.tiles.clone() {
            let place = self.inputs.place::<N, M>(tile);
            let inside = place.ys == (0..N) && place.xs == (0..N);
            let mut c = self.channels.start;
            while c < self.channels.end {
                let lanes = S::LANES.min(self.channels.end - c);
                if inside && lanes == S::LANES {
                    self.vector::<S, true>(s, &place, tile, c, lanes);
                } else {
                    self.vector::<S, false>(s, &place, tile, c, lanes);
                }
                c += lanes;
            }
        }
    }
}

impl<V: Variant<N, M>, const N: usize, const M: usize> Part<'_, V, N, M> {
    /// One tile's `lanes` channels from `c`; `WHOLE` if all inputs and lanes exist.
    #[inline(always)]
    fn vector<S: Simd, const WHOLE: bool>(
        &self,
        s: S,
        place: &Place,
        tile: usize,
        c: usize,
        lanes: usize,
    ) {
        let inputs = &self.inputs;
        let load = |y: usize, x: usize| {
            if !WHOLE && !place.holds(y, x) {
                return s.splat(0.0);
            }
            // SAFETY: `lanes` channels of a pixel of the image.
            unsafe {
                let start = place.at(inputs, y, x).add(c);
                if WHOLE || lanes == S::LANES { s.load(start) } else { s.load_n(start, lanes) }
            }
        };
        input_tile::<_, V, N, M>(Vector(s), load, |y, x, value| {
            // SAFETY: the planes' rows are whole vectors.
            unsafe { s.store(inputs.plane::<N>(tile, y, x).add(c), value) }
        });
    }
}
