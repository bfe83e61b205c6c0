//! The GPU: our CUDA library behind a safe face, opened at run time, and its kernels' twin on the CPU.
//!
//! Kernels run at a [`Place`]. On a GPU they are queued in torch's current stream and nothing here waits for the device, so
//! every one of them can be part of a captured [`Graph`]. The twin, [`Place::twin`], is the same source compiled for the CPU: the same
//! formulas, every sum in the same order.

mod blend;
mod cut;
mod device;
mod draw;
mod ffi;
mod graph;
mod input;
mod layers;
mod library;
mod own_stream;
mod place;
mod step;
mod stream;
#[cfg(test)]
mod tests;
mod update;
mod upload;
mod words;

pub use blend::{Blend, Table};
pub use cut::Cut;
pub use device::{DeviceProperties, MemoryStatistics};
pub use graph::Graph;
pub use input::{Augmentation, Feed, Images};
pub use library::{Cuda, file_name};
pub use own_stream::OwnStream;
pub use place::Place;
pub use step::{Group, Groups, StepRecord, StepValues};
pub use update::{Arenas, Ball, Displacement, Mask, Metric, NormPass, Shape, Update};
pub use upload::{Upload, Uploader};
pub use words::Words;
