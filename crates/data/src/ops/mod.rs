//! The operations of the augmentation policies, on 8-bit pictures, as Pillow computes them.
//! Geometric ones take the nearest pixel and leave black where there is none; torchvision's defaults.

mod blend;
mod geometry;
mod hue;
mod tone;

use crate::canvas::Canvas;

/// One change of a picture.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Op {
    Identity,
    /// Moves row y by this many pixels for each row, to the left.
    ShearX(f64),
    ShearY(f64),
    /// In pixels, to the right.
    TranslateX(i64),
    TranslateY(i64),
    /// In degrees, counter-clockwise, about the centre.
    Rotate(f64),
    /// 0 is black, 1 leaves the picture.
    Brightness(f32),
    /// 0 is grey, 1 leaves the picture.
    Color(f32),
    /// 0 is the mean grey everywhere, 1 leaves the picture.
    Contrast(f32),
    /// 0 is smoothed, 1 leaves the picture.
    Sharpness(f32),
    /// Shift of the hue, in turns, -0.5 to 0.5.
    Hue(f64),
    /// Bits that each value keeps, from the highest.
    Posterize(u32),
    /// Inverts values from this one on.
    Solarize(f64),
    /// Stretches each channel to 0..=255.
    AutoContrast,
    /// Makes the histogram of each channel flat.
    Equalize,
    Invert,
}

impl Op {
    /// Changes `canvas`; `spare` is memory.
    pub(crate) fn apply(self, canvas: &mut Canvas, spare: &mut Canvas) {
        match self {
            Self::Identity => {}
            Self::ShearX(by) => geometry::affine(canvas, spare, [1.0, by, 0.0, 0.0, 1.0, 0.0]),
            Self::ShearY(by) => geometry::affine(canvas, spare, [1.0, 0.0, 0.0, by, 1.0, 0.0]),
            Self::TranslateX(by) => geometry::affine(canvas, spare, [1.0, 0.0, -by as f64, 0.0, 1.0, 0.0]),
            Self::TranslateY(by) => geometry::affine(canvas, spare, [1.0, 0.0, 0.0, 0.0, 1.0, -by as f64]),
            Self::Rotate(degrees) => geometry::rotate(canvas, spare, degrees),
            Self::Brightness(factor) => blend::brightness(canvas, factor),
            Self::Color(factor) => blend::color(canvas, factor),
            Self::Contrast(factor) => blend::contrast(canvas, factor),
            Self::Sharpness(factor) => blend::sharpness(canvas, spare, factor),
            Self::Hue(turns) => hue::shift(canvas, turns),
            Self::Posterize(bits) => tone::posterize(canvas, bits),
            Self::Solarize(threshold) => tone::solarize(canvas, threshold),
            Self::AutoContrast => tone::auto_contrast(canvas),
            Self::Equalize => tone::equalize(canvas),
            Self::Invert => tone::invert(canvas),
        }
    }
}

#[cfg(test)]
mod tests {
    use base64::prelude::{BASE64_STANDARD, Engine};
    use serde_json::Value;

    use super::*;

    const HEIGHT: usize = 13;
    const WIDTH: usize = 18;

    /// The picture of the goldens' formula.
    fn picture() -> Canvas {
        let mut canvas = Canvas::default();
        canvas.reset(HEIGHT, WIDTH, 3);
        for (c, plane) in canvas.planes.iter_mut().enumerate() {
            for (at, value) in plane.iter_mut().enumerate() {
                let (y, x) = (at / WIDTH, at % WIDTH);
                let wave = (y * 16 + x * (5 + 3 * c) + (x * y * (c + 1)) % 23 * 4) % 256;
                *value = (wave * (200 - 30 * c) / 255 + 20) as u8;
            }
        }
        canvas
    }

    fn op(name: &str, value: f64) -> Op {
        let factor = (1.0 + value) as f32;
        match name {
            "ShearX" => Op::ShearX(value),
            "ShearY" => Op::ShearY(value),
            "TranslateX" => Op::TranslateX(value as i64),
            "TranslateY" => Op::TranslateY(value as i64),
            "Rotate" => Op::Rotate(value),
            "Brightness" => Op::Brightness(factor),
            "Color" => Op::Color(factor),
            "Contrast" => Op::Contrast(factor),
            "Sharpness" => Op::Sharpness(factor),
            "Posterize" => Op::Posterize(value as u32),
            "Solarize" => Op::Solarize(value),
            "AutoContrast" => Op::AutoContrast,
            "Equalize" => Op::Equalize,
            "Invert" => Op::Invert,
            "Hue" => Op::Hue(value),
            other => panic!("no operation {other}"),
        }
    }

    #[test]
    fn operations_are_pillows_within_1_of_255() {
        let goldens: Value = serde_json::from_str(include_str!("../../tests/goldens/augment.json")).unwrap();
        let cases = goldens["operations"].as_array().unwrap();
        assert!(cases.len() > 20);
        for case in cases {
            let (name, value) = (case["op"].as_str().unwrap(), case["value"].as_f64().unwrap());
            let expected = BASE64_STANDARD.decode(case["pixels"].as_str().unwrap()).unwrap();
            let mut canvas = picture();
            op(name, value).apply(&mut canvas, &mut Canvas::default());
            let pixels = (0..HEIGHT * WIDTH * 3).map(|at| canvas.planes[at % 3][at / 3]);
            let far = pixels.zip(&expected).filter(|(a, b)| a.abs_diff(**b) > 1).count();
            assert_eq!(far, 0, "{name} {value}: values that differ by more than 1");
        }
    }

    #[test]
    fn operations_that_should_change_nothing_do_not() {
        for op in
            [Op::Identity, Op::Rotate(0.0), Op::Brightness(1.0), Op::Sharpness(1.0), Op::Posterize(8), Op::ShearX(0.0)]
        {
            let mut canvas = picture();
            op.apply(&mut canvas, &mut Canvas::default());
            assert_eq!(canvas, picture(), "{op:?}");
        }
    }

    #[test]
    fn pictures_of_one_pixel_and_of_one_channel_survive_everything() {
        for (height, width, channels) in [(1, 1, 3), (1, 1, 1), (2, 9, 1)] {
            for name in
                ["ShearX", "TranslateY", "Rotate", "Sharpness", "Equalize", "AutoContrast", "Color", "Contrast", "Hue"]
            {
                let mut canvas = Canvas::default();
                canvas.reset(height, width, channels);
                op(name, 0.3).apply(&mut canvas, &mut Canvas::default());
                assert_eq!(canvas.planes.len(), channels);
                assert!(canvas.planes.iter().all(|plane| plane.len() == height * width));
            }
        }
    }
}
