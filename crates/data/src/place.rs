//! Pad, crop, mirror and normalise in one pass from pixels in memory into the batch: the way of small images.

use crate::dataset::ImageShape;
use crate::sample::Sample;

/// Where the crop lies and whether it is mirrored: out(y, x) = image(y + dy, x + dx).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Placement {
    pub(crate) dy: isize,
    pub(crate) dx: isize,
    pub(crate) flip: bool,
}

/// Crops, mirrors and normalises stored pixels: value v of channel c becomes `v * gain[c] + bias[c]`.
pub(crate) struct Placer {
    shape: ImageShape,
    /// One row long (`width * channels`), so that a row is one straight multiply-add.
    gain: Vec<f32>,
    /// Also the value of black padding.
    bias: Vec<f32>,
}

impl Placer {
    /// One gain and bias a channel.
    pub(crate) fn new(shape: ImageShape, gain: &[f32], bias: &[f32]) -> Self {
        Self { shape, gain: gain.repeat(shape.width), bias: bias.repeat(shape.width) }
    }

    /// Writes an image, `[height, width, channels]`.
    pub(crate) fn write<P: Copy + Into<f32>, T: Sample>(&self, image: &[P], at: Placement, out: &mut [T]) {
        let row = self.gain.len();
        for (y, out) in out.chunks_exact_mut(row).enumerate() {
            match y.checked_add_signed(at.dy) {
                Some(y) if y < self.shape.height => {
                    self.write_row(&image[y * row..(y + 1) * row], at, out);
                }
                _ => fill(out, &self.bias),
            }
        }
    }

    /// One row that lies inside the image; its ends may be padding.
    fn write_row<P: Copy + Into<f32>, T: Sample>(&self, image: &[P], at: Placement, out: &mut [T]) {
        let channels = self.shape.channels;
        let shift = at.dx.unsigned_abs() * channels;
        let inside = out.len() - shift;
        let image = match at.dx < 0 {
            true => &image[..inside],
            false => &image[shift..],
        };
        // Padding is on the left when the crop hangs over the left edge, and mirroring swaps sides.
        let start = if (at.dx < 0) != at.flip { shift } else { 0 };
        fill(&mut out[..start], &self.bias);
        fill(&mut out[start + inside..], &self.bias);
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
    fn write_values<P: Copy + Into<f32>, T: Sample>(&self, values: &[P], out: &mut [T]) {
        let scale = self.gain.iter().zip(&self.bias);
        for ((out, &value), (gain, bias)) in out.iter_mut().zip(values).zip(scale) {
            *out = T::of(value.into() * gain + bias);
        }
    }
}

/// Padding that begins with channel 0.
fn fill<T: Sample>(out: &mut [T], bias: &[f32]) {
    out.iter_mut().zip(bias).for_each(|(out, &bias)| *out = T::of(bias));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::normalization::Normalization;

    const SHAPE: ImageShape = ImageShape { height: 5, width: 4, channels: 3 };

    fn normalization() -> Normalization {
        Normalization { mean: vec![0.5, 0.25, 0.125], std: vec![0.5, 0.25, 2.0] }
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
        let (gain, bias) = normalization().gain_and_bias(1.0);
        let placer = Placer::new(SHAPE, &gain, &bias);
        let image: Vec<f32> = (0..SHAPE.elements()).map(|i| (i * 37 % 251) as f32 / 250.0).collect();
        for dy in -3..=3 {
            for dx in -3..=3 {
                for flip in [false, true] {
                    let at = Placement { dy, dx, flip };
                    let mut fast = vec![f32::NAN; SHAPE.elements()];
                    placer.write(&image, at, &mut fast);
                    let far = slow(&image, 3, at).iter().zip(&fast).any(|(a, b)| (a - b).abs() > 1e-6);
                    assert!(!far, "{at:?}");
                }
            }
        }
    }
}
