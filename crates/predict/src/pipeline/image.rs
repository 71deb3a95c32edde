//! Encoded or raw images, one a row, to one tensor of pixels.
//!
//! Rows go through decoding, resizing and cropping one after the other, so that at most one image
//! is held at full size. Files are untrusted: dimensions are read from the header and checked
//! before pixels are decoded. A file that is damaged or cut short is refused, never filled up with
//! grey: the JPEG decoder is called in its strict mode, which the `image` crate does not offer.
//!
//! PNG is exact. Two conforming JPEG decoders may differ (ITU-T T.83 leaves rounding and the
//! upsampling of chrominance to them): against libjpeg-turbo as Pillow uses it, three photographs
//! at qualities 50 to 95 and the samplings 4:4:4, 4:2:2 and 4:2:0 came out at most 4 of 255 levels
//! apart, on average 0.2 or less.

use std::io::Cursor;

use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader};
use landfall_tensor::{Buffer, DType, Shape, Tensor};
use zune_core::bytestream::ZCursor;
use zune_core::colorspace::ColorSpace;
use zune_core::options::DecoderOptions;
use zune_jpeg::JpegDecoder;

use super::geometry::{Geometry, Image};
use super::{Limits, check_size, internal, invalid};
use crate::PredictError;

/// Bytes of a pixel in the largest format that a decoder gives: four channels of 16 bits.
const DECODED_PIXEL_BYTES: u64 = 8;

/// Steps from encoded files or raw pixels to pixels of one size.
#[derive(Debug)]
pub(super) struct ImageChain {
    /// How messages call the input.
    pub(super) input: String,
    pub(super) steps: Vec<Geometry>,
    pub(super) limits: Limits,
}

impl ImageChain {
    /// Files `[batch]` or pixels `[batch, height, width, 3]` to pixels `[batch, height, width, 3]`.
    pub(super) fn run(&self, value: &Tensor) -> Result<Tensor, PredictError> {
        let rows = value.shape().first().copied().unwrap_or(0);
        let row: Box<dyn Fn(usize) -> Result<Image, String> + '_> = match value.dtype() {
            DType::Bytes => {
                let files = value.blobs().map_err(internal)?;
                Box::new(|row| decode(&files[row], self.limits))
            }
            _ => {
                let pixels = value.as_slice::<u8>().map_err(internal)?;
                let &[_, height, width, 3] = &**value.shape() else {
                    return Err(invalid(format!("{} must be RGB pixels", self.place())));
                };
                let size = height * width * 3;
                Box::new(move |row| {
                    let pixels = pixels[row * size..(row + 1) * size].to_vec();
                    Ok(Image { height, width, pixels })
                })
            }
        };
        let fail = |row, e| invalid(format!("{} row {row}: {e}", self.place()));
        let Some(first) = (0..rows).next() else {
            return Err(invalid(format!("{} has no rows", self.place())));
        };
        let image = self.image(row(first)).map_err(|e| fail(first, e))?;
        let (height, width) = (image.height, image.width);
        check_size(rows, height.saturating_mul(width).saturating_mul(12), self.limits)?;
        let size = height * width * 3;
        let stacked = Buffer::try_build(rows * size, |out| {
            out[..size].copy_from_slice(&image.pixels);
            drop(image);
            for (index, out) in out.chunks_exact_mut(size.max(1)).enumerate().skip(1) {
                let image = self.image(row(index)).map_err(|e| fail(index, e))?;
                if (image.height, image.width) != (height, width) {
                    let message = format!(
                        "has {}x{} pixels, but row 0 has {height}x{width}; add a resize or \
                         center_crop step, or send images of one size",
                        image.height, image.width
                    );
                    return Err(fail(index, message));
                }
                out.copy_from_slice(&image.pixels);
            }
            Ok(())
        })?;
        Tensor::from_buffer(DType::U8, Shape::from([rows, height, width, 3]), stacked)
            .map_err(internal)
    }

    fn place(&self) -> String {
        format!("input '{}'", self.input)
    }

    fn image(&self, image: Result<Image, String>) -> Result<Image, String> {
        let mut image = image?;
        if image.height == 0 || image.width == 0 {
            return Err("has no pixels".to_owned());
        }
        for step in &self.steps {
            image = step.apply(&image, self.limits.image_pixels).map_err(|pixels| {
                let (height, width) = (image.height, image.width);
                let most = self.limits.image_pixels;
                format!(
                    "{height}x{width} pixels would grow to {pixels}, at most {most} are allowed"
                )
            })?;
        }
        Ok(image)
    }
}

/// Decodes a JPEG or PNG file to RGB.
fn decode(file: &[u8], limits: Limits) -> Result<Image, String> {
    let mut reader = ImageReader::new(Cursor::new(file))
        .with_guessed_format()
        .map_err(|e| format!("cannot be read: {e}"))?;
    if !matches!(reader.format(), Some(ImageFormat::Jpeg | ImageFormat::Png)) {
        let start: Vec<String> = file.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
        return Err(format!(
            "is neither JPEG nor PNG: {} bytes starting with '{}'",
            file.len(),
            start.join(" ")
        ));
    }
    if reader.format() == Some(ImageFormat::Jpeg) {
        return decode_jpeg(file, limits);
    }
    let most = limits.image_pixels as u64;
    let mut bounds = image::Limits::default();
    bounds.max_alloc = Some(most.saturating_mul(DECODED_PIXEL_BYTES));
    reader.limits(bounds);
    let damaged = |e: image::ImageError| format!("is damaged: {e}");
    let decoder = reader.into_decoder().map_err(damaged)?;
    let (width, height) = decoder.dimensions();
    if u64::from(width) * u64::from(height) > most {
        return Err(format!("has {height}x{width} pixels, at most {most} are allowed"));
    }
    let pixels = DynamicImage::from_decoder(decoder).map_err(damaged)?.into_rgb8().into_raw();
    Ok(Image { height: height as usize, width: width as usize, pixels })
}

fn decode_jpeg(file: &[u8], limits: Limits) -> Result<Image, String> {
    // Larger sides than a JPEG file can declare: what is too large is refused below.
    let options = DecoderOptions::default()
        .set_strict_mode(true)
        .set_max_width(usize::from(u16::MAX))
        .set_max_height(usize::from(u16::MAX))
        .jpeg_set_out_colorspace(ColorSpace::RGB);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(file), options);
    let damaged = |e: zune_jpeg::errors::DecodeErrors| format!("is damaged or cut short: {e}");
    decoder.decode_headers().map_err(damaged)?;
    let (width, height) = decoder.dimensions().ok_or("is damaged: it has no size")?;
    let most = limits.image_pixels;
    if height.saturating_mul(width) > most {
        return Err(format!("has {height}x{width} pixels, at most {most} are allowed"));
    }
    let pixels = decoder.decode().map_err(damaged)?;
    if pixels.len() != height * width * 3 {
        return Err("has colours that cannot be converted to RGB".to_owned());
    }
    Ok(Image { height, width, pixels })
}
