//! One block of 8 x 8 coefficients (T.81, F.2.2), reconstructed or passed over.

use super::Refusal;
use super::bits::Bits;
use super::header::ZIGZAG;
use super::huffman::{Table, extend};

/// What the blocks of one component share.
pub(super) struct Coder<'a> {
    pub(super) dc: &'a Table,
    pub(super) ac: &'a Table,
    /// In zigzag order.
    pub(super) quantization: &'a [u16; 64],
    /// DC coefficient of the block before.
    pub(super) previous: i32,
}

/// Rows, or columns, that hold a block's coefficients up to a place in zigzag order.
const EXTENT: [u8; 64] = {
    let mut extent = [1; 64];
    let mut k = 1;
    while k < 64 {
        let (row, column) = (ZIGZAG[k] / 8 + 1, ZIGZAG[k] % 8 + 1);
        let most = if row > column { row } else { column };
        extent[k] = if most > extent[k - 1] { most } else { extent[k - 1] };
        k += 1;
    }
    extent
};

/// Bits that one coefficient takes at most: 16 of the code, 15 of the value.
const LONGEST: u32 = 31;

impl Coder<'_> {
    /// Decodes a block into `coefficients`, zero before, dequantised and row by row; how many rows, and as many columns, hold
    /// all that are not 0.
    #[inline(always)]
    pub(super) fn read(&mut self, bits: &mut Bits, coefficients: &mut [i32; 64]) -> Result<usize, Refusal> {
        coefficients[0] = self.difference(bits)?.wrapping_mul(i32::from(self.quantization[0]));
        let mut last = 0;
        self.walk(bits, |k, value| {
            coefficients[usize::from(ZIGZAG[k & 63]) & 63] = value.wrapping_mul(i32::from(self.quantization[k & 63]));
            last = k;
        })?;
        Ok(usize::from(EXTENT[last & 63]))
    }

    /// Passes a block over.
    #[inline(always)]
    pub(super) fn skip(&mut self, bits: &mut Bits) -> Result<(), Refusal> {
        self.difference(bits)?;
        self.walk(bits, |_, _| ())
    }

    /// The DC coefficient.
    #[inline(always)]
    fn difference(&mut self, bits: &mut Bits) -> Result<i32, Refusal> {
        bits.refill();
        let difference = match self.dc.quick(bits) {
            Some((_, value)) => value,
            None => {
                let size = u32::from(self.dc.symbol(bits).ok_or_else(damaged)?);
                magnitude(bits, size)
            }
        };
        self.previous = self.previous.wrapping_add(difference);
        Ok(self.previous)
    }

    /// Calls `each` with place and value of all AC coefficients that are not 0.
    #[inline(always)]
    fn walk(&self, bits: &mut Bits, mut each: impl FnMut(usize, i32)) -> Result<(), Refusal> {
        let mut k = 1;
        while k < 64 {
            if bits.available() < LONGEST {
                bits.refill();
            }
            if let Some((run, value)) = self.ac.quick(bits) {
                k += run;
                each(k, value);
                k += 1;
                continue;
            }
            let symbol = self.ac.symbol(bits).ok_or_else(damaged)?;
            match (usize::from(symbol >> 4), u32::from(symbol & 15)) {
                (15, 0) => k += 16,
                (_, 0) => return Ok(()),
                (run, size) => {
                    k += run;
                    each(k, magnitude(bits, size));
                    k += 1;
                }
            }
        }
        // A run that leads beyond the block was masked to its inside.
        if k > 64 { Err(damaged()) } else { Ok(()) }
    }
}

/// The value of the next `size` bits.
#[inline(always)]
fn magnitude(bits: &mut Bits, size: u32) -> i32 {
    if size == 0 {
        return 0;
    }
    let value = extend(bits.peek(size), size);
    bits.consume(size);
    value
}

#[cold]
fn damaged() -> Refusal {
    Refusal::damaged("its coded data make no sense")
}
