//! Numbers as memory holds them and as kernels compute with them: bfloat16 is only ever stored, float32 is computed with.

use half::bf16;

use super::slab::{Number, Real};

/// An element of an activation.
pub trait Stored: Number {
    /// What a kernel computes with.
    type Real: Real;
    fn load(self) -> Self::Real;
    /// Rounds to nearest, ties to even.
    fn store(value: Self::Real) -> Self;
}

macro_rules! stored_as_computed {
    ($($real:ty),*) => {$(
        impl Stored for $real {
            type Real = Self;
            #[inline(always)]
            fn load(self) -> Self {
                self
            }
            #[inline(always)]
            fn store(value: Self) -> Self {
                value
            }
        }
    )*};
}
stored_as_computed!(f32, f64);

impl Stored for bf16 {
    type Real = f32;
    #[inline(always)]
    fn load(self) -> f32 {
        f32::of_half(self)
    }
    #[inline(always)]
    fn store(value: f32) -> Self {
        value.to_half()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conversions_are_those_of_the_half_crate() {
        let values = (0..=u32::MAX).step_by(9973).map(f32::from_bits);
        let ties = (0..0x1_0000).map(|upper: u32| f32::from_bits(upper << 16 | 0x8000));
        for value in values.chain(ties) {
            let (found, expected) = (<bf16 as Stored>::store(value), bf16::from_f32(value));
            assert!(found == expected || found.is_nan() && expected.is_nan(), "{value} became {found}");
            assert!(found.is_nan() || found.load() == expected.to_f32());
        }
    }
}
