//! Items made by several threads and received in order, with a bound on how far ahead they run.
//! Thread k makes items k, k + threads, ...; the receiver visits the threads in turn, so the order
//! needs no sorting and cannot depend on timing.

use std::ops::Range;
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};

use crossbeam_channel::{Receiver, bounded};

use crate::error::{Error, Result};

/// Makes the items of one thread.
pub(crate) type Make<T> = Box<dyn FnMut(usize) -> T + Send>;

/// Threads that make the items of a range. Dropping it stops and joins them.
pub(crate) struct Ordered<T> {
    queues: Vec<Receiver<T>>,
    threads: Vec<JoinHandle<()>>,
    start: usize,
    received: usize,
}

impl<T: Send + 'static> Ordered<T> {
    /// Starts `threads` threads (at least 1) that together stay about `ahead` items, and at least
    /// one each, before the receiver.
    pub(crate) fn start(
        range: Range<usize>,
        threads: usize,
        ahead: usize,
        make: Arc<dyn Fn(usize) -> T + Send + Sync>,
    ) -> Result<Self> {
        let maker = || -> Make<T> {
            let make = Arc::clone(&make);
            Box::new(move |item| make(item))
        };
        Self::start_workers(range, threads, ahead, maker)
    }

    /// The same with threads that each have memory of their own: what `worker` gives makes the items of one.
    pub(crate) fn start_workers(
        range: Range<usize>,
        threads: usize,
        ahead: usize,
        worker: impl Fn() -> Make<T>,
    ) -> Result<Self> {
        let mut ordered = Self {
            queues: Vec::with_capacity(threads),
            threads: Vec::with_capacity(threads),
            start: range.start,
            received: 0,
        };
        // Each thread holds one finished item beside those in its queue.
        let capacity = ahead.div_ceil(threads).saturating_sub(1);
        for k in 0..threads {
            let (send, receive) = bounded(capacity);
            let mut make = worker();
            let items = range.clone().skip(k).step_by(threads);
            let work = move || {
                for item in items {
                    // Fails when the receiver is gone: then nobody wants the rest.
                    if send.send(make(item)).is_err() {
                        break;
                    }
                }
            };
            let thread = Builder::new().name("flatmin-data".to_owned()).spawn(work);
            ordered.threads.push(thread.map_err(Error::Thread)?);
            ordered.queues.push(receive);
        }
        Ok(ordered)
    }

    /// As [`Self::start`], with one function for all threads.
    pub(crate) fn shared(
        range: Range<usize>,
        threads: usize,
        ahead: usize,
        make: impl Fn(usize) -> T + Send + Sync + 'static,
    ) -> Result<Self> {
        Self::start(range, threads, ahead, Arc::new(make))
    }

    /// The next item; waits for it. Call it at most once for each item of the range.
    pub(crate) fn receive(&mut self) -> Result<T> {
        let turn = self.received % self.queues.len();
        let number = self.start + self.received;
        self.received += 1;
        self.queues[turn].recv().map_err(|_| Error::Worker(number))
    }
}

impl<T> Drop for Ordered<T> {
    fn drop(&mut self) {
        self.queues.clear();
        for thread in self.threads.drain(..) {
            // A thread that panicked has been reported by `receive` as Error::Worker.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

    use super::*;

    #[test]
    fn items_come_in_order_from_any_number_of_threads() {
        for threads in [1, 2, 3, 8] {
            let mut ordered = Ordered::start(5..40, threads, 4, Arc::new(|i| i * i)).unwrap();
            for item in 5..40 {
                assert_eq!(ordered.receive().unwrap(), item * item);
            }
        }
    }

    #[test]
    fn a_dead_thread_is_an_error_and_not_a_hang() {
        let make = |i| {
            assert!(i != 3, "on purpose");
            i
        };
        let mut ordered = Ordered::start(0..10, 2, 2, Arc::new(make)).unwrap();
        for item in 0..3 {
            assert_eq!(ordered.receive().unwrap(), item);
        }
        assert_eq!(ordered.receive().unwrap_err().code(), "ERR_FLATMIN_INTERNAL");
    }

    #[test]
    fn dropping_stops_threads_that_wait_and_joins_them() {
        let made = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&made);
        let make = move |_| counter.fetch_add(1, SeqCst);
        let mut ordered = Ordered::start(0..1_000_000, 3, 6, Arc::new(make)).unwrap();
        ordered.receive().unwrap();
        drop(ordered);
        // The threads are gone, with the counter they shared: they made no more than the bound.
        assert_eq!(Arc::strong_count(&made), 1);
        assert!(made.load(SeqCst) <= 1 + 6 + 3);
    }
}
