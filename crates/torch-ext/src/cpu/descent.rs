//! What every descent write does around its formula: blocks on all threads, and working = master where there is no
//! gradient.

use super::layout::{Block, Layout};
use super::memory::should_stream;
use super::slab::{GradientTable, Real, Slab};
use crate::parallel_for;

/// One block of a descent: the formula updates `weights` and leaves the same numbers in `working`.
pub(super) struct Descent<'a, T> {
    pub block: &'a Block,
    pub group: usize,
    pub weights: &'a mut [T],
    pub working: &'a mut [T],
    pub gradient: &'a [T],
    /// Whether `working` is better written past the caches.
    pub stream: bool,
}

/// Calls `formula` for each block of the segments that have a gradient; the others only leave a perturbation.
pub(super) fn descend<T: Real>(
    layout: &Layout,
    master: Slab<T>,
    working: Slab<T>,
    gradients: &GradientTable<'_, T>,
    formula: impl Fn(Descent<'_, T>) + Sync,
) {
    let blocks = layout.blocks();
    parallel_for(blocks.len(), |index| {
        let block = &blocks[index];
        let range = || block.global.clone();
        // SAFETY: blocks are disjoint; master and working are different arenas.
        let (weights, working) = unsafe { (master.write(range()), working.write(range())) };
        match gradients.block(block.segment, block.local.clone()) {
            None => working.copy_from_slice(weights),
            Some(gradient) => {
                let stream = should_stream(working, master.len());
                let group = layout.segment_of(block).group;
                formula(Descent { block, group, weights, working, gradient, stream });
            }
        }
    });
}
