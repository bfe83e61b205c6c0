//! The variants of sharpness-aware minimization: what they follow in the ascent, and what the base optimizer gets. With g the
//! gradient at w, gs the one at w + eps, G what the base optimizer gets.

use serde::{Deserialize, Serialize};

use super::check::{at_least_zero, finite, positive, share};
use crate::error::{Error, Result};

#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum Variant {
    /// G = gs (Foret 2021).
    #[default]
    Sam,
    /// G = gs - alpha (g - (<g, gs> / norm2(gs)^2) gs) (Zhuang 2022, algorithm 1).
    Gsam {
        #[serde(default = "default_gsam_alpha")]
        alpha: f64,
    },
    /// Every `interval` steps G = gs, and gv = gs - (<g, gs> / norm2(g)^2) g is kept; between them, with one pass,
    /// G = g + alpha (norm2(g) / norm2(gv)) gv (Liu 2022, algorithm 1).
    LookSam {
        #[serde(default = "default_looksam_alpha")]
        alpha: f64,
        #[serde(default = "default_looksam_interval")]
        interval: u64,
    },
    /// eps = m rho g / (beta norm2(g)) with m ~ Bernoulli(beta); G from the share gamma of samples whose loss rises most
    /// (Du 2022).
    Esam {
        #[serde(default = "default_esam_beta")]
        beta: f64,
        #[serde(default = "default_esam_gamma")]
        gamma: f64,
        #[serde(default)]
        mask: MaskBy,
    },
    /// G = (1 - c) g + c gs; c is 1 / probability by default (Zhao 2022, G-RST).
    Grst {
        #[serde(default)]
        c: Option<f64>,
    },
    /// Coupled: G = (1 - 2c) / (1 - c) g + c / (1 - c) gs. Decoupled: the base optimizer steps with g, then
    /// w -= lr c / (1 - c) (gs - g) (Yue 2023, section 3).
    Wsam {
        #[serde(default = "default_wsam_c")]
        c: f64,
        #[serde(default)]
        coupled: bool,
    },
    /// eps = rho d / norm2(d) with d = g - sigma m, m <- lambda m + (1 - lambda) g; the first step takes d = m = g
    /// (Li 2024, equations 8 and 9).
    Fsam {
        #[serde(default = "default_fsam_sigma")]
        sigma: f64,
        #[serde(default = "default_fsam_lambda")]
        lambda: f64,
    },
    /// eps = -rho v / norm2(v) with v SGD's momentum: forward along the step, one pass (Becker 2024).
    Msam,
    /// eps = rho T_w u / norm2(u) with u ~ N(0, I), one pass.
    Random,
    /// eps = -lr g (Korpelevich 1976).
    Extragradient,
}

/// What ESAM's mask keeps or drops as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MaskBy {
    /// Each weight, as in the paper.
    #[default]
    Element,
    /// Each parameter tensor, as in its published code.
    Tensor,
}

fn default_gsam_alpha() -> f64 {
    0.4
}

fn default_looksam_alpha() -> f64 {
    0.7
}

fn default_looksam_interval() -> u64 {
    5
}

fn default_esam_beta() -> f64 {
    0.6
}

fn default_esam_gamma() -> f64 {
    0.5
}

fn default_wsam_c() -> f64 {
    0.9
}

fn default_fsam_sigma() -> f64 {
    1.0
}

fn default_fsam_lambda() -> f64 {
    0.9
}

impl Variant {
    pub fn name(&self) -> &'static str {
        match self {
            Self::Sam => "sam",
            Self::Gsam { .. } => "gsam",
            Self::LookSam { .. } => "looksam",
            Self::Esam { .. } => "esam",
            Self::Grst { .. } => "grst",
            Self::Wsam { .. } => "wsam",
            Self::Fsam { .. } => "fsam",
            Self::Msam => "msam",
            Self::Random => "random",
            Self::Extragradient => "extragradient",
        }
    }

    /// False for those that know their perturbation before any gradient: their steps make one pass.
    pub fn follows_gradient(&self) -> bool {
        !matches!(self, Self::Msam | Self::Random)
    }

    /// Whether the gradients at w are needed once more when the step descends.
    pub fn keeps_first(&self) -> bool {
        match self {
            Self::Gsam { .. } | Self::LookSam { .. } | Self::Grst { .. } | Self::Wsam { .. } | Self::Fsam { .. } => {
                true
            }
            Self::Sam | Self::Esam { .. } | Self::Msam | Self::Random | Self::Extragradient => false,
        }
    }

    pub(super) fn validate(&self) -> Result<()> {
        match *self {
            Self::Gsam { alpha } => finite("alpha", alpha).map(drop),
            Self::LookSam { alpha, interval } => {
                finite("alpha", alpha)?;
                positive("interval", interval).map(drop)
            }
            Self::Esam { beta, gamma, .. } => {
                share("beta", beta)?;
                share("gamma", gamma).map(drop)
            }
            Self::Grst { c } => c.map_or(Ok(()), |c| finite("c", c).map(drop)),
            Self::Wsam { c, .. } if !(0.0..1.0).contains(&c) => Err(Error::Option {
                option: "c".into(),
                found: c.to_string(),
                expected: "at least 0 and below 1".into(),
            }),
            Self::Fsam { sigma, lambda } => {
                at_least_zero("sigma", sigma)?;
                if (0.0..=1.0).contains(&lambda) {
                    return Ok(());
                }
                Err(Error::Option {
                    option: "lambda".into(),
                    found: lambda.to_string(),
                    expected: "from 0 to 1".into(),
                })
            }
            Self::Sam | Self::Wsam { .. } | Self::Msam | Self::Random | Self::Extragradient => Ok(()),
        }
    }
}
