//! A factor that falls when a score no longer improves, with the rules of PyTorch's `ReduceLROnPlateau`.

use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::schedule::config::Check;

/// Which score is watched: what falls, or what rises, as training goes well.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Mode {
    /// The loss.
    #[default]
    Min,
    /// The accuracy.
    Max,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ThresholdMode {
    /// Better is below `best (1 - threshold)`, or above `best (1 + threshold)`.
    #[default]
    Rel,
    /// Better is below `best - threshold`, or above `best + threshold`.
    Abs,
}

/// After more than `patience` epochs in a row without a better score the factor is multiplied by `factor`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Plateau {
    pub mode: Mode,
    /// Default 0.1.
    pub factor: f64,
    /// Default 10.
    pub patience: u64,
    /// Default 1e-4.
    pub threshold: f64,
    pub threshold_mode: ThresholdMode,
    /// Epochs after a reduction that do not count. Default 0.
    pub cooldown: u64,
    /// The lowest value of the first group's learning rate (rho, momentum); others keep their share of it. Default 0.
    #[serde(alias = "minLr")]
    pub min: f64,
    /// A reduction by no more than this is left out. Default 1e-8.
    pub eps: f64,
}

impl Default for Plateau {
    fn default() -> Self {
        Self {
            mode: Mode::Min,
            factor: 0.1,
            patience: 10,
            threshold: 1e-4,
            threshold_mode: ThresholdMode::Rel,
            cooldown: 0,
            min: 0.0,
            eps: 1e-8,
        }
    }
}

/// What a plateau schedule remembers from epoch to epoch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PlateauState {
    /// In force until the next epoch's end.
    pub factor: f64,
    pub best: Option<f64>,
    pub bad_epochs: u64,
    pub cooldown: u64,
}

impl Default for PlateauState {
    fn default() -> Self {
        Self { factor: 1.0, best: None, bad_epochs: 0, cooldown: 0 }
    }
}

impl Plateau {
    pub(super) fn validate(&self, check: &Check<'_>) -> Result<()> {
        check.below_one("factor", self.factor)?;
        check.at_least_zero("threshold", self.threshold)?;
        check.at_least_zero("min", self.min)?;
        check.at_least_zero("eps", self.eps)
    }

    /// Takes in the score of an epoch; `own` is the first group's own value of what is scheduled.
    pub(super) fn observe(&self, state: &mut PlateauState, score: f64, own: f64) {
        if self.is_better(score, state.best) {
            state.best = Some(score);
            state.bad_epochs = 0;
        } else {
            state.bad_epochs += 1;
        }
        if state.cooldown > 0 {
            state.cooldown -= 1;
            state.bad_epochs = 0;
        }
        if state.bad_epochs > self.patience {
            self.reduce(state, own);
            state.cooldown = self.cooldown;
            state.bad_epochs = 0;
        }
    }

    fn reduce(&self, state: &mut PlateauState, own: f64) {
        let before = own * state.factor;
        let after = (before * self.factor).max(self.min);
        if before - after > self.eps {
            state.factor = after / own;
        }
    }

    /// False for a score that is not a number.
    fn is_better(&self, score: f64, best: Option<f64>) -> bool {
        let Some(best) = best else { return score.is_finite() };
        match (self.mode, self.threshold_mode) {
            (Mode::Min, ThresholdMode::Rel) => score < best * (1.0 - self.threshold),
            (Mode::Min, ThresholdMode::Abs) => score < best - self.threshold,
            (Mode::Max, ThresholdMode::Rel) => score > best * (1.0 + self.threshold),
            (Mode::Max, ThresholdMode::Abs) => score > best + self.threshold,
        }
    }
}
