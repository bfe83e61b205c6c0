//! Flat memory as the kernels see it: arenas and gradients as typed pointers with bounds, shared by the threads of one
//! kernel, each of which writes blocks of its own.

use std::marker::PhantomData;
use std::ops::{AddAssign, Range};

use num_traits::Float;
use tch::{Tensor, kind::Element};

/// f32 and f64.
pub trait Real: Float + Element + AddAssign + Send + Sync + 'static {
    fn of(value: f64) -> Self;
    fn wide(self) -> f64;
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
}

/// The elements of a 1-D arena.
#[derive(Clone, Copy)]
pub struct Slab<T> {
    start: *mut T,
    len: usize,
}

// SAFETY: a slab is a pointer with a length; whoever turns it into slices answers for aliasing (see `write`).
unsafe impl<T: Real> Send for Slab<T> {}
unsafe impl<T: Real> Sync for Slab<T> {}

impl<T: Real> Slab<T> {
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

    pub(super) fn len(self) -> usize {
        self.len
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
    pub(super) unsafe fn write<'a>(self, range: Range<usize>) -> &'a mut [T] {
        assert!(range.start <= range.end && range.end <= self.len);
        unsafe { std::slice::from_raw_parts_mut(self.start.add(range.start), range.len()) }
    }
}

/// One gradient a segment, dense in the segment's own element order; None where the backward pass left none.
pub struct GradientTable<'a, T> {
    slabs: Vec<Option<Slab<T>>>,
    /// The tensors outlive the table. (Not their type: a tensor is not Sync.)
    tensors: PhantomData<&'a [()]>,
}

impl<'a, T: Real> GradientTable<'a, T> {
    pub fn new(gradients: &'a [Option<Tensor>]) -> Self {
        let slabs = gradients.iter().map(|gradient| gradient.as_ref().map(Slab::of)).collect();
        Self { slabs, tensors: PhantomData }
    }

    #[inline]
    pub fn is_present(&self, segment: usize) -> bool {
        self.slabs[segment].is_some()
    }

    /// The gradient of a part of a segment; the range counts from the segment's start.
    #[inline]
    pub(super) fn block(&self, segment: usize, range: Range<usize>) -> Option<&[T]> {
        // SAFETY: gradients are only read while a kernel runs.
        self.slabs[segment].map(|slab| unsafe { slab.read(range) })
    }
}
