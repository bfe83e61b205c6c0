//! Parameter groups: hyper-parameters that can be read and changed while training goes on.

use serde::Serialize;

use crate::config::{BaseConfig, GroupConfig, OptimizerConfig, at_least_zero};
use crate::error::{Error, Result};

/// The current hyper-parameters of one group. `lr` is the user's value; a schedule multiplies it.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Group {
    pub lr: f64,
    pub weight_decay: f64,
    /// None unless the base optimizer is SGD.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub momentum: Option<f64>,
    /// None unless a sharpness-aware wrapper is there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rho: Option<f64>,
}

/// What a schedule multiplies the groups' own values by at a step.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Factors {
    pub lr: f64,
    pub rho: f64,
    /// Of SGD's momentum or Adam's beta1.
    pub momentum: f64,
}

impl Default for Factors {
    fn default() -> Self {
        Self { lr: 1.0, rho: 1.0, momentum: 1.0 }
    }
}

impl Group {
    pub fn new(config: &OptimizerConfig) -> Self {
        Self {
            lr: config.base.lr(),
            weight_decay: config.base.weight_decay(),
            momentum: match config.base {
                BaseConfig::Sgd { momentum, .. } => Some(momentum),
                BaseConfig::Adam { .. } | BaseConfig::AdamW { .. } => None,
            },
            rho: config.sharpness.as_ref().map(|sharpness| sharpness.rho),
        }
    }

    /// This group with the hyper-parameters that a named one has of its own.
    pub fn with(&self, own: &GroupConfig) -> Self {
        Self {
            lr: own.lr.unwrap_or(self.lr),
            weight_decay: own.weight_decay.unwrap_or(self.weight_decay),
            momentum: own.momentum.or(self.momentum),
            rho: own.rho.or(self.rho),
        }
    }

    /// Sets a hyper-parameter by its name in the options.
    ///
    /// # Errors
    /// `ERR_FLATMIN_OPTION` for a name this optimizer does not have, or a value out of range.
    pub fn set(&mut self, key: &str, value: f64) -> Result<()> {
        let slot = match key {
            "lr" => &mut self.lr,
            "weightDecay" => &mut self.weight_decay,
            "momentum" if self.momentum.is_some() => self.momentum.get_or_insert_default(),
            "rho" if self.rho.is_some() => self.rho.get_or_insert_default(),
            _ => {
                return Err(Error::Option {
                    option: "hyper-parameter".into(),
                    found: format!("'{key}'"),
                    expected: "lr, weightDecay, momentum (SGD) or rho (SAM, ASAM)".into(),
                });
            }
        };
        *slot = at_least_zero(key, value)?;
        Ok(())
    }
}
