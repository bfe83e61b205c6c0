//! Models: parameter arenas, layers, the model spec, the zoo, state dicts.

mod arena;
mod buffers;
mod compile;
mod dtype;
mod engine;
mod error;
mod freeze;
mod init;
mod layers;
mod load_options;
mod model;
mod onnx;
mod replace;
mod script;
mod site;
pub mod spec;
mod state_dict;
mod summary;
mod torch_file;
mod weight_file;
pub mod zoo;

pub use arena::{ALIGNMENT, Gradients, MemoryFormat, ParamKind, ParamSpec, ParameterArena, Segment, Standing};
pub use buffers::{BufferArena, RunningStatistics};
pub use dtype::Dtype;
pub use engine::{Engine, cuda_library, device_name, use_cuda_library};
pub use error::{Error, Result};
pub use layers::{Pass, Statistics};
pub use load_options::LoadOptions;
pub use model::Model;
pub use onnx::ONNX_OPSET;
pub use script::ScriptOptions;
pub use spec::{ModelSpec, Normalization};
pub use state_dict::{LoadReport, Mismatch};
pub use summary::{LayerSummary, Summary};
pub use weight_file::SPEC_KEY;
