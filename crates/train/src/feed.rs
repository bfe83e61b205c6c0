//! The batches of training, in their order: loaded ahead by threads, from one epoch to the next without a pause, then made
//! tensors and mixed. Training, and loops that JavaScript writes, both read them here, so they get the same bytes.

use std::ops::Range;

use flatmin_data::{Batch, BatchIter, Dataset, Format, ImageShape, Loader, LoaderOptions};
use flatmin_nn::Engine;
use flatmin_optim::Target;
use serde::Deserialize;
use tch::{Device, Kind, Tensor};

use crate::batch::{class_tensor, image_tensor};
use crate::carrier::loader_for;
use crate::config::Augment;
use crate::error::{Error, Result};
use crate::mix::Mixer;
use crate::normalize::{Normalization, for_data};

/// Number types of the images of a batch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PixelType {
    #[default]
    Float32,
    Float64,
    BFloat16,
    /// Not normalised: 255 is white.
    Uint8,
}

impl PixelType {
    fn kind(self) -> Kind {
        match self {
            Self::Float32 => Kind::Float,
            Self::Float64 => Kind::Double,
            Self::BFloat16 => Kind::BFloat16,
            Self::Uint8 => Kind::Uint8,
        }
    }
}

/// How a set becomes batches. In JSON all names are camelCase; all but `batch_size` have a default.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FeedConfig {
    pub batch_size: usize,
    /// A new order each epoch. Default: the order of the set.
    #[serde(default)]
    pub shuffle: bool,
    /// Leave out an epoch's last batch if it is not full. Default false.
    #[serde(default)]
    pub drop_last: bool,
    /// Fixes order and augmentation. Default 0.
    #[serde(default)]
    pub seed: u64,
    #[serde(default)]
    pub augment: Augment,
    /// Default: the data set's.
    #[serde(default)]
    pub normalization: Option<Normalization>,
    /// Of the labels of mixed batches. Default: the data set's.
    #[serde(default)]
    pub num_classes: Option<i64>,
    #[serde(default)]
    pub dtype: PixelType,
    /// Threads that prepare batches; 0: who reads them does. Default: 1 for images in memory, one a core for files.
    #[serde(default)]
    pub loader_threads: Option<usize>,
    /// Batches ready ahead; each thread keeps at least one. Default 4.
    #[serde(default)]
    pub prefetch: Option<usize>,
}

/// The batches of some epochs.
pub struct Feed {
    /// In their order; each set until the next one begins.
    stages: Vec<Stage>,
    mixer: Option<Mixer>,
    kind: Kind,
    /// One after the last epoch.
    end: u64,
    /// Of the next batch.
    epoch: u64,
    number: usize,
    /// What is left of the stage in progress, once somebody reads.
    ahead: Option<BatchIter>,
}

/// The same images in one size, from an epoch on.
struct Stage {
    first_epoch: u64,
    loader: Loader,
}

/// A batch and its place in the run.
pub struct Loaded {
    pub batch: Batch,
    pub epoch: u64,
    pub number: usize,
}

impl Feed {
    /// The batches of `epochs` from batch `start` of the first one on, read from `sets`: the same images, each from an epoch
    /// on, the first from epoch 0.
    ///
    /// # Errors
    /// `ERR_FLATMIN_OPTION` for options out of range, and for uint8 images that are to be mixed.
    pub fn new(sets: Vec<(u64, Dataset)>, config: &FeedConfig, epochs: Range<u64>, start: usize) -> Result<Self> {
        config.augment.validate()?;
        let (_, first) = sets.first().ok_or_else(|| Error::Internal("a feed without images".into()))?;
        let classes = config.num_classes.unwrap_or(first.num_classes() as i64);
        let mixer = Mixer::new(&config.augment, config.seed, classes)?;
        if mixer.is_some() && config.dtype == PixelType::Uint8 {
            let expected = "float32, float64 or bfloat16 images for mixup and cutmix";
            return Err(Error::option("dtype", "uint8", expected));
        }
        let stage = |(first_epoch, set)| Ok(Stage { first_epoch, loader: loader(set, config, mixer.is_some())? });
        let stages = sets.into_iter().map(stage).collect::<Result<Vec<_>>>()?;
        let (mut epoch, mut number, end) = (epochs.start, start, epochs.end);
        if number == stages[0].loader.len() && epoch < end {
            (epoch, number) = (epoch + 1, 0);
        }
        Ok(Self { stages, mixer, kind: config.dtype.kind(), end, epoch, number, ahead: None })
    }

    /// Lets loaders read as suits an engine, before anything is read: images may then be bytes that are still to be normalised.
    ///
    /// # Errors
    /// None that [`Self::new`] has not told.
    pub fn prepare_for(&mut self, engine: Engine) -> Result<()> {
        for stage in std::mem::take(&mut self.stages) {
            self.stages.push(Stage { loader: loader_for(engine, stage.loader)?, ..stage });
        }
        Ok(())
    }

    /// Batches an epoch, at least 1.
    #[allow(clippy::len_without_is_empty)] // a loader without batches cannot be made
    pub fn len(&self) -> usize {
        self.stages[0].loader.len()
    }

    /// What reads the images of this epoch.
    pub fn loader(&self, epoch: u64) -> &Loader {
        &self.stages[stage_of(&self.stages, epoch)].loader
    }

    /// Shape of the images in this epoch.
    pub fn shape(&self, epoch: u64) -> ImageShape {
        self.loader(epoch).dataset().shape()
    }

    /// A batch as the step takes it, on the CPU: images `[batch, channels, height, width]`, and class numbers `[batch]` or, of a mixed
    /// batch, a distribution over classes `[batch, classes]`.
    ///
    /// # Errors
    /// If libtorch fails.
    pub fn tensors(&self, loaded: &Loaded) -> Result<(Tensor, Target)> {
        let Loaded { batch, epoch, number } = loaded;
        let images = image_tensor(&batch.images, self.shape(*epoch), Device::Cpu)?;
        let target = Target::Classes(class_tensor(batch)?);
        self.mix(images, target, (*epoch, *number as u64))
    }

    /// Mixes a batch, if the options ask for it, and gives the images their number type.
    ///
    /// # Errors
    /// If libtorch fails.
    pub fn mix(&self, images: Tensor, target: Target, (epoch, number): (u64, u64)) -> Result<(Tensor, Target)> {
        let Some(mixer) = &self.mixer else { return Ok((images.f_to_kind(self.kind)?, target)) };
        // In the wider of both types, so that mixed pixels are rounded once.
        let wide = if self.kind == Kind::Double { Kind::Double } else { Kind::Float };
        let (images, target) = mixer.mix(images.f_to_kind(wide)?, target, epoch, number)?;
        Ok((images.f_to_kind(self.kind)?, target))
    }

    /// Takes back a batch that is no longer needed, so that its memory serves a later one.
    pub fn recycle(&self, loaded: Loaded) {
        self.loader(loaded.epoch).recycle(loaded.batch);
    }
}

impl Iterator for Feed {
    type Item = Result<Loaded>;

    /// The next batch; waits for it. None after the last, and after an error.
    fn next(&mut self) -> Option<Self::Item> {
        let batches = self.ahead.get_or_insert_with(|| ahead(&self.stages, self.epoch..self.end, self.number));
        let batch = match batches.next()? {
            Ok(batch) => batch,
            Err(error) => return Some(Err(error.into())),
        };
        let (epoch, number) = (self.epoch, self.number);
        self.number += 1;
        if self.number == self.len() {
            (self.epoch, self.number) = (epoch + 1, 0);
            if stage_of(&self.stages, self.epoch) != stage_of(&self.stages, epoch) {
                self.ahead = Some(ahead(&self.stages, self.epoch..self.end, 0));
            }
        }
        Some(Ok(Loaded { batch, epoch, number }))
    }
}

fn loader(set: Dataset, config: &FeedConfig, mixed: bool) -> Result<Loader> {
    let normalization = match &config.normalization {
        Some(normalization) => for_data(normalization),
        None => set.normalization().clone(),
    };
    let mut options = LoaderOptions {
        batch_size: config.batch_size,
        shuffle: config.shuffle,
        drop_last: config.drop_last,
        seed: config.seed,
        threads: config.loader_threads.unwrap_or_else(|| set.suggested_threads()),
        format: match config.dtype {
            PixelType::Uint8 => Format::U8,
            // What is mixed is rounded afterwards.
            PixelType::BFloat16 if !mixed => Format::Bf16,
            _ => Format::F32,
        },
        ..LoaderOptions::new(config.augment.transform(normalization))
    };
    options.prefetch = config.prefetch.unwrap_or(options.prefetch);
    Ok(Loader::new(set, options)?)
}

/// The last stage that begins with this epoch or before.
fn stage_of(stages: &[Stage], epoch: u64) -> usize {
    stages.iter().rposition(|stage| stage.first_epoch <= epoch).unwrap_or(0)
}

/// The batches of the stage in which `epochs` begins, as far as it reaches.
fn ahead(stages: &[Stage], epochs: Range<u64>, start: usize) -> BatchIter {
    let current = stage_of(stages, epochs.start);
    let end = stages.get(current + 1).map_or(epochs.end, |next| next.first_epoch.min(epochs.end));
    stages[current].loader.epochs(epochs.start..end, start)
}
