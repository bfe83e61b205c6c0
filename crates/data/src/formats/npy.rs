//! NumPy's `.npy` format: a magic string, a version, a header that is the literal of a Python dict (`descr`,
//! `fortran_order`, `shape`), and the values (NumPy Enhancement Proposal 1, `numpy.lib.format`).
//! The header is read by a reader of exactly those literals: nothing nests, so nothing recurses.

use std::io::Read;

use super::array::{Array, ElementType};
use super::{Fault, Parsed, byte_count, read_bytes};

const MAGIC: &[u8] = b"\x93NUMPY";
/// NumPy itself refuses longer ones.
const MAX_HEADER: usize = 10_000;

/// Reads one array; at most `limit` bytes of values.
pub(crate) fn read_npy(mut reader: impl Read, limit: u64) -> Parsed<Array> {
    let header = read_header(&mut reader)?;
    let Header { shape, element, big_endian, fortran_order } = parse_header(&header)
        .ok_or_else(|| Fault::new(format!("its header is {header:?}"), "an array of whole or real numbers"))?;
    let length = byte_count(&shape, element.size()).filter(|&length| length as u64 <= limit).ok_or_else(|| {
        Fault::new(
            format!("an array of shape {shape:?}, {}", element.name()),
            format!("at most the {limit} bytes that follow"),
        )
    })?;
    let mut bytes = read_bytes(&mut reader, length)?;
    if big_endian {
        bytes.chunks_exact_mut(element.size()).for_each(<[u8]>::reverse);
    }
    if fortran_order && shape.len() > 1 && length > 0 {
        bytes = row_major(&bytes, &shape, element.size());
    }
    Ok(Array { shape, element, bytes })
}

fn read_header(reader: &mut impl Read) -> Parsed<String> {
    let mut head = [0; 8];
    reader.read_exact(&mut head)?;
    let length = match (&head[..6], head[6]) {
        (MAGIC, 1) => {
            let mut length = [0; 2];
            reader.read_exact(&mut length)?;
            usize::from(u16::from_le_bytes(length))
        }
        (MAGIC, 2 | 3) => {
            let mut length = [0; 4];
            reader.read_exact(&mut length)?;
            u32::from_le_bytes(length) as usize
        }
        _ => return Err(Fault::new(format!("it begins with the bytes {head:?}"), "NumPy's format, versions 1 to 3")),
    };
    if length > MAX_HEADER {
        return Err(Fault::new(format!("a header of {length} bytes"), format!("at most {MAX_HEADER}")));
    }
    let text = read_bytes(reader, length)?;
    String::from_utf8(text).map_err(|_| Fault::new("a header that is no text", "the literal of a Python dict"))
}

struct Header {
    shape: Vec<usize>,
    element: ElementType,
    big_endian: bool,
    fortran_order: bool,
}

/// `{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }`, keys in any order; `None`: anything else.
fn parse_header(header: &str) -> Option<Header> {
    let mut rest = header.trim().strip_prefix('{')?.strip_suffix('}')?.trim();
    let (mut descr, mut fortran_order, mut shape) = (None, None, None);
    while !rest.is_empty() {
        let (key, value) = quoted(rest)?;
        let value = value.trim_start().strip_prefix(':')?.trim_start();
        rest = match key {
            "descr" => {
                let (text, rest) = quoted(value)?;
                descr = Some(element(text)?);
                rest
            }
            "fortran_order" => {
                let (flag, rest) = value.split_at(value.find([',', ' ']).unwrap_or(value.len()));
                fortran_order = Some(match flag {
                    "True" => true,
                    "False" => false,
                    _ => return None,
                });
                rest
            }
            "shape" => {
                let (sizes, rest) = value.strip_prefix('(')?.split_once(')')?;
                shape = Some(parse_shape(sizes)?);
                rest
            }
            _ => return None,
        }
        .trim_start();
        rest = rest.strip_prefix(',').unwrap_or(rest).trim_start();
    }
    let (element, big_endian) = descr?;
    Some(Header { shape: shape?, element, big_endian, fortran_order: fortran_order? })
}

/// The text between quotes, and what follows them.
fn quoted(text: &str) -> Option<(&str, &str)> {
    let quote = text.chars().next().filter(|c| matches!(c, '\'' | '"'))?;
    text[1..].split_once(quote)
}

/// NumPy 1 under Python 2 wrote long integers: `(60000L, 28L, 28L)`.
fn parse_shape(sizes: &str) -> Option<Vec<usize>> {
    let sizes = sizes.split(',').map(str::trim).filter(|size| !size.is_empty());
    sizes.map(|size| size.strip_suffix('L').unwrap_or(size).parse().ok()).collect()
}

/// The type behind NumPy's code, and whether its bytes come highest first.
fn element(descr: &str) -> Option<(ElementType, bool)> {
    let (order, code) = descr.split_at_checked(1)?;
    let element = match code {
        "b1" => ElementType::Bool,
        "i1" => ElementType::I8,
        "u1" => ElementType::U8,
        "i2" => ElementType::I16,
        "u2" => ElementType::U16,
        "i4" => ElementType::I32,
        "u4" => ElementType::U32,
        "i8" => ElementType::I64,
        "u8" => ElementType::U64,
        "f4" => ElementType::F32,
        "f8" => ElementType::F64,
        _ => return None,
    };
    match order {
        "<" | "|" | "=" => Some((element, false)),
        ">" => Some((element, true)),
        _ => None,
    }
}

/// Column-major values in row-major order. The shape has no size 0.
fn row_major(bytes: &[u8], shape: &[usize], size: usize) -> Vec<u8> {
    let mut strides = vec![size; shape.len()];
    for axis in 1..shape.len() {
        strides[axis] = strides[axis - 1] * shape[axis - 1];
    }
    let mut out = Vec::with_capacity(bytes.len());
    let mut index = vec![0; shape.len()];
    for _ in 0..bytes.len() / size {
        let from: usize = index.iter().zip(&strides).map(|(i, stride)| i * stride).sum();
        out.extend_from_slice(&bytes[from..from + size]);
        for axis in (0..shape.len()).rev() {
            index[axis] += 1;
            if index[axis] < shape[axis] {
                break;
            }
            index[axis] = 0;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn npy(header: &str, values: &[u8]) -> Vec<u8> {
        [MAGIC, &[1, 0], &(header.len() as u16).to_le_bytes(), header.as_bytes(), values].concat()
    }

    fn read(header: &str, values: &[u8]) -> Parsed<Array> {
        read_npy(&npy(header, values)[..], values.len() as u64)
    }

    #[test]
    fn types_byte_orders_and_axis_orders_are_understood() {
        let header = "{'descr': '>i2', 'fortran_order': True, 'shape': (2, 3), }   \n";
        // The columns of [[1, 2, 3], [4, 5, 6]].
        let array = read(header, &[0, 1, 0, 4, 0, 2, 0, 5, 0, 3, 0, 6]).unwrap();
        assert_eq!((array.shape.clone(), array.to_labels().unwrap()), (vec![2, 3], vec![1, 2, 3, 4, 5, 6]));
        let header = "{\"shape\": (1L,), 'fortran_order': False, 'descr': '<f8'}";
        assert_eq!(read(header, &0.5f64.to_le_bytes()).unwrap().to_f32(), [0.5]);
        let scalar = read("{'descr': '|u1', 'fortran_order': False, 'shape': ()}", &[7]).unwrap();
        assert_eq!((scalar.shape.len(), scalar.to_labels().unwrap()), (0, vec![7]));
    }

    #[test]
    fn what_is_no_array_of_numbers_is_refused() {
        for header in [
            "",
            "{}",
            "{'descr': '|O', 'fortran_order': False, 'shape': (1,)}",
            "{'descr': '<u1', 'fortran_order': No, 'shape': (1,)}",
            "{'descr': '<u1', 'fortran_order': False, 'shape': (1,}",
            "{'descr': '<u1', 'fortran_order': False, 'shape': (-1,)}",
            "{'descr': '<u1', 'fortran_order': False, 'shape': (2,)}",
            "{'descr': '<f8', 'fortran_order': False, 'shape': (99999999999, 99999999999)}",
            "{'descr': 'é1', 'fortran_order': False, 'shape': (1,)}",
            "{'descr': [('a', '<f8')], 'fortran_order': False, 'shape': (1,)}",
            &"(".repeat(9_000),
        ] {
            assert!(read(header, &[1]).is_err(), "{header}");
        }
    }

    #[test]
    fn labels_are_whole_numbers_from_zero() {
        let array = |element, bytes: &[u8]| Array { shape: vec![1], element, bytes: bytes.to_vec() };
        assert!(array(ElementType::I8, &[255]).to_labels().is_err());
        assert!(array(ElementType::F32, &0.5f32.to_le_bytes()).to_labels().is_err());
        assert!(array(ElementType::F32, &f32::NAN.to_le_bytes()).to_labels().is_err());
        assert!(array(ElementType::U64, &u64::MAX.to_le_bytes()).to_labels().is_err());
        assert_eq!(array(ElementType::F32, &3f32.to_le_bytes()).to_labels().unwrap(), [3]);
    }
}
