//! Resizing of RGB pixels, filtered against aliasing, to the same values as Pillow's.
//!
//! Method: separable convolution, rows first, then columns, with 8-bit pixels in between. The
//! filter is stretched by the scale when shrinking. Weights are fixed-point with 22 fractional
//! bits, rounded to nearest, half away from zero; sums start at one half and are clamped to 0..255.
//! Source: the behaviour of Pillow's `Image.resize`, which training pipelines use
//! (`libImaging/Resample.c`, MIT-CMU licence, describes it); filters after Keys, "Cubic convolution
//! interpolation for digital image processing", 1981 (a = -0.5), and Duchon, "Lanczos filtering in
//! one and two dimensions", 1979.

use landfall_package::steps::Filter;

use super::geometry::Image;

const FRACTION_BITS: u32 = 22;
const HALF: i32 = 1 << (FRACTION_BITS - 1);

/// Weights of the source pixels that make up each target pixel along one axis.
struct Weights {
    /// First source pixel and number of them, for each target pixel.
    spans: Vec<(usize, usize)>,
    /// Fixed-point weights, `stride` for each target pixel.
    values: Vec<i32>,
    stride: usize,
}

fn radius(filter: Filter) -> f64 {
    match filter {
        Filter::Nearest => 0.5,
        Filter::Bilinear => 1.0,
        Filter::Bicubic => 2.0,
        Filter::Lanczos => 3.0,
    }
}

fn weight(filter: Filter, x: f64) -> f64 {
    const A: f64 = -0.5;
    let sinc = |x: f64| {
        let px = x * std::f64::consts::PI;
        if x == 0.0 { 1.0 } else { px.sin() / px }
    };
    let d = x.abs();
    match filter {
        Filter::Nearest => 1.0,
        Filter::Bilinear if d < 1.0 => 1.0 - d,
        Filter::Bicubic if d < 1.0 => ((A + 2.0) * d - (A + 3.0)) * d * d + 1.0,
        Filter::Bicubic if d < 2.0 => (((d - 5.0) * d + 8.0) * d - 4.0) * A,
        Filter::Lanczos if d < 3.0 => sinc(x) * sinc(x / 3.0),
        Filter::Bilinear | Filter::Bicubic | Filter::Lanczos => 0.0,
    }
}

fn weights(source: usize, target: usize, filter: Filter) -> Weights {
    let scale = source as f64 / target as f64;
    let stretch = scale.max(1.0);
    let support = radius(filter) * stretch;
    let stride = support.ceil() as usize * 2 + 1;
    let mut spans = Vec::with_capacity(target);
    let mut values = vec![0; stride * target];
    let mut exact = Vec::with_capacity(stride);
    for (position, fixed) in values.chunks_exact_mut(stride).enumerate() {
        let center = (position as f64 + 0.5) * scale;
        let first = (center - support + 0.5).max(0.0) as usize;
        let last = ((center + support + 0.5) as usize).min(source);
        exact.clear();
        exact.extend((first..last).map(|at| weight(filter, (at as f64 - center + 0.5) / stretch)));
        let sum: f64 = exact.iter().sum();
        for (fixed, &exact) in fixed.iter_mut().zip(&exact) {
            let normal = if sum == 0.0 { exact } else { exact / sum };
            *fixed = (normal * f64::from(1 << FRACTION_BITS)).round() as i32;
        }
        spans.push((first, last - first));
    }
    Weights { spans, values, stride }
}

/// An image of another size. Neither side may be 0.
pub(super) fn resize(image: &Image, height: usize, width: usize, filter: Filter) -> Image {
    if filter == Filter::Nearest {
        return nearest(image, height, width);
    }
    let wide = (width != image.width).then(|| resize_rows(image, width, filter));
    let wide = wide.as_ref().unwrap_or(image);
    if height == wide.height {
        return wide.clone();
    }
    resize_columns(wide, height, filter)
}

fn clamp(sum: i32) -> u8 {
    (sum >> FRACTION_BITS).clamp(0, 255) as u8
}

fn resize_rows(image: &Image, width: usize, filter: Filter) -> Image {
    let weights = weights(image.width, width, filter);
    let mut pixels = vec![0; image.height * width * 3];
    let rows = image.pixels.chunks_exact(image.width * 3);
    for (source, target) in rows.zip(pixels.chunks_exact_mut(width * 3)) {
        let spans = weights.spans.iter().zip(weights.values.chunks_exact(weights.stride));
        for (target, (&(first, count), values)) in target.chunks_exact_mut(3).zip(spans) {
            let mut sums = [HALF; 3];
            let span = source[first * 3..(first + count) * 3].chunks_exact(3);
            for (pixel, &weight) in span.zip(values) {
                for (sum, &value) in sums.iter_mut().zip(pixel) {
                    *sum += i32::from(value) * weight;
                }
            }
            for (value, sum) in target.iter_mut().zip(sums) {
                *value = clamp(sum);
            }
        }
    }
    Image { height: image.height, width, pixels }
}

fn resize_columns(image: &Image, height: usize, filter: Filter) -> Image {
    let weights = weights(image.height, height, filter);
    let row = image.width * 3;
    let mut pixels = vec![0; height * row];
    let mut sums = vec![HALF; row];
    let spans = weights.spans.iter().zip(weights.values.chunks_exact(weights.stride));
    for (target, (&(first, count), values)) in pixels.chunks_exact_mut(row).zip(spans) {
        sums.fill(HALF);
        let sources = image.pixels[first * row..(first + count) * row].chunks_exact(row);
        for (source, &weight) in sources.zip(values) {
            for (sum, &value) in sums.iter_mut().zip(source) {
                *sum += i32::from(value) * weight;
            }
        }
        for (value, &sum) in target.iter_mut().zip(&sums) {
            *value = clamp(sum);
        }
    }
    Image { height, width: image.width, pixels }
}

fn nearest(image: &Image, height: usize, width: usize) -> Image {
    let source = |at: usize, target: usize, source: usize| {
        (((at as f64 + 0.5) * (source as f64 / target as f64)) as usize).min(source - 1)
    };
    let columns: Vec<usize> = (0..width).map(|x| source(x, width, image.width) * 3).collect();
    let mut pixels = Vec::with_capacity(height * width * 3);
    for y in 0..height {
        let row = &image.pixels[source(y, height, image.height) * image.width * 3..];
        for &column in &columns {
            pixels.extend_from_slice(&row[column..column + 3]);
        }
    }
    Image { height, width, pixels }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gradient(height: usize, width: usize) -> Image {
        let pixel = |i: usize| ((i * 37 + i / 7 * 11) % 256) as u8;
        Image { height, width, pixels: (0..height * width * 3).map(pixel).collect() }
    }

    const FILTERS: [Filter; 4] =
        [Filter::Nearest, Filter::Bilinear, Filter::Bicubic, Filter::Lanczos];

    #[test]
    fn the_same_size_is_the_same_image_and_a_flat_image_stays_flat() {
        for filter in FILTERS {
            let image = gradient(5, 7);
            assert_eq!(resize(&image, 5, 7, filter).pixels, image.pixels);
            let flat = Image { height: 9, width: 4, pixels: vec![201; 9 * 4 * 3] };
            for (height, width) in [(1, 1), (3, 13), (31, 2)] {
                let resized = resize(&flat, height, width, filter);
                assert_eq!(resized.pixels, vec![201; height * width * 3], "{filter:?}");
            }
        }
    }

    #[test]
    fn weights_of_every_target_pixel_sum_to_one() {
        for filter in [Filter::Bilinear, Filter::Bicubic, Filter::Lanczos] {
            for (source, target) in [(7, 3), (3, 7), (1, 5), (5, 1), (640, 224)] {
                let weights = weights(source, target, filter);
                for values in weights.values.chunks_exact(weights.stride) {
                    let error = values.iter().sum::<i32>() - (1 << FRACTION_BITS);
                    assert!(error.unsigned_abs() as usize <= weights.stride);
                }
            }
        }
    }
}
