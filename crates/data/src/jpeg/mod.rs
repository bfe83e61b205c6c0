//! Decodes the part of a JPEG that a crop needs, into planes of luma and chroma.
//!
//! For baseline files, which nearly all photographs are (ITU T.81, sections A, F and H by Huffman coding). What the crop does not
//! show is skipped, not reconstructed, and decoding ends with its last row; chroma is left at its own resolution,
//! since the resampler that follows brings every plane to the size of the output anyway. Reconstruction equals libjpeg's
//! accurate integer transform bit for bit. Files of the other kinds (progressive, CMYK, arithmetic coding) are told
//! apart here and left to the decoder of the `image` crate.

mod bits;
mod block;
mod header;
mod huffman;
mod idct;
mod scan;

pub(crate) use header::Header;

use crate::plane::{Planes, Region};

/// Why a file was not decoded here.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// It may be sound: another decoder must try.
    Unsupported,
    /// What is wrong with it.
    Damaged(String),
}

impl Refusal {
    fn damaged(message: impl Into<String>) -> Self {
        Self::Damaged(message.into())
    }
}

/// Decodes what `region` (in pixels of the whole image) shows, reduced by `scale` (1, 2, 4 or 8) in the frequency
/// domain.
pub(crate) fn decode(
    header: &Header,
    bytes: &[u8],
    region: Region,
    scale: usize,
    planes: &mut Planes,
) -> Result<(), Refusal> {
    match scale {
        2 => scan::decode::<4>(header, bytes, region, planes),
        4 => scan::decode::<2>(header, bytes, region, planes),
        8 => scan::decode::<1>(header, bytes, region, planes),
        _ => scan::decode::<8>(header, bytes, region, planes),
    }
}
