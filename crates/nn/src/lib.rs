//! Models: parameter arenas, layers, the model spec, the zoo, state dicts.

mod arena;
mod buffers;
mod compile;
mod dtype;
mod error;
mod init;
mod layers;
mod model;
mod site;
pub mod spec;
mod state_dict;
mod summary;
mod weight_file;
pub mod zoo;

pub use arena::{ALIGNMENT, Gradients, ParamKind, ParamSpec, ParameterArena, Segment};
pub use buffers::{BufferArena, RunningStatistics};
pub use dtype::Dtype;
pub use error::{Error, Result};
pub use layers::{Pass, Statistics};
pub use model::Model;
pub use spec::{ModelSpec, Normalization};
pub use state_dict::LoadReport;
pub use summary::{LayerSummary, Summary};
pub use weight_file::SPEC_KEY;
