//! The idx format of MNIST (Y. LeCun, C. Cortes, C. Burges): two zero bytes, the type, the number of dimensions, their
//! sizes as big-endian 32-bit numbers, and the values, row-major.

use std::io::Read;

use super::{Fault, Parsed, byte_count, read_bytes};

/// The type code of unsigned bytes, the only one that image sets use.
const UNSIGNED_BYTE: u8 = 0x08;

/// An array of bytes: its shape of `dimensions` sizes, and its values.
pub(crate) fn read_idx(mut reader: impl Read, dimensions: usize) -> Parsed<(Vec<usize>, Vec<u8>)> {
    let mut head = [0; 4];
    reader.read_exact(&mut head)?;
    let expected = [0, 0, UNSIGNED_BYTE, dimensions as u8];
    if head != expected {
        return Err(Fault::new(
            format!("it begins with the bytes {head:?}"),
            format!("{expected:?}, an idx file of bytes with {dimensions} dimensions"),
        ));
    }
    let mut shape = Vec::with_capacity(dimensions);
    for _ in 0..dimensions {
        let mut size = [0; 4];
        reader.read_exact(&mut size)?;
        shape.push(u32::from_be_bytes(size) as usize);
    }
    let too_large = || Fault::new(format!("its shape is {shape:?}"), "a shape that fits into memory");
    let length = byte_count(&shape, 1).ok_or_else(too_large)?;
    let values = read_bytes(&mut reader, length)?;
    if reader.read(&mut [0])? > 0 {
        return Err(Fault::new("it goes on after its last value", format!("{length} values")));
    }
    Ok((shape, values))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shape_and_values_are_read_and_nothing_else_is_taken() {
        let file = [&[0, 0, 8, 2, 0, 0, 0, 2, 0, 0, 0, 3][..], &[1, 2, 3, 4, 5, 6]].concat();
        assert_eq!(read_idx(&file[..], 2).unwrap(), (vec![2, 3], vec![1, 2, 3, 4, 5, 6]));
        for cut in 0..file.len() {
            assert!(read_idx(&file[..cut], 2).is_err(), "{cut}");
        }
        assert!(read_idx(&[&file[..], &[0]].concat()[..], 2).is_err());
        assert!(read_idx(&file[..], 3).is_err());
        // 2^64 values.
        let huge = [&[0, 0, 8, 2][..], &[255; 8]].concat();
        assert!(read_idx(&huge[..], 2).is_err());
    }
}
