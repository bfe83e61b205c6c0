//! The kernels of `torch-ext` for the CPU, called with the element type of the arenas at hand. [`super`] says what each
//! computes.

use std::convert::Infallible;

use flatmin_nn::{Dtype, ParameterArena};
use flatmin_torch_ext::cpu::{
    self, AdamStep, DualNorm, GradientNorms, HalfSlab, Layout, Origin, Products, Real, SgdStep, Shape, Slab, Working,
};
use tch::Tensor;

use super::{Displacement, Metric, Moments};
use crate::mix::Mix;
use crate::rounding::Rounding;

/// Calls a generic function with the element type of an arena.
macro_rules! with_real {
    ($dtype:expr, $function:ident ( $($argument:expr),* $(,)? )) => {
        match $dtype {
            Dtype::Float32 | Dtype::BFloat16 | Dtype::Float16 => $function::<f32>($($argument),*),
            Dtype::Float64 => $function::<f64>($($argument),*),
        }
    };
}

/// Where the network reads w + eps.
fn working<T: Real>(parameters: &ParameterArena) -> Working<T> {
    Working::new(Slab::of(parameters.working()), half(parameters))
}

/// The weights that the network reads now.
pub fn standing<T: Real>(parameters: &ParameterArena) -> Working<T> {
    Working::new(Slab::of(parameters.standing()), half(parameters))
}

fn half(parameters: &ParameterArena) -> Option<HalfSlab> {
    parameters.working_half().and_then(HalfSlab::of)
}

pub fn norms(metric: Metric<'_>, parameters: &ParameterArena, gradient: &Mix<'_>) -> GradientNorms {
    fn run<T: Real>(metric: Metric<'_>, parameters: &ParameterArena, gradient: &Mix<'_>) -> GradientNorms {
        let Metric { layout, eta, filter_scales } = metric;
        let master = Slab::of(parameters.master());
        gradient.run::<T, _>(layout, parameters, |blend| {
            cpu::gradient_norms(layout, master, blend, eta, Slab::of(filter_scales))
        })
    }
    with_real!(parameters.dtype(), run(metric, parameters, gradient))
}

pub fn dual_norm(metric: Metric<'_>, parameters: &ParameterArena, gradient: &Mix<'_>, q: f64) -> DualNorm {
    fn run<T: Real>(metric: Metric<'_>, parameters: &ParameterArena, gradient: &Mix<'_>, q: f64) -> DualNorm {
        let Metric { layout, eta, filter_scales } = metric;
        let master = Slab::of(parameters.master());
        gradient.run::<T, _>(layout, parameters, |blend| {
            cpu::dual_norm(layout, master, blend, eta, Slab::of(filter_scales), q)
        })
    }
    with_real!(parameters.dtype(), run(metric, parameters, gradient, q))
}

pub fn perturb(
    metric: Metric<'_>,
    parameters: &ParameterArena,
    direction: &Mix<'_>,
    displacement: &Displacement,
) -> Option<Rounding> {
    fn run<T: Real>(
        metric: Metric<'_>,
        parameters: &ParameterArena,
        direction: &Mix<'_>,
        displacement: &Displacement,
    ) -> Option<Rounding> {
        let mut perturbation = cpu::Perturbation {
            shape: displacement.shape,
            coefficients: &displacement.coefficients,
            eta: metric.eta,
            filter_scales: Slab::of(metric.filter_scales),
            origin: displacement.origin,
            mask: displacement.mask,
            half_factor: 1.0,
            round_trip: displacement.round_trip,
        };
        let (layout, master) = (metric.layout, Slab::of(parameters.master()));
        direction.run::<T, _>(layout, parameters, |blend| {
            let rounding = parameters.working_half().and_then(|_| {
                let Ok(rounding) = Rounding::corrected(|factor| {
                    perturbation.half_factor = factor;
                    Ok::<_, Infallible>(cpu::rounded_displacement(
                        layout,
                        master,
                        blend,
                        working(parameters),
                        &perturbation,
                    ))
                });
                rounding
            });
            perturbation.half_factor = rounding.map_or(1.0, |rounding| rounding.factor);
            cpu::perturb(layout, master, blend, working(parameters), &perturbation);
            rounding
        })
    }
    with_real!(parameters.dtype(), run(metric, parameters, direction, displacement))
}

pub fn displace(
    metric: Metric<'_>,
    parameters: &ParameterArena,
    direction: &Mix<'_>,
    shape: Shape,
    coefficients: &[f64],
    arena: &Tensor,
) {
    fn run<T: Real>(
        metric: Metric<'_>,
        parameters: &ParameterArena,
        direction: &Mix<'_>,
        shape: Shape,
        coefficients: &[f64],
        arena: &Tensor,
    ) {
        let perturbation = cpu::Perturbation {
            shape,
            coefficients,
            eta: metric.eta,
            filter_scales: Slab::of(metric.filter_scales),
            origin: Origin::Working,
            mask: None,
            half_factor: 1.0,
            round_trip: false,
        };
        let (layout, master) = (metric.layout, Slab::of(parameters.master()));
        direction.run::<T, _>(layout, parameters, |blend| {
            cpu::perturb(layout, master, blend, Working::new(Slab::of(arena), None), &perturbation);
        });
    }
    with_real!(parameters.dtype(), run(metric, parameters, direction, shape, coefficients, arena));
}

pub fn restore(layout: &Layout, parameters: &ParameterArena) {
    fn run<T: Real>(layout: &Layout, parameters: &ParameterArena, half: HalfSlab) {
        cpu::restore::<T>(layout, Slab::of(parameters.master()), half);
    }
    if let Some(half) = half(parameters) {
        with_real!(parameters.dtype(), run(layout, parameters, half));
    }
}

pub fn products(layout: &Layout, parameters: &ParameterArena, a: &Mix<'_>, b: &Mix<'_>) -> Products {
    fn run<T: Real>(layout: &Layout, parameters: &ParameterArena, a: &Mix<'_>, b: &Mix<'_>) -> Products {
        a.run::<T, _>(layout, parameters, |a| b.run::<T, _>(layout, parameters, |b| cpu::products(layout, a, b)))
    }
    with_real!(parameters.dtype(), run(layout, parameters, a, b))
}

pub fn assign(layout: &Layout, parameters: &ParameterArena, arena: &Tensor, mix: &Mix<'_>) {
    fn run<T: Real>(layout: &Layout, parameters: &ParameterArena, arena: &Tensor, mix: &Mix<'_>) {
        mix.run::<T, _>(layout, parameters, |blend| cpu::assign(layout, Slab::of(arena), blend));
    }
    with_real!(parameters.dtype(), run(layout, parameters, arena, mix));
}

pub fn translate(layout: &Layout, parameters: &ParameterArena, mix: &Mix<'_>) {
    fn run<T: Real>(layout: &Layout, parameters: &ParameterArena, mix: &Mix<'_>) {
        let master = Slab::of(parameters.master());
        mix.run::<T, _>(layout, parameters, |blend| cpu::translate(layout, master, half(parameters), blend));
    }
    with_real!(parameters.dtype(), run(layout, parameters, mix));
}

pub fn sgd(
    layout: &Layout,
    parameters: &ParameterArena,
    gradient: &Mix<'_>,
    momentum: Option<&Tensor>,
    steps: &[SgdStep],
    first: &[bool],
) {
    fn run<T: Real>(
        layout: &Layout,
        parameters: &ParameterArena,
        gradient: &Mix<'_>,
        momentum: Option<&Tensor>,
        steps: &[SgdStep],
        first: &[bool],
    ) {
        let (master, momentum) = (Slab::of(parameters.master()), momentum.map(Slab::of));
        gradient.run::<T, _>(layout, parameters, |gradient| {
            cpu::sgd(layout, master, half(parameters), momentum, gradient, steps, first);
        });
    }
    with_real!(parameters.dtype(), run(layout, parameters, gradient, momentum, steps, first));
}

pub fn adam(
    layout: &Layout,
    parameters: &ParameterArena,
    gradient: &Mix<'_>,
    moments: Moments<'_>,
    steps: &[AdamStep],
    counts: &[u64],
) {
    fn run<T: Real>(
        layout: &Layout,
        parameters: &ParameterArena,
        gradient: &Mix<'_>,
        moments: Moments<'_>,
        steps: &[AdamStep],
        counts: &[u64],
    ) {
        let master = Slab::of(parameters.master());
        let (first, second) = (Slab::of(moments.first), Slab::of(moments.second));
        gradient.run::<T, _>(layout, parameters, |gradient| {
            cpu::adam(layout, master, half(parameters), first, second, gradient, steps, counts);
        });
    }
    with_real!(parameters.dtype(), run(layout, parameters, gradient, moments, steps, counts));
}
