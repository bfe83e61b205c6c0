//! What `flatmin bench data` times: batches of random resized crops, mirrored and normalised, from a folder of images.

use std::path::Path;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use crate::crop::ResizedCrop;
use crate::encoded::{EncodedOptions, Frame};
use crate::error::{Error, Result};
use crate::loader::{Loader, LoaderOptions};
use crate::normalization::Normalization;
use crate::sources::image_folder;
use crate::transform::{Crop, Transform};

/// Options of [`DataBench`].
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DataBenchOptions {
    pub folder: String,
    /// Side of the crops, in pixels.
    pub size: usize,
    pub batch: usize,
    pub threads: usize,
    #[serde(default)]
    pub seed: u64,
}

/// The time of each batch.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DataTimes {
    pub step_ms: Vec<f64>,
    /// Images of all batches.
    pub images: usize,
    /// What the loader's batches may take at most.
    pub bytes: usize,
}

/// A loader that is timed a few batches at a time; no work is done between.
pub struct DataBench {
    loader: Loader,
    epoch: u64,
}

impl DataBench {
    /// Errors as [`image_folder`] and [`Loader::new`].
    pub fn new(options: &DataBenchOptions) -> Result<Self> {
        let frame = Frame::square(options.size);
        let set = image_folder(Path::new(&options.folder), EncodedOptions { frame, ..EncodedOptions::default() })?;
        let transform = Transform {
            crop: Crop::Resized(ResizedCrop::default()),
            flip: true,
            ..Transform::plain(Normalization::imagenet())
        };
        let options = LoaderOptions {
            batch_size: options.batch,
            shuffle: true,
            drop_last: true,
            seed: options.seed,
            threads: options.threads,
            ..LoaderOptions::new(transform)
        };
        Ok(Self { loader: Loader::new(set, options)?, epoch: 0 })
    }

    /// Times `steps` batches of one epoch after the other, the start of the threads included.
    pub fn run(&mut self, steps: usize) -> Result<DataTimes> {
        let epochs = steps.div_ceil(self.loader.len()) as u64;
        let mut times = DataTimes { step_ms: Vec::with_capacity(steps), images: 0, bytes: self.loader.memory_bound() };
        let mut start = Instant::now();
        let mut batches = self.loader.epochs(self.epoch..self.epoch + epochs, 0);
        for number in 0..steps {
            let batch = batches.next().ok_or(Error::Worker(number))??;
            times.images += batch.count;
            self.loader.recycle(batch);
            let now = Instant::now();
            times.step_ms.push((now - start).as_secs_f64() * 1e3);
            start = now;
        }
        self.epoch += epochs;
        Ok(times)
    }
}
