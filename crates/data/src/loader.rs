//! Batches of an epoch, prepared ahead by threads.
//! Order and contents depend on the seed, the epoch and the batch number alone, so any number of
//! threads gives the same run and an epoch can be taken up in its middle.

use std::ops::Range;
use std::sync::Arc;

use crate::batch::{Batch, Pool};
use crate::dataset::Dataset;
use crate::encoded::BadImages;
use crate::error::{Error, Result};
use crate::ordered::{Make, Ordered};
use crate::random::{Purpose, Stream};
use crate::sample::{Format, Images, Sample};
use crate::transform::Transform;
use crate::writer::{Scratch, Showing, Writer};

/// More threads or batches ahead than any machine has use for: a guard against mistaken options.
const MAX_THREADS: usize = 256;
const MAX_PREFETCH: usize = 4096;

/// Images tried in place of a bad one, before it ends the run.
const REPLACEMENTS: usize = 100;

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
    /// Of the pixels. Default [`Format::F32`].
    pub format: Format,
    pub transform: Transform,
}

impl LoaderOptions {
    /// The defaults, with this transform.
    pub fn new(transform: Transform) -> Self {
        let format = Format::default();
        Self { batch_size: 128, shuffle: false, drop_last: false, seed: 0, threads: 1, prefetch: 4, format, transform }
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
    format: Format,
    pool: Pool,
}

impl Core {
    /// `None`: in order.
    fn order(&self, epoch: u64) -> Option<Vec<u32>> {
        self.shuffle.then(|| Stream::new(self.seed, Purpose::Order, epoch, 0).permutation(self.set.len()))
    }
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
            writer: Writer::new(&options.transform, options.format, &set)?,
            set,
            batch_size,
            batches,
            shuffle: options.shuffle,
            seed: options.seed,
            format: options.format,
            pool: Pool::new(prefetch + threads + 1),
        };
        Ok(Self { core: Arc::new(core), threads, prefetch })
    }

    /// The same batches as bytes, where nothing but their normalisation is lost: not if parts of the images are blanked, which
    /// comes after it.
    ///
    /// # Errors
    /// None that [`Self::new`] has not told.
    pub fn as_bytes(&self) -> Result<Option<Self>> {
        let Core { set, writer, batch_size, batches, shuffle, seed, format, .. } = &*self.core;
        let transform = &writer.transform;
        let blanks = transform.erasing.is_some() || transform.cutout.is_some();
        if !set.has_bytes() || blanks || *format == Format::U8 {
            return Ok(None);
        }
        let core = Core {
            writer: Writer::new(transform, Format::U8, set)?,
            set: set.clone(),
            format: Format::U8,
            pool: Pool::new(self.prefetch + self.threads + 1),
            batch_size: *batch_size,
            batches: *batches,
            shuffle: *shuffle,
            seed: *seed,
        };
        Ok(Some(Self { core: Arc::new(core), threads: self.threads, prefetch: self.prefetch }))
    }

    /// Batches an epoch, at least 1.
    #[allow(clippy::len_without_is_empty)] // a loader without batches cannot be made
    pub fn len(&self) -> usize {
        self.core.batches
    }

    pub fn dataset(&self) -> &Dataset {
        &self.core.set
    }

    /// Positions in the set in the order in which an epoch shows them.
    pub fn order(&self, epoch: u64) -> Vec<u32> {
        self.core.order(epoch).unwrap_or_else(|| (0..self.core.set.len() as u32).collect())
    }

    pub fn batch_size(&self) -> usize {
        self.core.batch_size
    }

    /// What is done to each image.
    pub fn transform(&self) -> &Transform {
        &self.core.writer.transform
    }

    /// Of the pixels.
    pub fn format(&self) -> Format {
        self.core.format
    }

    /// What fixes order and augmentation.
    pub fn seed(&self) -> u64 {
        self.core.seed
    }

    /// The batches of this epoch from number `start_batch` on (0: all); the same ones as an epoch
    /// from its beginning gives there. Threads start at once and end when the iterator is dropped.
    /// An error, if any, is the last item.
    pub fn epoch(&self, epoch: u64, start_batch: usize) -> BatchIter {
        self.epochs(epoch..epoch + 1, start_batch)
    }

    /// The batches of several epochs, one after the other without a pause between, from batch `start_batch` of the first
    /// on; in all else as [`Self::epoch`].
    pub fn epochs(&self, epochs: Range<u64>, start_batch: usize) -> BatchIter {
        if start_batch > self.len() {
            let expected = format!("0 to {}, the batches of an epoch", self.len());
            return BatchIter::failed(Error::option("startBatch", start_batch, expected));
        }
        let first = epochs.start;
        let count = usize::try_from(epochs.end.saturating_sub(first)).unwrap_or(usize::MAX);
        let range = start_batch..count.saturating_mul(self.len()).max(start_batch);
        let threads = self.threads.min(range.len());
        let worker = || Worker::new(Arc::clone(&self.core), first);
        if threads == 0 {
            return BatchIter { source: Source::Caller(Box::new(worker())), range };
        }
        let thread = || -> Make<Result<Batch>> {
            let mut worker = worker();
            Box::new(move |number| worker.batch(number))
        };
        match Ordered::start_workers(range.clone(), threads, self.prefetch, thread) {
            Ok(ordered) => BatchIter { source: Source::Threads(ordered), range },
            Err(error) => BatchIter::failed(error),
        }
    }

    /// Bytes that batches take at most while an epoch runs: those ready, those in the making, the one in use.
    pub fn memory_bound(&self) -> usize {
        let image = self.core.set.shape().elements() * self.core.format.bytes() + size_of::<i64>();
        (self.prefetch.max(self.threads) + self.threads + 1) * self.core.batch_size * image
    }

    /// Takes back a batch that is no longer needed, so that its memory serves a later one.
    pub fn recycle(&self, batch: Batch) {
        self.core.pool.give(batch);
    }
}

/// What one thread makes batches with.
struct Worker {
    core: Arc<Core>,
    first_epoch: u64,
    /// The epoch whose order is at hand, and positions in the set; `None`: in order.
    epoch: u64,
    order: Option<Vec<u32>>,
    scratch: Scratch,
}

impl Worker {
    fn new(core: Arc<Core>, first_epoch: u64) -> Self {
        let mut worker = Self { core, first_epoch, epoch: first_epoch, order: None, scratch: Scratch::default() };
        worker.begin(first_epoch);
        worker
    }

    fn begin(&mut self, epoch: u64) {
        self.epoch = epoch;
        self.order = self.core.order(epoch);
    }

    /// Batch `number`, counted from the beginning of the first epoch.
    fn batch(&mut self, number: usize) -> Result<Batch> {
        let core = Arc::clone(&self.core);
        let epoch = self.first_epoch + (number / core.batches) as u64;
        if epoch != self.epoch {
            self.begin(epoch);
        }
        let start = number % core.batches * core.batch_size;
        let wanted = core.batch_size.min(core.set.len() - start);
        let elements = core.set.shape().elements();
        let mut batch = core.pool.take(core.format, wanted, elements);
        let places = start..start + wanted;
        let labels = &mut batch.labels[..];
        let count = match &mut batch.images {
            Images::F32(images) => self.fill(&core, places, images, labels),
            Images::Bf16(images) => self.fill(&core, places, images, labels),
            Images::U8(images) => self.fill(&core, places, images, labels),
        }?;
        batch.truncate(count, elements);
        Ok(batch)
    }

    /// Writes the images at these places of the order, without those that are skipped; how many there are, at least one.
    fn fill<T: Sample>(
        &mut self,
        core: &Core,
        places: Range<usize>,
        images: &mut [T],
        labels: &mut [i64],
    ) -> Result<usize> {
        let elements = core.set.shape().elements();
        let mut count = 0;
        let mut fault = None;
        for at in places {
            let index = self.order.as_ref().map_or(at, |order| order[at] as usize);
            match self.write(index, &mut images[count * elements..(count + 1) * elements]) {
                Ok(shown) => {
                    labels[count] = i64::from(core.set.labels()[shown]);
                    count += 1;
                }
                Err(error) if core.set.bad_images() == BadImages::Skip => fault = Some(error),
                Err(error) => return Err(error),
            }
        }
        match fault {
            // A batch without images has no loss.
            Some(error) if count == 0 => Err(error),
            _ => Ok(count),
        }
    }

    /// Writes image `index`, or what stands in for it; the position of the image that was written.
    fn write<T: Sample>(&mut self, index: usize, out: &mut [T]) -> Result<usize> {
        let Core { set, writer, seed, .. } = &*self.core;
        let showing = |index| Showing { index, seed: *seed, epoch: self.epoch };
        let Err(error) = writer.write(set, showing(index), out, &mut self.scratch) else { return Ok(index) };
        set.log_fault(index, &error);
        if set.bad_images() != BadImages::Replace {
            return Err(error);
        }
        let mut stream = Stream::new(*seed, Purpose::Replace, self.epoch, index as u64);
        for _ in 0..REPLACEMENTS {
            let other = stream.below(set.len());
            match writer.write(set, showing(other), out, &mut self.scratch) {
                Ok(()) => return Ok(other),
                Err(error) => set.log_fault(other, &error),
            }
        }
        Err(error)
    }
}

/// The batches of an epoch, in order. Dropping it stops and joins its threads.
pub struct BatchIter {
    source: Source,
    /// Numbers of the batches still to come.
    range: Range<usize>,
}

enum Source {
    Caller(Box<Worker>),
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
            Source::Caller(worker) => worker.batch(number),
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
