//! What an optimizer is made from: the base optimizer's options and, for SAM and ASAM, those of the perturbation.

use flatmin_nn::Segment;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// A base optimizer, bare or inside a sharpness-aware wrapper.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct OptimizerConfig {
    pub base: BaseConfig,
    #[serde(default)]
    pub sharpness: Option<SharpnessConfig>,
}

/// Options with PyTorch's names, defaults and meaning.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum BaseConfig {
    Sgd {
        lr: f64,
        #[serde(default)]
        momentum: f64,
        #[serde(default)]
        dampening: f64,
        #[serde(default)]
        weight_decay: f64,
        #[serde(default)]
        nesterov: bool,
    },
    Adam {
        #[serde(default = "default_adam_lr")]
        lr: f64,
        #[serde(default = "default_betas")]
        betas: [f64; 2],
        #[serde(default = "default_adam_eps")]
        eps: f64,
        #[serde(default)]
        weight_decay: f64,
    },
    AdamW {
        #[serde(default = "default_adam_lr")]
        lr: f64,
        #[serde(default = "default_betas")]
        betas: [f64; 2],
        #[serde(default = "default_adam_eps")]
        eps: f64,
        #[serde(default = "default_decoupled_decay")]
        weight_decay: f64,
    },
}

fn default_adam_lr() -> f64 {
    1e-3
}

fn default_betas() -> [f64; 2] {
    [0.9, 0.999]
}

fn default_adam_eps() -> f64 {
    1e-8
}

fn default_decoupled_decay() -> f64 {
    1e-2
}

/// The diagonal T_w in whose metric the ball around w is drawn (Kwon 2021, section 3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scale {
    /// 1 for every parameter: SAM.
    #[default]
    None,
    /// |w| + eta.
    Element,
    /// norm2(filter) + eta on convolution filters, |w| + eta on other adaptive parameters.
    Filter,
}

/// Which parameters T_w rescales; on the others it is 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Adaptive {
    /// Weights of convolutions, linear and normalisation layers, not biases and betas.
    #[default]
    Weights,
    All,
    /// Those with "weight" in their name, as one public implementation has it.
    Names,
}

impl Adaptive {
    pub fn includes(self, segment: &Segment) -> bool {
        match self {
            Self::Weights => segment.kind.is_weight(),
            Self::All => true,
            Self::Names => segment.name.contains("weight"),
        }
    }
}

/// From which pass batch norm takes its running statistics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BatchNormPolicy {
    #[default]
    First,
    Both,
}

/// How the weights come back from w + eps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Restore {
    /// Bit for bit.
    #[default]
    Exact,
    /// As (w + eps) - eps, with its rounding: for parity only.
    Subtract,
}

/// Options of the ascent step: eps = rho T_w^2 g / (norm2(T_w g) + guard).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SharpnessConfig {
    /// Radius of the ball, in the metric of T_w.
    pub rho: f64,
    #[serde(default)]
    pub eta: f64,
    #[serde(default)]
    pub scale: Scale,
    #[serde(default)]
    pub adaptive: Adaptive,
    /// Added to the norm. A zero gradient gives eps = 0 whatever the guard.
    #[serde(default)]
    pub guard: f64,
    #[serde(default)]
    pub batch_norm: BatchNormPolicy,
    #[serde(default)]
    pub restore: Restore,
}

impl OptimizerConfig {
    /// # Errors
    /// `ERR_FLATMIN_OPTION` names the first option that is out of range.
    pub fn validate(&self) -> Result<()> {
        self.base.validate()?;
        self.sharpness.as_ref().map_or(Ok(()), SharpnessConfig::validate)
    }
}

impl BaseConfig {
    pub fn lr(&self) -> f64 {
        match self {
            Self::Sgd { lr, .. } | Self::Adam { lr, .. } | Self::AdamW { lr, .. } => *lr,
        }
    }

    pub fn weight_decay(&self) -> f64 {
        match self {
            Self::Sgd { weight_decay, .. } | Self::Adam { weight_decay, .. } | Self::AdamW { weight_decay, .. } => {
                *weight_decay
            }
        }
    }

    fn validate(&self) -> Result<()> {
        at_least_zero("lr", self.lr())?;
        at_least_zero("weightDecay", self.weight_decay())?;
        match self {
            Self::Sgd { momentum, dampening, nesterov, .. } => {
                at_least_zero("momentum", *momentum)?;
                finite("dampening", *dampening)?;
                if *nesterov && (*momentum == 0.0 || *dampening != 0.0) {
                    return Err(Error::Option {
                        option: "nesterov".into(),
                        found: format!("true with momentum {momentum} and dampening {dampening}"),
                        expected: "a momentum above 0 and dampening 0 with it".into(),
                    });
                }
                Ok(())
            }
            Self::Adam { betas, eps, .. } | Self::AdamW { betas, eps, .. } => {
                at_least_zero("eps", *eps)?;
                match betas.iter().find(|beta| !(0.0..1.0).contains(*beta)) {
                    Some(beta) => Err(Error::Option {
                        option: "betas".into(),
                        found: beta.to_string(),
                        expected: "two numbers, each at least 0 and below 1".into(),
                    }),
                    None => Ok(()),
                }
            }
        }
    }
}

impl SharpnessConfig {
    fn validate(&self) -> Result<()> {
        at_least_zero("rho", self.rho)?;
        at_least_zero("eta", self.eta)?;
        at_least_zero("guard", self.guard)?;
        Ok(())
    }
}

pub(crate) fn finite(option: &str, value: f64) -> Result<f64> {
    if value.is_finite() {
        return Ok(value);
    }
    Err(Error::Option { option: option.into(), found: value.to_string(), expected: "a finite number".into() })
}

pub(crate) fn at_least_zero(option: &str, value: f64) -> Result<f64> {
    if value.is_finite() && value >= 0.0 {
        return Ok(value);
    }
    Err(Error::Option {
        option: option.into(),
        found: value.to_string(),
        expected: "a finite number of at least 0".into(),
    })
}
