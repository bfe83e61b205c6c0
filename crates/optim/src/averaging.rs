//! Averages of the weights along the run: exponential (EMA) and equal (SWA; Izmailov 2018), with the meaning of
//! `torch.optim.swa_utils.AveragedModel`. An average is a model of its own with the offsets of the one it follows; it reads
//! the master weights, so between an ascent and a descent it sees w, never w + eps.

use std::path::Path;

use flatmin_nn::{Model, Pass, Statistics};
use serde::{Deserialize, Serialize};
use tch::{Tensor, no_grad};

use crate::error::{Error, Result};

/// Which average, and when weights enter it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum AverageConfig {
    /// `a = decay a + (1 - decay) w`; the first weights are taken as they are.
    Ema {
        #[serde(default = "default_decay")]
        decay: f64,
        /// With t weights taken already, the decay is min(decay, (1 + t) / (10 + t)), so that a short run does not
        /// remember its beginning.
        #[serde(default)]
        warmup: bool,
        #[serde(default = "one")]
        every_steps: u64,
        #[serde(default = "averaged_statistics")]
        batch_norm: AverageStatistics,
        /// Whether the model ends the run with the averaged weights.
        #[serde(default = "yes")]
        apply: bool,
        /// Whether the best epoch is chosen on the averaged weights.
        #[serde(default)]
        best: bool,
    },
    /// The equal mean of the weights at the ends of epochs, or after steps (Izmailov 2018, algorithm 1).
    Swa {
        /// The first epoch, counted from 1, whose weights are taken. Default: the first of the run's last quarter.
        #[serde(default)]
        start_epoch: Option<u64>,
        /// From the start on, the end of every so many epochs.
        #[serde(default = "one")]
        every_epochs: u64,
        /// Every so many steps instead, counted from the beginning of the start epoch.
        #[serde(default)]
        every_steps: Option<u64>,
        #[serde(default = "estimated_statistics")]
        batch_norm: AverageStatistics,
        /// Whether the model ends the run with the averaged weights.
        #[serde(default = "yes")]
        apply: bool,
        /// Whether the best epoch is chosen on the averaged weights.
        #[serde(default)]
        best: bool,
    },
}

/// Where the running statistics of the averaged weights come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AverageStatistics {
    /// They are averaged as the weights are (torch's `use_buffers=True`): free, good where the average follows closely.
    Average,
    /// They are estimated over the training set (torch's `update_bn`) before the average is used.
    Estimate,
}

fn default_decay() -> f64 {
    0.999
}

fn one() -> u64 {
    1
}

fn yes() -> bool {
    true
}

fn averaged_statistics() -> AverageStatistics {
    AverageStatistics::Average
}

fn estimated_statistics() -> AverageStatistics {
    AverageStatistics::Estimate
}

impl AverageConfig {
    /// # Errors
    /// `ERR_FLATMIN_OPTION` for the first value out of range, in a run of so many epochs.
    pub fn validate(&self, epochs: u64) -> Result<()> {
        let wrong = |option: &str, found: &dyn ToString, expected: String| {
            Err(Error::Option { option: format!("average.{option}"), found: found.to_string(), expected })
        };
        match self {
            Self::Ema { decay, .. } if !(0.0..=1.0).contains(decay) => {
                wrong("decay", decay, "a number from 0 to 1".into())
            }
            Self::Ema { every_steps: 0, .. } | Self::Swa { every_steps: Some(0), .. } => {
                wrong("everySteps", &0, "a whole number, 1 or more".into())
            }
            Self::Swa { every_epochs: 0, .. } => wrong("everyEpochs", &0, "a whole number, 1 or more".into()),
            Self::Swa { start_epoch: Some(start), .. } if !(1..=epochs).contains(start) => {
                wrong("startEpoch", start, format!("a whole number from 1 to {epochs}, the epochs of the run"))
            }
            _ => Ok(()),
        }
    }

    /// Whether the weights after so many steps of the run enter the average.
    pub fn is_due(&self, steps: u64, steps_per_epoch: u64, epochs: u64) -> bool {
        match *self {
            Self::Ema { every_steps, .. } => steps.is_multiple_of(every_steps),
            Self::Swa { start_epoch, every_epochs, every_steps, .. } => {
                let start = start_epoch.unwrap_or(epochs * 3 / 4 + 1);
                let before = (start - 1) * steps_per_epoch;
                match every_steps {
                    Some(every) => steps > before && (steps - before).is_multiple_of(every),
                    None => {
                        let end_of_start = before + steps_per_epoch;
                        steps >= end_of_start && (steps - end_of_start).is_multiple_of(every_epochs * steps_per_epoch)
                    }
                }
            }
        }
    }

    pub fn statistics(&self) -> AverageStatistics {
        match self {
            Self::Ema { batch_norm, .. } | Self::Swa { batch_norm, .. } => *batch_norm,
        }
    }

    pub fn is_applied(&self) -> bool {
        match self {
            Self::Ema { apply, .. } | Self::Swa { apply, .. } => *apply,
        }
    }

    pub fn chooses_best(&self) -> bool {
        match self {
            Self::Ema { best, .. } | Self::Swa { best, .. } => *best,
        }
    }

    /// How far the average moves towards new weights when it holds `count` already.
    fn share(&self, count: u64) -> f64 {
        let count = count as f64;
        match self {
            _ if count == 0.0 => 1.0,
            Self::Ema { decay, warmup: false, .. } => 1.0 - decay,
            Self::Ema { decay, warmup: true, .. } => 1.0 - decay.min((1.0 + count) / (10.0 + count)),
            Self::Swa { .. } => 1.0 / (count + 1.0),
        }
    }
}

/// How much an average holds, for a checkpoint; its weights travel as a model.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AverageCount {
    /// Weights taken.
    pub weights: u64,
    /// Whether statistics are still to be estimated for the weights that it holds.
    pub stale: bool,
}

/// The average of a model's weights.
pub struct Averaging {
    config: AverageConfig,
    model: Model,
    count: AverageCount,
}

impl Averaging {
    /// An average that holds nothing yet.
    ///
    /// # Errors
    /// If there is no memory.
    pub fn new(config: AverageConfig, model: &Model) -> Result<Self> {
        Ok(Self { config, model: model.twin()?, count: AverageCount::default() })
    }

    pub fn config(&self) -> &AverageConfig {
        &self.config
    }

    pub fn count(&self) -> AverageCount {
        self.count
    }

    /// The averaged weights; None before the first were taken. It can be read and saved at any time; passes through it need
    /// [`Self::sync`] before, and its statistics are those of an earlier average while [`AverageCount::stale`] says so.
    pub fn model(&self) -> Option<&Model> {
        (self.count.weights > 0).then_some(&self.model)
    }

    /// Takes the weights of the model that it follows, at w.
    ///
    /// # Errors
    /// If libtorch fails.
    pub fn update(&mut self, model: &Model) -> Result<()> {
        let share = self.config.share(self.count.weights);
        move_towards(self.model.parameters().master(), model.parameters().master(), share)?;
        self.count.weights += 1;
        let (statistics, buffers) = (self.config.statistics(), model.buffers());
        self.count.stale = statistics == AverageStatistics::Estimate && !buffers.is_empty();
        // Until they are estimated, the model's own are the nearest there is.
        let share = if self.count.stale { 1.0 } else { share };
        move_towards(self.model.buffers().arena(), buffers.arena(), share)?;
        for norm in 0..buffers.len() {
            self.model.buffers_mut().set_batches_tracked(norm, buffers.batches_tracked(norm));
        }
        Ok(())
    }

    /// Makes passes through the averaged model see all weights taken.
    ///
    /// # Errors
    /// If libtorch fails.
    pub fn sync(&mut self) -> Result<()> {
        Ok(self.model.parameters_mut().sync_working()?)
    }

    /// Starts statistics anew; what follows is a batch or more for [`Self::observe`], then [`Self::finish_statistics`].
    pub fn start_statistics(&mut self) {
        self.model.discard_statistics();
    }

    /// Counts a batch `[batch, channels, height, width]` for the statistics, in training mode.
    ///
    /// # Errors
    /// If the images do not fit the model.
    pub fn observe(&self, images: &Tensor, mask_seed: u64) -> Result<()> {
        let pass = Pass::Train { statistics: Statistics::Average, mask_seed };
        let _ = no_grad(|| self.model.forward(images, pass))?;
        Ok(())
    }

    /// Makes the mean over the batches observed the average's statistics.
    pub fn finish_statistics(&mut self) {
        for norm in 0..self.model.buffers().len() {
            self.model.buffers_mut().set_batches_tracked(norm, 0);
        }
        self.model.commit_statistics();
        self.count.stale = false;
    }

    /// Goes on from an average whose model was saved at `path`.
    ///
    /// # Errors
    /// If the file cannot be read or does not fit.
    pub fn restore(&mut self, path: &Path, count: AverageCount) -> Result<()> {
        self.model.load_weights(path, true)?;
        self.count = count;
        Ok(())
    }
}

/// One pass over both arenas: torch's `lerp` is bound by memory there, as a kernel of our own would be. A share of 1 gives
/// the target bit for bit.
fn move_towards(average: &Tensor, target: &Tensor, share: f64) -> Result<()> {
    let _ = no_grad(|| average.shallow_clone().f_lerp_(target, share))?;
    Ok(())
}
