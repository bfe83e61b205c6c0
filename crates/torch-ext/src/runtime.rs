//! Threads, denormals and memory: the process-wide side of libtorch, and the parallel loop that our kernels run on.

use std::ffi::{CStr, c_void};
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use crate::ffi;

/// Prepares libtorch for training in this process: the caching CPU allocator. Does nothing the second time.
pub fn configure() {
    unsafe { ffi::flatmin_install_allocator() }
}

/// How many threads an operation uses when called from this thread, and from threads that start later.
pub fn set_num_threads(threads: i32) {
    unsafe { ffi::flatmin_set_num_threads(threads) }
}

/// Settles how many threads an operation uses when called from this thread, whatever others do: this number, or as many as
/// threads get that start now. Unlike [`set_num_threads`], this leaves alone what threads get that start later.
pub fn settle_num_threads(threads: Option<i32>) {
    static ALONE: Mutex<()> = Mutex::new(());

    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    // A thread takes what was set last when it first asks.
    let _ = num_threads();
    let Some(threads) = threads else { return };
    let others = on_new_thread(num_threads);
    set_num_threads(threads);
    on_new_thread(|| set_num_threads(others));
}

fn on_new_thread<R: Send>(work: impl FnOnce() -> R + Send) -> R {
    thread::scope(|scope| scope.spawn(work).join()).unwrap_or_else(|panic| resume_unwind(panic))
}

/// How many threads an operation uses when called from this thread.
pub fn num_threads() -> i32 {
    unsafe { ffi::flatmin_num_threads() }
}

/// Treats denormal numbers as zero on this thread and the workers it starts later. Answers whether the CPU can.
pub fn set_flush_denormal(on: bool) -> bool {
    unsafe { ffi::flatmin_set_flush_denormal(on.into()) != 0 }
}

/// The instruction set that libtorch's own kernels use here: `AVX512`, `AVX2`, ...
pub fn cpu_capability() -> &'static str {
    unsafe { CStr::from_ptr(ffi::flatmin_cpu_capability()) }.to_str().unwrap_or("unknown")
}

/// The libtorch version this library was compiled against.
pub fn torch_version() -> &'static str {
    unsafe { CStr::from_ptr(ffi::flatmin_torch_version()) }.to_str().unwrap_or("unknown")
}

/// Calls `body(i)` once for each `i < count` on torch's threads. Indices are handed out one by one, so that a thread
/// that loses its core for a while does not hold up the others; `body` must therefore not care which thread runs it.
pub fn parallel_for(count: usize, body: impl Fn(usize) + Sync) {
    struct Shared<'a, F> {
        next: AtomicUsize,
        count: usize,
        body: &'a F,
    }
    extern "C" fn work<F: Fn(usize) + Sync>(context: *mut c_void, _worker: i64) {
        // SAFETY: `context` is the Shared below, which outlives the loop.
        let shared = unsafe { &*context.cast::<Shared<'_, F>>() };
        loop {
            let index = shared.next.fetch_add(1, Ordering::Relaxed);
            if index >= shared.count {
                return;
            }
            (shared.body)(index);
        }
    }
    fn start<F: Fn(usize) + Sync>(mut shared: Shared<'_, F>, workers: i64) {
        let context = std::ptr::from_mut(&mut shared).cast();
        unsafe { ffi::flatmin_parallel_for(workers, work::<F>, context) }
    }
    let workers = i64::from(num_threads()).min(count as i64);
    start(Shared { next: AtomicUsize::new(0), count, body: &body }, workers);
}

/// Runs a test's computation on so many threads.
#[cfg(test)]
pub(crate) fn with_num_threads<R>(threads: i32, body: impl FnOnce() -> R) -> R {
    let before = num_threads();
    settle_num_threads(Some(threads));
    let result = body();
    settle_num_threads(Some(before));
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_index_once() {
        let hits: Vec<AtomicUsize> = (0..1000).map(|_| AtomicUsize::new(0)).collect();
        parallel_for(hits.len(), |i| {
            hits[i].fetch_add(1, Ordering::Relaxed);
        });
        assert!(hits.iter().all(|hit| hit.load(Ordering::Relaxed) == 1));
        parallel_for(0, |_| panic!("no index to run"));
    }

    #[test]
    fn a_settled_number_stays() {
        on_new_thread(|| {
            settle_num_threads(Some(3));
            on_new_thread(|| settle_num_threads(Some(5)));
            assert_eq!(num_threads(), 3);
        });
    }

    #[test]
    fn versions_are_readable() {
        assert!(torch_version().starts_with("2."));
        assert!(!cpu_capability().is_empty());
    }
}
