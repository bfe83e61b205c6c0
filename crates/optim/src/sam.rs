//! Sharpness-aware minimization (Foret 2021) and its adaptive form (Kwon 2021) around any base optimizer.
//!
//! The ascent goes to the worst point of the ball norm2(T_w^-1 eps) <= rho to first order,
//! eps = rho T_w^2 g / norm2(T_w g), where the network then takes its second gradient; the base optimizer steps from w with
//! that gradient. T_w = 1 is SAM.

use flatmin_nn::{Dtype, Gradients, ParameterArena};
use flatmin_torch_ext::cpu::{
    self, Geometry, GradientNorms, GradientTable, Layout, Perturbation, Real, SegmentLayout, Slab,
};
use tch::{Device, Tensor};

use crate::base::{BaseOptimizer, with_real};
use crate::config::{Restore, Scale, SharpnessConfig};
use crate::error::Result;
use crate::group::Group;

/// A base optimizer whose gradient is taken at the worst point nearby.
pub struct Sam<O> {
    base: O,
    config: SharpnessConfig,
    layout: Layout,
    filter_scales: Tensor,
}

impl<O: BaseOptimizer> Sam<O> {
    pub fn new(base: O, config: SharpnessConfig, parameters: &ParameterArena) -> Result<Self> {
        let layout = layout(&config, parameters);
        let filter_scales = Tensor::f_zeros([layout.filters() as i64], (parameters.dtype().kind(), Device::Cpu))?;
        Ok(Self { base, config, layout, filter_scales })
    }

    pub fn config(&self) -> &SharpnessConfig {
        &self.config
    }

    pub fn base(&self) -> &O {
        &self.base
    }

    pub fn base_mut(&mut self) -> &mut O {
        &mut self.base
    }

    /// Writes working = w + eps from the gradients at w, if they are finite. Parameters without a gradient stay at w.
    pub fn ascend(
        &self,
        parameters: &mut ParameterArena,
        gradients: &Gradients,
        groups: &[Group],
        rho_factor: f64,
    ) -> GradientNorms {
        with_real!(parameters.dtype(), ascend(self, parameters, gradients, groups, rho_factor))
    }
}

fn ascend<T: Real>(
    sam: &Sam<impl BaseOptimizer>,
    parameters: &ParameterArena,
    gradients: &Gradients,
    groups: &[Group],
    rho_factor: f64,
) -> GradientNorms {
    let table = GradientTable::<T>::new(gradients.tensors());
    let master = Slab::of(parameters.master());
    let filter_scales = Slab::of(&sam.filter_scales);
    let norms = cpu::gradient_norms(&sam.layout, master, &table, sam.config.eta, filter_scales);
    if norms.is_finite() {
        let norm = norms.scaled + sam.config.guard;
        let radius = |group: &Group| group.rho.unwrap_or(0.0) * rho_factor;
        let coefficient = |group: &Group| if norms.scaled == 0.0 { 0.0 } else { radius(group) / norm };
        let coefficients: Vec<f64> = groups.iter().map(coefficient).collect();
        let perturbation = Perturbation {
            coefficients: &coefficients,
            eta: sam.config.eta,
            filter_scales,
            round_trip: sam.config.restore == Restore::Subtract,
        };
        cpu::perturb(&sam.layout, master, &table, Slab::of(parameters.working()), &perturbation);
    }
    norms
}

fn layout(config: &SharpnessConfig, parameters: &ParameterArena) -> Layout {
    let segments = parameters.segments().iter().map(|segment| {
        let geometry = match config.scale {
            Scale::None => Geometry::Plain,
            _ if !config.adaptive.includes(segment) => Geometry::Plain,
            Scale::Filter if segment.shape.len() == 4 => {
                Geometry::Filter { len: segment.len / segment.shape[0] as usize }
            }
            Scale::Element | Scale::Filter => Geometry::Element,
        };
        SegmentLayout { offset: segment.offset, len: segment.len, geometry, group: 0, perturbed: true }
    });
    Layout::new(segments.collect())
}
