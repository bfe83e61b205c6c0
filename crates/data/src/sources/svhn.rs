//! SVHN, cropped digits: 32 x 32 colour images of house numbers, from `train_32x32.mat` and its sisters.
//! Y. Netzer, T. Wang, A. Coates, A. Bissacco, B. Wu, A. Y. Ng, 2011.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use super::ByteSet;
use super::find::Wanted;
use crate::dataset::{Dataset, ImageShape};
use crate::error::{Error, Result};
use crate::formats::{Fault, Matrix, Parsed, read_mat};
use crate::normalization::Normalization;

const SIDE: usize = 32;
const SHAPE: ImageShape = ImageShape { height: SIDE, width: SIDE, channels: 3 };
const FIX: &str = "Download it again";

/// Part of SVHN, as its authors divided it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SvhnSplit {
    /// 73,257 images.
    Train,
    /// 26,032 images.
    Test,
    /// 531,131 easier ones; 1.6 GB in memory.
    Extra,
}

/// SVHN's cropped digits. `dir` holds the `.mat` files, or is the folder above.
///
/// Errors: `ERR_FLATMIN_PATH` when the file is missing, `ERR_FLATMIN_FORMAT` when it is damaged.
pub fn svhn(dir: impl AsRef<Path>, split: SvhnSplit) -> Result<Dataset> {
    let file = match split {
        SvhnSplit::Train => "train_32x32.mat",
        SvhnSplit::Test => "test_32x32.mat",
        SvhnSplit::Extra => "extra_32x32.mat",
    };
    let wanted = Wanted { title: "SVHN", folders: &["", "svhn"], files: &[file], endings: &[""] };
    let path = wanted.find(dir.as_ref(), || "'flatmin data download svhn DIR' brings it".to_owned())?.join(file);
    let open = File::open(&path).map_err(|source| Error::Path { path: path.clone(), source })?;
    read(BufReader::new(open)).and_then(ByteSet::build).map_err(|fault| fault.at(&path, FIX))
}

/// `X`, `[32, 32, 3, images]`, and `y`, where the digit 0 is 10.
fn read(reader: impl Read) -> Parsed<ByteSet> {
    let (mut pixels, mut labels) = (None, None);
    read_mat(reader, |matrix, reader| {
        match matrix.name.as_str() {
            "X" => pixels = Some(read_pixels(matrix, reader)?),
            "y" => labels = Some(read_labels(matrix.values(reader)?)?),
            _ => {}
        }
        Ok(())
    })?;
    let (Some(pixels), Some(labels)) = (pixels, labels) else {
        return Err(Fault::new("a file without X or y", "the cropped digits, 'Format 2' of SVHN"));
    };
    Ok(ByteSet {
        name: "svhn",
        shape: SHAPE,
        pixels,
        labels,
        class_names: (0..10).map(|digit| digit.to_string()).collect(),
        normalization: Normalization { mean: vec![0.4377, 0.4438, 0.4728], std: vec![0.1980, 0.2010, 0.1970] },
    })
}

fn read_pixels(matrix: &Matrix, reader: &mut dyn Read) -> Parsed<Vec<u8>> {
    let [SIDE, SIDE, 3, count] = matrix.shape[..] else {
        return Err(Fault::new(format!("X of shape {:?}", matrix.shape), "[32, 32, 3, images]"));
    };
    if !matrix.is_bytes() {
        return Err(Fault::new("X that holds no bytes", "bytes"));
    }
    let mut pixels = Vec::new();
    let mut image = vec![0; SHAPE.elements()];
    for _ in 0..count {
        reader.read_exact(&mut image)?;
        // The first axis is the fastest: [channel][column][row].
        for row in 0..SIDE {
            for column in 0..SIDE {
                pixels.extend((0..3).map(|channel| image[(channel * SIDE + column) * SIDE + row]));
            }
        }
    }
    Ok(pixels)
}

fn read_labels(values: Vec<f64>) -> Parsed<Vec<u32>> {
    let digit = |(at, value): (usize, f64)| match value {
        10.0 => Ok(0),
        _ if value.fract() == 0.0 && (0.0..10.0).contains(&value) => Ok(value as u32),
        _ => Err(Fault::new(format!("label {at} is {value}"), "1 to 10, where 10 is the digit 0")),
    };
    values.into_iter().enumerate().map(digit).collect()
}
