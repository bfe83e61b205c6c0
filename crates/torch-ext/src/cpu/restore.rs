//! working = master, for steps that are given up: one parallel copy, bit for bit (or rounded, where the network reads
//! 16 bits).

use super::layout::Layout;
use super::slab::{Real, Slab};
use super::working::Working;
use crate::parallel_for;

/// Takes the working weights out of a perturbation.
pub fn restore<T: Real>(layout: &Layout, master: Slab<T>, working: Working<T>) {
    let blocks = layout.blocks();
    parallel_for(blocks.len(), |index| {
        let block = &blocks[index];
        // SAFETY: blocks are disjoint, master and working are different arenas.
        let (mut out, weights) =
            unsafe { (working.out(layout.segment_of(block), block), master.read(block.global.clone())) };
        out.copy_from(weights);
    });
}
