//! Random masks over an arena that need no memory and do not depend on threads: each element or segment draws its own
//! number from a seed and its index.

use super::layout::Block;
use super::scratch::Scratch;
use super::slab::Real;

/// Keeps each unit with probability `keep`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Mask {
    pub seed: u64,
    pub keep: f64,
    pub unit: MaskUnit,
}

/// What is kept or dropped as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MaskUnit {
    Element,
    Segment,
}

impl Mask {
    /// The block with zeros where the mask drops.
    pub(super) fn apply<T: Real>(&self, values: &[T], block: &Block) -> Scratch<T> {
        let mut masked = Scratch::new(values.len());
        match self.unit {
            MaskUnit::Segment if self.keeps(block.segment) => masked.copy_from_slice(values),
            MaskUnit::Segment => masked.fill(T::zero()),
            MaskUnit::Element => {
                for ((masked, &value), index) in masked.iter_mut().zip(values).zip(block.global.clone()) {
                    *masked = if self.keeps(index) { value } else { T::zero() };
                }
            }
        }
        masked
    }

    /// Whether the unit of this index takes part.
    #[inline(always)]
    pub fn keeps(&self, index: usize) -> bool {
        uniform(self.seed, index as u64) < self.keep
    }
}

/// The number that a seed and an index draw, uniform in [0, 1).
#[inline(always)]
pub fn uniform(seed: u64, index: u64) -> f64 {
    (split_mix(seed, index) >> 11) as f64 / (1u64 << 53) as f64
}

/// The bits that a seed and an index draw: SplitMix64 (Steele 2014).
#[inline(always)]
pub fn split_mix(seed: u64, index: u64) -> u64 {
    let mut bits = seed.wrapping_add(index.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    bits ^ (bits >> 31)
}
