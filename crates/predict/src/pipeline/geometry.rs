//! RGB images in memory, their size and their middle.

use landfall_package::steps::{CenterCrop, Resize, ResizeMode};

use super::resample;

/// RGB pixels, `[height, width, 3]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Image {
    pub(super) height: usize,
    pub(super) width: usize,
    pub(super) pixels: Vec<u8>,
}

/// A step that changes an image's size.
#[derive(Debug, Clone)]
pub(super) enum Geometry {
    Resize(Resize),
    CenterCrop(CenterCrop),
}

impl Geometry {
    /// Height and width after the step.
    pub(super) fn target(&self, height: usize, width: usize) -> (usize, usize) {
        match self {
            Geometry::Resize(step) => match step.mode {
                ResizeMode::Exact => step.size.height_width(),
                ResizeMode::Shortest => {
                    let (side, _) = step.size.height_width();
                    let long = |long: usize, short: usize| side.saturating_mul(long) / short;
                    if height <= width {
                        (side, long(width, height))
                    } else {
                        (long(height, width), side)
                    }
                }
            },
            Geometry::CenterCrop(step) => match (step.size, step.fraction) {
                (Some(size), _) => size.height_width(),
                (None, fraction) => {
                    let shorter = height.min(width) as f64;
                    let side = (shorter * fraction.unwrap_or(1.0)) as usize;
                    (side.max(1), side.max(1))
                }
            },
        }
    }

    /// Applies the step. `Err` is the number of pixels that would be needed where they exceed
    /// `most`.
    pub(super) fn apply(&self, image: &Image, most: usize) -> Result<Image, usize> {
        let (height, width) = self.target(image.height, image.width);
        let tallest = match self {
            Geometry::Resize(_) => height.max(image.height),
            Geometry::CenterCrop(_) => height,
        };
        let pixels = tallest.saturating_mul(width);
        if pixels > most {
            return Err(pixels);
        }
        Ok(match self {
            Geometry::Resize(step) => resample::resize(image, height, width, step.filter),
            Geometry::CenterCrop(step) => {
                let offset = match step.size {
                    Some(_) => centered,
                    None => |side: usize, kept: usize| (side as i64 - kept as i64 + 1) / 2,
                };
                let top = offset(image.height, height);
                crop(image, top, offset(image.width, width), height, width)
            }
        })
    }
}

/// Where the middle starts, as torchvision places it: half the difference, a half rounded to even;
/// for an image that is too small, how much border goes before it, rounded down, negated.
fn centered(side: usize, kept: usize) -> i64 {
    let difference = side as i64 - kept as i64;
    if difference < 0 {
        return -(-difference / 2);
    }
    let half = difference / 2;
    if difference % 2 == 1 && half % 2 == 1 { half + 1 } else { half }
}

/// A window of an image; what lies outside is black.
fn crop(image: &Image, top: i64, left: i64, height: usize, width: usize) -> Image {
    let mut pixels = vec![0; height * width * 3];
    let from = left.max(0) as usize;
    let to = (left + width as i64).clamp(0, image.width as i64) as usize;
    let column = (from as i64 - left) as usize * 3;
    for (y, target) in pixels.chunks_exact_mut(width * 3).enumerate() {
        let source = top + y as i64;
        if (0..image.height as i64).contains(&source) && from < to {
            let row = source as usize * image.width * 3;
            let bytes = &image.pixels[row + from * 3..row + to * 3];
            target[column..column + bytes.len()].copy_from_slice(bytes);
        }
    }
    Image { height, width, pixels }
}

#[cfg(test)]
mod tests {
    use landfall_package::steps::Size;

    use super::*;

    fn numbered(height: usize, width: usize) -> Image {
        let pixels = (0..height * width).flat_map(|i| [i as u8; 3]).collect();
        Image { height, width, pixels }
    }

    fn center(size: Option<Size>, fraction: Option<f64>) -> Geometry {
        Geometry::CenterCrop(CenterCrop { size, fraction, input: None, output: None })
    }

    fn reds(image: &Image) -> Vec<u8> {
        image.pixels.iter().copied().step_by(3).collect()
    }

    #[test]
    fn crops_keep_the_middle() {
        let crop = |image: &Image, h, w| {
            center(Some(Size::HeightWidth([h, w])), None).apply(image, 1000).unwrap()
        };
        assert_eq!(reds(&crop(&numbered(3, 4), 1, 2)), [5, 6]);
        assert_eq!(reds(&crop(&numbered(1, 4), 1, 1)), [2], "1.5 rounds to the even 2");
        assert_eq!(reds(&crop(&numbered(1, 2), 1, 1)), [0], "0.5 rounds to the even 0");
        assert_eq!(reds(&crop(&numbered(1, 2), 3, 3)), [0, 0, 0, 0, 1, 0, 0, 0, 0]);
        let half = center(None, Some(0.5)).apply(&numbered(4, 5), 1000).unwrap();
        assert_eq!(reds(&half), [7, 8, 12, 13]);
    }

    #[test]
    fn sizes_beyond_the_limit_are_refused_before_allocating() {
        let step = |size, mode| {
            Geometry::Resize(Resize {
                size: Size::Square(size),
                mode,
                filter: Default::default(),
                input: None,
                output: None,
            })
        };
        let thin = numbered(1, 60);
        assert_eq!(step(256, ResizeMode::Shortest).target(1, 60), (256, 15_360));
        assert_eq!(step(256, ResizeMode::Shortest).apply(&thin, 1 << 20), Err(256 * 15_360));
        let tall = numbered(60, 1);
        assert_eq!(step(20, ResizeMode::Exact).apply(&tall, 1000), Err(60 * 20));
        assert_eq!(step(7, ResizeMode::Shortest).target(300, 200), (10, 7));
    }
}
