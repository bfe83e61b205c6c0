//! Options of the perturbation.

use flatmin_nn::{ParamKind, Segment};
use serde::{Deserialize, Serialize};

use super::base::Clip;
use super::check::{at_least_zero, positive, share};
use super::variant::Variant;
use crate::error::{Error, Result};

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

/// Which parameters an ascent moves; its norm is taken over those alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Perturb {
    #[default]
    All,
    /// gamma and beta of the normalisation layers (Mueller 2023, SAM-ON).
    Norms,
}

impl Perturb {
    pub fn includes(self, segment: &Segment) -> bool {
        self == Self::All || matches!(segment.kind, ParamKind::NormWeight | ParamKind::NormBias)
    }
}

/// How the gradients of micro-batches become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reduction {
    /// Weighted by their samples.
    #[default]
    Mean,
    Sum,
}

/// From which pass batch norm takes its running statistics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BatchNormPolicy {
    #[default]
    First,
    Both,
    /// From none, and both passes normalise with the running statistics as they are.
    Frozen,
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

/// p of the ball norm_p(T_w^-1 eps) <= rho.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum PNorm {
    Finite(f64),
    Infinite(Infinity),
}

/// Spelt `"inf"`, which JSON has no number for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Infinity {
    #[serde(rename = "inf")]
    Inf,
}

impl Default for PNorm {
    fn default() -> Self {
        Self::Finite(2.0)
    }
}

/// The ball norm_p(T_w^-1 eps) <= rho but for its radius.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct BallConfig {
    pub scale: Scale,
    pub eta: f64,
    /// With scale `filter`: whether the rows of linear weights count as filters, too.
    pub linear_filters: bool,
    pub adaptive: Adaptive,
    pub perturb: Perturb,
    pub p: PNorm,
}

impl BallConfig {
    /// # Errors
    /// `ERR_FLATMIN_OPTION` for an eta below 0, or a p that is not above 1.
    pub fn validate(&self) -> Result<()> {
        at_least_zero("eta", self.eta)?;
        match self.p {
            PNorm::Finite(p) if !(p > 1.0 && p.is_finite()) => Err(Error::Option {
                option: "p".into(),
                found: p.to_string(),
                expected: "a number above 1, or 'inf'".into(),
            }),
            _ => Ok(()),
        }
    }
}

/// Whether both passes of a step draw the same masks of dropout and the like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Masks {
    #[default]
    Shared,
    Fresh,
}

/// The pass whose loss and accuracy a step reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MetricsFrom {
    /// At w.
    #[default]
    First,
    /// At w + eps.
    Second,
}

/// Options of the ascent step: eps = rho T_w^2 g / (norm2(T_w g) + guard), and when and on what it is made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SharpnessConfig {
    /// Radius of the ball, in the metric of T_w.
    pub rho: f64,
    #[serde(default)]
    pub eta: f64,
    #[serde(default)]
    pub scale: Scale,
    /// With scale `filter`: whether the rows of linear weights count as filters, too.
    #[serde(default)]
    pub linear_filters: bool,
    #[serde(default)]
    pub adaptive: Adaptive,
    #[serde(default)]
    pub perturb: Perturb,
    #[serde(default)]
    pub p: PNorm,
    /// Added to the norm. A zero gradient gives eps = 0 whatever the guard.
    #[serde(default)]
    pub guard: f64,
    #[serde(default)]
    pub batch_norm: BatchNormPolicy,
    #[serde(default)]
    pub masks: Masks,
    #[serde(default)]
    pub metrics: MetricsFrom,
    #[serde(default)]
    pub restore: Restore,
    /// Clipping of the gradient that the ascent follows.
    #[serde(default)]
    pub clip: Option<Clip>,
    /// Ascent steps, each of length rho from where the one before has led.
    #[serde(default = "one")]
    pub inner_steps: u64,
    /// Perturb at every so-manieth step, the first included; the others are plain steps of the base optimizer.
    #[serde(default = "one")]
    pub interval: u64,
    /// Perturb with this probability, else make a plain step (RST).
    #[serde(default = "whole")]
    pub probability: f64,
    /// Share of the batch that the ascent is made on; the second pass takes all of it.
    #[serde(default = "whole")]
    pub ascent_fraction: f64,
    /// m of m-sharpness: one perturbation for each so many samples of the batch.
    #[serde(default)]
    pub micro_batch: Option<u64>,
    #[serde(default)]
    pub micro_batch_reduction: Reduction,
    /// Fixes what the optimizer itself draws (coins, masks, noise).
    #[serde(default)]
    pub seed: u64,
    #[serde(default)]
    pub variant: Variant,
}

fn one() -> u64 {
    1
}

fn whole() -> f64 {
    1.0
}

impl SharpnessConfig {
    pub(crate) fn ball(&self) -> BallConfig {
        let Self { scale, eta, linear_filters, adaptive, perturb, p, .. } = *self;
        BallConfig { scale, eta, linear_filters, adaptive, perturb, p }
    }

    pub(super) fn validate(&self) -> Result<()> {
        at_least_zero("rho", self.rho)?;
        self.ball().validate()?;
        at_least_zero("guard", self.guard)?;
        positive("innerSteps", self.inner_steps)?;
        positive("interval", self.interval)?;
        share("probability", self.probability)?;
        share("ascentFraction", self.ascent_fraction)?;
        if let Some(size) = self.micro_batch {
            positive("microBatch", size)?;
        }
        if let Some(clip) = &self.clip {
            clip.validate("ascentClip")?;
        }
        self.variant.validate()?;
        self.validate_combination()
    }

    /// What cannot go together.
    fn validate_combination(&self) -> Result<()> {
        let plain = self.variant == Variant::Sam;
        let refuse = |option: &str, found: String, expected: &str| {
            Err(Error::Option { option: option.into(), found, expected: expected.into() })
        };
        let name = self.variant.name();
        if self.micro_batch.is_some() {
            if !plain {
                return refuse(
                    "microBatch",
                    format!("with variant {name}"),
                    "variant sam: one perturbation a micro-batch",
                );
            }
            if self.ascent_fraction != 1.0 || self.inner_steps != 1 {
                return refuse("microBatch", "with ascentFraction or innerSteps".into(), "one of them at a time");
            }
        }
        if self.inner_steps > 1 && !plain {
            return refuse("innerSteps", format!("{} with variant {name}", self.inner_steps), "1, or variant sam");
        }
        if self.inner_steps > 1 && self.restore == Restore::Subtract {
            return refuse("restore", "subtract with several innerSteps".into(), "exact");
        }
        if !self.variant.follows_gradient() && (self.ascent_fraction != 1.0 || self.p != PNorm::default()) {
            return refuse(
                "variant",
                format!("{name} with ascentFraction or p"),
                "a variant whose ascent follows a gradient",
            );
        }
        if matches!(self.variant, Variant::Esam { gamma, .. } if gamma < 1.0) && self.ascent_fraction != 1.0 {
            return refuse("ascentFraction", "with variant esam, which compares losses of the whole batch".into(), "1");
        }
        Ok(())
    }
}
