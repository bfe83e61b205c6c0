//! Mean and deviation per channel: pixels in `[0, 1]` become `(pixel - mean) / std`.
//! A set recommends its own, measured or published, and a trained model carries the one it saw.

use serde::{Deserialize, Serialize};

use crate::dataset::{ImageShape, Pixels};
use crate::error::{Error, Result};

/// Per-channel normalisation of pixels scaled to `[0, 1]`: `(pixel - mean[c]) / std[c]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Normalization {
    /// One mean a channel.
    pub mean: Vec<f32>,
    /// One standard deviation a channel, each above 0.
    pub std: Vec<f32>,
}

impl Normalization {
    /// Leaves pixels as they are.
    pub fn identity(channels: usize) -> Self {
        Self { mean: vec![0.0; channels], std: vec![1.0; channels] }
    }

    /// ImageNet's, as weights trained on it expect.
    pub fn imagenet() -> Self {
        Self { mean: vec![0.485, 0.456, 0.406], std: vec![0.229, 0.224, 0.225] }
    }

    /// Errors with `ERR_FLATMIN_OPTION` unless there are `channels` finite means and as many finite
    /// deviations above 0.
    pub fn validate(&self, channels: usize) -> Result<()> {
        for (option, values) in [("normalization.mean", &self.mean), ("normalization.std", &self.std)] {
            if values.len() != channels {
                return Err(Error::option(
                    option,
                    format!("{values:?}"),
                    format!("{channels} numbers, one a channel of the images"),
                ));
            }
        }
        if !self.mean.iter().all(|m| m.is_finite()) {
            return Err(Error::option("normalization.mean", format!("{:?}", self.mean), "finite numbers"));
        }
        if !self.std.iter().all(|s| s.is_finite() && *s > 0.0) {
            return Err(Error::option("normalization.std", format!("{:?}", self.std), "finite numbers above 0"));
        }
        Ok(())
    }

    /// Normalises channels-last pixels in place: `[..., channels]`.
    pub fn apply(&self, pixels: &mut [f32]) -> Result<()> {
        let channels = self.mean.len();
        self.validate(channels)?;
        if channels == 0 || !pixels.len().is_multiple_of(channels) {
            return Err(Error::Shape {
                what: "pixels to normalise",
                found: format!("{} values", pixels.len()),
                expected: format!("a multiple of the {channels} channels of the normalisation"),
            });
        }
        let (gain, bias) = self.gain_and_bias(1.0);
        for pixel in pixels.chunks_exact_mut(channels) {
            for ((value, gain), bias) in pixel.iter_mut().zip(&gain).zip(&bias) {
                *value = *value * gain + bias;
            }
        }
        Ok(())
    }

    /// The same map as one multiplication and addition of the stored value, whose `white` is 1.0.
    pub fn gain_and_bias(&self, white: f32) -> (Vec<f32>, Vec<f32>) {
        self.mean
            .iter()
            .zip(&self.std)
            .map(|(&mean, &std)| {
                let (mean, std) = (f64::from(mean), f64::from(std));
                ((1.0 / (f64::from(white) * std)) as f32, (-mean / std) as f32)
            })
            .unzip()
    }

    /// Means and deviations of the pixels themselves; a constant channel gets deviation 1.
    pub(crate) fn measure(pixels: &Pixels, white: f32, shape: ImageShape) -> Self {
        let moments = match pixels {
            Pixels::U8(values) => byte_moments(values, shape.channels, f64::from(white)),
            Pixels::F32(values) => float_moments(values, shape.channels),
        };
        Self {
            mean: moments.iter().map(|m| m.0 as f32).collect(),
            std: moments.iter().map(|m| if m.1 > 0.0 { m.1.sqrt() as f32 } else { 1.0 }).collect(),
        }
    }
}

/// (mean, variance) a channel, from a histogram: exact, and one pass over the bytes.
fn byte_moments(values: &[u8], channels: usize, white: f64) -> Vec<(f64, f64)> {
    let mut histograms = vec![[0u64; 256]; channels];
    for pixel in values.chunks_exact(channels) {
        for (histogram, &value) in histograms.iter_mut().zip(pixel) {
            histogram[usize::from(value)] += 1;
        }
    }
    let count = (values.len() / channels) as f64;
    let moment = |histogram: &[u64; 256], f: &dyn Fn(f64) -> f64| {
        let terms = histogram.iter().enumerate();
        terms.map(|(v, &n)| n as f64 * f(v as f64 / white)).sum::<f64>() / count
    };
    let of_channel = |histogram: &[u64; 256]| {
        let mean = moment(histogram, &|v| v);
        (mean, moment(histogram, &|v| (v - mean).powi(2)))
    };
    histograms.iter().map(of_channel).collect()
}

/// (mean, variance) a channel, in two passes for accuracy.
fn float_moments(values: &[f32], channels: usize) -> Vec<(f64, f64)> {
    let count = (values.len() / channels) as f64;
    let of_channel = |c: usize| {
        let channel = || values.iter().skip(c).step_by(channels).map(|&v| f64::from(v));
        let mean = channel().sum::<f64>() / count;
        let variance = channel().map(|v| (v - mean).powi(2)).sum::<f64>() / count;
        (mean, variance)
    };
    (0..channels).map(of_channel).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: ImageShape = ImageShape { height: 1, width: 2, channels: 2 };

    #[test]
    fn measures_bytes_and_floats_alike_and_survives_a_constant_channel() {
        let bytes = Pixels::U8(vec![0, 51, 255, 51, 255, 51, 255, 51]);
        let floats = Pixels::F32(vec![0.0, 0.2, 1.0, 0.2, 1.0, 0.2, 1.0, 0.2]);
        for pixels in [bytes, floats] {
            let measured = Normalization::measure(&pixels, 255.0, SHAPE);
            assert!((measured.mean[0] - 0.75).abs() < 1e-6);
            assert!((measured.std[0] - 0.75f32.mul_add(-0.75, 0.75).sqrt()).abs() < 1e-6);
            assert!((measured.mean[1] - 0.2).abs() < 1e-6);
            assert_eq!(measured.std[1], 1.0, "{pixels:?}");
        }
    }

    #[test]
    fn apply_is_the_formula() {
        let normalization = Normalization { mean: vec![0.5, 0.25], std: vec![0.5, 0.125] };
        let mut pixels = vec![1.0, 0.5, 0.0, 0.25];
        normalization.apply(&mut pixels).unwrap();
        assert_eq!(pixels, [1.0, 2.0, -1.0, 0.0]);
        let error = normalization.apply(&mut [0.0; 3]).unwrap_err();
        assert_eq!(error.code(), "ERR_FLATMIN_SHAPE");
    }

    #[test]
    fn wrong_normalisations_are_named() {
        let bad = |mean: &[f32], std: &[f32]| {
            let normalization = Normalization { mean: mean.to_vec(), std: std.to_vec() };
            normalization.validate(2).unwrap_err()
        };
        for error in [
            bad(&[0.0], &[1.0, 1.0]),
            bad(&[0.0, 0.0], &[1.0]),
            bad(&[0.0, f32::NAN], &[1.0, 1.0]),
            bad(&[0.0, 0.0], &[1.0, 0.0]),
            bad(&[0.0, 0.0], &[1.0, f32::INFINITY]),
        ] {
            assert_eq!(error.code(), "ERR_FLATMIN_OPTION");
        }
    }
}
