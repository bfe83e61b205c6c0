//! Learning-rate schedules: constant, cosine and step, each with an optional linear warm-up. They answer a factor for
//! every step (not epoch), which multiplies each group's own learning rate.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ScheduleKind {
    #[default]
    Constant,
    Cosine,
    Step,
}

/// The options of a schedule. All times are in epochs and may be fractions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ScheduleConfig {
    #[serde(rename = "type")]
    pub kind: ScheduleKind,
    /// The factor rises linearly to 1 over so many epochs. Default 0.
    pub warmup_epochs: f64,
    /// `step` only: where the factor is multiplied by `gamma`. Default: at half and three quarters of the run.
    pub milestones: Vec<f64>,
    /// `step` only. Default 0.1.
    pub gamma: f64,
    /// `cosine` only: the factor at the end. Default 0.
    pub min_factor: f64,
}

impl Default for ScheduleConfig {
    fn default() -> Self {
        Self { kind: ScheduleKind::Constant, warmup_epochs: 0.0, milestones: Vec::new(), gamma: 0.1, min_factor: 0.0 }
    }
}

impl ScheduleConfig {
    /// # Errors
    /// `ERR_FLATMIN_OPTION` for negative or non-finite values and milestones out of order.
    pub fn validate(&self) -> Result<()> {
        let nonnegative = |value: f64| value.is_finite() && value >= 0.0;
        if !nonnegative(self.warmup_epochs) {
            return Err(Error::option("schedule.warmupEpochs", self.warmup_epochs, "a number of epochs, 0 or more"));
        }
        if !(nonnegative(self.min_factor) && self.min_factor <= 1.0) {
            return Err(Error::option("schedule.minFactor", self.min_factor, "a number from 0 to 1"));
        }
        if !(self.gamma.is_finite() && self.gamma > 0.0) {
            return Err(Error::option("schedule.gamma", self.gamma, "a number above 0"));
        }
        let rising = self.milestones.is_sorted_by(|before, after| before < after);
        if !rising || !self.milestones.iter().all(|&milestone| nonnegative(milestone)) {
            let found = format!("{:?}", self.milestones);
            return Err(Error::option("schedule.milestones", found, "epochs, 0 or more, each above the one before"));
        }
        Ok(())
    }
}

/// A schedule laid out over a run of `total_steps` steps.
///
/// With s the step (from 0), W the warm-up and T the total in steps, E the steps of an epoch:
/// - s < W: `(s + 1) / W`
/// - constant: `1`
/// - cosine: `min + (1 - min) * (1 + cos(pi * (s - W) / (T - W))) / 2`, which for W = 0 is PyTorch's
///   `CosineAnnealingLR(T_max=T)` stepped at every step
/// - step: `gamma ^ #{m in milestones: s >= m * E}`
#[derive(Debug, Clone)]
pub struct Schedule {
    config: ScheduleConfig,
    warmup: f64,
    total: f64,
    milestones: Vec<f64>,
}

impl Schedule {
    pub fn new(config: &ScheduleConfig, steps_per_epoch: u64, total_steps: u64) -> Self {
        let total = total_steps as f64;
        let per_epoch = steps_per_epoch as f64;
        let milestones = match &config.milestones[..] {
            [] => vec![0.5 * total, 0.75 * total],
            epochs => epochs.iter().map(|epoch| epoch * per_epoch).collect(),
        };
        let warmup = (config.warmup_epochs * per_epoch).round();
        Self { config: config.clone(), warmup, total, milestones }
    }

    /// What multiplies the learning rates at this step, counted from 0 over the whole run.
    pub fn factor(&self, step: u64) -> f64 {
        let step = step as f64;
        if step < self.warmup {
            return (step + 1.0) / self.warmup;
        }
        match self.config.kind {
            ScheduleKind::Constant => 1.0,
            ScheduleKind::Cosine => {
                let min = self.config.min_factor;
                let progress = ((step - self.warmup) / (self.total - self.warmup).max(1.0)).min(1.0);
                min + (1.0 - min) * 0.5 * (1.0 + (std::f64::consts::PI * progress).cos())
            }
            ScheduleKind::Step => {
                let passed = self.milestones.iter().filter(|&&milestone| step >= milestone).count();
                self.config.gamma.powi(passed as i32)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(kind: ScheduleKind, change: impl FnOnce(&mut ScheduleConfig)) -> Schedule {
        let mut config = ScheduleConfig { kind, ..ScheduleConfig::default() };
        change(&mut config);
        config.validate().unwrap();
        Schedule::new(&config, 10, 100)
    }

    #[test]
    fn cosine_starts_at_one_halves_midway_and_nears_its_minimum() {
        let cosine = schedule(ScheduleKind::Cosine, |config| config.min_factor = 0.2);
        assert_eq!(cosine.factor(0), 1.0);
        assert!((cosine.factor(50) - 0.6).abs() < 1e-12);
        assert!((cosine.factor(25) - (0.2 + 0.4 * (1.0 + std::f64::consts::FRAC_1_SQRT_2))).abs() < 1e-12);
        assert!((cosine.factor(100) - 0.2).abs() < 1e-12);
        assert!((1..100).all(|step| cosine.factor(step) < cosine.factor(step - 1)));
    }

    #[test]
    fn warm_up_is_linear_and_cosine_follows_from_one() {
        let cosine = schedule(ScheduleKind::Cosine, |config| config.warmup_epochs = 2.0);
        let rise: Vec<f64> = (0..20).map(|step| cosine.factor(step)).collect();
        assert!(rise.iter().enumerate().all(|(step, factor)| (factor - (step + 1) as f64 / 20.0).abs() < 1e-12));
        assert_eq!(cosine.factor(20), 1.0);
        assert!((cosine.factor(60) - 0.5).abs() < 1e-12);
    }

    #[test]
    fn steps_fall_at_their_milestones() {
        let step = schedule(ScheduleKind::Step, |config| config.milestones = vec![2.0, 4.5]);
        let factors = [0, 19, 20, 44, 45, 99].map(|at| step.factor(at));
        let expected = [1.0, 1.0, 0.1, 0.1, 0.01, 0.01];
        assert!(factors.iter().zip(expected).all(|(found, expected)| (found - expected).abs() < 1e-15));
        let default = schedule(ScheduleKind::Step, |_| ());
        assert_eq!([49, 50, 75].map(|at| default.factor(at)), [1.0, 0.1, 0.1f64.powi(2)]);
    }

    #[test]
    fn a_run_that_is_all_warm_up_stays_finite() {
        let cosine = schedule(ScheduleKind::Cosine, |config| config.warmup_epochs = 10.0);
        assert!((0..=100).all(|step| cosine.factor(step).is_finite()));
    }

    #[test]
    fn wrong_options_name_themselves() {
        let wrong = [
            r#"{"type":"cosine","warmupEpochs":-1}"#,
            r#"{"type":"cosine","minFactor":2}"#,
            r#"{"type":"step","gamma":0}"#,
            r#"{"type":"step","milestones":[3,2]}"#,
        ];
        for (text, name) in wrong.iter().zip(["warmupEpochs", "minFactor", "gamma", "milestones"]) {
            let error = serde_json::from_str::<ScheduleConfig>(text).unwrap().validate().unwrap_err();
            assert_eq!(error.code(), "ERR_FLATMIN_OPTION");
            assert!(error.to_string().contains(name), "{error}");
        }
        assert!(serde_json::from_str::<ScheduleConfig>(r#"{"type":"cosine","warmup":1}"#).is_err());
    }
}
