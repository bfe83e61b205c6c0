//! One array a segment: the gradients of a backward pass, or an arena's segments where an arena stands in for them.

use std::marker::PhantomData;

use tch::Tensor;

use super::layout::Layout;
use super::slab::{HalfSlab, Real, Slab};
use super::working::Working;

/// The elements of one segment, dense in the segment's own order.
#[derive(Clone, Copy)]
pub(super) enum Source<T> {
    Full(Slab<T>),
    Half(HalfSlab),
}

/// None where the backward pass left no gradient.
pub struct GradientTable<'a, T> {
    sources: Vec<Option<Source<T>>>,
    /// The tensors outlive the table. (Not their type: a tensor is not Sync.)
    tensors: PhantomData<&'a [()]>,
}

impl<'a, T: Real> GradientTable<'a, T> {
    /// Gradients of dtype T, bfloat16 or float16.
    pub fn new(gradients: &'a [Option<Tensor>]) -> Self {
        let source = |gradient: &Tensor| match HalfSlab::of(gradient) {
            Some(half) => Source::Half(half),
            None => Source::Full(Slab::of(gradient)),
        };
        Self { sources: gradients.iter().map(|gradient| gradient.as_ref().map(source)).collect(), tensors: PhantomData }
    }

    /// Every segment of an arena, which must stay alive while the table is used.
    pub fn of_arena(layout: &Layout, arena: Slab<T>) -> Self {
        let source = |range| Some(Source::Full(arena.part(range)));
        Self {
            sources: layout.segments().iter().map(|segment| source(segment.range())).collect(),
            tensors: PhantomData,
        }
    }

    /// Without the segments for which `keep` is false.
    pub fn retain(mut self, keep: impl Fn(usize) -> bool) -> Self {
        for (segment, source) in self.sources.iter_mut().enumerate() {
            *source = source.filter(|_| keep(segment));
        }
        self
    }

    /// Every segment of the weights that the network reads.
    pub fn of_working(layout: &Layout, working: Working<T>) -> Self {
        let source = |segment| Some(working.source(segment));
        Self { sources: layout.segments().iter().map(source).collect(), tensors: PhantomData }
    }

    #[inline]
    pub fn is_present(&self, segment: usize) -> bool {
        self.sources[segment].is_some()
    }

    #[inline]
    pub(super) fn source(&self, segment: usize) -> Option<Source<T>> {
        self.sources[segment]
    }
}
