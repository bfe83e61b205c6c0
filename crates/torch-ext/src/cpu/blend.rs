//! A linear combination of gradients, for the updates that mix the gradients of both passes with each other or with a state
//! arena. It is formed block by block in the cache, so that a kernel which reads it stays one pass over memory.

use std::ops::Deref;

use multiversion::multiversion;

use super::layout::{Block, Layout};
use super::memory::prefetch;
use super::scratch::Scratch;
use super::slab::{Half, HalfSlab, Real};
use super::table::{GradientTable, Source};

/// `sum of coefficient * table`. A segment is present where the first table has it; further tables count as 0 where they
/// lack it.
pub struct Blend<'a, T> {
    terms: Vec<Term<'a, T>>,
}

struct Term<'a, T> {
    table: &'a GradientTable<'a, T>,
    coefficient: f64,
    /// Multiplies the coefficient, by parameter group.
    by_group: Option<Vec<f64>>,
}

impl<T> Term<'_, T> {
    fn coefficient(&self, group: usize) -> f64 {
        self.coefficient * self.by_group.as_ref().map_or(1.0, |factors| factors[group])
    }
}

impl<'a, T: Real> Blend<'a, T> {
    /// One table; `by_group` multiplies the coefficient with a number for each parameter group.
    pub fn of(table: &'a GradientTable<'a, T>, coefficient: f64, by_group: Option<Vec<f64>>) -> Self {
        Self { terms: vec![Term { table, coefficient, by_group }] }
    }

    /// Adds a table.
    pub fn plus(mut self, coefficient: f64, by_group: Option<Vec<f64>>, table: &'a GradientTable<'a, T>) -> Self {
        self.terms.push(Term { table, coefficient, by_group });
        self
    }

    #[inline]
    pub fn is_present(&self, segment: usize) -> bool {
        self.terms[0].table.is_present(segment)
    }

    /// One block of it: the gradient where it lies if there is nothing to compute, else computed into a buffer.
    pub(super) fn block(&self, layout: &Layout, block: &Block) -> Option<Lines<'_, T>> {
        let (first, others) = self.terms.split_first()?;
        let source = first.table.source(block.segment)?;
        let group = layout.segment_of(block).group;
        let coefficient = first.coefficient(group);
        let range = || block.local.clone();
        // SAFETY: gradients are only read while a kernel runs.
        if let (Source::Full(slab), 1.0, []) = (source, coefficient, others) {
            return Some(Lines::InPlace(unsafe { slab.read(range()) }));
        }
        let mut sum = Scratch::new(block.local.len());
        match source {
            Source::Full(slab) => set(&mut sum, unsafe { slab.read(range()) }, T::of(coefficient)),
            Source::Half(HalfSlab::BFloat16(slab)) => {
                set_half(&mut sum, unsafe { slab.read(range()) }, T::of(coefficient));
            }
            Source::Half(HalfSlab::Float16(slab)) => {
                set_half(&mut sum, unsafe { slab.read(range()) }, T::of(coefficient));
            }
        }
        for term in others {
            let coefficient = term.coefficient(group);
            match term.table.source(block.segment) {
                Some(_) if coefficient == 0.0 => {}
                Some(Source::Full(slab)) => add(&mut sum, unsafe { slab.read(range()) }, T::of(coefficient)),
                Some(Source::Half(HalfSlab::BFloat16(slab))) => {
                    add_half(&mut sum, unsafe { slab.read(range()) }, T::of(coefficient));
                }
                Some(Source::Half(HalfSlab::Float16(slab))) => {
                    add_half(&mut sum, unsafe { slab.read(range()) }, T::of(coefficient));
                }
                None => {}
            }
        }
        Some(Lines::Computed(sum))
    }
}

/// The numbers of one block.
pub(super) enum Lines<'a, T> {
    InPlace(&'a [T]),
    Computed(Scratch<T>),
}

impl<T: Real> Deref for Lines<'_, T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        match self {
            Lines::InPlace(values) => values,
            Lines::Computed(values) => values,
        }
    }
}

const STRIDE: usize = 64;

#[multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2+fma"))]
fn set<T: Real>(sum: &mut [T], values: &[T], coefficient: T) {
    for (sum, values) in sum.chunks_mut(STRIDE).zip(values.chunks(STRIDE)) {
        prefetch(values);
        for (sum, &value) in sum.iter_mut().zip(values) {
            *sum = coefficient * value;
        }
    }
}

#[multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2+fma"))]
fn set_half<T: Real, H: Half>(sum: &mut [T], values: &[H], coefficient: T) {
    for (sum, values) in sum.chunks_mut(STRIDE).zip(values.chunks(STRIDE)) {
        prefetch(values);
        for (sum, &value) in sum.iter_mut().zip(values) {
            *sum = coefficient * value.widen();
        }
    }
}

#[multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2+fma"))]
fn add<T: Real>(sum: &mut [T], values: &[T], coefficient: T) {
    for (sum, values) in sum.chunks_mut(STRIDE).zip(values.chunks(STRIDE)) {
        prefetch(values);
        for (sum, &value) in sum.iter_mut().zip(values) {
            *sum += coefficient * value;
        }
    }
}

#[multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2+fma"))]
fn add_half<T: Real, H: Half>(sum: &mut [T], values: &[H], coefficient: T) {
    for (sum, values) in sum.chunks_mut(STRIDE).zip(values.chunks(STRIDE)) {
        prefetch(values);
        for (sum, &value) in sum.iter_mut().zip(values) {
            *sum += coefficient * value.widen();
        }
    }
}
