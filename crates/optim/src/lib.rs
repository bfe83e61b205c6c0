//! Optimizers: base optimizers, the sharpness-aware wrapper, losses, and the step that ties a model to them.

mod adam;
mod ascent;
mod averaging;
mod base;
mod class_weights;
mod combine;
mod config;
mod device_step;
mod error;
mod group;
mod kernels;
mod loss;
mod loss_scale;
mod mix;
mod neighbourhood;
mod optimizer;
mod rounding;
mod sam;
mod setting;
mod sgd;
mod state;
mod step;

pub use averaging::{AverageConfig, AverageCount, AverageStatistics, Averaging};
pub use class_weights::ClassWeights;
pub use config::{
    Adaptive, BallConfig, BaseConfig, BatchNormPolicy, Clip, Decay, GroupConfig, MaskBy, Masks, MetricsFrom,
    OptimizerConfig, PNorm, Perturb, Reduction, Restore, Scale, SharpnessConfig, Variant,
};
pub use device_step::Recorded;
pub use error::{Error, Result};
pub use group::{Factors, Group};
pub use loss::{Loss, Target};
pub use loss_scale::{LossScaleConfig, LossScaleState};
pub use neighbourhood::{Neighbourhood, Noise};
pub use optimizer::{Optimizer, Phase, StepInfo};
pub use rounding::Rounding;
pub use sam::Plan;
pub use state::Counters;
pub use step::{PassOutcome, StepOptions, StepOutcome, backward, train_step, train_step_while};
