//! Parts of an image that are blanked after normalisation, so with the mean: random erasing and cutout.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::dataset::ImageShape;
use crate::error::{Error, Result};
use crate::random::Stream;
use crate::sample::Sample;

/// Random erasing (Zhong et al. 2020): a rectangle of random area, ratio and place.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct RandomErasing {
    /// Share of the images. Default 0.5.
    pub probability: f64,
    /// Share of the area, drawn uniformly. Default 0.02 to 0.33.
    pub scale: (f64, f64),
    /// Width over height, drawn uniformly in its logarithm. Default 0.3 to 3.3.
    pub ratio: (f64, f64),
}

impl Default for RandomErasing {
    fn default() -> Self {
        Self { probability: 0.5, scale: (0.02, 0.33), ratio: (0.3, 3.3) }
    }
}

/// Attempts to find a rectangle that fits, before the image is left whole.
const ATTEMPTS: usize = 10;

impl RandomErasing {
    pub(crate) fn validate(&self) -> Result<()> {
        let Self { probability, scale: (least, most), ratio: (narrow, wide) } = *self;
        if !(0.0..=1.0).contains(&probability) {
            return Err(Error::option("erasing.probability", probability, "a number from 0 to 1"));
        }
        if !(least >= 0.0 && least <= most && most <= 1.0) {
            let found = format!("{least} to {most}");
            return Err(Error::option("erasing.scale", found, "two shares from 0 to 1, in order"));
        }
        if !(narrow > 0.0 && narrow <= wide && wide.is_finite()) {
            let found = format!("{narrow} to {wide}");
            return Err(Error::option("erasing.ratio", found, "two numbers above 0, in order"));
        }
        Ok(())
    }

    /// Blanks a part of `image`, `[height, width, channels]`, with the mean of each channel.
    pub(crate) fn apply<T: Sample>(&self, image: &mut [T], shape: ImageShape, mean: &[f32], stream: &mut Stream) {
        if !stream.chance(self.probability) {
            return;
        }
        let ImageShape { height, width, .. } = shape;
        for _ in 0..ATTEMPTS {
            let area = (height * width) as f64 * stream.between(self.scale);
            let ratio = stream.between((self.ratio.0.ln(), self.ratio.1.ln())).exp();
            let (h, w) = ((area / ratio).sqrt().round() as usize, (area * ratio).sqrt().round() as usize);
            if h < height && w < width {
                let (top, left) = (stream.below(height - h + 1), stream.below(width - w + 1));
                return blank(image, shape, mean, [top..top + h, left..left + w]);
            }
        }
    }
}

/// Cutout (DeVries and Taylor 2017): a square of `size` about a random pixel, cut off at the border.
pub(crate) fn cutout<T: Sample>(image: &mut [T], shape: ImageShape, size: usize, mean: &[f32], stream: &mut Stream) {
    let mut span = |side: usize| {
        let centre = stream.below(side);
        let start = centre.saturating_sub(size / 2);
        start..(centre + size.div_ceil(2)).min(side)
    };
    let (rows, columns) = (span(shape.height), span(shape.width));
    blank(image, shape, mean, [rows, columns]);
}

fn blank<T: Sample>(image: &mut [T], shape: ImageShape, mean: &[f32], [rows, columns]: [Range<usize>; 2]) {
    let ImageShape { width, channels, .. } = shape;
    for row in image.chunks_exact_mut(width * channels).take(rows.end).skip(rows.start) {
        let values = mean.iter().map(|&mean| T::of(mean)).cycle();
        row[columns.start * channels..columns.end * channels].iter_mut().zip(values).for_each(|(to, mean)| *to = mean);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Purpose;

    const SHAPE: ImageShape = ImageShape { height: 20, width: 30, channels: 3 };

    fn blanked(change: impl Fn(&mut [f32], &mut Stream)) -> Vec<usize> {
        let count = |k: u64| {
            let mut image = vec![1.0; SHAPE.elements()];
            change(&mut image, &mut Stream::new(3, Purpose::Augment, 0, k));
            assert!(image.chunks_exact(3).all(|pixel| pixel == [1.0; 3] || pixel == [0.0; 3]));
            image.iter().filter(|value| **value == 0.0).count() / 3
        };
        (0..2000).map(count).collect()
    }

    #[test]
    fn erasing_takes_half_the_images_and_the_asked_areas() {
        let areas = blanked(|image, stream| RandomErasing::default().apply(image, SHAPE, &[0.0; 3], stream));
        let erased: Vec<_> = areas.iter().filter(|area| **area > 0).collect();
        assert!((900..1100).contains(&erased.len()), "{}", erased.len());
        assert!(erased.iter().all(|area| (8..=220).contains(*area)));
    }

    #[test]
    fn cutout_takes_a_square_or_what_the_border_leaves() {
        let areas = blanked(|image, stream| cutout(image, SHAPE, 8, &[0.0; 3], stream));
        assert_eq!((areas.iter().min(), areas.iter().max()), (Some(&16), Some(&64)));
    }
}
