//! An encoded image, opened: its size is known, and any part of it can be had in any size, upright.
//! Baseline JPEGs are decoded as far as a part needs; all else whole, by the `image` crate.

use std::io::Cursor;

use ::image::metadata::Orientation;
use ::image::{DynamicImage, ImageDecoder, ImageReader, ImageResult, Limits};

use crate::canvas::Canvas;
use crate::jpeg::{self, Refusal};
use crate::plane::{Planes, Region};
use crate::resample::{Resampler, View};

/// Memory of one thread, kept from image to image.
#[derive(Debug, Default)]
pub(crate) struct Workspace {
    pub(crate) planes: Planes,
    pub(crate) resampler: Resampler,
}

/// An encoded image whose header is read.
pub(crate) struct Picture<'a> {
    kind: Kind<'a>,
    orientation: Orientation,
}

enum Kind<'a> {
    Jpeg(Box<jpeg::Header>, &'a [u8]),
    Whole(DynamicImage),
}

impl<'a> Picture<'a> {
    /// Reads the header, and the whole image unless it is a baseline JPEG. The error says what is wrong with it.
    pub(crate) fn open(bytes: &'a [u8]) -> Result<Self, String> {
        if bytes.starts_with(&[0xFF, 0xD8]) {
            match jpeg::Header::read(bytes) {
                Ok(header) if header.is_supported() => {
                    let orientation = header.orientation.unwrap_or(Orientation::NoTransforms);
                    return Ok(Self { kind: Kind::Jpeg(Box::new(header), bytes), orientation });
                }
                Err(Refusal::Damaged(message)) => return Err(message),
                Ok(_) | Err(Refusal::Unsupported) => {}
            }
        }
        Self::whole(bytes).map_err(|error| error.to_string())
    }

    fn whole(bytes: &[u8]) -> ImageResult<Self> {
        let reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format()?;
        let mut decoder = reader.into_decoder()?;
        // The decoders bound what they allocate themselves, but not the finished image.
        Limits::default().reserve(decoder.total_bytes())?;
        // Damaged metadata must not hide a sound picture.
        let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
        Ok(Self { kind: Kind::Whole(DynamicImage::from_decoder(decoder)?), orientation })
    }

    /// Height and width, upright.
    pub(crate) fn size(&self) -> (usize, usize) {
        let (height, width) = match &self.kind {
            Kind::Jpeg(header, _) => (header.height, header.width),
            Kind::Whole(image) => (image.height() as usize, image.width() as usize),
        };
        if self.turn().transpose { (width, height) } else { (height, width) }
    }

    /// Draws the view, upright. Without `fast`, as torchvision does: colours are converted at full size and clipped before
    /// they are scaled. With it, a JPEG is scaled as luma and chroma, and reduced while it is decoded if it has more than
    /// twice the pixels needed along both axes.
    pub(crate) fn render(
        self,
        view: View,
        fast: bool,
        workspace: &mut Workspace,
        canvas: &mut Canvas,
    ) -> Result<(), String> {
        let turn = self.turn();
        let mut stored = view.stored(turn, self.size());
        let Workspace { planes, resampler } = workspace;
        let scale = if fast { stored.reduction() } else { 1 };
        let scale = self.decode(stored.region(), scale, planes)?;
        stored.vertical = stored.vertical.reduced(scale);
        stored.horizontal = stored.horizontal.reduced(scale);
        if !fast {
            planes.convert_to_rgb();
        }
        resampler.run(planes, stored, canvas);
        canvas.turn(turn);
        Ok(())
    }

    /// Decodes what `region` shows of the stored image, reduced by `scale` if its format can be; the reduction.
    pub(crate) fn decode(self, region: Region, scale: usize, planes: &mut Planes) -> Result<usize, String> {
        match self.kind {
            Kind::Jpeg(header, bytes) => match jpeg::decode(&header, bytes, region, scale, planes) {
                Ok(()) => return Ok(scale),
                Err(Refusal::Damaged(message)) => return Err(message),
                Err(Refusal::Unsupported) => return Err("its kind of JPEG is not supported".to_owned()),
            },
            Kind::Whole(image) => {
                let width = image.width() as usize;
                match image.color().has_color() {
                    false => planes.fill(&image.into_luma8(), width, 1, region),
                    true => planes.fill(&image.into_rgb8(), width, 3, region),
                }
            }
        }
        Ok(1)
    }

    pub(crate) fn turn(&self) -> Turn {
        let (transpose, down, across) = match self.orientation {
            Orientation::NoTransforms => (false, false, false),
            Orientation::FlipHorizontal => (false, false, true),
            Orientation::FlipVertical => (false, true, false),
            Orientation::Rotate180 => (false, true, true),
            Orientation::Rotate90FlipH => (true, false, false),
            Orientation::Rotate90 => (true, false, true),
            Orientation::Rotate270 => (true, true, false),
            Orientation::Rotate270FlipH => (true, true, true),
        };
        Turn { transpose, down, across }
    }
}

/// How a stored image becomes upright: transposed first, then mirrored upside down and left to right.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Turn {
    pub(crate) transpose: bool,
    pub(crate) down: bool,
    pub(crate) across: bool,
}

impl View {
    /// The same view of the image as it is stored, whose upright size is `size`.
    pub(crate) fn stored(self, turn: Turn, (height, width): (usize, usize)) -> Self {
        let vertical = self.vertical.flipped(turn.down, height);
        let horizontal = self.horizontal.flipped(turn.across, width);
        match turn.transpose {
            false => Self { vertical, horizontal, ..self },
            true => Self {
                vertical: horizontal,
                horizontal: vertical,
                height: self.width,
                width: self.height,
                channels: self.channels,
            },
        }
    }

    /// All pixels that it reads.
    fn region(&self) -> Region {
        let (rows, columns) = (self.vertical.reach(self.height), self.horizontal.reach(self.width));
        Region { top: rows.start, left: columns.start, height: rows.len(), width: columns.len() }
    }

    /// The largest reduction that leaves at least as many pixels as are asked for.
    fn reduction(&self) -> usize {
        let surplus = (self.vertical.length / self.height as f64).min(self.horizontal.length / self.width as f64);
        match surplus {
            8.0.. => 8,
            4.0.. => 4,
            2.0.. => 2,
            _ => 1,
        }
    }
}
