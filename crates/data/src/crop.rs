//! Which part of an image is shown: the centre for evaluation, a random part for training.

use serde::{Deserialize, Serialize};

use crate::encoded::Frame;
use crate::error::{Error, Result};
use crate::random::Stream;
use crate::resample::Span;

/// How a random part is drawn (Szegedy et al. 2015, section 6), as torchvision's RandomResizedCrop does.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ResizedCrop {
    /// Share of the image's area, drawn uniformly. Default 0.08 to 1.
    pub scale: (f64, f64),
    /// Width over height, drawn uniformly in its logarithm. Default 3/4 to 4/3.
    pub ratio: (f64, f64),
}

impl Default for ResizedCrop {
    fn default() -> Self {
        Self { scale: (0.08, 1.0), ratio: (3.0 / 4.0, 4.0 / 3.0) }
    }
}

/// Attempts to find a part that fits, before the centre is taken.
const ATTEMPTS: usize = 10;

impl ResizedCrop {
    pub(crate) fn validate(&self) -> Result<()> {
        let Self { scale: (least, most), ratio: (narrow, wide) } = *self;
        if !(least > 0.0 && least <= most && most <= 1.0) {
            return Err(Error::option(
                "scale",
                format!("{least} to {most}"),
                "two shares above 0, at most 1, in order",
            ));
        }
        if !(narrow > 0.0 && narrow <= wide && wide.is_finite()) {
            return Err(Error::option("ratio", format!("{narrow} to {wide}"), "two numbers above 0, in order"));
        }
        Ok(())
    }

    /// Draws area and ratio, and row and column of what fits, at most ten times.
    pub(crate) fn draw(&self, height: usize, width: usize, stream: &mut Stream) -> (Span, Span) {
        let area = (height * width) as f64;
        let log_ratio = (self.ratio.0.ln(), self.ratio.1.ln());
        for _ in 0..ATTEMPTS {
            let target = area * stream.between(self.scale);
            let ratio = stream.between(log_ratio).exp();
            let (w, h) = ((target * ratio).sqrt().round() as usize, (target / ratio).sqrt().round() as usize);
            if (1..=width).contains(&w) && (1..=height).contains(&h) {
                let top = stream.below(height - h + 1);
                let left = stream.below(width - w + 1);
                return (Span::whole(top, h), Span::whole(left, w));
            }
        }
        let ratio = width as f64 / height as f64;
        let (mut h, mut w) = (height, width);
        if ratio < self.ratio.0 {
            h = ((width as f64 / self.ratio.0).round() as usize).clamp(1, height);
        } else if ratio > self.ratio.1 {
            w = ((height as f64 * self.ratio.1).round() as usize).clamp(1, width);
        }
        (Span::whole((height - h) / 2, h), Span::whole((width - w) / 2, w))
    }
}

/// The centre of `frame` in an image scaled so that its shorter side is `frame.resize` long: torchvision's Resize and
/// CenterCrop in one step. Nothing is shown that the image does not have: where the longer side rounds to less than the frame, the
/// centre is stretched.
pub(crate) fn centre(frame: Frame, height: usize, width: usize) -> (Span, Span) {
    let short = height.min(width);
    let scaled = |side: usize| (side * frame.resize / short).max(frame.resize);
    let span = |side: usize, shown: usize| {
        let scaled = scaled(side);
        // Python rounds halves to the even number.
        let offset = ((scaled - shown) as f64 / 2.0).round_ties_even();
        let step = side as f64 / scaled as f64;
        Span { start: offset * step, length: shown as f64 * step, low: 0, high: side }
    };
    (span(height, frame.height), span(width, frame.width))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Purpose;

    fn draws(height: usize, width: usize, count: u64) -> Vec<(Span, Span)> {
        let crop = ResizedCrop::default();
        (0..count).map(|k| crop.draw(height, width, &mut Stream::new(1, Purpose::Augment, 0, k))).collect()
    }

    #[test]
    fn parts_lie_inside_and_have_the_asked_areas_and_ratios() {
        let (height, width) = (375, 500);
        let mut area = 0.0;
        for (v, h) in draws(height, width, 4000) {
            assert!(v.high <= height && h.high <= width && v.length >= 1.0 && h.length >= 1.0);
            let share = v.length * h.length / (height * width) as f64;
            let ratio = h.length / v.length;
            assert!((0.079..=1.0).contains(&share) && (0.74..1.35).contains(&ratio), "{share} {ratio}");
            area += share / 4000.0;
        }
        // Uniform from 0.08 to 1 would give 0.54; large parts fit more rarely. torchvision's mean is 0.435.
        assert!((0.42..0.45).contains(&area), "{area}");
    }

    #[test]
    fn an_image_too_long_for_any_part_shows_its_centre() {
        for (v, h) in draws(10, 1000, 20) {
            assert!(v.high <= 10 && h.high <= 1000 && h.length / v.length < 1.5);
        }
        let (v, h) = draws(1, 1, 1)[0];
        assert_eq!((v.length, h.length), (1.0, 1.0));
    }

    #[test]
    fn the_centre_is_torchvisions() {
        // Resize(256) of 500 x 375 gives 341 x 256; CenterCrop(224) starts at column 58 (58.5 to even), row 16.
        let (v, h) = centre(Frame::square(224), 375, 500);
        assert_eq!(v.start, 16.0 * 375.0 / 256.0);
        assert_eq!(h.start, 58.0 * 500.0 / 341.0);
        assert_eq!(h.length, 224.0 * 500.0 / 341.0);
    }
}
