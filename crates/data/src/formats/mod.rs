//! Readers of the file formats that data sets come in: bytes to arrays, knowing nothing of images and classes.
//! They take any bytes at all: what does not fit is a [`Fault`], and no header makes them reserve memory that the file
//! cannot fill.

mod array;
mod idx;
mod mat;
mod npy;
mod pickle;

use std::io::{self, Read};
use std::path::Path;

pub(crate) use array::{Array, ElementType};
pub(crate) use idx::read_idx;
pub(crate) use mat::{Matrix, read_mat};
pub(crate) use npy::read_npy;
pub(crate) use pickle::Pickle;

use crate::error::Error;

/// Why bytes are not what they should be; [`Fault::at`] adds the file.
#[derive(Debug)]
pub(crate) enum Fault {
    Content { found: String, expected: String },
    Read(io::Error),
}

pub(crate) type Parsed<T> = std::result::Result<T, Fault>;

impl Fault {
    pub(crate) fn new(found: impl Into<String>, expected: impl Into<String>) -> Self {
        Self::Content { found: found.into(), expected: expected.into() }
    }

    /// The error of a file, with the way to put it right.
    pub(crate) fn at(self, path: &Path, fix: &str) -> Error {
        let (found, expected) = match self {
            Self::Content { found, expected } => (found, expected),
            // What decompressors report, and reads beyond the end, are faults of the bytes, not of the disk.
            Self::Read(error) => match error.kind() {
                io::ErrorKind::UnexpectedEof => ("it ends too early".to_owned(), "all of its contents".to_owned()),
                io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput | io::ErrorKind::Other => {
                    (error.to_string(), "an intact file".to_owned())
                }
                _ => return Error::Path { path: path.to_path_buf(), source: error },
            },
        };
        Error::Format { file: path.display().to_string(), found, expected, fix: fix.to_owned() }
    }
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        Self::Read(error)
    }
}

/// Reads exactly `length` bytes, growing with what comes and not with what was announced.
fn read_bytes(reader: &mut impl Read, length: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    reader.take(length as u64).read_to_end(&mut bytes)?;
    if bytes.len() < length { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(bytes) }
}

/// Product of a shape, when an array of that many bytes can be addressed.
fn byte_count(shape: &[usize], element: usize) -> Option<usize> {
    let all = shape.iter().try_fold(element, |product, &size| product.checked_mul(size))?;
    (all <= isize::MAX as usize).then_some(all)
}
