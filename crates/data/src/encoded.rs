//! Images as files hold them: encoded, of any size, read and decoded when a batch needs them.
//! A source gives bytes by number; what they become (one size for all, or a fault) is settled here.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use crate::dataset::{Content, Dataset, ImageShape, Store, class_names};
use crate::error::{Error, Result};
use crate::normalization::Normalization;

/// Names of faulty images that are kept for reports; all are counted.
const FAULTS_NAMED: usize = 1000;
const MAX_SIDE: usize = 1 << 14;

/// JPEG, PNG or WebP images that lie somewhere and are read one by one, from any thread.
#[allow(clippy::len_without_is_empty)] // a set without images cannot be made
pub trait EncodedImages: Debug + Send + Sync {
    /// Number of images.
    fn len(&self) -> usize;

    /// What users call image `index`: its path, or archive and member.
    fn name(&self, index: usize) -> String;

    /// Puts the encoded bytes of image `index` in place of what `bytes` holds.
    fn read(&self, index: usize, bytes: &mut Vec<u8>) -> Result<()>;
}

/// The one size to which images of any size are brought.
///
/// Evaluation scales the shorter side to `resize` and keeps the centre of `height` x `width` (the usual 256 and 224);
/// training takes random parts and scales them to `height` x `width`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Frame {
    pub height: usize,
    pub width: usize,
    /// Length of the shorter side before the centre is cut out, at least the longer side of the frame.
    pub resize: usize,
}

impl Frame {
    /// A square of `size` pixels, cut from images scaled to 8/7 of it as 224 is from 256.
    pub fn square(size: usize) -> Self {
        Self { height: size, width: size, resize: (size * 8).div_ceil(7) }
    }

    /// The frame that leaves images of this shape as they are.
    pub(crate) fn of(shape: ImageShape) -> Self {
        Self { height: shape.height, width: shape.width, resize: shape.height.min(shape.width) }
    }

    fn validate(self) -> Result<()> {
        let Self { height, width, resize } = self;
        for (option, side, least) in [("size", height, 1), ("size", width, 1), ("resize", resize, height.max(width))] {
            if !(least..=MAX_SIDE).contains(&side) {
                return Err(Error::option(option, side, format!("{least} to {MAX_SIDE} pixels")));
            }
        }
        Ok(())
    }
}

impl Default for Frame {
    fn default() -> Self {
        Self::square(224)
    }
}

/// What an image that cannot be read or decoded means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum BadImages {
    /// It ends the run with an error that names it.
    #[default]
    Error,
    /// Its batch has one image less; it is counted.
    Skip,
    /// Another image of the set, drawn by seed, stands in for it; it is counted.
    Replace,
}

/// What [`Dataset::from_encoded`] cannot read off the images.
#[derive(Clone, Debug, Default)]
pub struct EncodedOptions {
    pub name: String,
    /// Number of classes. Default: as many as there are names, else the highest label + 1.
    pub num_classes: Option<usize>,
    /// One name a class. Default: the class numbers.
    pub class_names: Option<Vec<String>>,
    /// Default: 224 x 224 from 256.
    pub frame: Frame,
    pub bad_images: BadImages,
    /// Default: ImageNet's.
    pub normalization: Option<Normalization>,
}

/// Images that could not be used so far; a snapshot.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Faults {
    /// Different images.
    pub count: usize,
    /// What was wrong with each, its name included; of the first 1,000.
    pub messages: Vec<String>,
}

/// Collects faults from all threads.
#[derive(Debug, Default)]
pub(crate) struct FaultLog(Mutex<(BTreeSet<u32>, Vec<String>)>);

impl FaultLog {
    /// Image `image` of the store is faulty; the same one counts once.
    pub(crate) fn add(&self, image: u32, error: &Error) {
        let (images, messages) = &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if images.insert(image) && messages.len() < FAULTS_NAMED {
            messages.push(error.to_string());
        }
    }

    pub(crate) fn snapshot(&self) -> Faults {
        let (images, messages) = &*self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Faults { count: images.len(), messages: messages.clone() }
    }
}

impl Dataset {
    /// A set of encoded images, one label each.
    ///
    /// Errors: `ERR_FLATMIN_SHAPE` unless there are as many labels as images, `ERR_FLATMIN_DATA` when there is no image or a
    /// label is out of range, `ERR_FLATMIN_OPTION` for wrong options. No image is read here.
    pub fn from_encoded(
        images: impl EncodedImages + 'static,
        labels: Vec<u32>,
        options: EncodedOptions,
    ) -> Result<Self> {
        if images.len() != labels.len() || u32::try_from(labels.len()).is_err() {
            let expected = format!("{}, one an image, fewer than 2^32", images.len());
            return Err(Error::Shape { what: "labels", found: labels.len().to_string(), expected });
        }
        if labels.is_empty() {
            return Err(Error::Data(format!("{} has no images; it needs at least one", options.name)));
        }
        options.frame.validate()?;
        let normalization = options.normalization.unwrap_or_else(Normalization::imagenet);
        normalization.validate(3)?;
        let store = Store {
            class_names: class_names(&labels, options.num_classes, options.class_names)?,
            name: options.name,
            content: Content::Encoded {
                images: Box::new(images),
                bad_images: options.bad_images,
                faults: FaultLog::default(),
            },
            normalization,
        };
        Ok(Self { frame: options.frame, ..Self::whole(store, labels) })
    }

    /// The same images in another frame, for training at growing sizes.
    ///
    /// Errors with `ERR_FLATMIN_OPTION` when the frame is out of range, or the images lie in memory in their one size.
    pub fn with_frame(&self, frame: Frame) -> Result<Self> {
        if let Content::Pixels { .. } = self.store.content {
            let expected = format!("a set of image files: those of {} have one size", self.name());
            return Err(Error::option("size", format!("{} x {}", frame.height, frame.width), expected));
        }
        frame.validate()?;
        Ok(Self { frame, ..self.clone() })
    }

    pub fn frame(&self) -> Frame {
        self.frame
    }

    /// The images of this set, in all its views, that could not be used so far.
    pub fn faults(&self) -> Faults {
        match &self.store.content {
            Content::Pixels { .. } => Faults::default(),
            Content::Encoded { faults, .. } => faults.snapshot(),
        }
    }

    /// Threads that a loader of this set does well with: one for pixels in memory, one a core to decode images.
    pub fn suggested_threads(&self) -> usize {
        match self.store.content {
            Content::Pixels { .. } => 1,
            Content::Encoded { .. } => std::thread::available_parallelism().map_or(1, usize::from),
        }
    }

    pub(crate) fn bad_images(&self) -> BadImages {
        match self.store.content {
            Content::Pixels { .. } => BadImages::Error,
            Content::Encoded { bad_images, .. } => bad_images,
        }
    }

    /// Image `index` of this view could not be used.
    pub(crate) fn log_fault(&self, index: usize, error: &Error) {
        if let Content::Encoded { faults, .. } = &self.store.content {
            faults.add(self.images[index], error);
        }
    }

    /// Name of image `index` of this view: its path where it is a file. `None` for images in memory.
    pub fn image_name(&self, index: usize) -> Result<Option<String>> {
        let image = self.image(index)?;
        Ok(match &self.store.content {
            Content::Pixels { .. } => None,
            Content::Encoded { images, .. } => Some(images.name(image)),
        })
    }

    /// The encoded bytes of image `index` of this view, in place of what `bytes` holds.
    ///
    /// Errors with `ERR_FLATMIN_OPTION` when the images lie in memory, `ERR_FLATMIN_PATH` when one cannot be read.
    pub fn read_encoded(&self, index: usize, bytes: &mut Vec<u8>) -> Result<()> {
        let image = self.image(index)?;
        match &self.store.content {
            Content::Encoded { images, .. } => images.read(image, bytes),
            Content::Pixels { .. } => {
                let expected = "a set of image files";
                Err(Error::option("data set", format!("{}, whose images lie in memory", self.name()), expected))
            }
        }
    }
}
