//! Buffers of a block's size that stay with their thread, for numbers that never need to reach main memory.

use std::cell::RefCell;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};

use super::slab::Real;

thread_local! {
    static FREE: RefCell<Vec<Vec<u64>>> = const { RefCell::new(Vec::new()) };
}

/// A buffer of this thread. Its contents are whatever was left in it.
pub(super) struct Scratch<T> {
    words: Vec<u64>,
    len: usize,
    element: PhantomData<T>,
}

impl<T: Real> Scratch<T> {
    pub fn new(len: usize) -> Self {
        let mut words = FREE.with_borrow_mut(Vec::pop).unwrap_or_default();
        let needed = (len * size_of::<T>()).div_ceil(size_of::<u64>());
        if words.len() < needed {
            words.resize(needed, 0);
        }
        Self { words, len, element: PhantomData }
    }

    pub fn zeros(len: usize) -> Self {
        let mut scratch = Self::new(len);
        scratch.fill(T::zero());
        scratch
    }
}

impl<T> Drop for Scratch<T> {
    fn drop(&mut self) {
        let words = std::mem::take(&mut self.words);
        // A thread that is ending has no place for it any more.
        let _ = FREE.try_with(|free| free.borrow_mut().push(words));
    }
}

impl<T: Real> Deref for Scratch<T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        // SAFETY: initialised words, enough of them, aligned for f64; every bit pattern is a number.
        unsafe { std::slice::from_raw_parts(self.words.as_ptr().cast(), self.len) }
    }
}

impl<T: Real> DerefMut for Scratch<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as above.
        unsafe { std::slice::from_raw_parts_mut(self.words.as_mut_ptr().cast(), self.len) }
    }
}
