//! The way back to w where something was written for w + eps: the weights of 16 bits. Those of full width the network reads
//! from the master itself.

use super::descent::round;
use super::layout::Layout;
use super::slab::{HalfSlab, Real, Slab};

/// Sets the weights of 16 bits to the master's, rounded.
pub fn restore<T: Real>(layout: &Layout, master: Slab<T>, half: HalfSlab) {
    layout.for_each_block(|block| {
        if layout.segment_of(block).half {
            // SAFETY: the master is only read.
            round(half, block, unsafe { master.read(block.global.clone()) });
        }
    });
}
