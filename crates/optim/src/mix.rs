//! The gradient that an update follows: a linear combination of the gradients of the passes, state arenas and the weights
//! themselves (a penalty's gradient). Nothing is computed until a kernel reads it.

use flatmin_nn::{Gradients, ParameterArena};
use flatmin_torch_ext::cpu::{Blend, GradientTable, Layout, Real, SegmentLayout, Slab};
use flatmin_torch_ext::cuda;
use tch::Tensor;

use crate::error::Result;
use crate::kernels::device::Call;
use crate::kernels::own::standing;
use crate::kernels::torch::{part, part_of_standing};

/// Where numbers come from.
#[derive(Clone, Copy)]
enum Source<'a> {
    Gradients(&'a Gradients),
    Arena(&'a Tensor),
    Weights(At),
}

/// Which weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum At {
    /// w.
    Master,
    /// Where the network stands: w + eps.
    Working,
}

impl Source<'_> {
    /// A segment's numbers in the order in which they lie in memory; None where there are none.
    fn flat(self, position: usize, segment: &SegmentLayout, parameters: &ParameterArena) -> Result<Option<Tensor>> {
        Ok(match self {
            Self::Gradients(gradients) => {
                let gradient = gradients.tensors()[position].as_ref();
                gradient.map(|gradient| gradient.f_as_strided([segment.len as i64], [1], None)).transpose()?
            }
            Self::Arena(_) if !parameters.is_trainable(position) => None,
            Self::Arena(arena) => Some(part(arena, segment)?),
            Self::Weights(At::Master) => Some(part(parameters.master(), segment)?),
            Self::Weights(At::Working) => Some(part_of_standing(parameters, segment)?),
        })
    }
}

#[derive(Clone)]
struct Term<'a> {
    source: Source<'a>,
    coefficient: f64,
    by_group: Option<Vec<f64>>,
}

/// `sum of coefficient * source`. A parameter has such a gradient if the first source has one for it.
#[derive(Clone)]
pub struct Mix<'a> {
    first: Source<'a>,
    terms: Vec<Term<'a>>,
}

impl<'a> Mix<'a> {
    pub fn of(gradients: &'a Gradients) -> Self {
        Self::one(Source::Gradients(gradients))
    }

    /// A state arena, as if it were a gradient of every parameter that is trained.
    pub fn of_arena(arena: &'a Tensor) -> Self {
        Self::one(Source::Arena(arena))
    }

    fn one(source: Source<'a>) -> Self {
        Self { first: source, terms: vec![Term { source, coefficient: 1.0, by_group: None }] }
    }

    pub fn scaled(mut self, factor: f64) -> Self {
        for term in &mut self.terms {
            term.coefficient *= factor;
        }
        self
    }

    pub fn plus(mut self, coefficient: f64, other: &Self) -> Self {
        self.terms.extend(other.clone().scaled(coefficient).terms);
        self
    }

    /// Multiplies everything by a number for each parameter group.
    pub fn scaled_by_group(mut self, factors: &[f64]) -> Self {
        for term in &mut self.terms {
            let own = term.by_group.take().unwrap_or_else(|| vec![1.0; factors.len()]);
            term.by_group = Some(own.iter().zip(factors).map(|(own, factor)| own * factor).collect());
        }
        self
    }

    /// Adds the weights, times a number for each parameter group.
    pub fn plus_weights(mut self, at: At, by_group: Vec<f64>) -> Self {
        self.terms.push(Term { source: Source::Weights(at), coefficient: 1.0, by_group: Some(by_group) });
        self
    }

    /// Whether the parameter at this position has a gradient.
    pub fn is_present(&self, position: usize) -> bool {
        match self.first {
            Source::Gradients(gradients) => gradients.tensors()[position].is_some(),
            Source::Arena(_) | Source::Weights(_) => true,
        }
    }

    /// Its numbers as flat tensors of the master's dtype, `[len]` for each segment that has them.
    pub fn tensors(&self, layout: &Layout, parameters: &ParameterArena) -> Result<Vec<Option<Tensor>>> {
        let segments = layout.segments().iter().enumerate();
        segments.map(|(position, segment)| self.tensor(position, segment, parameters)).collect()
    }

    fn tensor(&self, position: usize, segment: &SegmentLayout, parameters: &ParameterArena) -> Result<Option<Tensor>> {
        let kind = parameters.master().kind();
        let mut sum: Option<Tensor> = None;
        for (index, term) in self.terms.iter().enumerate() {
            let coefficient = term.coefficient * term.by_group.as_ref().map_or(1.0, |own| own[segment.group]);
            let numbers = match term.source.flat(position, segment, parameters)? {
                None if index == 0 => return Ok(None),
                Some(numbers) if index == 0 || coefficient != 0.0 => numbers.f_to_kind(kind)?,
                _ => continue,
            };
            let scaled = if coefficient == 1.0 { numbers } else { numbers.f_mul_scalar(coefficient)? };
            sum = Some(match sum {
                None => scaled,
                Some(sum) => sum.f_add(&scaled)?,
            });
        }
        Ok(sum)
    }

    /// Hands it to a kernel of a device.
    pub fn run_on_device<R>(&self, call: &Call<'_>, kernel: impl FnOnce(&cuda::Blend<'_>) -> Result<R>) -> Result<R> {
        let table = |term: &Term<'_>| -> Result<(cuda::Table, Option<Tensor>)> {
            let segments = call.segments().iter().enumerate();
            let flat = |(position, segment)| term.source.flat(position, segment, call.parameters);
            let factors = term.by_group.as_ref().map(|factors| call.bring(factors)).transpose()?;
            Ok((call.table(&segments.map(flat).collect::<Result<Vec<_>>>()?)?, factors))
        };
        let tables = self.terms.iter().map(table).collect::<Result<Vec<_>>>()?;
        let mut terms = tables.iter().zip(&self.terms);
        let Some(((first, factors), Term { coefficient, .. })) = terms.next() else { unreachable!("a mix has a term") };
        let start = cuda::Blend::of(first, *coefficient, factors.as_ref());
        kernel(
            &terms.fold(start, |blend, ((table, factors), term)| blend.plus(term.coefficient, factors.as_ref(), table)),
        )
    }

    /// Hands it to a kernel.
    pub fn run<T: Real, R>(
        &self,
        layout: &Layout,
        parameters: &ParameterArena,
        kernel: impl FnOnce(&Blend<'_, T>) -> R,
    ) -> R {
        let table = |source| match source {
            Source::Gradients(gradients) => GradientTable::<T>::new(gradients.tensors()),
            Source::Arena(arena) => {
                GradientTable::of_arena(layout, Slab::of(arena)).retain(|position| parameters.is_trainable(position))
            }
            Source::Weights(At::Master) => GradientTable::of_arena(layout, Slab::of(parameters.master())),
            Source::Weights(At::Working) => GradientTable::of_working(layout, standing(parameters)),
        };
        let tables: Vec<GradientTable<'_, T>> = self.terms.iter().map(|term| table(term.source)).collect();
        let mut pairs = tables.iter().zip(&self.terms);
        // `one` put the first term there.
        let Some((first, Term { coefficient, by_group, .. })) = pairs.next() else { unreachable!("a mix has a term") };
        let start = Blend::of(first, *coefficient, by_group.clone());
        kernel(&pairs.fold(start, |blend, (table, term)| blend.plus(term.coefficient, term.by_group.clone(), table)))
    }
}
