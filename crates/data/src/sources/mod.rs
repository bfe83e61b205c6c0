//! Where data sets come from: the files of published sets, image folders, tar shards, NumPy archives.

mod cifar;
mod cifar_python;
mod digits;
mod find;
mod folder;
mod mnist;
mod npz;
mod shard_index;
mod shard_paths;
mod svhn;
mod synsets;
mod webdataset;

pub use cifar::{cifar10, cifar100};
pub use digits::digits;
pub use folder::image_folder;
pub use mnist::{fashion_mnist, mnist};
pub use npz::{NpzOptions, npz};
pub(crate) use shard_index::{IndexFile, index_path, samples, scan};
pub use shard_paths::shard_paths;
pub use svhn::{SvhnSplit, svhn};
pub(crate) use webdataset::CLASS_FILE;
pub use webdataset::webdataset;

use crate::dataset::{Content, Dataset, ImageShape, Pixels, Store};
use crate::formats::{Fault, Parsed};
use crate::normalization::Normalization;

/// Part of a set, as its authors divided it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Split {
    Train,
    Test,
}

/// A published set of byte images as its reader found it.
struct ByteSet {
    name: &'static str,
    shape: ImageShape,
    /// `[labels.len(), height, width, channels]`
    pixels: Vec<u8>,
    labels: Vec<u32>,
    class_names: Vec<String>,
    /// The published one.
    normalization: Normalization,
}

impl ByteSet {
    /// Checks that images, labels and classes fit together.
    fn build(self) -> Parsed<Dataset> {
        let Self { name, shape, pixels, labels, class_names, normalization } = self;
        let images = pixels.len() / shape.elements();
        if images != labels.len() || images == 0 || u32::try_from(images).is_err() {
            let found = format!("{images} images and {} labels", labels.len());
            return Err(Fault::new(found, "one label an image, and at least one image"));
        }
        if let Some(at) = labels.iter().position(|&label| label as usize >= class_names.len()) {
            let expected = format!("0 to {}", class_names.len() - 1);
            return Err(Fault::new(format!("label {at} is {}", labels[at]), expected));
        }
        let content = Content::Pixels { shape, pixels: Pixels::U8(pixels), white: 255.0 };
        Ok(Dataset::whole(Store { name: name.to_owned(), content, class_names, normalization }, labels))
    }
}
