//! Huffman tables (T.81, annex C), with a look-up that gives whole coefficients.
//! Most codes and the bits of their value together are short; then one look-up yields run, value and length.

use super::bits::Bits;

/// Bits of the look-up: 4 kB a table, so that all four stay in the first-level cache.
const LOOK: u32 = 10;

/// One table for DC differences or AC coefficients.
#[derive(Debug)]
pub(super) struct Table {
    /// By the next bits: `value << 16 | run << 8 | length of code and value`; 0 where they do not suffice. Zero runs of 16
    /// and ends of a block are not here.
    values: Vec<i32>,
    /// By the next bits: `symbol << 8 | length of the code`; 0 where they do not suffice.
    codes: Vec<u16>,
    /// By length: where longer codes end, aligned to 16 bits, and what added to a code gives its symbol's place.
    ends: [u32; 17],
    offsets: [i32; 17],
    symbols: Vec<u8>,
}

impl Table {
    /// `counts[k]` codes of `k + 1` bits; `None` if there are more than fit, or a symbol asks for too many bits.
    pub(super) fn new(counts: &[u8; 16], symbols: &[u8], ac: bool) -> Option<Self> {
        let mut table = Self {
            values: vec![0; 1 << LOOK],
            codes: vec![0; 1 << LOOK],
            ends: [0; 17],
            offsets: [0; 17],
            symbols: symbols.to_vec(),
        };
        if !ac && symbols.iter().any(|&size| size > 11) {
            return None;
        }
        let (mut code, mut place) = (0u32, 0usize);
        for length in 1..=16 {
            table.offsets[length] = place as i32 - code as i32;
            for _ in 0..counts[length - 1] {
                if code >= 1 << length {
                    return None;
                }
                table.enter(code, length as u32, symbols[place], ac);
                code += 1;
                place += 1;
            }
            table.ends[length] = code << (16 - length);
            code <<= 1;
        }
        Some(table)
    }

    /// Fills the look-ups for one code.
    fn enter(&mut self, code: u32, length: u32, symbol: u8, ac: bool) {
        let Some(free) = LOOK.checked_sub(length) else { return };
        let (run, size) = if ac { (symbol >> 4, u32::from(symbol & 15)) } else { (0, u32::from(symbol)) };
        for rest in 0..1u32 << free {
            let at = (code << free | rest) as usize;
            self.codes[at] = u16::from(symbol) << 8 | length as u16;
            if size <= free && (size > 0 || !ac) {
                let value = extend(rest >> (free - size), size);
                self.values[at] = value << 16 | i32::from(run) << 8 | (length + size) as i32;
            }
        }
    }

    /// Run, value and length of the next coefficient, if the look-up tells: `(run, value)`; consumes its bits.
    #[inline(always)]
    pub(super) fn quick(&self, bits: &mut Bits) -> Option<(usize, i32)> {
        let entry = self.values[bits.peek(LOOK) as usize];
        if entry == 0 {
            return None;
        }
        bits.consume((entry & 0xFF) as u32);
        Some(((entry >> 8 & 0xFF) as usize, entry >> 16))
    }

    /// The next symbol; needs 16 bits. `None` for a code that the table does not have.
    #[inline(always)]
    pub(super) fn symbol(&self, bits: &mut Bits) -> Option<u8> {
        let entry = self.codes[bits.peek(LOOK) as usize];
        if entry != 0 {
            bits.consume(u32::from(entry & 0xFF));
            return Some((entry >> 8) as u8);
        }
        self.long_symbol(bits)
    }

    #[cold]
    fn long_symbol(&self, bits: &mut Bits) -> Option<u8> {
        let next = bits.peek(16);
        let length = (LOOK as usize + 1..=16).find(|&length| next < self.ends[length])?;
        bits.consume(length as u32);
        let place = (next >> (16 - length)) as i32 + self.offsets[length];
        self.symbols.get(usize::try_from(place).ok()?).copied()
    }
}

/// The number that `size` bits stand for (T.81, F.2.2.1).
#[inline(always)]
pub(super) fn extend(bits: u32, size: u32) -> i32 {
    match size {
        0 => 0,
        _ if bits >> (size - 1) == 0 => bits as i32 - (1 << size) + 1,
        _ => bits as i32,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn look_ups_and_long_codes_agree_with_the_canonical_code() {
        // One code of each length from 1 to 16: 0, 10, 110, ...
        let counts = [1; 16];
        let symbols: Vec<u8> = (0..16).map(|k| if k == 0 { 0 } else { k % 11 + 1 }).collect();
        let table = Table::new(&counts, &symbols, false).unwrap();
        for (k, &symbol) in symbols.iter().enumerate() {
            let code: u64 = ((1 << k) - 1) << 1;
            let bytes = (code << (63 - k)).to_be_bytes();
            let data = [&bytes[..], &[0; 8]].concat();
            let mut bits = Bits::new(&data);
            bits.refill();
            assert_eq!(table.symbol(&mut bits), Some(symbol));
            assert_eq!(bits.consumed(), k + 1);
        }
    }

    #[test]
    fn impossible_tables_are_refused() {
        let mut counts = [0; 16];
        counts[0] = 3;
        assert!(Table::new(&counts, &[1, 2, 3], true).is_none());
        counts[0] = 1;
        assert!(Table::new(&counts, &[12], false).is_none());
        assert!(Table::new(&counts, &[12], true).is_some());
    }

    #[test]
    fn values_are_extended_as_the_standard_says() {
        assert_eq!([0, 1].map(|bits| extend(bits, 1)), [-1, 1]);
        assert_eq!([0, 3, 4, 7].map(|bits| extend(bits, 3)), [-7, -4, 4, 7]);
    }
}
