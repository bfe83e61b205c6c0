//! working = master, for steps that are given up: one parallel copy, bit for bit.

use super::layout::Layout;
use super::slab::{Real, Slab};
use crate::parallel_for;

/// Takes the working arena out of a perturbation.
pub fn restore<T: Real>(layout: &Layout, master: Slab<T>, working: Slab<T>) {
    let blocks = layout.blocks();
    parallel_for(blocks.len(), |index| {
        let range = blocks[index].global.clone();
        // SAFETY: blocks are disjoint, master and working are different arenas.
        unsafe { working.write(range.clone()).copy_from_slice(master.read(range)) }
    });
}
