//! Batches of an epoch, prepared ahead by threads.
//! Order and contents depend on the seed, the epoch and the batch number alone, so any number of
//! threads gives the same run and an epoch can be taken up in its middle.

use std::sync::Arc;

use crate::batch::{Batch, Pool};
use crate::dataset::Dataset;
use crate::error::{Error, Result};
use crate::ordered::Ordered;
use crate::random::{Purpose, Stream};
use crate::transform::{Transform, Writer};

/// More threads or batches ahead than any machine has use for: a guard against mistaken options.
const MAX_THREADS: usize = 256;
const MAX_PREFETCH: usize = 4096;

/// How a set is cut into batches.
#[derive(Clone, Debug, PartialEq)]
pub struct LoaderOptions {
    /// Images a batch, at least 1. Default 128.
    pub batch_size: usize,
    /// A new order each epoch; else the order of the set. Default false.
    pub shuffle: bool,
    /// Leave out the last batch of an epoch when it is not full. Default false.
    pub drop_last: bool,
    /// Fixes order and augmentation. Default 0.
    pub seed: u64,
    /// Threads that prepare batches, at most 256; 0: the caller's own thread does. Default 1.
    pub threads: usize,
    /// Batches ready ahead, at most 4096; each thread keeps at least one. Default 4.
    pub prefetch: usize,
    pub transform: Transform,
}

impl LoaderOptions {
    /// The defaults, with this transform.
    pub fn new(transform: Transform) -> Self {
        Self { batch_size: 128, shuffle: false, drop_last: false, seed: 0, threads: 1, prefetch: 4, transform }
    }
}

/// A set, cut into batches. Holds no threads itself: each epoch has its own.
pub struct Loader {
    core: Arc<Core>,
    threads: usize,
    prefetch: usize,
}

/// What the threads share.
struct Core {
    set: Dataset,
    writer: Writer,
    batch_size: usize,
    batches: usize,
    shuffle: bool,
    seed: u64,
    pool: Pool,
}

impl Loader {
    /// Errors with `ERR_FLATMIN_OPTION` on options out of range, and when `drop_last` would leave no
    /// batch at all.
    pub fn new(set: Dataset, options: LoaderOptions) -> Result<Self> {
        let LoaderOptions { batch_size, threads, prefetch, .. } = options;
        if batch_size == 0 {
            return Err(Error::option("batchSize", batch_size, "at least 1"));
        }
        if threads > MAX_THREADS {
            let expected = format!("at most {MAX_THREADS}");
            return Err(Error::option("loaderThreads", threads, expected));
        }
        if prefetch > MAX_PREFETCH {
            let expected = format!("at most {MAX_PREFETCH}");
            return Err(Error::option("prefetch", prefetch, expected));
        }
        let batches = match options.drop_last {
            true => set.len() / batch_size,
            false => set.len().div_ceil(batch_size),
        };
        if batches == 0 {
            let expected = format!(
                "at most {}, the images of {}, when the last batch is dropped unless full",
                set.len(),
                set.name()
            );
            return Err(Error::option("batchSize", batch_size, expected));
        }
        let core = Core {
            writer: Writer::new(&options.transform, &set)?,
            set,
            batch_size,
            batches,
            shuffle: options.shuffle,
            seed: options.seed,
            pool: Pool::new(prefetch + threads + 1),
        };
        Ok(Self { core: Arc::new(core), threads, prefetch })
    }

    /// Batches an epoch, at least 1.
    #[allow(clippy::len_without_is_empty)] // a loader without batches cannot be made
    pub fn len(&self) -> usize {
        self.core.batches
    }

    pub fn dataset(&self) -> &Dataset {
        &self.core.set
    }

    /// The batches of this epoch from number `start_batch` on (0: all); the same ones as an epoch
    /// from its beginning gives there. Threads start at once and end when the iterator is dropped.
    /// An error, if any, is the last item.
    pub fn epoch(&self, epoch: u64, start_batch: usize) -> BatchIter {
        let range = start_batch..self.len();
        if start_batch > self.len() {
            let expected = format!("0 to {}, the batches of an epoch", self.len());
            return BatchIter::failed(Error::option("startBatch", start_batch, expected));
        }
        let plan = Arc::new(Plan::new(Arc::clone(&self.core), epoch));
        let threads = self.threads.min(range.len());
        if threads == 0 {
            return BatchIter { source: Source::Caller(plan), range };
        }
        let make = Arc::new(move |number| plan.batch(number));
        match Ordered::start(range.clone(), threads, self.prefetch, make) {
            Ok(ordered) => BatchIter { source: Source::Threads(ordered), range },
            Err(error) => BatchIter::failed(error),
        }
    }

    /// Takes back a batch that is no longer needed, so that its memory serves a later one.
    pub fn recycle(&self, batch: Batch) {
        self.core.pool.give(batch);
    }
}

/// The order of one epoch.
struct Plan {
    core: Arc<Core>,
    epoch: u64,
    /// Positions in the set; `None`: in order.
    order: Option<Vec<u32>>,
}

impl Plan {
    fn new(core: Arc<Core>, epoch: u64) -> Self {
        let order = core.shuffle.then(|| Stream::new(core.seed, Purpose::Order, epoch, 0).permutation(core.set.len()));
        Self { core, epoch, order }
    }

    fn batch(&self, number: usize) -> Result<Batch> {
        let core = &*self.core;
        let start = number * core.batch_size;
        let count = core.batch_size.min(core.set.len() - start);
        let elements = core.set.shape().elements();
        let mut batch = core.pool.take(count, elements);
        let images = batch.images.chunks_exact_mut(elements);
        for (at, (image, label)) in images.zip(&mut batch.labels).enumerate() {
            let index = match &self.order {
                Some(order) => order[start + at] as usize,
                None => start + at,
            };
            core.writer.write(&core.set, index, core.seed, self.epoch, image)?;
            *label = i64::from(core.set.labels()[index]);
        }
        Ok(batch)
    }
}

/// The batches of an epoch, in order. Dropping it stops and joins its threads.
pub struct BatchIter {
    source: Source,
    /// Numbers of the batches still to come.
    range: std::ops::Range<usize>,
}

enum Source {
    Caller(Arc<Plan>),
    Threads(Ordered<Result<Batch>>),
    Failed(Option<Error>),
}

impl BatchIter {
    fn failed(error: Error) -> Self {
        Self { source: Source::Failed(Some(error)), range: 0..1 }
    }
}

impl Iterator for BatchIter {
    type Item = Result<Batch>;

    fn next(&mut self) -> Option<Self::Item> {
        let number = self.range.next()?;
        let batch = match &mut self.source {
            Source::Caller(plan) => plan.batch(number),
            Source::Threads(ordered) => ordered.receive().flatten(),
            Source::Failed(error) => Err(error.take()?),
        };
        if batch.is_err() {
            self.range = 0..0;
        }
        Some(batch)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (0, Some(self.range.len()))
    }
}
