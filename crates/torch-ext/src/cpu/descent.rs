//! What every descent write does around its formula: blocks on all threads, and weights of 16 bits rounded anew from the
//! master. Those of full width the network reads from the master itself.

use multiversion::multiversion;

use super::blend::Blend;
use super::layout::{Block, Layout};
use super::slab::{Half, HalfSlab, Real, Slab};
use super::working::narrow;

/// One block of a descent: the formula updates `weights`.
pub(super) struct Descent<'a, T> {
    pub block: &'a Block,
    pub group: usize,
    pub weights: &'a mut [T],
    pub gradient: &'a [T],
}

/// Calls `formula` for each block of the segments that have a gradient, and rounds all that have 16 bits into `half`.
pub(super) fn descend<T: Real>(
    layout: &Layout,
    master: Slab<T>,
    half: Option<HalfSlab>,
    gradient: &Blend<'_, T>,
    formula: impl Fn(Descent<'_, T>) + Sync,
) {
    layout.for_each_block(|block| {
        let segment = layout.segment_of(block);
        // Before anything is written: the blend may read weights, as a penalty does.
        let gradient = gradient.block(layout, block);
        // SAFETY: blocks are disjoint, and what the blend read of this one was either copied or lies elsewhere.
        let weights = unsafe { master.write(block.global.clone()) };
        if let Some(gradient) = &gradient {
            formula(Descent { block, group: segment.group, weights, gradient });
        }
        if let Some(half) = half.filter(|_| segment.half) {
            round(half, block, weights);
        }
    });
}

/// Sets one block of a side of 16 bits to these numbers.
pub(super) fn round<T: Real>(half: HalfSlab, block: &Block, weights: &[T]) {
    let range = block.global.clone();
    // SAFETY: blocks are disjoint, and each belongs to one thread.
    match half {
        HalfSlab::BFloat16(half) => narrow_block(weights, unsafe { half.write(range) }),
        HalfSlab::Float16(half) => narrow_block(weights, unsafe { half.write(range) }),
    }
}

#[multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2+fma"))]
fn narrow_block<T: Real, H: Half>(values: &[T], out: &mut [H]) {
    narrow(values, out);
}
