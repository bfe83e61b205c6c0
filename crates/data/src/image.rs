//! Image files into pixels, for predicting on single pictures.
//! PNG, JPEG and WebP are read by their contents, whatever the file is called.

use std::io::Cursor;
use std::path::Path;

use ::image::imageops::FilterType;
use ::image::metadata::Orientation;
use ::image::{DynamicImage, ImageDecoder, ImageReader, ImageResult, Limits};

use crate::dataset::ImageShape;
use crate::error::{Error, Result};

/// Where an image comes from.
#[derive(Clone, Copy, Debug)]
pub enum ImageSource<'a> {
    Path(&'a Path),
    Bytes(&'a [u8]),
}

impl<'a, P: AsRef<Path> + ?Sized> From<&'a P> for ImageSource<'a> {
    fn from(path: &'a P) -> Self {
        Self::Path(path.as_ref())
    }
}

/// A decoded image, upright.
#[derive(Clone, Debug)]
pub struct Image {
    pixels: DynamicImage,
}

/// Decodes a PNG, JPEG or WebP image and turns it upright as its EXIF orientation says.
/// Transparency is dropped, 16-bit channels become 8-bit ones.
///
/// Errors: `ERR_FLATMIN_PATH` when the file cannot be read, `ERR_FLATMIN_FORMAT` when it is no such
/// image, is damaged or would take more than 512 MiB.
pub fn decode_image<'a>(source: impl Into<ImageSource<'a>>) -> Result<Image> {
    match source.into() {
        ImageSource::Path(path) => {
            let bytes = std::fs::read(path).map_err(|source| Error::Path { path: path.to_path_buf(), source })?;
            decode_named(&bytes, || path.display().to_string())
        }
        ImageSource::Bytes(bytes) => decode_named(bytes, || format!("the image of {} bytes", bytes.len())),
    }
}

pub(crate) fn decode_named(bytes: &[u8], name: impl Fn() -> String) -> Result<Image> {
    let pixels = upright(bytes).map_err(|error| Error::Image { image: name(), message: error.to_string() })?;
    Ok(Image { pixels })
}

fn upright(bytes: &[u8]) -> ImageResult<DynamicImage> {
    let reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format()?;
    let mut decoder = reader.into_decoder()?;
    // The decoders bound what they allocate themselves, but not the finished image.
    Limits::default().reserve(decoder.total_bytes())?;
    // Damaged metadata must not hide a sound picture.
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let mut pixels = DynamicImage::from_decoder(decoder)?;
    pixels.apply_orientation(orientation);
    Ok(pixels)
}

impl Image {
    /// Width in pixels.
    pub fn width(&self) -> usize {
        self.pixels.width() as usize
    }

    /// Height in pixels.
    pub fn height(&self) -> usize {
        self.pixels.height() as usize
    }

    /// Pixels for a model of this input shape: `[height, width, channels]` in `[0, 1]`, red-green-blue
    /// or grey. The largest centred part with the right proportions is scaled (linearly, with
    /// anti-aliasing); an image of the right size is left as it is.
    ///
    /// Errors with `ERR_FLATMIN_SHAPE` unless there are 1 or 3 channels and both sides are above 0.
    pub fn resize(&self, shape: ImageShape) -> Result<Vec<f32>> {
        let side = |side: usize| u32::try_from(side).ok().filter(|side| (1..=1 << 16).contains(side));
        let (Some(height), Some(width), 1 | 3) = (side(shape.height), side(shape.width), shape.channels) else {
            return Err(Error::Shape {
                what: "input shape for an image file",
                found: format!("{} x {} x {}", shape.height, shape.width, shape.channels),
                expected: "sides from 1 to 65536 and 1 (grey) or 3 (red, green, blue) channels".to_owned(),
            });
        };
        let scaled = self.cropped_to(height, width).resize_exact(width, height, FilterType::Triangle);
        let bytes = match shape.channels {
            1 => scaled.into_luma8().into_raw(),
            _ => scaled.into_rgb8().into_raw(),
        };
        Ok(bytes.into_iter().map(|v| f32::from(v) / 255.0).collect())
    }

    /// The largest centred part with the proportions of `height` to `width`, in 8 bits.
    fn cropped_to(&self, height: u32, width: u32) -> DynamicImage {
        let (from_width, from_height) = (u64::from(self.pixels.width()), u64::from(self.pixels.height()));
        let (width, height) = (u64::from(width), u64::from(height));
        let part_width = (from_height * width / height).clamp(1, from_width);
        let part_height = (from_width * height / width).clamp(1, from_height);
        let part = self.pixels.crop_imm(
            ((from_width - part_width) / 2) as u32,
            ((from_height - part_height) / 2) as u32,
            part_width as u32,
            part_height as u32,
        );
        DynamicImage::ImageRgb8(part.into_rgb8())
    }
}
