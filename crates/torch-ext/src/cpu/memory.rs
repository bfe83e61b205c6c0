//! Memory traffic that the compiler does not arrange by itself: prefetches far enough ahead for arenas that no cache
//! holds, and stores that go past the caches.
//!
//! A core waits for memory most of the time in these kernels. Its own prefetchers stop at each 4 KiB page, so asking ahead
//! of them was measured to be worth a quarter; a plain store first reads the line it is about to overwrite, a streaming
//! store does not.

/// Elements a kernel works on at once: several vectors, so that sums do not wait for each other.
pub(super) const CHUNK: usize = 64;

/// How far ahead of the element at hand lines are asked for, in bytes.
const AHEAD: usize = 4096;

/// Results of this many bytes and more do not stay in a second-level cache anyway.
const STREAM_FROM: usize = 16 << 20;

/// Asks for the lines that lie `AHEAD` of this chunk. Asking past the end of an array is harmless.
#[inline(always)]
pub(super) fn prefetch<T>(chunk: &[T]) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
        let start = chunk.as_ptr().cast::<i8>();
        for offset in (0..size_of_val(chunk)).step_by(64) {
            // SAFETY: a prefetch never faults.
            unsafe { _mm_prefetch::<_MM_HINT_T1>(start.wrapping_add(AHEAD + offset)) };
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (chunk, AHEAD);
}

/// Whether results that go to this place are better streamed past the caches.
pub(super) fn should_stream<T>(out: &[T], arena_len: usize) -> bool {
    cfg!(target_arch = "x86_64") && arena_len * size_of::<T>() >= STREAM_FROM && is_aligned(out)
}

/// Whether a streamed store can begin here: at a line of the caches.
pub(super) fn is_aligned<T>(out: &[T]) -> bool {
    out.as_ptr().addr().is_multiple_of(64)
}

/// Writes one chunk, past the caches if asked to.
///
/// `stream` needs `out` to lie at a multiple of 64 bytes, as [`should_stream`] found out for the start of the array.
#[inline(always)]
pub(super) fn store<T: Copy>(out: &mut [T], values: &[T; CHUNK], stream: bool) {
    #[cfg(target_arch = "x86_64")]
    if stream && out.len() == CHUNK {
        use std::arch::x86_64::{__m128i, _mm_loadu_si128, _mm_stream_si128};
        let vectors = size_of_val(values) / size_of::<__m128i>();
        let (source, target) = (values.as_ptr().cast::<__m128i>(), out.as_mut_ptr().cast::<__m128i>());
        for index in 0..vectors {
            // SAFETY: both hold CHUNK elements, and `target` is aligned as the caller promises.
            unsafe { _mm_stream_si128(target.add(index), _mm_loadu_si128(source.add(index))) };
        }
        return;
    }
    let _ = stream;
    out.copy_from_slice(&values[..out.len()]);
}

/// Makes streamed stores visible before other threads are told that the work is done.
#[inline(always)]
pub(super) fn fence() {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: sfence has no preconditions.
    unsafe {
        std::arch::x86_64::_mm_sfence();
    }
}
