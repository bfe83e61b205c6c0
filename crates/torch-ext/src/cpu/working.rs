//! The weights that the network reads: numbers of the master's dtype, or bfloat16 for the segments that are computed in it.

use half::bf16;

use super::layout::{Block, SegmentLayout};
use super::memory::{CHUNK, is_aligned, should_stream, store};
use super::slab::{Real, Slab};
use super::table::Source;

/// Both sides have the master's offsets; a segment lies in one of them, as [`SegmentLayout::half`] says.
#[derive(Clone, Copy)]
pub struct Working<T> {
    full: Slab<T>,
    half: Option<Slab<bf16>>,
}

impl<T: Real> Working<T> {
    pub fn new(full: Slab<T>, half: Option<Slab<bf16>>) -> Self {
        Self { full, half }
    }

    /// # Panics
    /// If a segment is bfloat16 and there is no such side: the layout was made for another arena.
    fn half(self) -> Slab<bf16> {
        self.half.expect("a bfloat16 side")
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
            return Out::Half(unsafe { self.half().write(range) });
        }
        let values = unsafe { self.full.write(range) };
        let stream = should_stream(values, self.full.len());
        Out::Full { values, stream }
    }
}

/// The place of one block's results. Those of full width may be streamed past the caches.
pub(super) enum Out<'a, T> {
    Full { values: &'a mut [T], stream: bool },
    Half(&'a mut [bf16]),
}

impl<T: Real> Out<'_, T> {
    /// Writes up to one chunk; `start` is a multiple of [`CHUNK`].
    #[inline(always)]
    pub fn put(&mut self, start: usize, values: &[T; CHUNK], len: usize) {
        match self {
            Out::Full { values: out, stream } => store(&mut out[start..start + len], values, *stream),
            Out::Half(out) => {
                for (out, value) in out[start..start + len].iter_mut().zip(values) {
                    *out = value.to_half();
                }
            }
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
            Out::Half(values) => Out::Half(&mut values[range]),
        }
    }

    pub fn copy_from(&mut self, weights: &[T]) {
        match self {
            Out::Full { values, .. } => values.copy_from_slice(weights),
            Out::Half(values) => {
                for (out, weight) in values.iter_mut().zip(weights) {
                    *out = weight.to_half();
                }
            }
        }
    }
}
