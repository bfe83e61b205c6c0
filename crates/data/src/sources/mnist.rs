//! MNIST and Fashion-MNIST: 28 x 28 grey images in ten classes, from their idx files, gzipped or not.
//! MNIST: Y. LeCun, L. Bottou, Y. Bengio, P. Haffner, 1998. Fashion-MNIST: H. Xiao, K. Rasul, R. Vollgraf, 2017.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use flate2::read::MultiGzDecoder;

use super::find::Wanted;
use super::{ByteSet, Split};
use crate::dataset::{Dataset, ImageShape};
use crate::error::{Error, Result};
use crate::formats::{Fault, Parsed, read_idx};
use crate::normalization::Normalization;

const SIDE: usize = 28;
const TRAIN: [&str; 2] = ["train-images-idx3-ubyte", "train-labels-idx1-ubyte"];
const TEST: [&str; 2] = ["t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"];
const FIX: &str = "Unpack or download it again";

/// What the two sets differ in.
struct Layout {
    name: &'static str,
    title: &'static str,
    /// Ours, and torchvision's.
    folders: &'static [&'static str],
    class_names: [&'static str; 10],
    mean: f32,
    std: f32,
}

const MNIST: Layout = Layout {
    name: "mnist",
    title: "MNIST",
    folders: &["", "mnist", "MNIST/raw", "raw"],
    class_names: ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"],
    mean: 0.1307,
    std: 0.3081,
};

const FASHION_MNIST: Layout = Layout {
    name: "fashion-mnist",
    title: "Fashion-MNIST",
    folders: &["", "fashion-mnist", "FashionMNIST/raw", "raw"],
    class_names: [
        "T-shirt/top",
        "Trouser",
        "Pullover",
        "Dress",
        "Coat",
        "Sandal",
        "Shirt",
        "Sneaker",
        "Bag",
        "Ankle boot",
    ],
    mean: 0.2860,
    std: 0.3530,
};

/// MNIST: handwritten digits. `dir` holds the idx files, or is the folder above.
///
/// Errors: `ERR_FLATMIN_PATH` when files are missing, `ERR_FLATMIN_FORMAT` when one is damaged.
pub fn mnist(dir: impl AsRef<Path>, split: Split) -> Result<Dataset> {
    load(&MNIST, dir.as_ref(), split)
}

/// Fashion-MNIST: articles of clothing. `dir` holds the idx files, or is the folder above.
///
/// Errors: `ERR_FLATMIN_PATH` when files are missing, `ERR_FLATMIN_FORMAT` when one is damaged.
pub fn fashion_mnist(dir: impl AsRef<Path>, split: Split) -> Result<Dataset> {
    load(&FASHION_MNIST, dir.as_ref(), split)
}

fn load(layout: &Layout, dir: &Path, split: Split) -> Result<Dataset> {
    let files = match split {
        Split::Train => TRAIN,
        Split::Test => TEST,
    };
    let wanted = Wanted { title: layout.title, folders: layout.folders, files: &files, endings: &["", ".gz"] };
    let fix = || format!("'flatmin data download {} DIR' brings them", layout.name);
    let folder = wanted.find(dir, fix)?;
    let [images, labels] = files.map(|file| wanted.path(&folder, file).unwrap_or_else(|| folder.join(file)));
    let (shape, pixels) = read(&images, 3, |shape| shape[1..] == [SIDE, SIDE])?;
    let (_, labels) = read(&labels, 1, |labels| labels == &shape[..1])?;
    let set = ByteSet {
        name: layout.name,
        shape: ImageShape { height: SIDE, width: SIDE, channels: 1 },
        pixels,
        labels: labels.into_iter().map(u32::from).collect(),
        class_names: layout.class_names.map(str::to_owned).to_vec(),
        normalization: Normalization { mean: vec![layout.mean], std: vec![layout.std] },
    };
    set.build().map_err(|fault| fault.at(&images, FIX))
}

/// An idx file whose shape `fits`.
fn read(path: &Path, dimensions: usize, fits: impl Fn(&[usize]) -> bool) -> Result<(Vec<usize>, Vec<u8>)> {
    let file = File::open(path).map_err(|source| Error::Path { path: path.to_path_buf(), source })?;
    let file = BufReader::new(file);
    let zipped = path.extension().is_some_and(|ending| ending == "gz");
    let parsed =
        if zipped { parse(MultiGzDecoder::new(file), dimensions, fits) } else { parse(file, dimensions, fits) };
    parsed.map_err(|fault| fault.at(path, FIX))
}

fn parse(reader: impl Read, dimensions: usize, fits: impl Fn(&[usize]) -> bool) -> Parsed<(Vec<usize>, Vec<u8>)> {
    let (shape, values) = read_idx(reader, dimensions)?;
    match fits(&shape) {
        true => Ok((shape, values)),
        false => Err(Fault::new(
            format!("an array of shape {shape:?}"),
            format!("images of {SIDE} x {SIDE} pixels and as many labels"),
        )),
    }
}
