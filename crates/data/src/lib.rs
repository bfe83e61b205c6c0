//! Data sets, augmentation, decoders and prefetching loaders, without torch.
//! Everything random here depends on seeds alone, so a run gives the same batches on any machine
//! and with any number of threads.

mod batch;
mod cifar;
mod dataset;
mod describe;
mod digits;
mod encoded;
mod error;
mod folder;
mod image;
mod loader;
mod noise;
mod normalization;
mod ordered;
mod random;
mod split;
mod transform;

pub use batch::Batch;
pub use cifar::{Split, cifar10, cifar100};
pub use dataset::{ArrayOptions, Dataset, ImageShape, Pixels};
pub use describe::{ClassCount, Description};
pub use digits::digits;
pub use encoded::{BadImages, EncodedImages, EncodedOptions, Faults, Frame};
pub use error::{Error, Result};
pub use folder::image_folder;
pub use image::{Image, ImageSource, decode_image};
pub use loader::{BatchIter, Loader, LoaderOptions};
pub use normalization::Normalization;
pub use split::SplitSize;
pub use transform::Transform;
