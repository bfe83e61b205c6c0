//! What a run tells while it goes: typed events that serialise to the JSON that users, files and dashboards read.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::metrics::Evaluation;

/// An event. In JSON the kind is the field `type`; all names are camelCase; accuracies are fractions; numbers that are
/// not finite are null.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "type", rename_all = "camelCase")]
pub enum Event {
    Start(StartEvent),
    Step(StepEvent),
    Epoch(Box<EpochEvent>),
    Checkpoint(CheckpointEvent),
    End(Box<EndEvent>),
}

/// The first event of a run.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StartEvent {
    pub run_dir: Option<PathBuf>,
    /// Steps of the whole run, those of before a resume included.
    pub steps: u64,
    pub epochs: u64,
    pub steps_per_epoch: u64,
    /// Steps done before, for a run that goes on from a checkpoint.
    pub steps_done: u64,
    /// Trainable numbers of the model.
    pub parameters: u64,
    /// Where it trains: `cpu` or `cuda:N`.
    pub device: String,
    pub seed: u64,
    /// The checkpoint that the run goes on from.
    pub resumed_from: Option<PathBuf>,
}

/// Progress within an epoch; only the latest is kept when nobody reads.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StepEvent {
    /// From 1.
    pub epoch: u64,
    /// Steps done since the run began.
    pub step: u64,
    pub total_steps: u64,
    /// Mean over the batch at the unperturbed weights.
    pub loss: f64,
    /// Loss at the perturbed weights minus `loss`; null without an ascent step.
    pub sharpness: Option<f64>,
    /// Of the batch.
    pub accuracy: f64,
    /// Of the first group, schedule included.
    pub lr: f64,
    pub rho: Option<f64>,
    /// SGD's momentum or Adam's beta1.
    pub momentum: f64,
    /// 2-norm of the gradient at the unperturbed weights.
    pub gradient_norm: f64,
    /// What the loss was multiplied by before backward passes, if it was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub loss_scale: Option<f64>,
    /// norm2 of the change of w in the step, if asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub update_norm: Option<f64>,
    /// norm2 of w after the step, if asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight_norm: Option<f64>,
    /// Mean of the epoch so far.
    pub images_per_second: f64,
    /// Time the loop waited for data in the epoch so far; on a GPU also while that computed.
    pub data_seconds: f64,
    /// Time the remaining steps will take, evaluations not counted.
    pub eta_seconds: f64,
    /// Since the run began.
    pub skipped_steps: u64,
    /// The most that tensors have taken of the GPU's memory so far.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device_memory_bytes: Option<u64>,
}

/// Means over the training batches of an epoch, measured while the weights moved.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TrainScores {
    pub loss: f64,
    pub accuracy: f64,
}

/// Scores of the averaged weights.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AveragedScores {
    /// Weights that the average holds.
    pub weights: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub validation: Option<Evaluation>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub test: Option<Evaluation>,
}

/// What an epoch brought.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EpochEvent {
    /// From 1.
    pub epoch: u64,
    pub train: TrainScores,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub validation: Option<Evaluation>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub test: Option<Evaluation>,
    /// None without an average, and before it holds any weights.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub averaged: Option<AveragedScores>,
    /// Test loss (validation loss without a test set) minus training loss.
    pub generalization_gap: Option<f64>,
    /// Mean over the epoch's steps of the loss at the perturbed weights minus the loss; null without an ascent step.
    pub sharpness: Option<f64>,
    /// Of the first group at the epoch's last step, schedule included; so are rho and momentum.
    pub lr: f64,
    pub rho: Option<f64>,
    pub momentum: f64,
    /// Training only, evaluations not counted.
    pub images_per_second: f64,
    /// Side of the training images, if it changes along the run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_size: Option<usize>,
    /// Evaluations included.
    pub seconds: f64,
    /// Time the loop waited for data; on a GPU also while that computed.
    pub data_seconds: f64,
    /// Resident memory of the process; null where the system does not tell.
    pub memory_bytes: Option<u64>,
    /// The most that tensors have taken of the GPU's memory so far.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device_memory_bytes: Option<u64>,
    /// On a GPU, why steps are not replayed from CUDA graphs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub eager: Option<String>,
    /// In this epoch.
    pub skipped_steps: u64,
    /// Training images that could not be read or decoded since the data set was opened.
    pub bad_images: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warning: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum CheckpointKind {
    Last,
    Best,
}

impl CheckpointKind {
    /// The folder's name below `checkpoints/`.
    pub fn folder(self) -> &'static str {
        match self {
            Self::Last => "last",
            Self::Best => "best",
        }
    }
}

/// A checkpoint lies complete on disk.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CheckpointEvent {
    /// Epochs done; a checkpoint within an epoch has the number of those before it.
    pub epoch: u64,
    pub path: PathBuf,
    pub kind: CheckpointKind,
    /// Validation accuracy, of the averaged weights if the best epoch is chosen on them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metric: Option<f64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum EndReason {
    Finished,
    Stopped,
    Aborted,
}

/// The epoch with the highest validation accuracy.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Best {
    pub epoch: u64,
    pub accuracy: f64,
}

/// The last event of a run that did not fail.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EndEvent {
    pub reason: EndReason,
    pub result: RunResult,
}

/// The last line of a run that failed. It is for who reads the folder; who follows the run gets the error itself.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "type", rename = "end")]
pub struct FailureEvent {
    reason: &'static str,
    error: Failure,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
struct Failure {
    code: &'static str,
    message: String,
}

impl FailureEvent {
    pub fn of(error: &Error) -> Self {
        Self { reason: "failed", error: Failure { code: error.code(), message: error.to_string() } }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RunResult {
    /// Whole epochs done.
    pub epochs: u64,
    pub steps: u64,
    pub best: Option<Best>,
    /// Of the last epoch that was reported.
    pub train: Option<TrainScores>,
    pub validation: Option<Evaluation>,
    pub test: Option<Evaluation>,
    pub averaged: Option<AveragedScores>,
    /// Whether the model has the averaged weights now.
    pub average_applied: bool,
    /// Evaluations included, time before a resume not.
    pub seconds: f64,
    /// Training only, over the whole run.
    pub images_per_second: f64,
    pub peak_memory_bytes: Option<u64>,
    pub skipped_steps: u64,
    /// The last checkpoint written.
    pub checkpoint: Option<PathBuf>,
}
