//! The options of a training run, checked once before anything starts.

use std::path::PathBuf;

use flatmin_optim::Loss;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::metrics::Metric;
use crate::schedule::ScheduleConfig;

/// What a run does. In JSON all names are camelCase; all but `epochs` have a default.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TrainConfig {
    pub epochs: u64,
    /// Default 128.
    #[serde(default = "default_batch_size")]
    pub batch_size: usize,
    /// Fixes the order of the images, augmentation and dropout. Default 0.
    #[serde(default)]
    pub seed: u64,
    #[serde(default)]
    pub schedule: ScheduleConfig,
    /// Default: cross entropy.
    #[serde(default)]
    pub loss: Loss,
    /// Leave out an epoch's last batch if it is not full. Default false.
    #[serde(default)]
    pub drop_last: bool,
    #[serde(default)]
    pub augment: Augment,
    /// What evaluations report beside loss, accuracy and top-5. Default: nothing.
    #[serde(default)]
    pub metrics: Vec<Metric>,
    /// Where config.json, events.jsonl and checkpoints/ go. Default: nowhere.
    #[serde(default)]
    pub run_dir: Option<PathBuf>,
    #[serde(default)]
    pub checkpoint: CheckpointPolicy,
    /// End after so many steps, if that is before the last epoch; the schedule spans what is run.
    #[serde(default)]
    pub max_steps: Option<u64>,
    /// Wait after each epoch event until it is acknowledged. Default false.
    #[serde(default)]
    pub await_epoch_end: bool,
    /// Step events come at most once in so many milliseconds. Default 50.
    #[serde(default = "default_step_event_ms")]
    pub step_event_ms: u64,
    /// Threads of the tensor operations. Default: libtorch's choice, one a core.
    #[serde(default)]
    pub threads: Option<i32>,
    /// Threads that prepare batches; 0: the training thread itself. Default 1.
    #[serde(default = "default_loader_threads")]
    pub loader_threads: usize,
}

/// Random changes of the training images.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Augment {
    /// Pad by so many black pixels and crop at a random place. Default: off.
    pub pad_crop: Option<usize>,
    /// Mirror every other image. Default false.
    pub flip: bool,
}

/// Which checkpoints are written; they need a `runDir`. A run that is stopped or aborted writes `last` in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct CheckpointPolicy {
    /// Default true.
    pub last: bool,
    /// At each new highest validation accuracy; without a validation set there is none. Default true.
    pub best: bool,
    /// `last` is written after every so many epochs, and at the end. Default 1.
    pub every_epochs: u64,
}

impl Default for CheckpointPolicy {
    fn default() -> Self {
        Self { last: true, best: true, every_epochs: 1 }
    }
}

fn default_batch_size() -> usize {
    128
}

fn default_step_event_ms() -> u64 {
    50
}

fn default_loader_threads() -> usize {
    1
}

impl TrainConfig {
    /// The defaults, for so many epochs.
    pub fn new(epochs: u64) -> Self {
        Self {
            epochs,
            batch_size: default_batch_size(),
            seed: 0,
            schedule: ScheduleConfig::default(),
            loss: Loss::default(),
            drop_last: false,
            augment: Augment::default(),
            metrics: Vec::new(),
            run_dir: None,
            checkpoint: CheckpointPolicy::default(),
            max_steps: None,
            await_epoch_end: false,
            step_event_ms: default_step_event_ms(),
            threads: None,
            loader_threads: default_loader_threads(),
        }
    }

    /// # Errors
    /// `ERR_FLATMIN_OPTION` for the first value out of range. What depends on the data is checked when the run starts.
    pub fn validate(&self) -> Result<()> {
        if self.epochs == 0 {
            return Err(Error::option("epochs", 0, "a whole number, 1 or more"));
        }
        if self.batch_size == 0 {
            return Err(Error::option("batchSize", 0, "a whole number, 1 or more"));
        }
        if self.max_steps == Some(0) {
            return Err(Error::option("maxSteps", 0, "a whole number, 1 or more, or nothing"));
        }
        if self.checkpoint.every_epochs == 0 {
            return Err(Error::option("checkpoint.everyEpochs", 0, "a whole number, 1 or more"));
        }
        if let Some(threads) = self.threads.filter(|threads| !(1..=1024).contains(threads)) {
            return Err(Error::option("threads", threads, "a whole number from 1 to 1024"));
        }
        self.loss.validate()?;
        self.schedule.validate()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_epochs_are_required() {
        let config: TrainConfig = serde_json::from_str(r#"{"epochs":3}"#).unwrap();
        assert_eq!(config, TrainConfig::new(3));
        assert!(serde_json::from_str::<TrainConfig>("{}").unwrap_err().to_string().contains("epochs"));
    }

    #[test]
    fn survives_json() {
        let mut config = TrainConfig::new(3);
        config.schedule.warmup_epochs = 0.1 + 0.2;
        config.augment.pad_crop = Some(4);
        config.run_dir = Some("runs/a".into());
        let text = serde_json::to_string(&config).unwrap();
        assert_eq!(serde_json::from_str::<TrainConfig>(&text).unwrap(), config);
    }

    #[test]
    fn wrong_values_name_their_option() {
        let cases = [
            (r#"{"epochs":0}"#, "epochs"),
            (r#"{"epochs":1,"batchSize":0}"#, "batchSize"),
            (r#"{"epochs":1,"maxSteps":0}"#, "maxSteps"),
            (r#"{"epochs":1,"threads":0}"#, "threads"),
            (r#"{"epochs":1,"checkpoint":{"everyEpochs":0}}"#, "everyEpochs"),
            (r#"{"epochs":1,"schedule":{"type":"step","gamma":-1}}"#, "gamma"),
        ];
        for (text, option) in cases {
            let error = serde_json::from_str::<TrainConfig>(text).unwrap().validate().unwrap_err();
            assert_eq!(error.code(), "ERR_FLATMIN_OPTION");
            assert!(error.to_string().contains(option), "{error}");
        }
        assert!(serde_json::from_str::<TrainConfig>(r#"{"epochs":1,"lr":1}"#).is_err());
    }
}
