//! Sampling at the points of a grid.

use super::Sample;
use crate::Exec;
use crate::elementwise::{Float, Wide};
use crate::parallel::over_range;
use crate::shared::SharedMut;

/// How a point between pixels is evaluated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GridMode {
    /// The nearest pixel, halves to even.
    Nearest,
    /// Linear along every axis.
    Linear,
    /// Cubic along every axis, with the coefficient -0.75.
    Cubic,
}

/// What lies outside the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GridPadding {
    /// Zeros.
    Zeros,
    /// The nearest pixel of the border.
    Border,
    /// The image mirrored at its border.
    Reflection,
}

/// Sampling of `[batch, channels, input...]` at `[batch, points, axes]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GridSample {
    /// Images.
    pub batch: usize,
    /// Channels.
    pub channels: usize,
    /// Spatial extents, padded in front with 1; none is 0.
    pub input: [usize; 3],
    /// Spatial axes: how many numbers a point has, the last axis' first.
    pub axes: usize,
    /// Points of an image.
    pub points: usize,
    /// Evaluation between pixels.
    pub mode: GridMode,
    /// What lies outside.
    pub padding: GridPadding,
    /// -1 and 1 are the centres of the outermost pixels, not their outer edges.
    pub align_corners: bool,
}

/// Most taps of a point: four along each of three axes.
const TAPS: usize = 64;

impl GridSample {
    /// First and last place inside the border of an axis.
    fn border(&self, extent: usize) -> [f64; 2] {
        let last = extent as f64 - 1.0;
        if self.align_corners { [0.0, last] } else { [-0.5, last + 0.5] }
    }

    /// Pixel `index` of an axis, which may lie outside.
    fn pixel(&self, index: f64, extent: usize) -> Option<usize> {
        let last = extent as f64 - 1.0;
        let index = match self.padding {
            GridPadding::Zeros if !(0.0..=last).contains(&index) => return None,
            GridPadding::Reflection => reflect(index, self.border(extent)),
            _ => index,
        };
        Some(index.clamp(0.0, last) as usize)
    }

    /// Taps of one axis: pixels and weights.
    fn taps(&self, x: f64, extent: usize, visit: &mut dyn FnMut(usize, f64)) {
        let [low, high] = self.border(extent);
        let x = if self.mode == GridMode::Nearest { x.round_ties_even() } else { x };
        let x = match self.padding {
            GridPadding::Border => x.clamp(0.0, extent as f64 - 1.0),
            GridPadding::Reflection if !(low..=high).contains(&x) => reflect(x, [low, high]),
            _ => x,
        };
        let start = x.floor();
        let part = x - start;
        let mut tap = |offset: f64, weight: f64| {
            if weight != 0.0
                && let Some(pixel) = self.pixel(start + offset, extent)
            {
                visit(pixel, weight);
            }
        };
        match self.mode {
            GridMode::Nearest => tap(0.0, 1.0),
            GridMode::Linear => {
                tap(0.0, 1.0 - part);
                tap(1.0, part);
            }
            GridMode::Cubic => {
                for offset in [-1.0, 0.0, 1.0, 2.0] {
                    tap(offset, cubic((offset - part).abs()));
                }
            }
        }
    }

    /// Fills in the offset and weight of every pixel that a point needs; returns how many.
    fn combine<G: Float>(&self, point: &[G], found: &mut [(usize, f64); TAPS]) -> usize {
        let of = |x: f64| <G::Wide as Wide>::of(x);
        found[0] = (0, 1.0);
        let mut count = 1;
        for axis in 3 - self.axes..3 {
            let extent = self.input[axis];
            let place = point[2 - axis].widen();
            let size = of(extent as f64);
            let x = if self.align_corners {
                (place + of(1.0)) / of(2.0) * (size - of(1.0))
            } else {
                ((place + of(1.0)) * size - of(1.0)) / of(2.0)
            };
            let outer = *found;
            let outer = &outer[..count];
            count = 0;
            self.taps(x.to_f64(), extent, &mut |pixel, weight| {
                for &(offset, before) in outer {
                    found[count] = (offset * extent + pixel, before * weight);
                    count += 1;
                }
            });
        }
        count
    }
}

/// Weights of R. Keys' cubic convolution, at a distance.
fn cubic(x: f64) -> f64 {
    const A: f64 = -0.75;
    if x <= 1.0 {
        ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0
    } else {
        ((A * x - 5.0 * A) * x + 8.0 * A) * x - 4.0 * A
    }
}

/// Mirrors a place at both ends of a range until it is inside.
fn reflect(x: f64, [low, high]: [f64; 2]) -> f64 {
    let range = high - low;
    if range <= 0.0 {
        return low;
    }
    let along = (x - low).rem_euclid(2.0 * range);
    low + if along > range { 2.0 * range - along } else { along }
}

/// Samples every channel at every point: `out[batch, channels, points]`.
///
/// # Panics
/// If a slice has the wrong length.
pub fn grid_sample<T: Sample, G: Float>(
    exec: Exec<'_>,
    sample: &GridSample,
    x: &[T],
    grid: &[G],
    out: &mut [T],
) {
    let area: usize = sample.input.iter().product();
    let points = sample.points;
    assert_eq!(x.len(), sample.batch * sample.channels * area, "input length");
    assert_eq!(grid.len(), sample.batch * points * sample.axes, "grid length");
    assert_eq!(out.len(), sample.batch * sample.channels * points, "output length");
    let shared = SharedMut::new(out);
    let cost = 40 + 8 * sample.channels;
    over_range(exec, sample.batch * points, cost, &|range| {
        let mut found = [(0, 0.0); TAPS];
        for index in range {
            let (image, point) = (index / points, index % points);
            let place = &grid[index * sample.axes..][..sample.axes];
            let count = sample.combine(place, &mut found);
            for plane in image * sample.channels..(image + 1) * sample.channels {
                let source = &x[plane * area..][..area];
                let mut sum = <T::Wide as Wide>::of(0.0);
                for &(offset, weight) in &found[..count] {
                    sum = sum + source[offset].read() * <T::Wide as Wide>::of(weight);
                }
                // SAFETY: every (plane, point) is written by the part that owns the point.
                unsafe { shared.range(plane * points + point, 1)[0] = T::write(sum) };
            }
        }
    });
}

/// Points of the affine maps `theta[batch, axes, axes + 1]` of a regular grid over `extents`, as
/// [`grid_sample`] reads them: `out[batch, points, axes]`.
///
/// # Panics
/// If a slice has the wrong length.
pub fn affine_grid<T: Sample>(extents: &[usize], align_corners: bool, theta: &[T], out: &mut [T]) {
    let axes = extents.len();
    let place = |index: usize, extent: usize| match (align_corners, extent) {
        (true, 1) => 0.0,
        (true, _) => 2.0 * index as f64 / (extent as f64 - 1.0) - 1.0,
        (false, _) => (2.0 * index as f64 + 1.0) / extent as f64 - 1.0,
    };
    let points: usize = extents.iter().product();
    assert!(theta.len() * points == out.len() * (axes + 1), "lengths of maps and points");
    let at = |i: usize| theta[i].read().to_f64();
    for (index, point) in out.chunks_exact_mut(axes).enumerate() {
        let map = index / points * axes * (axes + 1);
        for (row, o) in point.iter_mut().enumerate() {
            let first = map + row * (axes + 1);
            let (mut sum, mut rest) = (at(first + axes), index % points);
            for (column, &extent) in extents.iter().rev().enumerate() {
                sum += at(first + column) * place(rest % extent, extent);
                rest /= extent;
            }
            *o = T::write(<T::Wide as Wide>::of(sum));
        }
    }
}
