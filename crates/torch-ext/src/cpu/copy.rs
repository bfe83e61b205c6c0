//! A streamed copy: what memory gives to a pass that reads one array and writes another. Benchmarks hold the updates
//! against it.

use multiversion::multiversion;

use super::layout::Layout;
use super::memory::{CHUNK, fence, prefetch, should_stream, store};
use super::slab::{Real, Slab};

/// to = from, on the segments of the layout.
pub fn copy<T: Real>(layout: &Layout, from: Slab<T>, to: Slab<T>) {
    layout.for_each_block(|block| {
        let range = || block.global.clone();
        // SAFETY: blocks are disjoint, and the arenas are two.
        let (from, out) = unsafe { (from.read(range()), to.write(range())) };
        let stream = should_stream(out, to.len());
        copy_block(from, out, stream);
    });
}

#[multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2+fma"))]
fn copy_block<T: Real>(from: &[T], out: &mut [T], stream: bool) {
    for (from, out) in from.chunks(CHUNK).zip(out.chunks_mut(CHUNK)) {
        prefetch(from);
        let mut values = [T::zero(); CHUNK];
        values[..from.len()].copy_from_slice(from);
        store(out, &values, stream);
    }
    fence();
}
