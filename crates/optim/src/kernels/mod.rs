//! What updates do to arenas and gradients, by the engine of the model at hand: [`own`] calls the CPU's kernels of `torch-ext`,
//! [`device`] those of the CUDA library, and [`torch`] says the same in libtorch's operations.

pub mod device;
pub mod own;
pub mod torch;

use flatmin_nn::{Dtype, Engine, ParameterArena};
use flatmin_torch_ext::cpu::{AdamStep, DualNorm, GradientNorms, Layout, Mask, Origin, Products, SgdStep, Shape};
use flatmin_torch_ext::cuda::Place;
use tch::Tensor;

use crate::error::Result;
use crate::mix::Mix;
use crate::rounding::Rounding;

/// T_w: `eta` and, for filters, the norms that [`norms`] leaves in an arena of one number a filter.
#[derive(Clone, Copy)]
pub struct Metric<'a> {
    pub layout: &'a Layout,
    pub eta: f64,
    pub filter_scales: &'a Tensor,
}

/// What an ascent writes, besides the direction that it follows.
pub struct Displacement {
    pub shape: Shape,
    /// By parameter group.
    pub coefficients: Vec<f64>,
    pub origin: Origin,
    pub mask: Option<Mask>,
    pub round_trip: bool,
}

/// The two moments of Adam.
#[derive(Clone, Copy)]
pub struct Moments<'a> {
    pub first: &'a Tensor,
    pub second: &'a Tensor,
}

/// Whose kernels serve an arena.
enum Kernels {
    Own,
    Device(Place),
    Torch,
}

impl Kernels {
    fn of(parameters: &ParameterArena) -> Self {
        match parameters.engine() {
            Engine::Cpu => Self::Own,
            // The CUDA library knows no float16.
            Engine::Cuda(place) if parameters.dtype() != Dtype::Float16 => Self::Device(place),
            Engine::Torch(_) | Engine::Cuda(_) => Self::Torch,
        }
    }
}

/// norm2(g) over every parameter, norm2(T_w g) over the perturbed ones.
pub fn norms(metric: Metric<'_>, parameters: &ParameterArena, gradient: &Mix<'_>) -> Result<GradientNorms> {
    match Kernels::of(parameters) {
        Kernels::Own => Ok(own::norms(metric, parameters, gradient)),
        Kernels::Device(place) => device::norms(place, metric, parameters, gradient),
        Kernels::Torch => torch::norms(metric, parameters, gradient),
    }
}

/// norm2(g) over every parameter.
pub fn norm(layout: &Layout, parameters: &ParameterArena, gradient: &Mix<'_>) -> Result<f64> {
    let master = parameters.master();
    let filter_scales = Tensor::f_zeros([0], (master.kind(), master.device()))?;
    Ok(norms(Metric { layout, eta: 0.0, filter_scales: &filter_scales }, parameters, gradient)?.plain)
}

/// norm_q(T_w g) over the perturbed parameters, once [`norms`] has found them finite.
pub fn dual_norm(metric: Metric<'_>, parameters: &ParameterArena, gradient: &Mix<'_>, q: f64) -> Result<DualNorm> {
    match Kernels::of(parameters) {
        Kernels::Own => Ok(own::dual_norm(metric, parameters, gradient, q)),
        Kernels::Device(place) => device::dual_norm(place, metric, parameters, gradient, q),
        Kernels::Torch => torch::dual_norm(metric, parameters, gradient, q),
    }
}

/// working = w + eps; answers what rounding made of eps, if the network reads bfloat16 weights.
pub fn perturb(
    metric: Metric<'_>,
    parameters: &ParameterArena,
    direction: &Mix<'_>,
    displacement: &Displacement,
) -> Result<Option<Rounding>> {
    match Kernels::of(parameters) {
        Kernels::Own => Ok(own::perturb(metric, parameters, direction, displacement)),
        Kernels::Device(place) => device::perturb(place, metric, parameters, direction, displacement),
        Kernels::Torch => torch::perturb(metric, parameters, direction, displacement),
    }
}

/// working = master.
pub fn restore(layout: &Layout, parameters: &ParameterArena) -> Result<()> {
    match Kernels::of(parameters) {
        Kernels::Own => own::restore(layout, parameters),
        Kernels::Device(place) => device::restore(place, layout, parameters)?,
        Kernels::Torch => torch::restore(layout, parameters)?,
    }
    Ok(())
}

/// Inner products of two gradients over the parameters that have both.
pub fn products(layout: &Layout, parameters: &ParameterArena, a: &Mix<'_>, b: &Mix<'_>) -> Result<Products> {
    match Kernels::of(parameters) {
        Kernels::Own => Ok(own::products(layout, parameters, a, b)),
        Kernels::Device(place) => device::products(place, layout, parameters, a, b),
        Kernels::Torch => torch::products(layout, parameters, a, b),
    }
}

/// arena = mix, for the parameters that have it.
pub fn assign(layout: &Layout, parameters: &ParameterArena, arena: &Tensor, mix: &Mix<'_>) -> Result<()> {
    match Kernels::of(parameters) {
        Kernels::Own => own::assign(layout, parameters, arena, mix),
        Kernels::Device(place) => device::assign(place, layout, parameters, arena, mix)?,
        Kernels::Torch => torch::assign(layout, parameters, arena, mix)?,
    }
    Ok(())
}

/// master += mix, working = master.
pub fn translate(layout: &Layout, parameters: &ParameterArena, mix: &Mix<'_>) -> Result<()> {
    match Kernels::of(parameters) {
        Kernels::Own => own::translate(layout, parameters, mix),
        Kernels::Device(place) => device::translate(place, layout, parameters, mix)?,
        Kernels::Torch => torch::translate(layout, parameters, mix)?,
    }
    Ok(())
}

/// A step of SGD, by parameter group; `first` says of each segment whether its momentum is still unset.
pub fn sgd(
    layout: &Layout,
    parameters: &ParameterArena,
    gradient: &Mix<'_>,
    momentum: Option<&Tensor>,
    steps: &[SgdStep],
    first: &[bool],
) -> Result<()> {
    match Kernels::of(parameters) {
        Kernels::Own => own::sgd(layout, parameters, gradient, momentum, steps, first),
        Kernels::Device(place) => device::sgd(place, layout, parameters, gradient, momentum, steps, first)?,
        Kernels::Torch => torch::sgd(layout, parameters, gradient, momentum, steps, first)?,
    }
    Ok(())
}

/// A step of Adam, by parameter group; `counts` says of each segment the how-manieth step this is, from 1.
pub fn adam(
    layout: &Layout,
    parameters: &ParameterArena,
    gradient: &Mix<'_>,
    moments: Moments<'_>,
    steps: &[AdamStep],
    counts: &[u64],
) -> Result<()> {
    match Kernels::of(parameters) {
        Kernels::Own => own::adam(layout, parameters, gradient, moments, steps, counts),
        Kernels::Device(place) => device::adam(place, layout, parameters, gradient, moments, steps, counts)?,
        Kernels::Torch => torch::adam(layout, parameters, gradient, moments, steps, counts)?,
    }
    Ok(())
}
