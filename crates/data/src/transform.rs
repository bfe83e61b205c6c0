//! Normalise, pad-crop and flip, in one pass from the stored pixels into the batch.
//! What happens to an image follows from (seed, epoch, its position in the set) alone.

use crate::dataset::{Content, Dataset, ImageShape, Pixels, range_of};
use crate::error::{Error, Result};
use crate::normalization::Normalization;
use crate::random::{Purpose, Stream};

/// What is done to each image on its way into a batch.
#[derive(Clone, Debug, PartialEq)]
pub struct Transform {
    pub normalization: Normalization,
    /// Pad by this many black pixels on each side and crop the old size at a random place (4 is
    /// usual for CIFAR). `None` or 0: off. Must be smaller than both sides of the image.
    pub pad_crop: Option<usize>,
    /// Mirror left to right with probability 1/2, after the crop.
    pub flip: bool,
}

impl Transform {
    /// Normalisation alone: for evaluation.
    pub fn plain(normalization: Normalization) -> Self {
        Self { normalization, pad_crop: None, flip: false }
    }
}

/// Where the crop lies and whether it is mirrored: out(y, x) = image(y + dy, x + dx).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Placement {
    dy: isize,
    dx: isize,
    flip: bool,
}

/// A transform made ready for one set: stored value v of channel c becomes `v * gain[c] + bias[c]`.
pub(crate) struct Writer {
    shape: ImageShape,
    padding: usize,
    flip: bool,
    /// One row long (`width * channels`), so that a row is one straight multiply-add.
    gain: Vec<f32>,
    /// Also the value of black padding.
    bias: Vec<f32>,
}

impl Writer {
    pub(crate) fn new(transform: &Transform, set: &Dataset) -> Result<Self> {
        let shape = set.shape();
        transform.normalization.validate(shape.channels)?;
        let padding = transform.pad_crop.unwrap_or(0);
        if padding >= shape.height.min(shape.width) {
            let expected = format!("less than both sides of the {} x {} images", shape.height, shape.width);
            return Err(Error::option("padCrop", padding, expected));
        }
        let white = match set.store.content {
            Content::Pixels { white, .. } => white,
            Content::Encoded { .. } => 1.0,
        };
        let (gain, bias) = transform.normalization.gain_and_bias(white);
        Ok(Self {
            shape,
            padding,
            flip: transform.flip,
            gain: gain.repeat(shape.width),
            bias: bias.repeat(shape.width),
        })
    }

    /// Writes image `index` of `set`, `[height, width, channels]`, as it looks in this epoch.
    pub(crate) fn write(&self, set: &Dataset, index: usize, seed: u64, epoch: u64, out: &mut [f32]) -> Result<()> {
        let placement = self.placement(seed, epoch, index as u64);
        let image = set.image(index)?;
        match &set.store.content {
            Content::Pixels { shape, pixels: Pixels::U8(values), .. } => {
                self.write_pixels(&values[range_of(*shape, image)], placement, out);
            }
            Content::Pixels { shape, pixels: Pixels::F32(values), .. } => {
                self.write_pixels(&values[range_of(*shape, image)], placement, out);
            }
            Content::Encoded { .. } => self.write_pixels(&set.pixels(index)?, placement, out),
        }
        Ok(())
    }

    /// Draws, in this order: row of the crop, column of the crop, flip; only those in use.
    fn placement(&self, seed: u64, epoch: u64, index: u64) -> Placement {
        if self.padding == 0 && !self.flip {
            return Placement::default();
        }
        let mut stream = Stream::new(seed, Purpose::Augment, epoch, index);
        let padding = self.padding as isize;
        let mut shift = || match padding {
            0 => 0,
            _ => stream.below(2 * self.padding + 1) as isize - padding,
        };
        let (dy, dx) = (shift(), shift());
        let flip = self.flip && stream.below(2) == 1;
        Placement { dy, dx, flip }
    }

    fn write_pixels<T: Copy + Into<f32>>(&self, image: &[T], at: Placement, out: &mut [f32]) {
        let row = self.gain.len();
        for (y, out) in out.chunks_exact_mut(row).enumerate() {
            match y.checked_add_signed(at.dy) {
                Some(y) if y < self.shape.height => {
                    self.write_row(&image[y * row..(y + 1) * row], at, out);
                }
                _ => out.copy_from_slice(&self.bias),
            }
        }
    }

    /// One row that lies inside the image; its ends may be padding.
    fn write_row<T: Copy + Into<f32>>(&self, image: &[T], at: Placement, out: &mut [f32]) {
        let channels = self.shape.channels;
        let shift = at.dx.unsigned_abs() * channels;
        let inside = out.len() - shift;
        let image = match at.dx < 0 {
            true => &image[..inside],
            false => &image[shift..],
        };
        // Padding is on the left when the crop hangs over the left edge, and mirroring swaps sides.
        let start = if (at.dx < 0) != at.flip { shift } else { 0 };
        out[..start].copy_from_slice(&self.bias[..start]);
        out[start + inside..].copy_from_slice(&self.bias[start + inside..]);
        let out = &mut out[start..start + inside];
        if at.flip {
            let pixels = image.chunks_exact(channels).rev();
            for (out, pixel) in out.chunks_exact_mut(channels).zip(pixels) {
                self.write_values(pixel, out);
            }
        } else {
            self.write_values(image, out);
        }
    }

    /// Values that begin with channel 0: gain and bias repeat, so any pixel of the row will do.
    #[inline]
    fn write_values<T: Copy + Into<f32>>(&self, values: &[T], out: &mut [f32]) {
        let scale = self.gain.iter().zip(&self.bias);
        for ((out, &value), (gain, bias)) in out.iter_mut().zip(values).zip(scale) {
            *out = value.into() * gain + bias;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::ArrayOptions;

    const SHAPE: ImageShape = ImageShape { height: 5, width: 4, channels: 3 };

    fn normalization() -> Normalization {
        Normalization { mean: vec![0.5, 0.25, 0.125], std: vec![0.5, 0.25, 2.0] }
    }

    fn set(count: usize) -> Dataset {
        let bytes = (0..count * SHAPE.elements()).map(|i| (i * 37 % 251) as u8);
        let labels = vec![0; count];
        Dataset::from_arrays(Pixels::U8(bytes.collect()), SHAPE, labels, ArrayOptions::default()).unwrap()
    }

    fn writer(set: &Dataset, padding: usize, flip: bool) -> Writer {
        let transform = Transform { normalization: normalization(), pad_crop: Some(padding), flip };
        Writer::new(&transform, set).unwrap()
    }

    /// Pad with black, crop, flip, normalise: each step written out, one image after the other.
    fn slow(image: &[f32], padding: usize, at: Placement) -> Vec<f32> {
        let ImageShape { height, width, channels } = SHAPE;
        let padded_width = width + 2 * padding;
        let mut padded = vec![0.0; (height + 2 * padding) * padded_width * channels];
        for y in 0..height {
            let to = ((y + padding) * padded_width + padding) * channels;
            let from = y * width * channels;
            padded[to..to + width * channels].copy_from_slice(&image[from..from + width * channels]);
        }
        let mut out = Vec::new();
        for y in 0..height {
            for x in 0..width {
                let x = if at.flip { width - 1 - x } else { x };
                let row = (y as isize + at.dy + padding as isize) as usize;
                let column = (x as isize + at.dx + padding as isize) as usize;
                for c in 0..channels {
                    let value = padded[(row * padded_width + column) * channels + c];
                    let Normalization { mean, std } = normalization();
                    out.push((value - mean[c]) / std[c]);
                }
            }
        }
        out
    }

    #[test]
    fn every_placement_equals_the_slow_transcription() {
        let set = set(2);
        let writer = writer(&set, 3, true);
        let image = set.pixels(1).unwrap();
        for dy in -3..=3 {
            for dx in -3..=3 {
                for flip in [false, true] {
                    let at = Placement { dy, dx, flip };
                    let mut fast = vec![f32::NAN; SHAPE.elements()];
                    writer.write_pixels(&image.iter().map(|v| v * 255.0).collect::<Vec<f32>>(), at, &mut fast);
                    let far = slow(&image, 3, at).iter().zip(&fast).any(|(a, b)| (a - b).abs() > 1e-6);
                    assert!(!far, "{at:?}");
                }
            }
        }
    }

    #[test]
    fn bytes_are_scaled_by_255_and_written_from_their_image() {
        let set = set(3);
        let mut out = vec![0.0; SHAPE.elements()];
        writer(&set, 0, false).write(&set, 2, 0, 0, &mut out).unwrap();
        let expected = slow(&set.pixels(2).unwrap(), 0, Placement::default());
        assert!(out.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-6));
    }

    #[test]
    fn placements_are_uniform_and_follow_seed_epoch_and_index() {
        let writer = writer(&set(1), 2, true);
        let mut counts = std::collections::HashMap::new();
        for index in 0..20_000 {
            let Placement { dy, dx, flip } = writer.placement(5, 1, index);
            *counts.entry((dy, dx, flip)).or_insert(0i64) += 1;
        }
        // 5 x 5 crops x 2: 400 each, standard deviation 20.
        assert_eq!(counts.len(), 50);
        assert!(counts.values().all(|c| (c - 400).abs() < 100), "{counts:?}");

        let many =
            |seed, epoch, shift: u64| -> Vec<_> { (0..20).map(|i| writer.placement(seed, epoch, i + shift)).collect() };
        assert_eq!(many(5, 1, 0), many(5, 1, 0));
        for other in [many(6, 1, 0), many(5, 2, 0), many(5, 1, 20)] {
            assert_ne!(other, many(5, 1, 0));
        }
    }

    #[test]
    fn without_augmentation_nothing_moves() {
        let writer = writer(&set(1), 0, false);
        assert!((0..50).all(|i| writer.placement(1, i, i) == Placement::default()));
        let set = set(1);
        let too_wide = Transform { pad_crop: Some(4), ..Transform::plain(normalization()) };
        let error = Writer::new(&too_wide, &set).err().unwrap();
        assert_eq!(error.code(), "ERR_FLATMIN_OPTION");
        let grey = Transform::plain(Normalization::identity(1));
        assert_eq!(Writer::new(&grey, &set).err().unwrap().code(), "ERR_FLATMIN_OPTION");
    }
}
