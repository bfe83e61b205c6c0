//! The markers before the first scan: size, components, tables, orientation (T.81, annex B).

use ::image::metadata::Orientation;

use super::Refusal;
use super::huffman::Table;
use crate::plane::Colour;

/// Order in which the coefficients of a block are stored (T.81, figure A.6).
pub(super) const ZIGZAG: [u8; 64] = [
    0, 1, 8, 16, 9, 2, 3, 10, 17, 24, 32, 25, 18, 11, 4, 5, 12, 19, 26, 33, 40, 48, 41, 34, 27, 20, 13, 6, 7, 14, 21,
    28, 35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23, 30, 37, 44, 51, 58, 59, 52, 45, 38, 31, 39, 46, 53, 60, 61, 54,
    47, 55, 62, 63,
];

/// One plane of the image.
#[derive(Debug, Default)]
pub(crate) struct Component {
    id: u8,
    /// Blocks of a minimum coded unit, across and down: 1 to 4.
    pub(super) across: usize,
    pub(super) down: usize,
    quantization: usize,
    pub(super) dc: usize,
    pub(super) ac: usize,
}

/// All that is known before the first pixel.
#[derive(Debug, Default)]
pub(crate) struct Header {
    pub(crate) width: usize,
    pub(crate) height: usize,
    pub(crate) orientation: Option<Orientation>,
    pub(super) components: Vec<Component>,
    pub(super) colour: Colour,
    /// In zigzag order.
    quantization: [Option<[u16; 64]>; 4],
    pub(super) dc: [Option<Box<Table>>; 4],
    pub(super) ac: [Option<Box<Table>>; 4],
    /// Minimum coded units between two restart markers; 0: there are none.
    pub(super) restart_interval: usize,
    /// Where the entropy-coded data begin.
    pub(super) scan: usize,
    jfif: bool,
    /// Colour transform of an Adobe marker.
    adobe: Option<u8>,
    /// What only another decoder can read was met.
    foreign: bool,
}

impl Header {
    /// Reads all markers up to the first scan.
    pub(crate) fn read(bytes: &[u8]) -> Result<Self, Refusal> {
        let mut header = Self::default();
        if !bytes.starts_with(&[0xFF, 0xD8]) {
            return Err(Refusal::damaged("it does not begin as a JPEG does"));
        }
        let mut at = 2;
        loop {
            let (marker, after) = next_marker(bytes, at)?;
            let body = segment(bytes, after)?;
            at = after + 2 + body.len();
            match marker {
                0xC0 | 0xC1 => header.frame(body)?,
                0xC4 => header.huffman_tables(body)?,
                0xDB => header.quantization_tables(body)?,
                0xDD => header.restart_interval = u16_at(body, 0)?.into(),
                0xE0 => header.jfif |= body.starts_with(b"JFIF\0"),
                0xE1 => header.exif(body),
                0xEE if body.starts_with(b"Adobe") => header.adobe = body.get(11).copied(),
                0xDA => {
                    header.scan = at;
                    header.scan_header(body)?;
                    return Ok(header);
                }
                // Conditioning of arithmetic coding.
                0xCC => header.foreign = true,
                // Progressive, lossless, hierarchical or arithmetic frames.
                0xC2 | 0xC3 | 0xC5..=0xCF => {
                    header.frame(body)?;
                    header.foreign = true;
                }
                _ => {}
            }
        }
    }

    /// False if only another decoder can read the scan; size and orientation are right in any case.
    pub(crate) fn is_supported(&self) -> bool {
        !self.foreign
    }

    /// Quantisation table of a component, in zigzag order.
    pub(super) fn quantization(&self, component: &Component) -> Result<&[u16; 64], Refusal> {
        let table = self.quantization[component.quantization].as_ref();
        table.ok_or_else(|| Refusal::damaged("a quantisation table is missing"))
    }

    fn frame(&mut self, body: &[u8]) -> Result<(), Refusal> {
        if !self.components.is_empty() {
            return Err(Refusal::damaged("it has two frames"));
        }
        let (precision, count) = (byte_at(body, 0)?, byte_at(body, 5)?);
        (self.height, self.width) = (u16_at(body, 1)?.into(), u16_at(body, 3)?.into());
        if self.height == 0 || self.width == 0 {
            return Err(Refusal::damaged(format!("it is {} pixels wide and {} high", self.width, self.height)));
        }
        self.foreign |= precision != 8 || !matches!(count, 1 | 3);
        for component in 0..usize::from(count) {
            let at = 6 + 3 * component;
            let (sampling, quantization) = (byte_at(body, at + 1)?, byte_at(body, at + 2)?);
            let (across, down) = (usize::from(sampling >> 4), usize::from(sampling & 15));
            if !(1..=4).contains(&across) || !(1..=4).contains(&down) || quantization > 3 {
                return Err(Refusal::damaged("a component has impossible sampling factors"));
            }
            self.components.push(Component {
                id: byte_at(body, at)?,
                across,
                down,
                quantization: quantization.into(),
                ..Component::default()
            });
        }
        Ok(())
    }

    fn scan_header(&mut self, body: &[u8]) -> Result<(), Refusal> {
        let count = usize::from(byte_at(body, 0)?);
        if self.components.is_empty() {
            return Err(Refusal::damaged("it has no frame before its scan"));
        }
        if self.foreign || count != self.components.len() {
            // Several scans, one a component.
            self.foreign = true;
            return Ok(());
        }
        for (number, component) in self.components.iter_mut().enumerate() {
            let tables = byte_at(body, 2 + 2 * number)?;
            if byte_at(body, 1 + 2 * number)? != component.id || tables >> 4 > 3 || tables & 15 > 3 {
                return Err(Refusal::damaged("its scan does not fit its frame"));
            }
            (component.dc, component.ac) = (usize::from(tables >> 4), usize::from(tables & 15));
        }
        self.settle_colour();
        Ok(())
    }

    /// As libjpeg guesses it: the markers decide, then the components' names.
    fn settle_colour(&mut self) {
        if let [only] = &mut self.components[..] {
            // A lone component has one block a unit, whatever it says (T.81, A.2.2).
            (only.across, only.down) = (1, 1);
            self.colour = Colour::Grey;
            return;
        }
        let named_rgb = self.components.iter().map(|component| component.id).eq(*b"RGB");
        let rgb = match (self.jfif, self.adobe) {
            (true, _) => false,
            (false, Some(transform)) => transform == 0,
            (false, None) => named_rgb,
        };
        self.colour = if rgb { Colour::Rgb } else { Colour::Ycc };
        let (across, down) = self.sampling();
        self.foreign |=
            self.components.iter().any(|c| !across.is_multiple_of(c.across) || !down.is_multiple_of(c.down));
    }

    /// Blocks of the finest component in a minimum coded unit, across and down.
    pub(super) fn sampling(&self) -> (usize, usize) {
        let most = |factor: fn(&Component) -> usize| self.components.iter().map(factor).max().unwrap_or(1);
        (most(|component| component.across), most(|component| component.down))
    }

    fn quantization_tables(&mut self, mut body: &[u8]) -> Result<(), Refusal> {
        while let Some(&head) = body.first() {
            let (wide, slot) = (head >> 4 != 0, usize::from(head & 15));
            let mut values = [0; 64];
            for (k, value) in values.iter_mut().enumerate() {
                *value = if wide { u16_at(body, 1 + 2 * k)? } else { byte_at(body, 1 + k)?.into() };
            }
            let table = self.quantization.get_mut(slot);
            *table.ok_or_else(|| Refusal::damaged("a quantisation table has no place"))? = Some(values);
            body = &body[if wide { 129 } else { 65 }..];
        }
        Ok(())
    }

    fn huffman_tables(&mut self, mut body: &[u8]) -> Result<(), Refusal> {
        while let Some(&head) = body.first() {
            let counts = body.get(1..17).and_then(|counts| <&[u8; 16]>::try_from(counts).ok());
            let counts = counts.ok_or_else(cut_short)?;
            let symbols = counts.iter().map(|&count| usize::from(count)).sum::<usize>();
            let values = body.get(17..17 + symbols).ok_or_else(cut_short)?;
            let table = Table::new(counts, values, head >> 4 == 1);
            let table = table.ok_or_else(|| Refusal::damaged("a Huffman table is impossible"))?;
            let tables = if head >> 4 == 0 { &mut self.dc } else { &mut self.ac };
            let place = tables.get_mut(usize::from(head & 15));
            *place.ok_or_else(|| Refusal::damaged("a Huffman table has no place"))? = Some(Box::new(table));
            body = &body[17 + symbols..];
        }
        Ok(())
    }

    /// Damaged metadata must not hide a sound picture, so nothing here fails.
    fn exif(&mut self, body: &[u8]) {
        if let Some(chunk) = body.strip_prefix(b"Exif\0\0") {
            self.orientation = self.orientation.or_else(|| Orientation::from_exif_chunk(chunk));
        }
    }
}

/// The next marker at or after `at`, and where its segment begins. Bytes before it are passed over, as libjpeg does.
fn next_marker(bytes: &[u8], mut at: usize) -> Result<(u8, usize), Refusal> {
    while let Some(found) = bytes.get(at..).and_then(|rest| memchr::memchr(0xFF, rest)) {
        at += found + 1;
        match bytes.get(at) {
            Some(0xFF) => {}
            // Markers without a segment mean nothing here.
            Some(0x00 | 0x01 | 0xD0..=0xD8) => at += 1,
            Some(0xD9) => return Err(Refusal::damaged("it ends before its picture")),
            Some(&marker) => return Ok((marker, at + 1)),
            None => break,
        }
    }
    Err(cut_short())
}

/// Contents of the segment that begins with its length at `at`.
fn segment(bytes: &[u8], at: usize) -> Result<&[u8], Refusal> {
    let length = usize::from(u16_at(bytes, at)?);
    bytes.get(at + 2..at + length.max(2)).ok_or_else(cut_short)
}

fn byte_at(bytes: &[u8], at: usize) -> Result<u8, Refusal> {
    bytes.get(at).copied().ok_or_else(cut_short)
}

fn u16_at(bytes: &[u8], at: usize) -> Result<u16, Refusal> {
    Ok(u16::from_be_bytes([byte_at(bytes, at)?, byte_at(bytes, at + 1)?]))
}

pub(super) fn cut_short() -> Refusal {
    Refusal::damaged("it is cut short")
}
