//! The entropy-coded bits of a scan: stuffed bytes removed first, then 64 at a time.

use super::Refusal;

/// Zeros behind the data, so that the last bits can be read as 8 bytes.
pub(super) const PADDING: usize = 8;

/// A scan without stuffing, cut at its restart markers.
#[derive(Default)]
pub(super) struct Entropy {
    /// Ends with [`PADDING`] zeros.
    data: Vec<u8>,
    /// Where each part between restart markers ends.
    ends: Vec<usize>,
}

impl Entropy {
    /// The data from `scan` up to the first marker that is no restart.
    pub(super) fn read(&mut self, bytes: &[u8], scan: usize) {
        self.data.clear();
        self.ends.clear();
        let mut rest = bytes.get(scan..).unwrap_or_default();
        while let Some(found) = memchr::memchr(0xFF, rest) {
            self.data.extend_from_slice(&rest[..found]);
            match rest.get(found + 1) {
                Some(0x00) => self.data.push(0xFF),
                Some(0xD0..=0xD7) => self.ends.push(self.data.len()),
                Some(0xFF) => {
                    rest = &rest[found + 1..];
                    continue;
                }
                _ => {
                    rest = &[];
                    break;
                }
            }
            rest = &rest[found + 2..];
        }
        self.data.extend_from_slice(rest);
        self.ends.push(self.data.len());
        self.data.extend_from_slice(&[0; PADDING]);
    }

    /// Bytes of all parts.
    pub(super) fn len(&self) -> usize {
        self.data.len() - PADDING
    }

    /// The bits of part `number`.
    pub(super) fn part(&self, number: usize) -> Result<Bits<'_>, Refusal> {
        let start = match number {
            0 => Some(0),
            _ => self.ends.get(number - 1).copied(),
        };
        match (start, self.ends.get(number)) {
            (Some(start), Some(end)) => Ok(Bits::new(&self.data[start..end + PADDING])),
            _ => Err(super::header::cut_short()),
        }
    }
}

/// Bits in order, most significant first. Behind the end come zeros; [`Self::overrun`] tells.
pub(super) struct Bits<'a> {
    data: &'a [u8],
    at: usize,
    buffer: u64,
    count: u32,
}

impl<'a> Bits<'a> {
    /// `data` ends with [`PADDING`] bytes that do not count.
    pub(super) fn new(data: &'a [u8]) -> Self {
        Self { data, at: 0, buffer: 0, count: 0 }
    }

    /// At least 56 bits are there afterwards.
    #[inline(always)]
    pub(super) fn refill(&mut self) {
        if let Some(next) = self.data.get(self.at..self.at + 8).and_then(|next| <[u8; 8]>::try_from(next).ok()) {
            self.buffer |= u64::from_be_bytes(next) >> self.count;
        }
        self.at += (63 - self.count as usize) >> 3;
        self.count |= 56;
    }

    #[inline(always)]
    pub(super) fn available(&self) -> u32 {
        self.count
    }

    /// The next bits, 1 to 32 of them, which stay.
    #[inline(always)]
    pub(super) fn peek(&self, bits: u32) -> u32 {
        (self.buffer >> (64 - bits)) as u32
    }

    #[inline(always)]
    pub(super) fn consume(&mut self, bits: u32) {
        self.buffer <<= bits;
        self.count = self.count.wrapping_sub(bits);
    }

    pub(super) fn consumed(&self) -> usize {
        (self.at * 8).saturating_sub(self.count as usize)
    }

    /// Whether more bits were taken than there are.
    pub(super) fn overrun(&self) -> bool {
        self.consumed() > (self.data.len() - PADDING) * 8
    }
}
