//! The update kernels on the CPU: a norm pass and a write pass over flat arenas, vectorised for the CPU at hand and
//! threaded, with no temporary arrays.
//!
//! Arenas are cut into blocks that fit the inner caches; every kernel is a loop over blocks on torch's threads with a
//! straight loop over elements inside. Sums are kept a block and added in order, so results do not depend on threads.

mod adam;
mod descent;
mod layout;
mod memory;
mod norm;
pub(crate) mod norm_act;
mod perturb;
mod restore;
mod sgd;
mod slab;
#[cfg(test)]
mod tests;

pub use adam::{AdamStep, adam};
pub use layout::{Geometry, Layout, SegmentLayout};
pub use norm::{GradientNorms, gradient_norms};
pub use perturb::{Perturbation, perturb};
pub use restore::restore;
pub use sgd::{SgdStep, sgd};
pub use slab::{GradientTable, Real, Slab};
