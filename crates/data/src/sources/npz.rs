//! Images and labels from a NumPy archive (`np.savez`, `np.savez_compressed`): a zip file of `.npy` files.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use zip::ZipArchive;
use zip::result::ZipError;

use crate::dataset::{ArrayOptions, Dataset, ImageShape, Pixels};
use crate::error::{Error, Result};
use crate::formats::{Array, ElementType, Fault, Parsed, read_npy};

const FIX: &str = "Write it with numpy.savez(path, images=..., labels=...)";

/// Which arrays of the archive are meant, and how they lie.
#[derive(Clone, Debug)]
pub struct NpzOptions {
    /// Name of the images: `[count, height, width]` or `[count, height, width, channels]`, uint8 (255 is white) or
    /// floats in `[0, 1]`. Default `"images"`.
    pub images: String,
    /// Name of the labels: `[count]` or `[count, 1]`, whole numbers from 0 on. Default `"labels"`.
    pub labels: String,
    /// Images are `[count, channels, height, width]`. Default false.
    pub channels_first: bool,
    pub array: ArrayOptions,
}

impl Default for NpzOptions {
    fn default() -> Self {
        let [images, labels] = ["images", "labels"].map(str::to_owned);
        Self { images, labels, channels_first: false, array: ArrayOptions::default() }
    }
}

/// A set from two arrays of a `.npz` file.
///
/// Errors: `ERR_FLATMIN_PATH` when it cannot be read, `ERR_FLATMIN_FORMAT` when it is no such archive, is damaged or lacks
/// an array, `ERR_FLATMIN_DATA` when labels or pixels are out of range.
pub fn npz(path: impl AsRef<Path>, options: NpzOptions) -> Result<Dataset> {
    let path = path.as_ref();
    let file = File::open(path).map_err(|source| Error::Path { path: path.to_path_buf(), source })?;
    let (pixels, shape, labels) = read(BufReader::new(file), &options).map_err(|fault| fault.at(path, FIX))?;
    let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned());
    let name = options.array.name.or(stem);
    Dataset::from_arrays(pixels, shape, labels, ArrayOptions { name, ..options.array })
}

fn read(file: BufReader<File>, options: &NpzOptions) -> Parsed<(Pixels, ImageShape, Vec<u32>)> {
    let mut archive = ZipArchive::new(file).map_err(fault)?;
    let labels = member(&mut archive, &options.labels)?;
    if !matches!(labels.shape[..], [_] | [_, 1]) {
        return Err(Fault::new(format!("labels of shape {:?}", labels.shape), "[count] or [count, 1]"));
    }
    let labels = labels.to_labels()?;
    let images = member(&mut archive, &options.images)?;
    let (count, shape) = match (&images.shape[..], options.channels_first) {
        (&[count, height, width], _) => (count, ImageShape { height, width, channels: 1 }),
        (&[count, height, width, channels], false) | (&[count, channels, height, width], true) => {
            (count, ImageShape { height, width, channels })
        }
        _ => return Err(Fault::new(format!("images of shape {:?}", images.shape), "[count, height, width, channels]")),
    };
    if count != labels.len() {
        return Err(Fault::new(format!("{count} images and {} labels", labels.len()), "one label an image"));
    }
    let planar = options.channels_first && shape.channels > 1;
    Ok((pixels(images, planar.then_some(shape))?, shape, labels))
}

/// Bytes stay bytes, floats become f32; `planar` ones are turned channels-last.
fn pixels(images: Array, planar: Option<ImageShape>) -> Parsed<Pixels> {
    Ok(match images.element {
        ElementType::U8 => Pixels::U8(channels_last(images.bytes, planar)),
        ElementType::F32 | ElementType::F64 => Pixels::F32(channels_last(images.to_f32(), planar)),
        other => {
            let expected = "uint8, or float32 or float64 in [0, 1]";
            return Err(Fault::new(format!("images of type {}", other.name()), expected));
        }
    })
}

fn channels_last<T: Copy>(values: Vec<T>, planar: Option<ImageShape>) -> Vec<T> {
    let Some(shape) = planar.filter(|shape| shape.elements() > 0) else { return values };
    let area = shape.height * shape.width;
    let pixel = |image: &[T], at: usize| (0..shape.channels).map(|c| image[c * area + at]).collect::<Vec<T>>();
    let images = values.chunks_exact(shape.elements());
    images.flat_map(|image| (0..area).flat_map(|at| pixel(image, at)).collect::<Vec<T>>()).collect()
}

fn member(archive: &mut ZipArchive<BufReader<File>>, name: &str) -> Parsed<Array> {
    let files = archive.file_names().filter_map(std::result::Result::ok);
    let names: Vec<String> = files.map(|file| file.trim_end_matches(".npy").to_owned()).collect();
    let member = archive.by_name(&format!("{name}.npy")).map_err(|error| match error {
        ZipError::FileNotFound => Fault::new(format!("the arrays {}", names.join(", ")), format!("one called {name}")),
        other => fault(other),
    })?;
    let size = member.size();
    read_npy(member, size)
}

fn fault(error: ZipError) -> Fault {
    match error {
        ZipError::Io(error) => Fault::Read(error),
        other => Fault::new(other.to_string(), "a NumPy archive"),
    }
}
