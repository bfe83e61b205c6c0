//! MATLAB's `.mat` files of level 5, the format of SVHN: a header of 128 bytes, then elements of a tag (type, size) and
//! a body, most of them compressed (MathWorks, "MAT-File Level 5 File Format"). Only arrays of numbers are read, each as
//! it comes, so that the largest need not lie in memory twice.

use std::io::{self, Read};

use flate2::read::ZlibDecoder;

use super::{Fault, Parsed, byte_count, read_bytes};

// Types of elements, table 1-1.
const INT8: u32 = 1;
const UINT8: u32 = 2;
const INT16: u32 = 3;
const UINT16: u32 = 4;
const INT32: u32 = 5;
const UINT32: u32 = 6;
const SINGLE: u32 = 7;
const DOUBLE: u32 = 9;
const MATRIX: u32 = 14;
const COMPRESSED: u32 = 15;

/// Classes of arrays that hold numbers are those from double (6) to uint64 (15), table 1-3.
const NUMERIC_CLASSES: std::ops::RangeInclusive<u8> = 6..=15;
/// MATLAB's names have 63 characters at most, and images four dimensions; a fault beyond that.
const MAX_NAME: usize = 256;
const MAX_DIMENSIONS: usize = 16;

/// An array of numbers as its file announces it.
#[derive(Debug)]
pub(crate) struct Matrix {
    pub(crate) name: String,
    /// Sizes, first axis fastest (column-major).
    pub(crate) shape: Vec<usize>,
    element: u32,
    bytes: usize,
}

impl Matrix {
    /// Whether the values are stored as bytes.
    pub(crate) fn is_bytes(&self) -> bool {
        self.element == UINT8
    }

    /// All values, column-major.
    pub(crate) fn values(&self, reader: &mut dyn Read) -> Parsed<Vec<f64>> {
        let bytes = read_bytes(&mut &mut *reader, self.bytes)?;
        macro_rules! each {
            ($type:ty) => {{
                let read = |bytes: &[u8]| <$type>::from_le_bytes(bytes.try_into().unwrap_or_default()).into();
                bytes.chunks_exact(size_of::<$type>()).map(read).collect()
            }};
        }
        Ok(match self.element {
            INT8 => each!(i8),
            UINT8 => each!(u8),
            INT16 => each!(i16),
            UINT16 => each!(u16),
            INT32 => each!(i32),
            UINT32 => each!(u32),
            SINGLE => each!(f32),
            _ => each!(f64),
        })
    }
}

/// Calls `visit` with each array of numbers and the reader of its values, in the order of the file.
pub(crate) fn read_mat(
    mut reader: impl Read,
    mut visit: impl FnMut(&Matrix, &mut dyn Read) -> Parsed<()>,
) -> Parsed<()> {
    read_header(&mut reader)?;
    while let Some(tag) = Tag::read_or_end(&mut reader)? {
        let mut body = reader.by_ref().take(tag.bytes as u64);
        match tag.element {
            COMPRESSED => {
                let mut inner = ZlibDecoder::new(&mut body);
                let tag = Tag::read(&mut inner)?;
                if tag.element == MATRIX {
                    visit_matrix(&mut inner.take(tag.bytes as u64), &mut visit)?;
                }
            }
            MATRIX => visit_matrix(&mut body, &mut visit)?,
            _ => {}
        }
        io::copy(&mut body, &mut io::sink())?;
        if tag.element != COMPRESSED {
            skip(&mut reader, tag.padding())?;
        }
    }
    Ok(())
}

fn read_header(reader: &mut impl Read) -> Parsed<()> {
    let mut header = [0; 128];
    reader.read_exact(&mut header)?;
    match &header[124..] {
        [0, 1, b'I', b'M'] => Ok(()),
        // HDF5: what MATLAB calls version 7.3.
        [0, 2, b'I', b'M'] => Err(Fault::new("a .mat file of version 7.3", "version 5 to 7: save it with '-v7'")),
        other => Err(Fault::new(
            format!("the bytes {other:?} where a .mat file has its version"),
            format!("{:?}, little-endian level 5", [0, 1, b'I', b'M']),
        )),
    }
}

fn visit_matrix(reader: &mut impl Read, visit: &mut impl FnMut(&Matrix, &mut dyn Read) -> Parsed<()>) -> Parsed<()> {
    let flags = small_element(reader, UINT32, 8)?;
    // Cells, structures, text and sparse arrays are passed over; so are complex numbers.
    let complex = flags.get(1).is_some_and(|bits| bits & 0x08 != 0);
    if complex || !flags.first().is_some_and(|class| NUMERIC_CLASSES.contains(class)) {
        return Ok(());
    }
    let sizes = small_element(reader, INT32, 4 * MAX_DIMENSIONS)?;
    let shape: Vec<usize> =
        sizes.chunks_exact(4).map(|size| u32::from_le_bytes(size.try_into().unwrap_or_default()) as usize).collect();
    let name = String::from_utf8_lossy(&small_element(reader, INT8, MAX_NAME)?).into_owned();
    let tag = Tag::read(reader)?;
    let size = match tag.element {
        INT8 | UINT8 => 1,
        INT16 | UINT16 => 2,
        INT32 | UINT32 | SINGLE => 4,
        DOUBLE => 8,
        // 64-bit whole numbers: nothing that holds images or labels.
        _ => return Ok(()),
    };
    if byte_count(&shape, size) != Some(tag.bytes) {
        return Err(Fault::new(
            format!("{name} has shape {shape:?} and {} bytes", tag.bytes),
            format!("{size} bytes a value"),
        ));
    }
    let matrix = Matrix { name, shape, element: tag.element, bytes: tag.bytes };
    match tag.small {
        Some(bytes) => visit(&matrix, &mut &bytes[..tag.bytes]),
        None => visit(&matrix, reader),
    }
}

/// Body of an element that must be of this type and of at most `limit` bytes.
fn small_element(reader: &mut impl Read, element: u32, limit: usize) -> Parsed<Vec<u8>> {
    let tag = Tag::read(reader)?;
    if tag.element != element || tag.bytes > limit {
        return Err(Fault::new(
            format!("an element of type {} and {} bytes", tag.element, tag.bytes),
            format!("type {element}, at most {limit} bytes"),
        ));
    }
    if let Some(bytes) = tag.small {
        return Ok(bytes[..tag.bytes].to_vec());
    }
    let body = read_bytes(reader, tag.bytes)?;
    skip(reader, tag.padding())?;
    Ok(body)
}

/// What comes before the body of an element.
struct Tag {
    element: u32,
    bytes: usize,
    /// Bodies of up to four bytes lie in the tag itself.
    small: Option<[u8; 4]>,
}

impl Tag {
    fn read(reader: &mut impl Read) -> Parsed<Self> {
        Self::read_or_end(reader)?.ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof).into())
    }

    /// `None` at the end of the file.
    fn read_or_end(reader: &mut impl Read) -> Parsed<Option<Self>> {
        let mut tag = Vec::with_capacity(8);
        reader.take(8).read_to_end(&mut tag)?;
        let (Some(low), Some(high)) = (tag.first_chunk::<4>(), tag.last_chunk::<4>()) else {
            return if tag.is_empty() { Ok(None) } else { Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()) };
        };
        if tag.len() < 8 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        let word = u32::from_le_bytes(*low);
        Ok(Some(match (word & 0xFFFF, word >> 16) {
            (element, 0) => Self { element, bytes: u32::from_le_bytes(*high) as usize, small: None },
            (element, bytes @ 1..=4) => Self { element, bytes: bytes as usize, small: Some(*high) },
            (_, bytes) => return Err(Fault::new(format!("a small element of {bytes} bytes"), "at most 4")),
        }))
    }

    /// Bytes to the next multiple of 8.
    fn padding(&self) -> usize {
        self.bytes.wrapping_neg() % 8
    }
}

fn skip(reader: &mut impl Read, bytes: usize) -> io::Result<()> {
    io::copy(&mut reader.take(bytes as u64), &mut io::sink())?;
    Ok(())
}
