//! Where a data set comes from, as JavaScript says it: `{ type: 'mnist', dir, split }`.

use flatmin_data::{
    ArrayOptions, BadImages, Dataset, EncodedOptions, Frame, NpzOptions, Split, SvhnSplit, cifar10, cifar100,
    fashion_mnist, image_folder, mnist, npz, shard_paths, svhn, webdataset,
};
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "camelCase", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum Source {
    Cifar10 { dir: String, split: Part },
    Cifar100 { dir: String, split: Part },
    Mnist { dir: String, split: Part },
    FashionMnist { dir: String, split: Part },
    Svhn { dir: String, split: SvhnPart },
    ImageFolder { dir: String, images: Images },
    Webdataset { shards: Vec<String>, images: Images },
    Npz { path: String, images: String, labels: String, channels_first: bool, class_names: Option<Vec<String>> },
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Part {
    Train,
    Test,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum SvhnPart {
    Train,
    Test,
    Extra,
}

/// How image files become images of one size.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Images {
    height: usize,
    width: usize,
    /// Default: 8/7 of the longer side.
    resize: Option<usize>,
    bad_images: BadImages,
    class_names: Option<Vec<String>>,
}

impl Source {
    /// Reads the set, or the names of its images.
    pub fn open(self) -> flatmin_data::Result<Dataset> {
        match self {
            Self::Cifar10 { dir, split } => cifar10(dir, split.into()),
            Self::Cifar100 { dir, split } => cifar100(dir, split.into()),
            Self::Mnist { dir, split } => mnist(dir, split.into()),
            Self::FashionMnist { dir, split } => fashion_mnist(dir, split.into()),
            Self::Svhn { dir, split } => svhn(dir, split.into()),
            Self::ImageFolder { dir, images } => image_folder(dir, images.into()),
            Self::Webdataset { shards, images } => {
                let mut paths = Vec::new();
                for pattern in &shards {
                    paths.extend(shard_paths(pattern)?);
                }
                webdataset(paths, images.into())
            }
            Self::Npz { path, images, labels, channels_first, class_names } => {
                let array = ArrayOptions { class_names, ..ArrayOptions::default() };
                npz(path, NpzOptions { images, labels, channels_first, array })
            }
        }
    }
}

impl From<Part> for Split {
    fn from(part: Part) -> Self {
        match part {
            Part::Train => Self::Train,
            Part::Test => Self::Test,
        }
    }
}

impl From<SvhnPart> for SvhnSplit {
    fn from(part: SvhnPart) -> Self {
        match part {
            SvhnPart::Train => Self::Train,
            SvhnPart::Test => Self::Test,
            SvhnPart::Extra => Self::Extra,
        }
    }
}

impl From<Images> for EncodedOptions {
    fn from(images: Images) -> Self {
        let Images { height, width, resize, bad_images, class_names } = images;
        let resize = resize.unwrap_or_else(|| Frame::square(height.max(width)).resize);
        Self { class_names, frame: Frame { height, width, resize }, bad_images, ..Self::default() }
    }
}
