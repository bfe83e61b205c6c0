//! Image files into pixels, for predicting on single pictures.
//! PNG, JPEG and WebP are read by their contents, whatever the file is called.

use std::path::Path;

use crate::canvas::Canvas;
use crate::dataset::ImageShape;
use crate::error::{Error, Result};
use crate::picture::{Picture, Turn};
use crate::plane::{Planes, Region};
use crate::resample::{Resampler, Span, View};

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

/// A decoded image.
#[derive(Debug)]
pub struct Image {
    planes: Planes,
    turn: Turn,
    /// Upright.
    height: usize,
    width: usize,
}

/// Decodes a PNG, JPEG or WebP image and turns it upright as its EXIF orientation says.
/// Transparency is dropped, 16-bit channels become 8-bit ones.
///
/// Errors: `ERR_FLATMIN_PATH` when the file cannot be read, `ERR_FLATMIN_FORMAT` when it is no such
/// image, is damaged or would take more than 512 MiB.
pub fn decode_image<'a>(source: impl Into<ImageSource<'a>>) -> Result<Image> {
    let (bytes, name) = match source.into() {
        ImageSource::Path(path) => {
            let bytes = std::fs::read(path).map_err(|source| Error::Path { path: path.to_path_buf(), source })?;
            (bytes, path.display().to_string())
        }
        ImageSource::Bytes(bytes) => (bytes.to_vec(), format!("the image of {} bytes", bytes.len())),
    };
    decode(&bytes).map_err(|message| Error::Image { image: name, message })
}

fn decode(bytes: &[u8]) -> std::result::Result<Image, String> {
    let picture = Picture::open(bytes)?;
    let ((height, width), turn) = (picture.size(), picture.turn());
    let (rows, columns) = if turn.transpose { (width, height) } else { (height, width) };
    let mut planes = Planes::default();
    picture.decode(Region { top: 0, left: 0, height: rows, width: columns }, 1, &mut planes)?;
    planes.convert_to_rgb();
    Ok(Image { planes, turn, height, width })
}

impl Image {
    /// Width in pixels.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Height in pixels.
    pub fn height(&self) -> usize {
        self.height
    }

    /// Pixels for a model of this input shape: `[height, width, channels]` in `[0, 1]`, red-green-blue
    /// or grey. The largest centred part with the right proportions is scaled (linearly, with
    /// anti-aliasing); an image of the right size is left as it is.
    ///
    /// Errors with `ERR_FLATMIN_SHAPE` unless there are 1 or 3 channels and both sides are above 0.
    pub fn resize(&self, shape: ImageShape) -> Result<Vec<f32>> {
        let ImageShape { height, width, channels } = shape;
        let side = 1..=1 << 16;
        if !side.contains(&height) || !side.contains(&width) || !matches!(channels, 1 | 3) {
            return Err(Error::Shape {
                what: "input shape for an image file",
                found: format!("{height} x {width} x {channels}"),
                expected: "sides from 1 to 65536 and 1 (grey) or 3 (red, green, blue) channels".to_owned(),
            });
        }
        let part_width = (self.height * width / height).clamp(1, self.width);
        let part_height = (self.width * height / width).clamp(1, self.height);
        let view = View {
            vertical: Span::whole((self.height - part_height) / 2, part_height),
            horizontal: Span::whole((self.width - part_width) / 2, part_width),
            height,
            width,
            channels,
        };
        let mut canvas = Canvas::default();
        Resampler::default().run(&self.planes, view.stored(self.turn, (self.height, self.width)), &mut canvas);
        canvas.turn(self.turn);
        let mut pixels = vec![0.0; shape.elements()];
        canvas.write(&[1.0; 3][..channels], &[0.0; 3][..channels], &mut pixels);
        pixels.iter_mut().for_each(|value| *value /= 255.0);
        Ok(pixels)
    }
}
