//! f32 pooling with accumulators in registers, vectorised over channels.

use std::array::from_fn;
use std::ops::Range;

use crate::conv::Window2d;
use crate::simd::{Simd, SimdOp, dispatch};
use crate::{Exec, Isa, parallel};

/// Vectors of channels accumulated together.
const BLOCK: usize = 4;

/// How a window becomes one element.
pub(in crate::conv) trait Fold: Sync {
    /// What a window, and a kernel row, begins with.
    const START: f32;
    fn add<S: Simd>(s: S, sum: S::F, x: S::F) -> S::F;
    fn finish<S: Simd>(s: S, sum: S::F, count: S::F) -> S::F;
}

/// The largest element; NaN elements are passed over.
pub(in crate::conv) struct Largest;

impl Fold for Largest {
    const START: f32 = f32::NEG_INFINITY;

    #[inline(always)]
    fn add<S: Simd>(s: S, sum: S::F, x: S::F) -> S::F {
        s.max(x, sum)
    }

    #[inline(always)]
    fn finish<S: Simd>(_: S, sum: S::F, _: S::F) -> S::F {
        sum
    }
}

/// The sum over the count: kernel rows first, then their sums, so that the error of large windows
/// grows with their side rather than their area.
pub(in crate::conv) struct Sum;

impl Fold for Sum {
    const START: f32 = 0.0;

    #[inline(always)]
    fn add<S: Simd>(s: S, sum: S::F, x: S::F) -> S::F {
        s.add(sum, x)
    }

    #[inline(always)]
    fn finish<S: Simd>(s: S, sum: S::F, count: S::F) -> S::F {
        s.div(sum, count)
    }
}

/// Pools `input[batch, height, width, channels]` to `out[batch, out_height, out_width, channels]`;
/// `count(output row, output column)` is what the fold finishes with. `false`, and nothing done, on
/// [`Isa::Reference`].
///
/// # Panics
/// If a slice has the wrong length.
pub(in crate::conv) fn run<K: Fold>(
    exec: Exec<'_>,
    w: &Window2d,
    input: &[f32],
    out: &mut [f32],
    count: &(dyn Fn(usize, usize) -> f32 + Sync),
) -> bool {
    if exec.cpu.isa() == Isa::Reference {
        return false;
    }
    assert_eq!(input.len(), w.input_len(), "input of the wrong length");
    assert_eq!(out.len(), w.positions() * w.channels, "output of the wrong length");
    let cost = w.taps().div_ceil(8);
    parallel::over_chunks(exec, out, w.out_width * w.channels, cost, &|first, out| {
        let fold = std::marker::PhantomData::<K>;
        dispatch(exec.cpu, Lines { window: w, input, first, out, count, fold });
    });
    true
}

/// Output lines (image, output row) from `first` on.
pub(in crate::conv) struct Lines<'a, K> {
    pub(in crate::conv) window: &'a Window2d,
    pub(in crate::conv) input: &'a [f32],
    pub(in crate::conv) first: usize,
    pub(in crate::conv) out: &'a mut [f32],
    pub(in crate::conv) count: &'a (dyn Fn(usize, usize) -> f32 + Sync),
    pub(in crate::conv) fold: std::marker::PhantomData<K>,
}

impl<K: Fold> SimdOp for Lines<'_, K> {
    type Output = ();

    #[inline(always)]
    fn eval<S: Simd>(self, s: S) {
        let w = self.window;
        for (i, line) in self.out.chunks_exact_mut(w.out_width * w.channels).enumerate() {
            let (image, oy) = ((self.first + i) / w.out_height, (self.first + i) % w.out_height);
            let ys = w.valid_taps(0, oy);
            let top = if ys.is_empty() { 0 } else { w.input_index(0, oy, ys.start) };
            let top = (image * w.height + top) * w.width;
            for (ox, out) in line.chunks_exact_mut(w.channels).enumerate() {
                let xs = w.valid_taps(1, ox);
                let left = if xs.is_empty() { 0 } else { w.input_index(1, ox, xs.start) };
                let taps = if xs.is_empty() { [0, 0] } else { [ys.len(), xs.len()] };
                let place = Place {
                    input: self.input.as_ptr().wrapping_add((top + left) * w.channels),
                    taps,
                    steps: w.tap_steps(),
                    count: (self.count)(oy, ox),
                };
                // SAFETY: valid taps are pixels of the image, whose length `run` checked; `out` has
                // the channels of one pixel.
                unsafe { place.pool::<S, K>(s, 0..w.channels, out.as_mut_ptr()) };
            }
        }
    }
}

/// The valid taps of one window.
struct Place {
    /// Channel 0 of the first.
    input: *const f32,
    /// Kernel rows and taps in each.
    taps: [usize; 2],
    /// Elements from one to the next.
    steps: [usize; 2],
    count: f32,
}

impl Place {
    /// # Safety
    /// The channels of all taps are readable and those of `out` writable.
    #[inline(always)]
    unsafe fn pool<S: Simd, K: Fold>(&self, s: S, channels: Range<usize>, out: *mut f32) {
        let mut c = channels.start;
        // SAFETY: by the caller's promise.
        unsafe {
            while c + BLOCK * S::LANES <= channels.end {
                let sums = self.fold::<S, K, BLOCK>(s, c, S::LANES);
                (0..BLOCK).for_each(|v| s.store(out.add(c + v * S::LANES), sums[v]));
                c += BLOCK * S::LANES;
            }
            while c + S::LANES <= channels.end {
                let [sum] = self.fold::<S, K, 1>(s, c, S::LANES);
                s.store(out.add(c), sum);
                c += S::LANES;
            }
            if c < channels.end {
                let [sum] = self.fold::<S, K, 1>(s, c, channels.end - c);
                s.store_n(out.add(c), sum, channels.end - c);
            }
        }
    }

    /// `V` vectors of channels from `c`; a single one may have fewer lanes.
    ///
    /// # Safety
    /// The channels of all taps are readable.
    #[inline(always)]
    unsafe fn fold<S: Simd, K: Fold, const V: usize>(
        &self,
        s: S,
        c: usize,
        lanes: usize,
    ) -> [S::F; V] {
        let start = [s.splat(K::START); V];
        let mut sums = start;
        for ky in 0..self.taps[0] {
            let mut row = start;
            for kx in 0..self.taps[1] {
                let offset = ky * self.steps[0] + kx * self.steps[1] + c;
                // SAFETY: by the caller's promise.
                let x: [S::F; V] = unsafe {
                    let p = self.input.add(offset);
                    if V == 1 && lanes < S::LANES {
                        [s.load_n(p, lanes); V]
                    } else {
                        from_fn(|v| s.load(p.add(v * S::LANES)))
                    }
                };
                (0..V).for_each(|v| row[v] = K::add(s, row[v], x[v]));
            }
            (0..V).for_each(|v| sums[v] = K::add(s, sums[v], row[v]));
        }
        let count = s.splat(self.count);
        from_fn(|v| K::finish(s, sums[v], count))
    }
}
