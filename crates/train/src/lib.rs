//! Training: the loop on its own thread, schedules, metrics, events, run folders, checkpoints and resume.

mod averaged;
mod batch;
mod bench;
mod carrier;
mod channel;
mod checkpoint;
mod config;
mod control;
mod error;
mod evaluate;
mod evaluation_batches;
mod events;
mod feed;
mod folder;
mod input;
mod loop_bench;
mod memory;
mod metrics;
mod mix;
mod normalize;
mod optimizer_slot;
mod predict;
mod progress;
mod resident;
mod resizing;
mod run;
mod run_dir;
mod schedule;
mod seed;
mod slot;
mod step_metrics;
mod stopwatch;
mod trainer;
mod unread;

pub use batch::{image_tensor, model_images};
pub use bench::{StepBench, StepBenchOptions, StepTimes, TrainBench, TrainBenchOptions, TrainTimes};
pub use channel::EventReceiver;
pub use config::{Augment, CheckpointPolicy, NonFinite, StepMetric, TrainConfig};
pub use control::Acknowledgement;
pub use error::{Error, Result};
pub use evaluate::{EvaluateOptions, check_fit, evaluate};
pub use evaluation_batches::{EvaluationBatch, EvaluationBatches};
pub use events::{
    AveragedScores, Best, CheckpointEvent, CheckpointKind, EndEvent, EndReason, EpochEvent, Event, RunResult,
    StartEvent, StepEvent, TrainScores,
};
pub use feed::{Feed, FeedConfig, Loaded, PixelType};
pub use loop_bench::LoopBench;
pub use metrics::{Evaluation, Metric};
pub use normalize::{for_data, for_model};
pub use optimizer_slot::{OptimizerGuard, OptimizerSlot, OptimizerView};
pub use predict::{Prediction, predict, predict_files};
pub use resizing::ProgressiveResizing;
pub use run::Run;
pub use schedule::{
    Anneal, Clock, Mode, OneCycle, Own, Plateau, PlateauStates, ScheduleConfig, Schedules, Shape, ThresholdMode,
    Watched,
};
pub use slot::ModelSlot;
pub use trainer::Datasets;
pub use unread::Unread;
