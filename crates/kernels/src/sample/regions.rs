//! Pooling over regions of interest.

use crate::Exec;
use crate::elementwise::CastElement;
use crate::parallel::over_chunks;

/// A stack of feature maps `[batch, channels, height, width]` and the bins of a region.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RegionMaps {
    /// Channels.
    pub channels: usize,
    /// Height of a map.
    pub height: usize,
    /// Width of a map.
    pub width: usize,
    /// Bins of a region, vertically and horizontally.
    pub bins: [usize; 2],
    /// From image coordinates to those of the maps.
    pub scale: f64,
}

/// A region: the image it is of, and its corners `[x1, y1, x2, y2]` in image coordinates.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Region {
    /// Which image.
    pub image: usize,
    /// Corners.
    pub corners: [f64; 4],
}

/// Sampling of regions of interest. Source: K. He and others, "Mask R-CNN" (2017).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RoiAlign {
    /// Maps and bins.
    pub maps: RegionMaps,
    /// Samples per bin along each axis; 0 for one per pixel.
    pub samples: usize,
    /// Pixel centres are at halves.
    pub half_pixel: bool,
    /// The largest weighted corner pixel of any sample, not the mean of the samples.
    pub largest: bool,
}

/// First sample, distance between bins, samples in a bin: along one axis.
#[derive(Clone, Copy)]
struct Bins {
    start: f64,
    size: f64,
    samples: usize,
}

impl RoiAlign {
    fn bins(&self, region: &Region, axis: usize) -> Bins {
        let corner = |i: usize| {
            region.corners[i] * self.maps.scale - if self.half_pixel { 0.5 } else { 0.0 }
        };
        let start = corner(1 - axis);
        let length = corner(3 - axis) - start;
        let length = if self.half_pixel { length } else { length.max(1.0) };
        let size = length / self.maps.bins[axis] as f64;
        let samples = if self.samples > 0 { self.samples } else { size.ceil().max(0.0) as usize };
        Bins { start, size, samples }
    }

    /// Samples of one bin of a region, vertically and horizontally.
    pub fn bin_samples(&self, region: &Region) -> [usize; 2] {
        [0, 1].map(|axis| self.bins(region, axis).samples)
    }
}

/// Lower and upper pixel with their weights; `None` for a sample outside the map.
fn corners(x: f64, extent: usize) -> Option<[(usize, f64); 2]> {
    if !(-1.0..=extent as f64).contains(&x) {
        return None;
    }
    let x = x.max(0.0);
    let low = x as usize;
    if low + 1 >= extent {
        return Some([(extent - 1, 1.0), (extent - 1, 0.0)]);
    }
    let part = x - low as f64;
    Some([(low, 1.0 - part), (low + 1, part)])
}

/// Samples every channel of every region: `out[regions, channels, bins...]`.
///
/// # Panics
/// If a slice has the wrong length, a region's image does not exist or the maps have no pixels.
pub fn roi_align<T: CastElement>(
    exec: Exec<'_>,
    align: &RoiAlign,
    regions: &[Region],
    x: &[T],
    out: &mut [T],
) {
    let maps = &align.maps;
    let area = maps.height * maps.width;
    let [rows, columns] = maps.bins;
    assert!(area > 0, "maps without pixels");
    assert_eq!(out.len(), regions.len() * maps.channels * rows * columns, "output length");
    over_chunks(exec, out, rows * columns, 64, &|first, chunk| {
        for (i, plane) in chunk.chunks_exact_mut(rows * columns).enumerate() {
            let (region, channel) =
                (&regions[(first + i) / maps.channels], (first + i) % maps.channels);
            let source = &x[(region.image * maps.channels + channel) * area..][..area];
            let bins = [align.bins(region, 0), align.bins(region, 1)];
            for (bin, o) in plane.iter_mut().enumerate() {
                *o = T::from_real(align.bin(source, bins, [bin / columns, bin % columns]));
            }
        }
    });
}

impl RoiAlign {
    /// One bin of one channel.
    fn bin<T: CastElement>(&self, source: &[T], bins: [Bins; 2], bin: [usize; 2]) -> f64 {
        let [vertical, horizontal] = bins;
        let place = |bins: Bins, bin: usize, sample: usize| {
            let part = (sample as f64 + 0.5) / bins.samples as f64;
            bins.start + (bin as f64 + part) * bins.size
        };
        let (mut sum, mut largest) = (0.0, f64::NEG_INFINITY);
        for sy in 0..vertical.samples {
            let ys = corners(place(vertical, bin[0], sy), self.maps.height);
            for sx in 0..horizontal.samples {
                let xs = corners(place(horizontal, bin[1], sx), self.maps.width);
                let (Some(ys), Some(xs)) = (ys, xs) else {
                    largest = largest.max(0.0);
                    continue;
                };
                for (y, a) in ys {
                    for (x, b) in xs {
                        let value = a * b * source[y * self.maps.width + x].to_real();
                        sum += value;
                        largest = largest.max(value);
                    }
                }
            }
        }
        let count = vertical.samples * horizontal.samples;
        match (self.largest, count) {
            (_, 0) => 0.0,
            (true, _) => largest,
            (false, _) => sum / count as f64,
        }
    }
}

/// Largest pixel in every bin of every region, 0 for bins without pixels: `out[regions, channels,
/// bins...]`. Source: R. Girshick, "Fast R-CNN" (2015).
///
/// # Panics
/// If a slice has the wrong length or a region's image does not exist.
pub fn max_roi_pool<T: CastElement>(
    exec: Exec<'_>,
    maps: &RegionMaps,
    regions: &[Region],
    x: &[T],
    out: &mut [T],
) {
    let area = maps.height * maps.width;
    let [rows, columns] = maps.bins;
    assert_eq!(out.len(), regions.len() * maps.channels * rows * columns, "output length");
    let range = |region: &Region, axis: usize, bin: usize| {
        let corner = |i: usize| (region.corners[i] * maps.scale).round();
        let start = corner(1 - axis);
        let size = (corner(3 - axis) - start + 1.0).max(1.0) / maps.bins[axis] as f64;
        let limit = [maps.height, maps.width][axis] as f64;
        let clamp = |x: f64| (x + start).clamp(0.0, limit) as usize;
        clamp((bin as f64 * size).floor())..clamp(((bin + 1) as f64 * size).ceil())
    };
    over_chunks(exec, out, rows * columns, 16, &|first, chunk| {
        for (i, plane) in chunk.chunks_exact_mut(rows * columns).enumerate() {
            let (region, channel) =
                (&regions[(first + i) / maps.channels], (first + i) % maps.channels);
            let source = &x[(region.image * maps.channels + channel) * area..][..area];
            for (bin, o) in plane.iter_mut().enumerate() {
                let across = range(region, 1, bin % columns);
                let pixels = range(region, 0, bin / columns).flat_map(|y| {
                    across.clone().map(move |x| source[y * maps.width + x].to_real())
                });
                *o = T::from_real(pixels.reduce(f64::max).unwrap_or(0.0));
            }
        }
    });
}
