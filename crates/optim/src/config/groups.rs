//! Parameter groups: which parameters they name, and the hyper-parameters that they have of their own.

use flatmin_nn::{ParamKind, Segment};
use serde::{Deserialize, Serialize};
use wildmatch::WildMatch;

use super::OptimizerConfig;
use super::check::at_least_zero;
use crate::error::{Error, Result};

/// Parameters named by patterns or kinds, with PyTorch's meaning of a group: what is not given is the optimizer's.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GroupConfig {
    /// Names, in which `*` stands for any characters and `?` for one.
    #[serde(default)]
    pub parameters: Vec<String>,
    #[serde(default)]
    pub kinds: Vec<ParamKind>,
    #[serde(default)]
    pub lr: Option<f64>,
    #[serde(default)]
    pub weight_decay: Option<f64>,
    #[serde(default)]
    pub momentum: Option<f64>,
    #[serde(default)]
    pub rho: Option<f64>,
    /// False keeps the group at w in every pass and out of the norm of the perturbation.
    #[serde(default)]
    pub perturb: Option<bool>,
}

impl GroupConfig {
    fn includes(&self, segment: &Segment) -> bool {
        self.kinds.contains(&segment.kind)
            || self.parameters.iter().any(|pattern| WildMatch::new(pattern).matches(&segment.name))
    }

    pub(super) fn validate(&self, index: usize, config: &OptimizerConfig) -> Result<()> {
        let option = |name: &str| format!("groups[{index}].{name}");
        let values =
            [("lr", self.lr), ("weightDecay", self.weight_decay), ("momentum", self.momentum), ("rho", self.rho)];
        for (name, value) in values {
            value.map_or(Ok(0.0), |value| at_least_zero(&option(name), value))?;
        }
        let stranger = |name: &str, expected: &str| {
            Err(Error::Option { option: option(name), found: "a value".into(), expected: expected.into() })
        };
        if self.momentum.is_some() && !matches!(config.base, super::BaseConfig::Sgd { .. }) {
            return stranger("momentum", "none: only SGD has a momentum");
        }
        if config.sharpness.is_none() && self.rho.is_some() {
            return stranger("rho", "none: only SAM and its family have a radius");
        }
        if config.sharpness.is_none() && self.perturb.is_some() {
            return stranger("perturb", "none: only SAM and its family perturb");
        }
        Ok(())
    }
}

/// The index of each segment's group, counted from 1; 0 if no group names it.
pub(super) fn assign(groups: &[GroupConfig], segments: &[Segment]) -> Result<Vec<usize>> {
    let mut assigned = vec![0; segments.len()];
    for (index, group) in groups.iter().enumerate() {
        let mut found = false;
        for (segment, place) in segments.iter().zip(&mut assigned) {
            if !group.includes(segment) {
                continue;
            }
            if *place != 0 {
                return Err(Error::Option {
                    option: format!("groups[{index}]"),
                    found: format!("parameter '{}', which groups[{}] names as well", segment.name, *place - 1),
                    expected: "each parameter in one group at most".into(),
                });
            }
            (*place, found) = (index + 1, true);
        }
        if !found {
            let names: Vec<&str> = segments.iter().take(6).map(|segment| segment.name.as_str()).collect();
            return Err(Error::Option {
                option: format!("groups[{index}]"),
                found: format!("patterns {:?} and kinds {:?} that fit no parameter", group.parameters, group.kinds),
                expected: format!("names such as {}", names.join(", ")),
            });
        }
    }
    Ok(assigned)
}
