//! What an optimizer is made from: the base optimizer's options, its parameter groups and, for the sharpness-aware family,
//! those of the perturbation.

mod base;
mod check;
mod groups;
mod sharpness;
mod variant;

use flatmin_nn::ParameterArena;
use serde::{Deserialize, Serialize};

pub use base::{BaseConfig, Clip, Decay};
pub(crate) use check::{at_least_zero, positive, share};
pub use groups::GroupConfig;
pub use sharpness::{
    Adaptive, BallConfig, BatchNormPolicy, Masks, MetricsFrom, PNorm, Perturb, Reduction, Restore, Scale,
    SharpnessConfig,
};
pub use variant::{MaskBy, Variant};

use crate::error::{Error, Result};
use crate::loss_scale::LossScaleConfig;

/// A base optimizer, bare or inside a sharpness-aware wrapper.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct OptimizerConfig {
    pub base: BaseConfig,
    /// Where weight decay acts.
    #[serde(default)]
    pub decay: Decay,
    /// Clipping of the gradient that the base optimizer gets.
    #[serde(default)]
    pub clip: Option<Clip>,
    /// Scaling of the loss; None scales it for models that compute in float16, by the defaults.
    #[serde(default)]
    pub loss_scale: Option<LossScaleConfig>,
    /// Parameters with hyper-parameters of their own; the others keep those of `base` and `sharpness`.
    #[serde(default)]
    pub groups: Vec<GroupConfig>,
    #[serde(default)]
    pub sharpness: Option<SharpnessConfig>,
}

impl OptimizerConfig {
    /// # Errors
    /// `ERR_FLATMIN_OPTION` names the first option that is out of range.
    pub fn validate(&self) -> Result<()> {
        self.base.validate()?;
        if let Some(clip) = &self.clip {
            clip.validate("clip")?;
        }
        if let Some(loss_scale) = &self.loss_scale {
            loss_scale.validate()?;
        }
        for (index, group) in self.groups.iter().enumerate() {
            group.validate(index, self)?;
        }
        if let Some(sharpness) = &self.sharpness {
            sharpness.validate()?;
            self.validate_pair(sharpness)?;
        }
        Ok(())
    }

    /// What the base optimizer and the wrapper must agree on.
    fn validate_pair(&self, sharpness: &SharpnessConfig) -> Result<()> {
        match (&sharpness.variant, &self.base) {
            (Variant::Msam, BaseConfig::Sgd { momentum, .. }) if *momentum > 0.0 => Ok(()),
            (Variant::Msam, base) => Err(Error::Option {
                option: "variant".into(),
                found: format!("msam around {}", base.name()),
                expected: "SGD with a momentum above 0, along which MSAM perturbs".into(),
            }),
            (Variant::Wsam { coupled: false, .. }, _) if self.decay == Decay::Loss => Err(Error::Option {
                option: "decay".into(),
                found: "loss with decoupled wsam".into(),
                expected: "optimizer or decoupled, or wsam with coupled: true".into(),
            }),
            _ => Ok(()),
        }
    }

    /// The group of each segment, 0 being the parameters that no group names.
    ///
    /// # Errors
    /// `ERR_FLATMIN_OPTION` if a group names no parameter, or two groups the same one.
    pub fn assign_groups(&self, parameters: &ParameterArena) -> Result<Vec<usize>> {
        groups::assign(&self.groups, parameters.segments())
    }
}
