//! Optimizers: base optimizers, the sharpness-aware wrapper, losses, and the step that ties a model to them.

mod adam;
mod base;
mod config;
mod error;
mod group;
mod loss;
mod optimizer;
mod sam;
mod sgd;
mod step;

pub use config::{Adaptive, BaseConfig, BatchNormPolicy, OptimizerConfig, Restore, Scale, SharpnessConfig};
pub use error::{Error, Result};
pub use group::{Factors, Group};
pub use loss::{Loss, Target};
pub use optimizer::{Counters, Optimizer, Phase, StepInfo};
pub use step::{PassOutcome, StepOutcome, backward, train_step};
