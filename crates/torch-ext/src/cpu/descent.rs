//! What every descent write does around its formula: blocks on all threads, and working = master where there is no
//! gradient.

use super::blend::Blend;
use super::layout::{Block, Layout};
use super::slab::{Real, Slab};
use super::working::{Out, Working};
use crate::parallel_for;

/// One block of a descent: the formula updates `weights` and leaves the same numbers in `out`.
pub(super) struct Descent<'a, T> {
    pub block: &'a Block,
    pub group: usize,
    pub weights: &'a mut [T],
    pub out: Out<'a, T>,
    pub gradient: &'a [T],
}

/// Calls `formula` for each block of the segments that have a gradient; the others only leave a perturbation.
pub(super) fn descend<T: Real>(
    layout: &Layout,
    master: Slab<T>,
    working: Working<T>,
    gradient: &Blend<'_, T>,
    formula: impl Fn(Descent<'_, T>) + Sync,
) {
    let blocks = layout.blocks();
    parallel_for(blocks.len(), |index| {
        let block = &blocks[index];
        let segment = layout.segment_of(block);
        // Before `out` is made: the blend may read the working weights, as a penalty at w + eps does.
        let gradient = gradient.block(layout, block);
        // SAFETY: blocks are disjoint; master and working are different arenas.
        let (weights, mut out) = unsafe { (master.write(block.global.clone()), working.out(segment, block)) };
        match gradient {
            None => out.copy_from(weights),
            Some(gradient) => formula(Descent { block, group: segment.group, weights, out, gradient: &gradient }),
        }
    });
}
