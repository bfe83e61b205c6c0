//! Flat memory as the kernels see it: arenas and gradients as typed pointers with bounds, shared by the threads of one
//! kernel, each of which writes blocks of its own.

use std::ops::{AddAssign, Range};

use half::{bf16, f16};
use num_traits::Float;
use tch::{Kind, Tensor};

/// What arenas are made of. (tch's own trait of this kind takes bfloat16 for float16.)
pub trait Number: Copy + Send + Sync + 'static {
    const KIND: Kind;
}

impl Number for f32 {
    const KIND: Kind = Kind::Float;
}

impl Number for f64 {
    const KIND: Kind = Kind::Double;
}

impl Number for bf16 {
    const KIND: Kind = Kind::BFloat16;
}

impl Number for f16 {
    const KIND: Kind = Kind::Half;
}

/// f32 and f64: what masters, momenta and sums are kept in.
pub trait Real: Float + Number + AddAssign {
    fn of(value: f64) -> Self;
    fn wide(self) -> f64;
    fn of_half(value: bf16) -> Self;
    /// Rounds to the nearest bfloat16, ties to even. Written so that loops over it become vector code.
    fn to_half(self) -> bf16;
}

impl Real for f32 {
    #[inline(always)]
    fn of(value: f64) -> Self {
        value as Self
    }
    #[inline(always)]
    fn wide(self) -> f64 {
        self.into()
    }
    #[inline(always)]
    fn of_half(value: bf16) -> Self {
        Self::from_bits(u32::from(value.to_bits()) << 16)
    }
    #[inline(always)]
    fn to_half(self) -> bf16 {
        let bits = self.to_bits();
        let rounded = (bits.wrapping_add(0x7fff + ((bits >> 16) & 1)) >> 16) as u16;
        bf16::from_bits(if self.is_nan() { 0x7fc0 } else { rounded })
    }
}

impl Real for f64 {
    #[inline(always)]
    fn of(value: f64) -> Self {
        value
    }
    #[inline(always)]
    fn wide(self) -> f64 {
        self
    }
    #[inline(always)]
    fn of_half(value: bf16) -> Self {
        f32::of_half(value).into()
    }
    #[inline(always)]
    fn to_half(self) -> bf16 {
        (self as f32).to_half()
    }
}

/// A format of 16 bits, which weights and gradients are only stored in.
pub trait Half: Number {
    fn widen<T: Real>(self) -> T;
    /// Rounds to nearest, ties to even; what is too large becomes infinite.
    fn round<T: Real>(value: T) -> Self;
}

impl Half for bf16 {
    #[inline(always)]
    fn widen<T: Real>(self) -> T {
        T::of_half(self)
    }
    #[inline(always)]
    fn round<T: Real>(value: T) -> Self {
        value.to_half()
    }
}

impl Half for f16 {
    #[inline(always)]
    fn widen<T: Real>(self) -> T {
        T::of(self.to_f32().into())
    }
    #[inline(always)]
    fn round<T: Real>(value: T) -> Self {
        Self::from_f32(value.wide() as f32)
    }
}

/// The elements of a 1-D arena.
#[derive(Clone, Copy)]
pub struct Slab<T> {
    start: *mut T,
    len: usize,
}

// SAFETY: a slab is a pointer with a length; whoever turns it into slices answers for aliasing (see `write`).
unsafe impl<T: Number> Send for Slab<T> {}
unsafe impl<T: Number> Sync for Slab<T> {}

impl<T: Number> Slab<T> {
    /// The storage of a dense tensor, which must stay alive while the slab is used.
    ///
    /// # Panics
    /// If the tensor's dtype is not T: arenas are typed by whoever builds them.
    pub fn of(tensor: &Tensor) -> Self {
        assert_eq!(tensor.kind(), T::KIND, "arena dtype");
        Self { start: tensor.data_ptr().cast(), len: tensor.numel() }
    }

    /// Memory that outlives the slab.
    pub(crate) fn from_raw(start: *mut T, len: usize) -> Self {
        Self { start, len }
    }

    pub(crate) fn len(self) -> usize {
        self.len
    }

    pub(super) fn start(self) -> *mut T {
        self.start
    }

    /// A part of it, as a slab of its own.
    pub(super) fn part(self, range: Range<usize>) -> Self {
        assert!(range.start <= range.end && range.end <= self.len);
        Self { start: self.start.wrapping_add(range.start), len: range.len() }
    }

    /// # Safety
    /// No other thread writes the range meanwhile.
    #[inline]
    pub(super) unsafe fn read<'a>(self, range: Range<usize>) -> &'a [T] {
        assert!(range.start <= range.end && range.end <= self.len);
        unsafe { std::slice::from_raw_parts(self.start.add(range.start), range.len()) }
    }

    /// # Safety
    /// No other thread writes the slab meanwhile.
    pub(super) unsafe fn all<'a>(self) -> &'a [T] {
        unsafe { self.read(0..self.len) }
    }

    /// # Safety
    /// No other thread reads or writes the range meanwhile, and no other slice of it is alive.
    #[inline]
    pub(crate) unsafe fn write<'a>(self, range: Range<usize>) -> &'a mut [T] {
        assert!(range.start <= range.end && range.end <= self.len);
        unsafe { std::slice::from_raw_parts_mut(self.start.add(range.start), range.len()) }
    }
}

/// The elements of an arena in one of the 16-bit formats.
#[derive(Clone, Copy)]
pub enum HalfSlab {
    BFloat16(Slab<bf16>),
    Float16(Slab<f16>),
}

impl HalfSlab {
    /// As for [`Slab::of`]; None if the tensor has another dtype.
    pub fn of(tensor: &Tensor) -> Option<Self> {
        match tensor.kind() {
            Kind::BFloat16 => Some(Self::BFloat16(Slab::of(tensor))),
            Kind::Half => Some(Self::Float16(Slab::of(tensor))),
            _ => None,
        }
    }

    /// A part of it, as a slab of its own.
    pub(super) fn part(self, range: Range<usize>) -> Self {
        match self {
            Self::BFloat16(slab) => Self::BFloat16(slab.part(range)),
            Self::Float16(slab) => Self::Float16(slab.part(range)),
        }
    }
}
