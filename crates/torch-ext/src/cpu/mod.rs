//! The update kernels on the CPU: a norm pass and a write pass over flat arenas, vectorised for the CPU at hand and
//! threaded, with no temporary arrays.
//!
//! Arenas are cut into blocks that fit the inner caches; every kernel is a loop over blocks on torch's threads with a
//! straight loop over elements inside. Sums are kept a block and added in order, so results do not depend on threads.

mod adam;
mod avx512;
mod blend;
mod combine;
pub mod conv;
mod copy;
mod descent;
mod dual_norm;
mod layout;
mod mask;
#[cfg(target_arch = "x86_64")]
pub(crate) mod matmul;
mod memory;
mod norm;
pub(crate) mod norm_act;
mod perturb;
mod power;
mod reduce;
mod restore;
mod rounding;
mod scratch;
mod sgd;
mod slab;
pub(crate) mod stored;
mod table;
#[cfg(test)]
mod tests;
mod working;

pub use adam::{AdamStep, adam};
pub use blend::Blend;
pub use combine::{Products, assign, products, translate};
pub use copy::copy;
pub use dual_norm::{DualNorm, dual_norm};
pub use layout::{Geometry, Layout, SegmentLayout};
pub use mask::{Mask, MaskUnit, split_mix, uniform};
pub use norm::{GradientNorms, gradient_norms};
pub use perturb::{Origin, Perturbation, Shape, perturb};
pub use restore::restore;
pub use rounding::rounded_displacement;
pub use sgd::{SgdStep, sgd};
pub use slab::{HalfSlab, Number, Real, Slab};
pub use table::GradientTable;
pub use working::Working;
