//! The weights that the network reads at w + eps: numbers of the master's dtype, or of 16 bits for the segments that are
//! computed in such.

use half::{bf16, f16};

use super::layout::{Block, SegmentLayout};
use super::memory::{CHUNK, is_aligned, should_stream, store};
use super::slab::{Half, HalfSlab, Real, Slab};
use super::table::Source;

/// Both sides have the master's offsets; a segment lies in one of them, as [`SegmentLayout::half`] says.
#[derive(Clone, Copy)]
pub struct Working<T> {
    full: Slab<T>,
    half: Option<HalfSlab>,
}

impl<T: Real> Working<T> {
    pub fn new(full: Slab<T>, half: Option<HalfSlab>) -> Self {
        Self { full, half }
    }

    /// # Panics
    /// If a segment has 16 bits and there is no such side: the layout was made for another arena.
    pub(super) fn half(self) -> HalfSlab {
        self.half.expect("a side of 16 bits")
    }

    pub(super) fn source(self, segment: &SegmentLayout) -> Source<T> {
        match segment.half {
            true => Source::Half(self.half().part(segment.range())),
            false => Source::Full(self.full.part(segment.range())),
        }
    }

    /// Where one block's results go.
    ///
    /// # Safety
    /// No other thread reads or writes the block meanwhile, and no other slice of it is alive.
    pub(super) unsafe fn out<'a>(self, segment: &SegmentLayout, block: &Block) -> Out<'a, T> {
        let range = block.global.clone();
        if segment.half {
            return match self.half() {
                HalfSlab::BFloat16(half) => Out::BFloat16(unsafe { half.write(range) }),
                HalfSlab::Float16(half) => Out::Float16(unsafe { half.write(range) }),
            };
        }
        let values = unsafe { self.full.write(range) };
        let stream = should_stream(values, self.full.len());
        Out::Full { values, stream }
    }
}

/// The place of one block's results. Those of full width may be streamed past the caches.
pub(super) enum Out<'a, T> {
    Full { values: &'a mut [T], stream: bool },
    BFloat16(&'a mut [bf16]),
    Float16(&'a mut [f16]),
}

impl<T: Real> Out<'_, T> {
    /// Writes up to one chunk; `start` is a multiple of [`CHUNK`].
    #[inline(always)]
    pub fn put(&mut self, start: usize, values: &[T; CHUNK], len: usize) {
        match self {
            Out::Full { values: out, stream } => store(&mut out[start..start + len], values, *stream),
            Out::BFloat16(out) => narrow(values, &mut out[start..start + len]),
            Out::Float16(out) => narrow(values, &mut out[start..start + len]),
        }
    }

    /// The results `range` of the block, streamed if they lie where a streamed store can begin.
    pub fn part(&mut self, range: std::ops::Range<usize>) -> Out<'_, T> {
        match self {
            Out::Full { values, stream } => {
                let values = &mut values[range];
                let stream = *stream && is_aligned(values);
                Out::Full { values, stream }
            }
            Out::BFloat16(values) => Out::BFloat16(&mut values[range]),
            Out::Float16(values) => Out::Float16(&mut values[range]),
        }
    }

    pub fn copy_from(&mut self, weights: &[T]) {
        match self {
            Out::Full { values, .. } => values.copy_from_slice(weights),
            Out::BFloat16(values) => narrow(weights, values),
            Out::Float16(values) => narrow(weights, values),
        }
    }
}

/// Rounds each number.
#[inline(always)]
pub(super) fn narrow<T: Real, H: Half>(values: &[T], out: &mut [H]) {
    for (out, &value) in out.iter_mut().zip(values) {
        *out = H::round(value);
    }
}
