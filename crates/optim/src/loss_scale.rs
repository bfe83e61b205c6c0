//! Dynamic loss scaling (Micikevicius 2018, section 3.2) for models that compute in float16: their gradients would vanish
//! below its smallest number, so the loss is multiplied by a scale, and the gradients divided by it where they are read.
//!
//! The scale follows the rule of PyTorch's `GradScaler`: a gradient that is not finite lowers it and costs the step, many good
//! steps in a row raise it. The perturbation of the sharpness-aware family depends on the gradient's direction alone, so
//! no scale changes it.

use serde::{Deserialize, Serialize};

use crate::config::{positive, share};
use crate::error::{Error, Result};

/// How the scale starts and moves; the defaults are `GradScaler`'s.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct LossScaleConfig {
    /// Default 65536.
    pub initial: f64,
    /// Multiplies the scale after `growth_interval` good steps in a row. Default 2; 1 keeps it.
    pub growth_factor: f64,
    /// Multiplies the scale after a step whose gradient was not finite. Default 0.5.
    pub backoff_factor: f64,
    /// Default 2000.
    pub growth_interval: u64,
}

impl Default for LossScaleConfig {
    fn default() -> Self {
        Self { initial: 65_536.0, growth_factor: 2.0, backoff_factor: 0.5, growth_interval: 2000 }
    }
}

impl LossScaleConfig {
    pub(crate) fn validate(&self) -> Result<()> {
        let refuse = |option: &str, found: f64, expected: &str| {
            Err(Error::Option {
                option: format!("lossScale.{option}"),
                found: found.to_string(),
                expected: expected.into(),
            })
        };
        if !(self.initial > 0.0 && self.initial <= f64::from(f32::MAX)) {
            return refuse("initial", self.initial, "a finite number above 0");
        }
        if !(self.growth_factor >= 1.0 && self.growth_factor.is_finite()) {
            return refuse("growthFactor", self.growth_factor, "a finite number of at least 1");
        }
        share("lossScale.backoffFactor", self.backoff_factor)?;
        positive("lossScale.growthInterval", self.growth_interval).map(drop)
    }
}

/// Where the scale stands, for a checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LossScaleState {
    pub scale: f64,
    /// Good steps since the scale last moved.
    pub good_steps: u64,
}

/// The scale of a run.
#[derive(Debug, Clone)]
pub(crate) struct LossScale {
    config: LossScaleConfig,
    pub state: LossScaleState,
}

impl LossScale {
    pub fn new(config: LossScaleConfig) -> Self {
        Self { config, state: LossScaleState { scale: single(config.initial), good_steps: 0 } }
    }

    /// After a step that was made.
    pub fn grow(&mut self) {
        let LossScaleState { scale, good_steps } = &mut self.state;
        *good_steps += 1;
        if *good_steps == self.config.growth_interval {
            let grown = single(*scale * self.config.growth_factor);
            if grown.is_finite() {
                *scale = grown;
            }
            *good_steps = 0;
        }
    }

    /// After a step that was skipped.
    pub fn back_off(&mut self) {
        self.state = LossScaleState { scale: single(self.state.scale * self.config.backoff_factor), good_steps: 0 };
    }
}

/// PyTorch keeps the scale in float32.
fn single(scale: f64) -> f64 {
    f64::from(scale as f32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    /// `__test__/goldens/make_loss_scale.py` tells how the values came about.
    #[test]
    fn the_scale_moves_as_grad_scalers_does() {
        let text = include_str!("../../../__test__/goldens/loss-scale.json");
        let cases: Vec<Value> = serde_json::from_str(text).unwrap();
        assert!(!cases.is_empty());
        for case in cases {
            let config: LossScaleConfig = serde_json::from_value(case["options"].clone()).unwrap();
            config.validate().unwrap();
            let mut scale = LossScale::new(config);
            let infinite: Vec<u64> = serde_json::from_value(case["infinite"].clone()).unwrap();
            let expected: Vec<f64> = serde_json::from_value(case["scales"].clone()).unwrap();
            for (step, expected) in expected.into_iter().enumerate() {
                assert_eq!(scale.state.scale, expected, "{config:?} at step {step}");
                if infinite.contains(&(step as u64)) { scale.back_off() } else { scale.grow() }
            }
        }
    }

    #[test]
    fn what_is_out_of_range_is_refused() {
        let good = LossScaleConfig::default();
        for (bad, name) in [
            (LossScaleConfig { initial: 0.0, ..good }, "initial"),
            (LossScaleConfig { initial: 1e39, ..good }, "initial"),
            (LossScaleConfig { growth_factor: 0.5, ..good }, "growthFactor"),
            (LossScaleConfig { backoff_factor: 2.0, ..good }, "backoffFactor"),
            (LossScaleConfig { backoff_factor: f64::NAN, ..good }, "backoffFactor"),
            (LossScaleConfig { growth_interval: 0, ..good }, "growthInterval"),
        ] {
            let error = bad.validate().unwrap_err();
            assert_eq!(error.code(), "ERR_FLATMIN_OPTION");
            assert!(error.to_string().contains(&format!("lossScale.{name}")), "{error}");
        }
    }
}
