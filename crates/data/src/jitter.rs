//! Random brightness, contrast, saturation and hue, in random order (Krizhevsky et al. 2012 and after), as torchvision's ColorJitter.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::ops::Op;
use crate::random::Stream;

/// How much colours vary: factors are drawn from `1 - x` (0 at least) to `1 + x`, the hue from `-hue` to `hue` turns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ColorJitter {
    pub brightness: f64,
    pub contrast: f64,
    pub saturation: f64,
    /// At most 0.5.
    pub hue: f64,
}

impl ColorJitter {
    pub(crate) fn validate(&self) -> Result<()> {
        let factors = [
            ("colorJitter.brightness", self.brightness),
            ("colorJitter.contrast", self.contrast),
            ("colorJitter.saturation", self.saturation),
        ];
        for (option, value) in factors {
            if !(value >= 0.0 && value.is_finite()) {
                return Err(Error::option(option, value, "a number, 0 or more"));
            }
        }
        if !(0.0..=0.5).contains(&self.hue) {
            return Err(Error::option("colorJitter.hue", self.hue, "a number from 0 to 0.5"));
        }
        Ok(())
    }

    /// The operations for one image, those that do something.
    pub(crate) fn draw(&self, stream: &mut Stream) -> Vec<Op> {
        let mut factor = |by: f64| stream.between(((1.0 - by).max(0.0), 1.0 + by)) as f32;
        let ops = [
            (self.brightness, Op::Brightness(factor(self.brightness))),
            (self.contrast, Op::Contrast(factor(self.contrast))),
            (self.saturation, Op::Color(factor(self.saturation))),
            (self.hue, Op::Hue(stream.between((-self.hue, self.hue)))),
        ];
        let order = stream.permutation(ops.len());
        order.into_iter().map(|k| ops[k as usize]).filter(|(by, _)| *by > 0.0).map(|(_, op)| op).collect()
    }
}
