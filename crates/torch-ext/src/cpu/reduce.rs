//! Sums over an arena that do not depend on the number of threads: one partial sum a block, added in order.

use std::ops::Add;

use super::layout::{Block, Layout};
use crate::parallel_for;

pub(super) fn reduce<S: Copy + Default + Add<Output = S>>(
    layout: &Layout,
    block_sum: impl Fn(&Block) -> S + Sync,
) -> S {
    struct Slots<S>(*mut S);
    // SAFETY: each slot is written by one thread.
    unsafe impl<S> Sync for Slots<S> {}
    impl<S> Slots<S> {
        /// # Safety
        /// Each index is written by one thread.
        unsafe fn set(&self, index: usize, value: S) {
            unsafe { *self.0.add(index) = value }
        }
    }
    let blocks = layout.blocks();
    let mut sums = vec![S::default(); blocks.len()];
    let slots = Slots(sums.as_mut_ptr());
    parallel_for(blocks.len(), |index| unsafe { slots.set(index, block_sum(&blocks[index])) });
    sums.into_iter().fold(S::default(), Add::add)
}
