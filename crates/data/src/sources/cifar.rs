//! CIFAR-10 and CIFAR-100 (A. Krizhevsky, 2009) from the folders of their official binary and Python versions.
//! A binary record is one label byte (CIFAR-100: coarse, then fine) and 3,072 bytes of 32 x 32 pixels, one channel after
//! the other; here they become channels-last. Files may hold any number of records.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use super::find::Wanted;
use super::{ByteSet, Split, cifar_python};
use crate::dataset::{Dataset, ImageShape};
use crate::error::Result;
use crate::formats::{Fault, Parsed};
use crate::normalization::Normalization;

const SHAPE: ImageShape = ImageShape { height: 32, width: 32, channels: 3 };
const PLANE: usize = 32 * 32;
pub(crate) const PIXELS: usize = 3 * PLANE;
/// Records read at once: about 1.5 MB, so that they are still in the cache when they are turned.
const CHUNK: usize = 512;

/// One of the two sets.
pub(crate) struct Layout {
    name: &'static str,
    title: &'static str,
    /// Number of classes of each label byte; the last one is the label that counts.
    label_bytes: &'static [usize],
    /// Keys of the class names and of the labels in the Python version.
    pub(crate) python_keys: [&'static str; 2],
    versions: [Version; 2],
    mean: [f32; 3],
    std: [f32; 3],
}

impl Layout {
    pub(crate) fn classes(&self) -> usize {
        self.label_bytes[self.label_bytes.len() - 1]
    }
}

/// One of the versions in which a set is published.
struct Version {
    folder: &'static str,
    archive: &'static str,
    train: &'static [&'static str],
    test: &'static [&'static str],
    /// The file of the class names.
    names: &'static str,
    read_names: fn(&Layout, &Path) -> Parsed<Vec<String>>,
    /// Appends the images of a file, channels-last, and their labels.
    read_images: fn(&Layout, &Path, &mut Vec<u8>, &mut Vec<u32>) -> Parsed<()>,
}

const CIFAR10: Layout = Layout {
    name: "cifar10",
    title: "CIFAR-10",
    label_bytes: &[10],
    python_keys: ["label_names", "labels"],
    versions: [
        Version {
            folder: "cifar-10-batches-bin",
            archive: "cifar-10-binary.tar.gz",
            train: &[
                "data_batch_1.bin",
                "data_batch_2.bin",
                "data_batch_3.bin",
                "data_batch_4.bin",
                "data_batch_5.bin",
            ],
            test: &["test_batch.bin"],
            names: "batches.meta.txt",
            read_names,
            read_images,
        },
        Version {
            folder: "cifar-10-batches-py",
            archive: "cifar-10-python.tar.gz",
            train: &["data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5"],
            test: &["test_batch"],
            names: "batches.meta",
            read_names: cifar_python::read_names,
            read_images: cifar_python::read_images,
        },
    ],
    mean: [0.4914, 0.4822, 0.4465],
    std: [0.2470, 0.2435, 0.2616],
};

const CIFAR100: Layout = Layout {
    name: "cifar100",
    title: "CIFAR-100",
    label_bytes: &[20, 100],
    python_keys: ["fine_label_names", "fine_labels"],
    versions: [
        Version {
            folder: "cifar-100-binary",
            archive: "cifar-100-binary.tar.gz",
            train: &["train.bin"],
            test: &["test.bin"],
            names: "fine_label_names.txt",
            read_names,
            read_images,
        },
        Version {
            folder: "cifar-100-python",
            archive: "cifar-100-python.tar.gz",
            train: &["train"],
            test: &["test"],
            names: "meta",
            read_names: cifar_python::read_names,
            read_images: cifar_python::read_images,
        },
    ],
    mean: [0.5071, 0.4865, 0.4409],
    std: [0.2673, 0.2564, 0.2762],
};

/// CIFAR-10: ten classes of 32 x 32 x 3 images. `dir` is the folder of the binary or the Python version
/// (`cifar-10-batches-bin`, `cifar-10-batches-py`), or its parent.
///
/// Errors: `ERR_FLATMIN_PATH` when files are missing, `ERR_FLATMIN_FORMAT` when one is damaged.
pub fn cifar10(dir: impl AsRef<Path>, split: Split) -> Result<Dataset> {
    load(&CIFAR10, dir.as_ref(), split)
}

/// CIFAR-100 with its 100 fine labels. `dir` is the folder of the binary or the Python version (`cifar-100-binary`,
/// `cifar-100-python`), or its parent.
///
/// Errors: `ERR_FLATMIN_PATH` when files are missing, `ERR_FLATMIN_FORMAT` when one is damaged.
pub fn cifar100(dir: impl AsRef<Path>, split: Split) -> Result<Dataset> {
    load(&CIFAR100, dir.as_ref(), split)
}

fn load(layout: &Layout, dir: &Path, split: Split) -> Result<Dataset> {
    let (version, folder) = find(layout, dir, split)?;
    let fix = format!("Unpack {} again, or download it again", version.archive);
    let names = folder.join(version.names);
    let class_names = (version.read_names)(layout, &names).and_then(|found| check_names(layout, found));
    let class_names = class_names.map_err(|fault| fault.at(&names, &fix))?;
    let (mut pixels, mut labels) = (Vec::new(), Vec::new());
    for file in version.files(split) {
        let path = folder.join(file);
        (version.read_images)(layout, &path, &mut pixels, &mut labels).map_err(|fault| fault.at(&path, &fix))?;
    }
    let normalization = Normalization { mean: layout.mean.to_vec(), std: layout.std.to_vec() };
    let set = ByteSet { name: layout.name, shape: SHAPE, pixels, labels, class_names, normalization };
    set.build().map_err(|fault| fault.at(&folder, &fix))
}

impl Version {
    fn files(&self, split: Split) -> &'static [&'static str] {
        match split {
            Split::Train => self.train,
            Split::Test => self.test,
        }
    }

    fn find(&self, layout: &Layout, dir: &Path, split: Split) -> Result<PathBuf> {
        let files: Vec<&str> = self.files(split).iter().copied().chain([self.names]).collect();
        let wanted = Wanted { title: layout.title, folders: &["", self.folder], files: &files, endings: &[""] };
        wanted.find(dir, || how_to_get(layout, dir))
    }
}

/// The first version that is there, and its folder; the error is about the one that `dir` is named after, or else the first.
fn find<'a>(layout: &'a Layout, dir: &Path, split: Split) -> Result<(&'a Version, PathBuf)> {
    let there = layout.versions.iter().find_map(|version| Some((version, version.find(layout, dir, split).ok()?)));
    let meant = layout.versions.iter().find(|version| dir.ends_with(version.folder));
    let reported = meant.unwrap_or(&layout.versions[0]);
    there.map_or_else(|| Ok((reported, reported.find(layout, dir, split)?)), Ok)
}

fn how_to_get(layout: &Layout, dir: &Path) -> String {
    let dir_name = dir.display();
    if let Some(there) = layout.versions.iter().find(|version| dir.join(version.archive).exists()) {
        return format!("The archive is there: unpack it with tar -xzf {dir_name}/{} -C {dir_name}", there.archive);
    }
    let Version { archive, folder, .. } = &layout.versions[0];
    format!(
        "'flatmin data download {} DIR' brings them; or download https://www.cs.toronto.edu/~kriz/{archive} and unpack it \
         with tar -xzf {archive}, then give the folder {folder} or the one that holds it",
        layout.name
    )
}

fn check_names(layout: &Layout, names: Vec<String>) -> Parsed<Vec<String>> {
    match names.len() == layout.classes() {
        true => Ok(names),
        false => {
            let expected = format!("{}, one a line", layout.classes());
            Err(Fault::new(format!("it has {} class names", names.len()), expected))
        }
    }
}

fn read_names(_layout: &Layout, path: &Path) -> Parsed<Vec<String>> {
    let bytes = fs::read(path)?;
    let text = String::from_utf8_lossy(&bytes);
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    Ok(lines.map(str::to_owned).collect())
}

fn read_images(layout: &Layout, path: &Path, pixels: &mut Vec<u8>, labels: &mut Vec<u32>) -> Parsed<()> {
    let record = layout.label_bytes.len() + PIXELS;
    let mut file = File::open(path)?;
    let size = file.metadata()?.len() as usize;
    if size == 0 || !size.is_multiple_of(record) {
        let expected = format!("a multiple of {record}, the size of a record, above 0");
        return Err(Fault::new(format!("it has {size} bytes"), expected));
    }
    let records = size / record;
    let mut buffer = vec![0; record * CHUNK.min(records)];
    for start in (0..records).step_by(CHUNK) {
        let chunk = &mut buffer[..CHUNK.min(records - start) * record];
        file.read_exact(chunk)?;
        for (at, record) in chunk.chunks_exact(record).enumerate() {
            let (head, planes) = record.split_at(layout.label_bytes.len());
            labels.push(label(layout, head, start + at)?);
            interleave(planes, pixels);
        }
    }
    Ok(())
}

/// The label of a record; every label byte must be below its number of classes.
fn label(layout: &Layout, head: &[u8], record: usize) -> Parsed<u32> {
    let mut label = 0;
    for (&byte, &classes) in head.iter().zip(layout.label_bytes) {
        label = u32::from(byte);
        if usize::from(byte) >= classes {
            return Err(Fault::new(format!("record {record} has label {byte}"), format!("0 to {}", classes - 1)));
        }
    }
    Ok(label)
}

/// Appends an image, `[channels, height, width]`, as `[height, width, channels]`.
pub(crate) fn interleave(planes: &[u8], pixels: &mut Vec<u8>) {
    let (red, rest) = planes.split_at(PLANE);
    let (green, blue) = rest.split_at(PLANE);
    let before = pixels.len();
    pixels.resize(before + PIXELS, 0);
    let colours = red.iter().zip(green).zip(blue);
    for (pixel, ((&r, &g), &b)) in pixels[before..].chunks_exact_mut(3).zip(colours) {
        pixel.copy_from_slice(&[r, g, b]);
    }
}
