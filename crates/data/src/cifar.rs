//! CIFAR-10 and CIFAR-100 from the folders of their official binary versions.
//! A record is one label byte (CIFAR-100: coarse, then fine) and 3,072 bytes of 32 x 32 pixels, one
//! channel after the other; here they become channels-last. Files may hold any number of records.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::dataset::{Content, Dataset, ImageShape, Pixels, Store};
use crate::error::{Error, Result};
use crate::normalization::Normalization;

const SHAPE: ImageShape = ImageShape { height: 32, width: 32, channels: 3 };
const PLANE: usize = 32 * 32;
const PIXELS: usize = 3 * PLANE;
/// Records read at once: about 1.5 MB, so that they are still in the cache when they are turned.
const CHUNK: usize = 512;

/// Part of a set, as its authors divided it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Split {
    Train,
    Test,
}

/// How one of the two sets lies on disk.
struct Layout {
    name: &'static str,
    title: &'static str,
    folder: &'static str,
    train: &'static [&'static str],
    test: &'static [&'static str],
    names: &'static str,
    /// Number of classes of each label byte; the last one is the label that counts.
    label_bytes: &'static [usize],
    archive: &'static str,
    python_folder: &'static str,
    mean: [f32; 3],
    std: [f32; 3],
}

const CIFAR10: Layout = Layout {
    name: "cifar10",
    title: "CIFAR-10",
    folder: "cifar-10-batches-bin",
    train: &["data_batch_1.bin", "data_batch_2.bin", "data_batch_3.bin", "data_batch_4.bin", "data_batch_5.bin"],
    test: &["test_batch.bin"],
    names: "batches.meta.txt",
    label_bytes: &[10],
    archive: "cifar-10-binary.tar.gz",
    python_folder: "cifar-10-batches-py",
    mean: [0.4914, 0.4822, 0.4465],
    std: [0.2470, 0.2435, 0.2616],
};

const CIFAR100: Layout = Layout {
    name: "cifar100",
    title: "CIFAR-100",
    folder: "cifar-100-binary",
    train: &["train.bin"],
    test: &["test.bin"],
    names: "fine_label_names.txt",
    label_bytes: &[20, 100],
    archive: "cifar-100-binary.tar.gz",
    python_folder: "cifar-100-python",
    mean: [0.5071, 0.4865, 0.4409],
    std: [0.2673, 0.2564, 0.2762],
};

/// CIFAR-10: ten classes of 32 x 32 x 3 images. `dir` is `cifar-10-batches-bin` or its parent.
///
/// Errors: `ERR_FLATMIN_PATH` when files are missing, `ERR_FLATMIN_FORMAT` when one is damaged.
pub fn cifar10(dir: impl AsRef<Path>, split: Split) -> Result<Dataset> {
    load(&CIFAR10, dir.as_ref(), split)
}

/// CIFAR-100 with its 100 fine labels. `dir` is `cifar-100-binary` or its parent.
///
/// Errors: `ERR_FLATMIN_PATH` when files are missing, `ERR_FLATMIN_FORMAT` when one is damaged.
pub fn cifar100(dir: impl AsRef<Path>, split: Split) -> Result<Dataset> {
    load(&CIFAR100, dir.as_ref(), split)
}

fn load(layout: &Layout, dir: &Path, split: Split) -> Result<Dataset> {
    let files = match split {
        Split::Train => layout.train,
        Split::Test => layout.test,
    };
    let folder = find(layout, dir, files)?;
    let class_names = read_names(layout, &folder.join(layout.names))?;
    let mut pixels = Vec::new();
    let mut labels = Vec::new();
    for file in files {
        read_records(layout, &folder.join(file), &mut pixels, &mut labels)?;
    }
    let store = Store {
        name: layout.name.to_owned(),
        content: Content::Pixels { shape: SHAPE, pixels: Pixels::U8(pixels), white: 255.0 },
        class_names,
        normalization: Normalization { mean: layout.mean.to_vec(), std: layout.std.to_vec() },
    };
    Ok(Dataset::whole(store, labels))
}

/// The folder that holds the files: `dir` itself or the one inside it with the official name.
fn find(layout: &Layout, dir: &Path, files: &[&str]) -> Result<PathBuf> {
    let missing = |folder: &Path| -> Vec<String> {
        let wanted = files.iter().copied().chain([layout.names]);
        wanted.filter(|file| !folder.join(file).exists()).map(str::to_owned).collect()
    };
    let searched = vec![dir.to_path_buf(), dir.join(layout.folder)];
    let best = searched.iter().min_by_key(|folder| missing(folder).len());
    let folder = best.map_or(dir, PathBuf::as_path).to_path_buf();
    let missing = missing(&folder);
    if missing.is_empty() {
        return Ok(folder);
    }
    Err(Error::MissingSet { set: layout.title, fix: how_to_get(layout, dir), searched, missing })
}

fn how_to_get(layout: &Layout, dir: &Path) -> String {
    let Layout { title, archive, folder, python_folder, .. } = layout;
    let dir_name = dir.display();
    if dir.join(archive).exists() {
        return format!("The archive is there: unpack it with tar -xzf {dir_name}/{archive} -C {dir_name}");
    }
    let fetch = format!(
        "Download https://www.cs.toronto.edu/~kriz/{archive} and unpack it with tar -xzf {archive}, \
         then give the folder {folder} or the one that holds it"
    );
    if dir.join(python_folder).exists() || dir.ends_with(python_folder) {
        return format!("{python_folder} is the Python version of {title}; the binary version is needed. {fetch}");
    }
    fetch
}

fn read_names(layout: &Layout, path: &Path) -> Result<Vec<String>> {
    let bytes = fs::read(path).map_err(|source| cannot_read(path, source))?;
    let text = String::from_utf8_lossy(&bytes);
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let names: Vec<String> = lines.map(str::to_owned).collect();
    let classes = layout.label_bytes[layout.label_bytes.len() - 1];
    if names.len() != classes {
        let found = format!("it has {} class names", names.len());
        return Err(damaged(layout, path, found, format!("{classes}, one a line")));
    }
    Ok(names)
}

fn read_records(layout: &Layout, path: &Path, pixels: &mut Vec<u8>, labels: &mut Vec<u32>) -> Result<()> {
    let record = layout.label_bytes.len() + PIXELS;
    let mut file = File::open(path).map_err(|source| cannot_read(path, source))?;
    let size = file.metadata().map_err(|source| cannot_read(path, source))?.len() as usize;
    if size == 0 || !size.is_multiple_of(record) {
        let expected = format!("a multiple of {record}, the size of a record, above 0");
        return Err(damaged(layout, path, format!("it has {size} bytes"), expected));
    }
    let records = size / record;
    let first = labels.len();
    labels.reserve(records);
    let before = pixels.len();
    pixels.resize(before + records * PIXELS, 0);
    let mut images = pixels[before..].chunks_exact_mut(PIXELS);
    let mut buffer = vec![0; record * CHUNK.min(records)];
    while labels.len() < first + records {
        let count = CHUNK.min(first + records - labels.len());
        let chunk = &mut buffer[..count * record];
        file.read_exact(chunk).map_err(|source| cannot_read(path, source))?;
        // The records come first: zip must not take an image for a record that is not there.
        for (record, image) in chunk.chunks_exact(record).zip(images.by_ref()) {
            let (head, planes) = record.split_at(layout.label_bytes.len());
            labels.push(label(layout, path, head, labels.len() - first)?);
            interleave(planes, image);
        }
    }
    Ok(())
}

/// The label of a record; every label byte must be below its number of classes.
fn label(layout: &Layout, path: &Path, head: &[u8], record: usize) -> Result<u32> {
    let mut label = 0;
    for (&byte, &classes) in head.iter().zip(layout.label_bytes) {
        label = u32::from(byte);
        if usize::from(byte) >= classes {
            let found = format!("record {record} has label {byte}");
            return Err(damaged(layout, path, found, format!("0 to {}", classes - 1)));
        }
    }
    Ok(label)
}

/// `[channels, height, width]` to `[height, width, channels]`.
fn interleave(planes: &[u8], image: &mut [u8]) {
    let (red, rest) = planes.split_at(PLANE);
    let (green, blue) = rest.split_at(PLANE);
    let colours = red.iter().zip(green).zip(blue);
    for (pixel, ((&r, &g), &b)) in image.chunks_exact_mut(3).zip(colours) {
        pixel.copy_from_slice(&[r, g, b]);
    }
}

fn cannot_read(path: &Path, source: io::Error) -> Error {
    Error::Path { path: path.to_path_buf(), source }
}

fn damaged(layout: &Layout, path: &Path, found: String, expected: String) -> Error {
    Error::Format {
        file: path.display().to_string(),
        found,
        expected,
        fix: format!("Unpack {} again, or download it again", layout.archive),
    }
}
