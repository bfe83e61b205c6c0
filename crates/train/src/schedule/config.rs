//! The options of a schedule and their ranges.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::schedule::one_cycle::OneCycle;
use crate::schedule::plateau::Plateau;

/// How often a schedule moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Clock {
    #[default]
    Step,
    /// At the first step of an epoch, as a PyTorch loop does that calls `scheduler.step()` once an epoch.
    Epoch,
}

/// The options of a schedule. All times are in epochs and may be fractions.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ScheduleConfig {
    #[serde(flatten)]
    pub shape: Shape,
    /// Default: at every step.
    #[serde(default)]
    pub by: Clock,
    /// A linear rise over so many epochs to where the schedule begins. Default 0.
    #[serde(default)]
    pub warmup_epochs: f64,
    /// The rise's first factor, as `LinearLR`'s `start_factor`. Default: one n-th in a warm-up of n steps, n n-ths in its
    /// last.
    #[serde(default)]
    pub warmup_start: Option<f64>,
}

/// The course of the factor after the warm-up. `epochs` is the time it takes; by default the rest of the run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "camelCase", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum Shape {
    Constant {},
    /// Half a cosine from 1 to `min_factor` (default 0).
    Cosine {
        #[serde(default)]
        min_factor: f64,
        #[serde(default)]
        epochs: Option<f64>,
    },
    /// Multiplied by `gamma` (default 0.1) every `step_size` epochs after the warm-up; without one, at `milestones`.
    Step {
        #[serde(default)]
        step_size: Option<f64>,
        #[serde(default)]
        milestones: Vec<f64>,
        #[serde(default = "tenth")]
        gamma: f64,
    },
    /// Multiplied by `gamma` (default 0.1) at each of `milestones`, counted from the start of the run. Default: at half
    /// and three quarters of the run.
    MultiStep {
        #[serde(default)]
        milestones: Vec<f64>,
        #[serde(default = "tenth")]
        gamma: f64,
    },
    /// Multiplied by `gamma` (default 0.95) with every epoch.
    Exponential {
        #[serde(default = "slow_decay")]
        gamma: f64,
    },
    /// A straight line from `start_factor` (default 1) to `end_factor` (default 0).
    Linear {
        #[serde(default = "one")]
        start_factor: f64,
        #[serde(default)]
        end_factor: f64,
        #[serde(default)]
        epochs: Option<f64>,
    },
    /// `(1 - progress)^power`; `power` 1 by default.
    Polynomial {
        #[serde(default = "one")]
        power: f64,
        #[serde(default)]
        epochs: Option<f64>,
    },
    OneCycle(OneCycle),
    Plateau(Plateau),
    /// Of rho only: `min` (default 0) where the learning rate is lowest, rho itself where it is highest, and linear in the
    /// learning rate between.
    Lr {
        #[serde(default)]
        min: f64,
    },
}

impl Default for Shape {
    fn default() -> Self {
        Self::Constant {}
    }
}

fn one() -> f64 {
    1.0
}

fn tenth() -> f64 {
    0.1
}

fn slow_decay() -> f64 {
    0.95
}

impl ScheduleConfig {
    /// The schedule of a shape without a warm-up.
    pub fn new(shape: Shape) -> Self {
        Self { shape, ..Self::default() }
    }

    /// `option` is where the schedule stands in the options of a run.
    ///
    /// # Errors
    /// `ERR_FLATMIN_OPTION` for a value out of range.
    pub fn validate(&self, option: &str) -> Result<()> {
        let check = Check { option };
        check.at_least_zero("warmupEpochs", self.warmup_epochs)?;
        check.fraction("warmupStart", self.warmup_start.unwrap_or(1.0))?;
        match &self.shape {
            Shape::Constant {} => Ok(()),
            Shape::Cosine { min_factor, epochs } => {
                check.fraction("minFactor", *min_factor)?;
                check.duration("epochs", *epochs)
            }
            Shape::Step { step_size, milestones, gamma } => {
                if step_size.is_some() && !milestones.is_empty() {
                    return Err(check.error("milestones", format!("{milestones:?}"), "none beside a stepSize"));
                }
                check.duration("stepSize", *step_size)?;
                check.milestones(milestones)?;
                check.above_zero("gamma", *gamma)
            }
            Shape::MultiStep { milestones, gamma } => {
                check.milestones(milestones)?;
                check.above_zero("gamma", *gamma)
            }
            Shape::Exponential { gamma } => check.above_zero("gamma", *gamma),
            Shape::Linear { start_factor, end_factor, epochs } => {
                check.fraction("startFactor", *start_factor)?;
                check.fraction("endFactor", *end_factor)?;
                check.duration("epochs", *epochs)
            }
            Shape::Polynomial { power, epochs } => {
                check.above_zero("power", *power)?;
                check.duration("epochs", *epochs)
            }
            Shape::OneCycle(cycle) => cycle.validate(&check),
            Shape::Plateau(plateau) => plateau.validate(&check),
            Shape::Lr { min } => check.at_least_zero("min", *min),
        }
    }

    /// What the factor is multiplied by again and again, where it is.
    pub(crate) fn gamma(&self) -> Option<f64> {
        match self.shape {
            Shape::Step { gamma, .. } | Shape::MultiStep { gamma, .. } | Shape::Exponential { gamma } => Some(gamma),
            _ => None,
        }
    }
}

/// Ranges of options, with errors that say where the option stands.
pub(super) struct Check<'a> {
    option: &'a str,
}

impl Check<'_> {
    pub fn error(&self, name: &str, found: impl ToString, expected: &str) -> Error {
        Error::option(format!("{}.{name}", self.option), found, expected)
    }

    fn require(&self, holds: bool, name: &str, found: f64, expected: &str) -> Result<()> {
        if found.is_finite() && holds { Ok(()) } else { Err(self.error(name, found, expected)) }
    }

    pub fn at_least_zero(&self, name: &str, value: f64) -> Result<()> {
        self.require(value >= 0.0, name, value, "a number of 0 or more")
    }

    pub fn above_zero(&self, name: &str, value: f64) -> Result<()> {
        self.require(value > 0.0, name, value, "a number above 0")
    }

    pub fn at_least_one(&self, name: &str, value: f64) -> Result<()> {
        self.require(value >= 1.0, name, value, "a number of 1 or more")
    }

    pub fn fraction(&self, name: &str, value: f64) -> Result<()> {
        self.require((0.0..=1.0).contains(&value), name, value, "a number from 0 to 1")
    }

    pub fn below_one(&self, name: &str, value: f64) -> Result<()> {
        self.require((0.0..1.0).contains(&value), name, value, "a number from 0 to below 1")
    }

    fn duration(&self, name: &str, epochs: Option<f64>) -> Result<()> {
        let epochs = epochs.unwrap_or(1.0);
        self.require(epochs > 0.0, name, epochs, "a number of epochs above 0")
    }

    fn milestones(&self, milestones: &[f64]) -> Result<()> {
        let rising = milestones.is_sorted_by(|before, after| before < after);
        if rising && milestones.iter().all(|milestone| milestone.is_finite() && *milestone >= 0.0) {
            return Ok(());
        }
        let expected = "epochs, 0 or more, each above the one before";
        Err(self.error("milestones", format!("{milestones:?}"), expected))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> serde_json::Result<ScheduleConfig> {
        serde_json::from_str(text)
    }

    #[test]
    fn wrong_options_name_themselves() {
        let wrong = [
            (r#"{"type":"cosine","warmupEpochs":-1}"#, "warmupEpochs"),
            (r#"{"type":"constant","warmupEpochs":1,"warmupStart":1.5}"#, "warmupStart"),
            (r#"{"type":"cosine","minFactor":2}"#, "minFactor"),
            (r#"{"type":"cosine","epochs":0}"#, "epochs"),
            (r#"{"type":"step","gamma":0}"#, "gamma"),
            (r#"{"type":"step","stepSize":0}"#, "stepSize"),
            (r#"{"type":"step","stepSize":2,"milestones":[3]}"#, "milestones"),
            (r#"{"type":"multiStep","milestones":[3,2]}"#, "milestones"),
            (r#"{"type":"exponential","gamma":-0.5}"#, "gamma"),
            (r#"{"type":"linear","endFactor":-0.5}"#, "endFactor"),
            (r#"{"type":"polynomial","power":0}"#, "power"),
            (r#"{"type":"oneCycle","pctStart":1.5}"#, "pctStart"),
            (r#"{"type":"oneCycle","divFactor":0.5}"#, "divFactor"),
            (r#"{"type":"oneCycle","maxMomentum":1}"#, "maxMomentum"),
            (r#"{"type":"oneCycle","threePhase":true,"pctStart":0.6}"#, "pctStart"),
            (r#"{"type":"plateau","factor":1}"#, "factor"),
            (r#"{"type":"plateau","minLr":-1}"#, "min"),
            (r#"{"type":"lr","min":-1}"#, "min"),
        ];
        for (text, name) in wrong {
            let error = parse(text).unwrap().validate("rhoSchedule").unwrap_err();
            assert_eq!(error.code(), "ERR_FLATMIN_OPTION");
            assert!(error.to_string().contains(&format!("rhoSchedule.{name}")), "{error}");
        }
    }

    #[test]
    fn options_of_another_type_are_unknown() {
        for text in [
            r#"{"type":"constant","gamma":0.1}"#,
            r#"{"type":"cosine","warmup":1}"#,
            r#"{"type":"oneCycle","patience":1}"#,
            r#"{"type":"plateau","milestones":[1]}"#,
        ] {
            assert!(parse(text).unwrap_err().to_string().contains("unknown field"), "{text}");
        }
    }

    #[test]
    fn every_type_has_defaults_that_hold_and_survives_json() {
        let types = [
            "constant",
            "cosine",
            "step",
            "multiStep",
            "exponential",
            "linear",
            "polynomial",
            "oneCycle",
            "plateau",
            "lr",
        ];
        for name in types {
            let mut config = parse(&format!(r#"{{"type":"{name}","warmupEpochs":0.5,"by":"epoch"}}"#)).unwrap();
            config.validate("schedule").unwrap();
            config.warmup_start = Some(0.1 + 0.2);
            let text = serde_json::to_string(&config).unwrap();
            assert_eq!(parse(&text).unwrap(), config);
        }
    }
}
