//! The options of a training run, checked once before anything starts.

use std::path::PathBuf;

use flatmin_data::{ColorJitter, Crop, Dataset, Policy, RandomErasing, ResizedCrop, Transform};
use flatmin_nn::Dtype;
use flatmin_optim::{AverageConfig, Loss};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::{Error, Result};
use crate::feed::{FeedConfig, PixelType};
use crate::metrics::Metric;
use crate::normalize::Normalization;
use crate::resizing::ProgressiveResizing;
use crate::schedule::{OneCycle, ScheduleConfig, Shape};

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
    /// Of the learning rate. Default: constant.
    #[serde(default)]
    pub schedule: ScheduleConfig,
    /// Of rho. Default: none, rho is constant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rho_schedule: Option<ScheduleConfig>,
    /// Of SGD's momentum or Adam's beta1. Default: none, but for what a one-cycle `schedule` does to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub momentum_schedule: Option<ScheduleConfig>,
    /// Default: cross entropy.
    #[serde(default)]
    pub loss: Loss,
    /// Images of one forward and backward pass: a larger batch is taken in parts, and their gradients accumulated.
    /// Default: the whole batch at once.
    #[serde(default)]
    pub accumulate: Option<u64>,
    /// Leave out an epoch's last batch if it is not full. Default false.
    #[serde(default)]
    pub drop_last: bool,
    #[serde(default)]
    pub augment: Augment,
    /// Smaller images at first. Default: one size. Evaluations keep theirs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progressive_resizing: Option<ProgressiveResizing>,
    /// What evaluations report beside loss, accuracy and top-5. Default: nothing.
    #[serde(default)]
    pub metrics: Vec<Metric>,
    /// Where config.json, events.jsonl, steps.jsonl and checkpoints/ go. Default: nowhere.
    #[serde(default)]
    pub run_dir: Option<PathBuf>,
    /// What the run runs on, for config.json: hardware, versions. Default: nothing.
    #[serde(default, skip_serializing)]
    pub environment: Option<Value>,
    #[serde(default)]
    pub checkpoint: CheckpointPolicy,
    /// An average of the weights, kept beside them. Default: none.
    #[serde(default)]
    pub average: Option<AverageConfig>,
    /// What a step with a loss or gradient that is not finite means. Default: it is skipped.
    #[serde(default)]
    pub non_finite: NonFinite,
    /// So many skipped steps in a row end the run. Default 100.
    #[serde(default = "default_max_skips")]
    pub max_consecutive_skips: u64,
    /// What step events report beside the usual. Default: nothing.
    #[serde(default)]
    pub step_metrics: Vec<StepMetric>,
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
    /// Threads that prepare batches; 0: the training thread itself. Default: 1 for images in memory, one a core for files.
    #[serde(default)]
    pub loader_threads: Option<usize>,
}

/// Random changes of the training images.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Augment {
    /// Pad by so many black pixels and crop at a random place. Default: off.
    pub pad_crop: Option<usize>,
    /// Show a random part of each image, scaled to its size. Default: off. Not with `pad_crop`.
    pub resized_crop: Option<ResizedCrop>,
    /// Mirror every other image. Default false.
    pub flip: bool,
    /// Random changes of brightness, contrast, saturation and hue. Default: off.
    pub color_jitter: Option<ColorJitter>,
    /// AutoAugment, RandAugment or TrivialAugment. Default: off.
    pub policy: Option<Policy>,
    /// Blank a random rectangle of some images. Default: off.
    pub erasing: Option<RandomErasing>,
    /// Blank a square of so many pixels in each image. Default: off.
    pub cutout: Option<usize>,
    /// alpha of mixup (Zhang 2018), for lambda ~ Beta(alpha, alpha). Default: off.
    pub mixup: Option<f64>,
    /// alpha of cutmix (Yun 2019). Default: off.
    pub cutmix: Option<f64>,
    /// Share of the batches that are mixed. Default 1.
    pub mix_probability: f64,
    /// With both, the share of the mixed batches that get cutmix. Default 0.5.
    pub switch_probability: f64,
}

impl Default for Augment {
    fn default() -> Self {
        Self {
            pad_crop: None,
            resized_crop: None,
            flip: false,
            color_jitter: None,
            policy: None,
            erasing: None,
            cutout: None,
            mixup: None,
            cutmix: None,
            mix_probability: 1.0,
            switch_probability: 0.5,
        }
    }
}

/// What happens at a step whose loss or gradient is not finite.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum NonFinite {
    /// It changes nothing and is counted.
    #[default]
    Skip,
    /// It ends the run with `ERR_FLATMIN_NON_FINITE`.
    Error,
}

/// What a step event can report beside the usual; measured only for steps that are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum StepMetric {
    /// norm2 of the change of w in the step.
    UpdateNorm,
    /// norm2 of w after the step.
    WeightNorm,
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

fn default_max_skips() -> u64 {
    100
}

fn default_step_event_ms() -> u64 {
    50
}

impl Augment {
    /// What is done to each image; mixing is done to batches.
    pub fn transform(&self, normalization: flatmin_data::Normalization) -> Transform {
        let Self { pad_crop, resized_crop, flip, color_jitter, policy, erasing, cutout, .. } = *self;
        let crop = match (resized_crop, pad_crop) {
            (Some(crop), _) => Crop::Resized(crop),
            (None, Some(padding)) => Crop::Pad(padding),
            (None, None) => Crop::Centre,
        };
        Transform { crop, flip, color_jitter, policy, normalization, erasing, cutout }
    }

    pub(crate) fn validate(&self) -> Result<()> {
        if self.resized_crop.is_some() && self.pad_crop.is_some() {
            return Err(Error::option("augment.padCrop", "given, and resizedCrop, too", "one of them"));
        }
        for (option, alpha) in [("augment.mixup", self.mixup), ("augment.cutmix", self.cutmix)] {
            if let Some(alpha) = alpha.filter(|alpha| !(alpha.is_finite() && *alpha > 0.0)) {
                return Err(Error::option(option, alpha, "a finite number above 0, or nothing"));
            }
        }
        let probabilities =
            [("augment.mixProbability", self.mix_probability), ("augment.switchProbability", self.switch_probability)];
        match probabilities.into_iter().find(|(_, probability)| !(0.0..=1.0).contains(probability)) {
            Some((option, probability)) => Err(Error::option(option, probability, "a number from 0 to 1")),
            None => Ok(()),
        }
    }
}

impl TrainConfig {
    /// The defaults, for so many epochs.
    pub fn new(epochs: u64) -> Self {
        Self {
            epochs,
            batch_size: default_batch_size(),
            seed: 0,
            schedule: ScheduleConfig::default(),
            rho_schedule: None,
            momentum_schedule: None,
            loss: Loss::default(),
            accumulate: None,
            drop_last: false,
            augment: Augment::default(),
            progressive_resizing: None,
            metrics: Vec::new(),
            run_dir: None,
            environment: None,
            checkpoint: CheckpointPolicy::default(),
            average: None,
            non_finite: NonFinite::default(),
            max_consecutive_skips: default_max_skips(),
            step_metrics: Vec::new(),
            max_steps: None,
            await_epoch_end: false,
            step_event_ms: default_step_event_ms(),
            threads: None,
            loader_threads: None,
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
        if self.accumulate == Some(0) {
            return Err(Error::option("accumulate", 0, "a whole number, 1 or more, or nothing"));
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
        if self.max_consecutive_skips == 0 {
            return Err(Error::option("maxConsecutiveSkips", 0, "a whole number, 1 or more"));
        }
        self.augment.validate()?;
        if let Some(average) = &self.average {
            average.validate(self.epochs)?;
        }
        self.loss.validate()?;
        self.validate_schedules()
    }

    /// The training images in the sizes of the run, each with the epoch, counted from 0, from which on it is shown.
    ///
    /// # Errors
    /// `ERR_FLATMIN_OPTION` for progressive resizing that does not suit the set.
    pub fn stages(&self, train: &Dataset) -> Result<Vec<(u64, Dataset)>> {
        match &self.progressive_resizing {
            Some(resizing) => resizing.stages(train, self.epochs),
            None => Ok(vec![(0, train.clone())]),
        }
    }

    /// How the training set becomes batches for a model of this dtype and so many classes.
    pub fn feed(&self, normalization: Normalization, dtype: Dtype, num_classes: i64) -> FeedConfig {
        FeedConfig {
            batch_size: self.batch_size,
            shuffle: true,
            drop_last: self.drop_last,
            seed: self.seed,
            augment: self.augment,
            normalization: Some(normalization),
            num_classes: Some(num_classes),
            // A bfloat16 model reads float32 images: rounded ones would cost more than all else that it rounds.
            dtype: if dtype == Dtype::Float64 { PixelType::Float64 } else { PixelType::Float32 },
            loader_threads: self.loader_threads,
            prefetch: None,
        }
    }

    fn validate_schedules(&self) -> Result<()> {
        let Self { schedule, rho_schedule, momentum_schedule, .. } = self;
        for (option, schedule) in [("schedule", Some(schedule)), ("momentumSchedule", momentum_schedule.as_ref())] {
            if schedule.is_some_and(|schedule| matches!(schedule.shape, Shape::Lr { .. })) {
                return Err(Error::option(format!("{option}.type"), "lr", "another type: this one is for rhoSchedule"));
            }
        }
        schedule.validate("schedule")?;
        if let Some(rho) = rho_schedule {
            rho.validate("rhoSchedule")?;
        }
        let Some(momentum) = momentum_schedule else { return Ok(()) };
        momentum.validate("momentumSchedule")?;
        if let Some(gamma) = momentum.gamma().filter(|&gamma| gamma > 1.0) {
            return Err(Error::option("momentumSchedule.gamma", gamma, "a number above 0, at most 1"));
        }
        if matches!(schedule.shape, Shape::OneCycle(OneCycle { cycle_momentum: true, .. })) {
            let found = "given, and schedule cycles the momentum, too";
            return Err(Error::option("momentumSchedule", found, "one of them: set schedule.cycleMomentum to false"));
        }
        Ok(())
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
        config.rho_schedule = Some(ScheduleConfig::new(Shape::Lr { min: 0.1 + 0.2 }));
        config.augment.resized_crop = Some(ResizedCrop::default());
        config.augment.policy = Some(Policy::RandAugment { operations: 2, magnitude: 9 });
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
            (r#"{"epochs":1,"schedule":{"type":"step","gamma":-1}}"#, "schedule.gamma"),
            (r#"{"epochs":1,"schedule":{"type":"lr"}}"#, "schedule.type"),
            (r#"{"epochs":1,"rhoSchedule":{"type":"lr","min":-1}}"#, "rhoSchedule.min"),
            (r#"{"epochs":1,"momentumSchedule":{"type":"exponential","gamma":1.1}}"#, "momentumSchedule.gamma"),
            (r#"{"epochs":1,"schedule":{"type":"oneCycle"},"momentumSchedule":{"type":"cosine"}}"#, "cycleMomentum"),
            (r#"{"epochs":1,"augment":{"mixup":0}}"#, "augment.mixup"),
            (r#"{"epochs":1,"augment":{"padCrop":4,"resizedCrop":{}}}"#, "augment.padCrop"),
            (r#"{"epochs":1,"augment":{"switchProbability":2}}"#, "augment.switchProbability"),
            (r#"{"epochs":1,"average":{"type":"swa","startEpoch":2}}"#, "average.startEpoch"),
            (r#"{"epochs":1,"accumulate":0}"#, "accumulate"),
            (r#"{"epochs":1,"maxConsecutiveSkips":0}"#, "maxConsecutiveSkips"),
        ];
        for (text, option) in cases {
            let error = serde_json::from_str::<TrainConfig>(text).unwrap().validate().unwrap_err();
            assert_eq!(error.code(), "ERR_FLATMIN_OPTION");
            assert!(error.to_string().contains(option), "{error}");
        }
        assert!(serde_json::from_str::<TrainConfig>(r#"{"epochs":1,"lr":1}"#).is_err());
    }
}
