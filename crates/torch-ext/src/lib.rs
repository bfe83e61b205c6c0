//! What flatmin needs of libtorch and tch lacks: a small C++ shim with its safe Rust face, and the fused kernels of the
//! optimizers. Nothing that tch already has is here.

mod conv;
mod draw;
mod error;
mod ffi;
mod generator;
mod image;
mod matmul;
mod norm_act;
mod runtime;
mod script;
mod switches;
mod tensor;

pub mod cpu;
pub mod cuda;

pub use conv::conv2d;
pub use draw::{Draw, Seed, draw_like};
pub use error::{Error, Result};
pub use generator::Generator;
pub use image::{image_mean, padded_subsample};
pub use matmul::{linear, self_attention};
pub use norm_act::{BatchNorm, batch_norm_relu};
pub use runtime::{
    configure, cpu_capability, num_threads, parallel_for, set_flush_denormal, set_num_threads, settle_num_threads,
    torch_version,
};
pub use script::{ScriptModule, ScriptTensor};
pub use switches::Switches;
pub use tensor::{bump_version, channels_last, clear_grad, set_grad};
