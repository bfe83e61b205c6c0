//! What updates do to arenas and gradients, by the engine of the model at hand: [`own`] calls the CPU's kernels of `torch-ext`,
//! [`device`] those of the CUDA library, and [`torch`] says the same in libtorch's operations.

pub mod device;
pub mod own;
pub mod torch;

use flatmin_nn::{Dtype, Engine, ParameterArena, Standing};
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

/// Calls a kernel of whoever serves the arena; those of the CPU cannot fail.
macro_rules! by_engine {
    ($parameters:expr, $kernel:ident ( $($argument:expr),* )) => {
        match Kernels::of($parameters) {
            Kernels::Own => Ok(own::$kernel($($argument),*)),
            Kernels::Device(place) => device::$kernel(place, $($argument),*),
            Kernels::Torch => torch::$kernel($($argument),*),
        }
    };
}

/// norm2(g) over every parameter, norm2(T_w g) over the perturbed ones.
pub fn norms(metric: Metric<'_>, parameters: &ParameterArena, gradient: &Mix<'_>) -> Result<GradientNorms> {
    by_engine!(parameters, norms(metric, parameters, gradient))
}

/// norm2(g) over every parameter.
pub fn norm(layout: &Layout, parameters: &ParameterArena, gradient: &Mix<'_>) -> Result<f64> {
    let master = parameters.master();
    let filter_scales = Tensor::f_zeros([0], (master.kind(), master.device()))?;
    Ok(norms(Metric { layout, eta: 0.0, filter_scales: &filter_scales }, parameters, gradient)?.plain)
}

/// norm_q(T_w g) over the perturbed parameters, once [`norms`] has found them finite.
pub fn dual_norm(metric: Metric<'_>, parameters: &ParameterArena, gradient: &Mix<'_>, q: f64) -> Result<DualNorm> {
    by_engine!(parameters, dual_norm(metric, parameters, gradient, q))
}

/// Lets the network read w + eps; answers what rounding made of eps, if it reads weights of 16 bits.
pub fn perturb(
    metric: Metric<'_>,
    parameters: &ParameterArena,
    direction: &Mix<'_>,
    displacement: &Displacement,
) -> Result<Option<Rounding>> {
    let rounding = by_engine!(parameters, perturb(metric, parameters, direction, displacement))?;
    parameters.stand(Standing::Working)?;
    Ok(rounding)
}

/// arena += displacement, in full precision: an arena takes the place of the weights that the network reads.
pub fn displace(
    metric: Metric<'_>,
    parameters: &ParameterArena,
    direction: &Mix<'_>,
    shape: Shape,
    coefficients: &[f64],
    arena: &Tensor,
) -> Result<()> {
    by_engine!(parameters, displace(metric, parameters, direction, shape, coefficients, arena))
}

/// Lets the network read w.
pub fn restore(layout: &Layout, parameters: &ParameterArena) -> Result<()> {
    by_engine!(parameters, restore(layout, parameters))?;
    Ok(parameters.stand(Standing::Master)?)
}

/// Inner products of two gradients over the parameters that have both.
pub fn products(layout: &Layout, parameters: &ParameterArena, a: &Mix<'_>, b: &Mix<'_>) -> Result<Products> {
    by_engine!(parameters, products(layout, parameters, a, b))
}

/// arena = mix, for the parameters that have it.
pub fn assign(layout: &Layout, parameters: &ParameterArena, arena: &Tensor, mix: &Mix<'_>) -> Result<()> {
    by_engine!(parameters, assign(layout, parameters, arena, mix))
}

/// master += mix, which the network then reads.
pub fn translate(layout: &Layout, parameters: &ParameterArena, mix: &Mix<'_>) -> Result<()> {
    by_engine!(parameters, translate(layout, parameters, mix))?;
    Ok(parameters.stand(Standing::Master)?)
}

/// A step of SGD, by parameter group, to weights that the network then reads; `first` says of each segment whether its
/// momentum is still unset.
pub fn sgd(
    layout: &Layout,
    parameters: &ParameterArena,
    gradient: &Mix<'_>,
    momentum: Option<&Tensor>,
    steps: &[SgdStep],
    first: &[bool],
) -> Result<()> {
    by_engine!(parameters, sgd(layout, parameters, gradient, momentum, steps, first))?;
    Ok(parameters.stand(Standing::Master)?)
}

/// A step of Adam, by parameter group, to weights that the network then reads; `counts` says of each segment the how-manieth
/// step this is, from 1.
pub fn adam(
    layout: &Layout,
    parameters: &ParameterArena,
    gradient: &Mix<'_>,
    moments: Moments<'_>,
    steps: &[AdamStep],
    counts: &[u64],
) -> Result<()> {
    by_engine!(parameters, adam(layout, parameters, gradient, moments, steps, counts))?;
    Ok(parameters.stand(Standing::Master)?)
}
