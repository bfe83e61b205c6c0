//! How far a run has come: everything that a resumed run must know beside weights and optimizer state.

use serde::{Deserialize, Serialize};

use flatmin_optim::StepOutcome;

use crate::events::{Best, TrainScores};
use crate::schedule::PlateauStates;

/// Position and sums of a run. Kept in a checkpoint, so all of it survives JSON exactly.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Progress {
    /// Whole epochs done.
    pub epoch: u64,
    /// Batches done in the epoch after those.
    pub batch: u64,
    /// Steps since the run began, skipped ones included.
    pub step: u64,
    pub skipped_steps: u64,
    /// Up to the latest step.
    #[serde(default)]
    pub consecutive_skips: u64,
    pub best: Option<Best>,
    #[serde(default)]
    pub plateaus: PlateauStates,
    /// Of the unfinished epoch.
    pub sums: EpochSums,
}

/// What the steps of an epoch add up to.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EpochSums {
    steps: u64,
    skipped: u64,
    /// Images of the steps that were not skipped.
    images: u64,
    loss: f64,
    correct: u64,
    sharpness: f64,
    sharpness_steps: u64,
}

impl Progress {
    /// Counts a step.
    pub fn add(&mut self, outcome: &StepOutcome) {
        self.step += 1;
        self.batch += 1;
        self.sums.add(outcome);
        self.skipped_steps += u64::from(!outcome.finite);
        self.consecutive_skips = if outcome.finite { 0 } else { self.consecutive_skips + 1 };
    }

    /// Moves on to the next epoch.
    pub fn finish_epoch(&mut self) {
        self.epoch += 1;
        self.batch = 0;
        self.sums = EpochSums::default();
    }

    /// Keeps the epoch in progress as the best one if its validation accuracy is higher than all before.
    pub fn improve(&mut self, accuracy: f64) -> bool {
        let improved = self.best.is_none_or(|best| accuracy > best.accuracy);
        if improved {
            self.best = Some(Best { epoch: self.epoch + 1, accuracy });
        }
        improved
    }
}

impl EpochSums {
    fn add(&mut self, outcome: &StepOutcome) {
        self.steps += 1;
        if !outcome.finite {
            self.skipped += 1;
            return;
        }
        let first = &outcome.reported;
        self.images += first.count as u64;
        self.loss += first.loss * first.count as f64;
        self.correct += first.correct as u64;
        if let Some(sharpness) = outcome.sharpness {
            self.sharpness += sharpness;
            self.sharpness_steps += 1;
        }
    }

    pub fn steps(&self) -> u64 {
        self.steps
    }

    pub fn skipped(&self) -> u64 {
        self.skipped
    }

    /// True if there were steps and none of them counted.
    pub fn all_skipped(&self) -> bool {
        self.steps > 0 && self.skipped == self.steps
    }

    pub fn scores(&self) -> TrainScores {
        let images = self.images.max(1) as f64;
        TrainScores { loss: self.loss / images, accuracy: self.correct as f64 / images }
    }

    /// Mean over the steps that had an ascent.
    pub fn sharpness(&self) -> Option<f64> {
        (self.sharpness_steps > 0).then(|| self.sharpness / self.sharpness_steps as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flatmin_optim::PassOutcome;

    fn outcome(loss: f64, count: i64, finite: bool) -> StepOutcome {
        StepOutcome {
            reported: PassOutcome { loss, correct: count / 2, count },
            perturbed_loss: Some(loss + 0.5),
            sharpness: Some(0.5),
            gradient_norm: 1.0,
            finite,
            rounding: None,
            loss_scale: None,
        }
    }

    #[test]
    fn means_are_weighted_by_images_and_skipped_steps_do_not_count() {
        let mut progress = Progress::default();
        for step in [outcome(1.0, 30, true), outcome(f64::NAN, 30, false), outcome(4.0, 10, true)] {
            progress.add(&step);
        }
        assert_eq!((progress.step, progress.batch, progress.skipped_steps), (3, 3, 1));
        assert_eq!(progress.sums.scores(), TrainScores { loss: 1.75, accuracy: 0.5 });
        assert_eq!(progress.sums.sharpness(), Some(0.5));
        assert!(!progress.sums.all_skipped());
        progress.finish_epoch();
        assert_eq!((progress.epoch, progress.batch, progress.step), (1, 0, 3));
        assert_eq!(progress.sums, EpochSums::default());
    }

    #[test]
    fn best_is_the_first_of_the_highest() {
        let mut progress = Progress::default();
        let improved: Vec<bool> = [0.5, 0.7, 0.7, 0.6]
            .into_iter()
            .map(|accuracy| {
                let improved = progress.improve(accuracy);
                progress.finish_epoch();
                improved
            })
            .collect();
        assert_eq!(improved, [true, true, false, false]);
        assert_eq!(progress.best, Some(Best { epoch: 2, accuracy: 0.7 }));
    }

    #[test]
    fn sums_survive_json_bit_for_bit() {
        let mut progress = Progress::default();
        for step in 1..50 {
            progress.add(&outcome((step as f64).sqrt().sin(), 7, true));
        }
        let text = serde_json::to_string(&progress).unwrap();
        assert_eq!(serde_json::from_str::<Progress>(&text).unwrap(), progress);
    }
}
