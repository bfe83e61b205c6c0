//! A data set: images channels-last, one label an image; in memory, or encoded and decoded when they are needed.
//! A `Dataset` is a cheap view, so splits, subsets and noisy copies share the images.

use std::sync::Arc;

use serde::Serialize;

use crate::encoded::{BadImages, EncodedImages, FaultLog, Frame};
use crate::error::{Error, Result};
use crate::normalization::Normalization;
use crate::sample::Format;
use crate::transform::Transform;
use crate::writer::{Scratch, Showing, Writer};

/// More classes than any real set has: a guard against labels that are no class numbers.
const MAX_CLASSES: usize = 1 << 20;

/// Size of every image of a set, in pixels and channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct ImageShape {
    pub height: usize,
    pub width: usize,
    pub channels: usize,
}

impl ImageShape {
    /// Values an image: `height * width * channels`.
    pub fn elements(&self) -> usize {
        self.height * self.width * self.channels
    }
}

/// Pixels of all images, `[count, height, width, channels]`.
#[derive(Clone, Debug)]
pub enum Pixels {
    /// Bytes, 255 is white.
    U8(Vec<u8>),
    /// Numbers, meant to lie in `[0, 1]`.
    F32(Vec<f32>),
}

impl Pixels {
    fn len(&self) -> usize {
        match self {
            Self::U8(values) => values.len(),
            Self::F32(values) => values.len(),
        }
    }
}

/// What [`Dataset::from_arrays`] cannot read off the arrays.
#[derive(Clone, Debug, Default)]
pub struct ArrayOptions {
    /// Default: `"arrays"`.
    pub name: Option<String>,
    /// Number of classes. Default: as many as there are names, else the highest label + 1.
    pub num_classes: Option<usize>,
    /// One name a class. Default: the class numbers.
    pub class_names: Option<Vec<String>>,
}

/// What all views of a set share.
#[derive(Debug)]
pub(crate) struct Store {
    pub(crate) name: String,
    pub(crate) content: Content,
    pub(crate) class_names: Vec<String>,
    pub(crate) normalization: Normalization,
}

/// The images themselves.
#[derive(Debug)]
pub(crate) enum Content {
    Pixels {
        shape: ImageShape,
        pixels: Pixels,
        /// The stored value that means 1.0.
        white: f32,
    },
    Encoded {
        images: Box<dyn EncodedImages>,
        bad_images: BadImages,
        faults: FaultLog,
    },
}

/// Images with labels. Cloning is cheap; a view holds at least one image.
#[derive(Clone, Debug)]
pub struct Dataset {
    pub(crate) store: Arc<Store>,
    /// Which images of the store this view shows, in its order.
    pub(crate) images: Arc<[u32]>,
    /// One label an image of this view.
    pub(crate) labels: Arc<[u32]>,
    /// What size its images have.
    pub(crate) frame: Frame,
}

impl Dataset {
    /// A set from arrays: `pixels` is `[labels.len(), height, width, channels]`. The recommended
    /// normalisation is measured on the pixels.
    ///
    /// Errors: `ERR_FLATMIN_SHAPE` when the lengths do not fit, `ERR_FLATMIN_DATA` when there is no
    /// image, a label is out of range or a pixel is not finite, `ERR_FLATMIN_OPTION` when
    /// `num_classes` and `class_names` disagree.
    pub fn from_arrays(pixels: Pixels, shape: ImageShape, labels: Vec<u32>, options: ArrayOptions) -> Result<Self> {
        check_arrays(&pixels, shape, &labels)?;
        let class_names = class_names(&labels, options.num_classes, options.class_names)?;
        let white = match pixels {
            Pixels::U8(_) => 255.0,
            Pixels::F32(_) => 1.0,
        };
        let normalization = Normalization::measure(&pixels, white, shape);
        let name = options.name.unwrap_or_else(|| "arrays".to_owned());
        let store = Store { name, content: Content::Pixels { shape, pixels, white }, class_names, normalization };
        Ok(Self::whole(store, labels))
    }

    /// The view of all images. The caller has checked that labels and pixels fit.
    pub(crate) fn whole(store: Store, labels: Vec<u32>) -> Self {
        let frame = match store.content {
            Content::Pixels { shape, .. } => Frame::of(shape),
            Content::Encoded { .. } => Frame::default(),
        };
        Self { store: Arc::new(store), images: (0..labels.len() as u32).collect(), labels: labels.into(), frame }
    }

    /// Name of the set, such as `"cifar10"`.
    pub fn name(&self) -> &str {
        &self.store.name
    }

    /// The bytes of all images in order, `[len, height, width, channels]`, and the one that is white; `None` where they do
    /// not lie in memory as bytes of this size.
    pub fn bytes(&self) -> Option<(Vec<u8>, f32)> {
        let Content::Pixels { shape, pixels: Pixels::U8(values), white } = &self.store.content else { return None };
        if self.frame != Frame::of(*shape) {
            return None;
        }
        let bytes = self.images.iter().flat_map(|&image| &values[range_of(*shape, image as usize)]).copied().collect();
        Some((bytes, *white))
    }

    /// Whether its images are bytes of which 255 is white, up to their normalisation.
    pub(crate) fn has_bytes(&self) -> bool {
        match &self.store.content {
            Content::Pixels { pixels: Pixels::U8(_), white, .. } => *white == 255.0,
            Content::Pixels { .. } => false,
            Content::Encoded { .. } => true,
        }
    }

    /// Number of images, at least 1.
    #[allow(clippy::len_without_is_empty)] // a set without images cannot be made
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Shape of every image as batches have it; encoded ones are brought to it.
    pub fn shape(&self) -> ImageShape {
        match self.store.content {
            Content::Pixels { shape, .. } => shape,
            Content::Encoded { .. } => ImageShape { height: self.frame.height, width: self.frame.width, channels: 3 },
        }
    }

    /// One name a class; label `k` is `class_names()[k]`.
    pub fn class_names(&self) -> &[String] {
        &self.store.class_names
    }

    pub fn num_classes(&self) -> usize {
        self.store.class_names.len()
    }

    /// The normalisation this set recommends, for pixels in `[0, 1]`.
    pub fn normalization(&self) -> &Normalization {
        &self.store.normalization
    }

    /// All labels, in the order of the view.
    pub fn labels(&self) -> &[u32] {
        &self.labels
    }

    /// Label of image `index`.
    pub fn label(&self, index: usize) -> Result<u32> {
        let label = self.labels.get(index).copied();
        label.ok_or_else(|| self.no_such_image(index))
    }

    /// Pixels of image `index`, `[height, width, channels]` in `[0, 1]`; of an encoded one as evaluation sees it.
    ///
    /// Errors with `ERR_FLATMIN_PATH` or `ERR_FLATMIN_FORMAT` when an encoded image cannot be read or decoded.
    pub fn pixels(&self, index: usize) -> Result<Vec<f32>> {
        let image = self.image(index)?;
        match &self.store.content {
            Content::Pixels { shape, pixels, white } => {
                let range = range_of(*shape, image);
                Ok(match pixels {
                    Pixels::U8(values) => values[range].iter().map(|&v| f32::from(v) / white).collect(),
                    Pixels::F32(values) => values[range].to_vec(),
                })
            }
            Content::Encoded { .. } => {
                let plain = Transform::plain(Normalization::identity(3));
                let mut out = vec![0.0_f32; self.shape().elements()];
                let showing = Showing { index, seed: 0, epoch: 0 };
                Writer::new(&plain, Format::F32, self)?.write(self, showing, &mut out, &mut Scratch::default())?;
                Ok(out)
            }
        }
    }

    /// The first `count` images, or all when there are fewer. `count` must be at least 1.
    pub fn take(&self, count: usize) -> Result<Self> {
        if count == 0 {
            return Err(Error::option("take", count, "at least 1 image"));
        }
        let positions: Vec<u32> = (0..count.min(self.len()) as u32).collect();
        Ok(self.view(&positions))
    }

    /// The view of the images at `positions` of this view. The caller knows that they exist.
    pub(crate) fn view(&self, positions: &[u32]) -> Self {
        let pick = |from: &[u32]| positions.iter().map(|&p| from[p as usize]).collect();
        Self {
            store: Arc::clone(&self.store),
            images: pick(&self.images),
            labels: pick(&self.labels),
            frame: self.frame,
        }
    }

    /// Which image of the store image `index` of this view is.
    pub(crate) fn image(&self, index: usize) -> Result<usize> {
        let image = self.images.get(index).ok_or_else(|| self.no_such_image(index))?;
        Ok(*image as usize)
    }

    fn no_such_image(&self, index: usize) -> Error {
        let expected = format!("0 to {}, for {} has {} images", self.len() - 1, self.name(), self.len());
        Error::option("index", index, expected)
    }
}

/// Where the values of image `image` lie.
pub(crate) fn range_of(shape: ImageShape, image: usize) -> std::ops::Range<usize> {
    let elements = shape.elements();
    image * elements..(image + 1) * elements
}

fn check_arrays(pixels: &Pixels, shape: ImageShape, labels: &[u32]) -> Result<()> {
    let ImageShape { height, width, channels } = shape;
    let count = labels.len();
    if count == 0 {
        return Err(Error::Data("the set has no images; it needs at least one label and its image".to_owned()));
    }
    let elements = [height, width, channels, count]
        .into_iter()
        .try_fold(1usize, usize::checked_mul)
        .filter(|&all| all > 0 && u32::try_from(count).is_ok());
    if elements != Some(pixels.len()) {
        return Err(Error::Shape {
            what: "pixels",
            found: format!("{} values", pixels.len()),
            expected: format!(
                "count * height * width * channels = {count} * {height} * {width} * {channels}, all above 0"
            ),
        });
    }
    if let Pixels::F32(values) = pixels
        && let Some(at) = values.iter().position(|v| !v.is_finite())
    {
        let image = at / (height * width * channels);
        return Err(Error::Data(format!(
            "image {image} has a pixel that is {} (value {at} of the array); pixels must be finite",
            values[at]
        )));
    }
    Ok(())
}

/// The class names, given or made up, that cover all labels.
pub(crate) fn class_names(
    labels: &[u32],
    num_classes: Option<usize>,
    class_names: Option<Vec<String>>,
) -> Result<Vec<String>> {
    let (at, &highest) = labels.iter().enumerate().max_by_key(|(_, label)| **label).unwrap_or((0, &0));
    let named = class_names.as_ref().map(Vec::len);
    if let (Some(count), Some(named)) = (num_classes, named)
        && count != named
    {
        let expected = format!("{named}, the number of class names");
        return Err(Error::option("numClasses", count, expected));
    }
    let count = num_classes.or(named).unwrap_or(highest as usize + 1);
    if highest as usize >= count {
        return Err(Error::Data(format!(
            "label {at} is {highest}; with {count} classes labels go from 0 to {}",
            count.saturating_sub(1)
        )));
    }
    if count > MAX_CLASSES {
        return Err(Error::Data(format!(
            "there would be {count} classes (label {at} is {highest}); labels must be class numbers from 0 on, at most {MAX_CLASSES} classes"
        )));
    }
    Ok(class_names.unwrap_or_else(|| (0..count).map(|k| k.to_string()).collect()))
}
