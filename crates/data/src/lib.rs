//! Data sets, augmentation, decoders and prefetching loaders, without torch.
//! Everything random here depends on seeds alone, so a run gives the same batches on any machine
//! and with any number of threads.

mod batch;
mod bench;
mod canvas;
mod crop;
mod dataset;
mod describe;
mod encoded;
mod erase;
mod error;
mod formats;
mod image;
mod jitter;
mod jpeg;
mod loader;
mod noise;
mod normalization;
mod ops;
mod ordered;
mod picture;
mod place;
mod plane;
mod policy;
mod random;
mod resample;
mod sample;
mod sources;
mod split;
mod tools;
mod transform;
mod writer;

pub use batch::Batch;
pub use bench::{DataBench, DataBenchOptions, DataTimes};
pub use crop::ResizedCrop;
pub use dataset::{ArrayOptions, Dataset, ImageShape, Pixels};
pub use describe::{ClassCount, Description};
pub use encoded::{BadImages, EncodedImages, EncodedOptions, Faults, Frame};
pub use erase::RandomErasing;
pub use error::{Error, Result};
pub use image::{Image, ImageSource, decode_image};
pub use jitter::ColorJitter;
pub use loader::{BatchIter, Loader, LoaderOptions};
pub use normalization::Normalization;
pub use policy::{Policy, PolicySet};
pub use sample::{Format, Images};
pub use sources::{
    NpzOptions, Split, SvhnSplit, cifar10, cifar100, digits, fashion_mnist, image_folder, mnist, npz, shard_paths,
    svhn, webdataset,
};
pub use split::SplitSize;
pub use tools::{
    ContactSheet, Inspection, MANIFEST, Manifest, PackOptions, Progress, Shard, Shown, Spread, Verification, Watch,
    contact_sheet, inspect, pack, verify,
};
pub use transform::{Crop, Transform};
