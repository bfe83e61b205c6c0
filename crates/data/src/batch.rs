//! One batch, and the pool through which its buffers come back.
//! Reused buffers stay mapped, which saves a page fault every 4 kB of every batch.

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::sample::{Format, Images};

/// Images and labels that go through the model together.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Batch {
    /// Pixels, `[count, height, width, channels]`, in the format that the loader was asked for.
    pub images: Images,
    /// Class numbers, `[count]`.
    pub labels: Vec<i64>,
    /// Number of images; the last batch of an epoch may have fewer than the others, and so has one of
    /// whose images some were skipped.
    pub count: usize,
}

impl Batch {
    /// Keeps the first `count` images of `elements` values.
    pub(crate) fn truncate(&mut self, count: usize, elements: usize) {
        self.images.truncate(count * elements);
        self.labels.truncate(count);
        self.count = count;
    }
}

/// Used batches that wait for reuse. Never blocks: what does not fit is freed.
#[derive(Clone)]
pub(crate) struct Pool {
    give: Sender<Batch>,
    take: Receiver<Batch>,
}

impl Pool {
    pub(crate) fn new(capacity: usize) -> Self {
        let (give, take) = bounded(capacity);
        Self { give, take }
    }

    pub(crate) fn give(&self, batch: Batch) {
        // A full pool hands the batch back in the error, which frees it.
        let _ = self.give.try_send(batch);
    }

    /// A batch of this size, its contents unspecified.
    pub(crate) fn take(&self, format: Format, count: usize, elements: usize) -> Batch {
        let mut batch = self.take.try_recv().unwrap_or_default();
        batch.images.reset(format, count * elements);
        batch.labels.resize(count, 0);
        batch.count = count;
        batch
    }
}
