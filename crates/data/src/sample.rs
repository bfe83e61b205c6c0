//! What the pixels of a batch are: the number types in which the loader writes them, straight into the batch's buffer.

use half::bf16;

/// Number type and scale of the pixels of a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// Normalised.
    #[default]
    F32,
    /// Normalised, then rounded to the nearest bfloat16, ties to even.
    Bf16,
    /// As augmentation leaves them, before normalisation: 255 is white. What is blanked gets the mean.
    U8,
}

/// Pixels of a batch, `[count, height, width, channels]`.
#[derive(Clone, Debug, PartialEq)]
pub enum Images {
    F32(Vec<f32>),
    Bf16(Vec<bf16>),
    U8(Vec<u8>),
}

impl Default for Images {
    fn default() -> Self {
        Self::F32(Vec::new())
    }
}

impl Format {
    /// Bytes of one value.
    pub(crate) fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::Bf16 => 2,
            Self::U8 => 1,
        }
    }
}

impl Images {
    /// Values of all images together.
    pub fn len(&self) -> usize {
        match self {
            Self::F32(values) => values.len(),
            Self::Bf16(values) => values.len(),
            Self::U8(values) => values.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Room for so many values, whose contents are unspecified.
    pub(crate) fn reset(&mut self, format: Format, len: usize) {
        match (&mut *self, format) {
            (Self::F32(values), Format::F32) => values.resize(len, 0.0),
            (Self::Bf16(values), Format::Bf16) => values.resize(len, bf16::ZERO),
            (Self::U8(values), Format::U8) => values.resize(len, 0),
            (_, Format::F32) => *self = Self::F32(vec![0.0; len]),
            (_, Format::Bf16) => *self = Self::Bf16(vec![bf16::ZERO; len]),
            (_, Format::U8) => *self = Self::U8(vec![0; len]),
        }
    }

    pub(crate) fn truncate(&mut self, len: usize) {
        match self {
            Self::F32(values) => values.truncate(len),
            Self::Bf16(values) => values.truncate(len),
            Self::U8(values) => values.truncate(len),
        }
    }
}

/// A number type of pixels.
pub(crate) trait Sample: Copy {
    /// The nearest number of this type.
    fn of(value: f32) -> Self;
}

impl Sample for f32 {
    #[inline(always)]
    fn of(value: f32) -> Self {
        value
    }
}

impl Sample for bf16 {
    /// As `bf16::from_f32` for all but NaN, which no pixel is; without branches, so that rows of it become vector code.
    #[inline(always)]
    fn of(value: f32) -> Self {
        let bits = value.to_bits();
        let odd = (bits >> 16) & 1;
        Self::from_bits((bits.wrapping_add(0x7fff + odd) >> 16) as u16)
    }
}

impl Sample for u8 {
    #[inline(always)]
    fn of(value: f32) -> Self {
        (value + 0.5) as Self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bfloat16_rounds_as_the_half_crate_does() {
        let edges =
            [0.0, -0.0, 1.0, 1.003_906_2, 1.011_718_8, -1.003_906_2, f32::MAX, f32::MIN_POSITIVE, f32::INFINITY];
        let many = (0..100_000u32).map(|i| f32::from_bits(i.wrapping_mul(42_949)));
        for value in edges.into_iter().chain(many).filter(|value| !value.is_nan()) {
            assert_eq!(<bf16 as Sample>::of(value).to_bits(), bf16::from_f32(value).to_bits(), "{value}");
        }
    }

    #[test]
    fn bytes_are_rounded_and_stay_in_range() {
        let found = [-3.0, 0.0, 0.49, 0.5, 127.4, 254.6, 255.0, 300.0].map(<u8 as Sample>::of);
        assert_eq!(found, [0, 0, 0, 1, 127, 255, 255, 255]);
    }
}
