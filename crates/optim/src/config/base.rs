//! Options of the base optimizers.

use serde::{Deserialize, Serialize};

use super::check::{at_least_zero, finite};
use crate::error::{Error, Result};

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

/// Where weight decay acts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Decay {
    /// In the base optimizer, as PyTorch has it: `wd w` joins its gradient at w (SGD, Adam), or w shrinks apart (AdamW).
    #[default]
    Optimizer,
    /// As the penalty `wd / 2 norm2(w)^2` of the objective: its gradient takes part in the ascent, and at w + eps in the
    /// descent. Reported losses leave the penalty out.
    Loss,
    /// `w -= lr wd w`, apart from gradient and momentum, for any base optimizer.
    Decoupled,
}

/// Clipping by the norm over all parameters: g is multiplied by min(1, norm / (norm2(g) + guard)).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Clip {
    pub norm: f64,
    /// Default 1e-6, as in `torch.nn.utils.clip_grad_norm_`.
    #[serde(default = "default_clip_guard")]
    pub guard: f64,
}

fn default_clip_guard() -> f64 {
    1e-6
}

impl Clip {
    /// What a gradient of this norm is multiplied by.
    pub fn factor(&self, norm: f64) -> f64 {
        let length = norm + self.guard;
        if length > self.norm { self.norm / length } else { 1.0 }
    }

    pub(super) fn validate(&self, option: &str) -> Result<()> {
        at_least_zero(&format!("{option}.guard"), self.guard)?;
        if self.norm.is_finite() && self.norm > 0.0 {
            return Ok(());
        }
        Err(Error::Option {
            option: format!("{option}.norm"),
            found: self.norm.to_string(),
            expected: "a finite number above 0".into(),
        })
    }
}

impl BaseConfig {
    pub fn name(&self) -> &'static str {
        match self {
            Self::Sgd { .. } => "SGD",
            Self::Adam { .. } => "Adam",
            Self::AdamW { .. } => "AdamW",
        }
    }

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

    pub(super) fn validate(&self) -> Result<()> {
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
