//! Sharpness-aware minimization (Foret 2021), its adaptive form (Kwon 2021) and their variants around any base optimizer.
//!
//! The ascent ([`crate::ascent`]) goes to the worst point of the ball norm_p(T_w^-1 eps) <= rho to first order, where the
//! network takes its second gradient; the base optimizer steps from w with that gradient, or with what a variant makes of
//! both ([`crate::combine`]). T_w = 1 is SAM.

use flatmin_nn::{Dtype, Gradients, ParameterArena, Segment};
use flatmin_torch_ext::cpu::{Geometry, Layout, SegmentLayout, split_mix, uniform};
use tch::Tensor;

use crate::base::BaseOptimizer;
use crate::config::{BallConfig, OptimizerConfig, Scale, SharpnessConfig, Variant};
use crate::error::Result;
use crate::kernels::Metric;

/// What passes the next step makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plan {
    /// One pass at w, for the base optimizer alone.
    Plain,
    /// One pass at w, helped out by what an earlier step has kept (LookSAM).
    Reuse,
    /// One pass at w + eps, with an eps that is known before any gradient.
    Ahead,
    /// A pass at w for the ascent and one at w + eps.
    Both,
}

/// What the optimizer itself draws, each from a stream of its own.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Draw {
    Coin = 1,
    Mask = 2,
    Noise = 3,
}

/// A base optimizer whose gradient is taken at the worst point nearby.
pub struct Sam<O> {
    pub(crate) base: O,
    pub(crate) config: SharpnessConfig,
    pub(crate) layout: Layout,
    /// The same cut and the same perturbed segments with T_w = 1.
    pub(crate) flat: Layout,
    pub(crate) filter_scales: Tensor,
    /// The gradients at w of the step at hand, where they are needed once more.
    pub(crate) first: Option<Gradients>,
    /// F-SAM's mean of past gradients.
    pub(crate) friendly: Option<Tensor>,
    /// LookSAM's gv.
    pub(crate) look: Option<Tensor>,
}

impl<O: BaseOptimizer> Sam<O> {
    /// `groups` says of each segment which parameter group it is in.
    pub fn new(
        base: O,
        sharpness: &SharpnessConfig,
        config: &OptimizerConfig,
        groups: &[usize],
        parameters: &ParameterArena,
    ) -> Result<Self> {
        let perturbed = |group: usize| match group.checked_sub(1) {
            None => true,
            Some(index) => config.groups[index].perturb.unwrap_or(true),
        };
        let placed: Vec<Place> = groups.iter().map(|&group| Place { group, perturbed: perturbed(group) }).collect();
        let Layouts { layout, flat, filter_scales } = Layouts::new(&sharpness.ball(), parameters, &placed)?;
        let config = sharpness.clone();
        Ok(Self { base, config, layout, flat, filter_scales, first: None, friendly: None, look: None })
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

    /// What the next step is, after so many steps done and begun: nothing but counters and the seed decide it.
    pub fn plan(&self, steps: u64, attempt: u64) -> Plan {
        let SharpnessConfig { interval, probability, variant, .. } = self.config;
        let coin = || probability >= 1.0 || uniform(self.seed(Draw::Coin), attempt) < probability;
        if !steps.is_multiple_of(interval) || !coin() {
            return Plan::Plain;
        }
        match variant {
            Variant::LookSam { interval, .. } if !steps.is_multiple_of(interval) && self.look.is_some() => Plan::Reuse,
            variant if variant.follows_gradient() => Plan::Both,
            _ => Plan::Ahead,
        }
    }

    /// The perturbed parameters, by position; None: all of them.
    pub fn perturbed_positions(&self) -> Option<Vec<usize>> {
        let segments = self.layout.segments();
        let positions = || segments.iter().enumerate().filter(|(_, segment)| segment.perturbed).map(|(index, _)| index);
        (positions().count() < segments.len()).then(|| positions().collect())
    }

    /// The gradients at w of a step without a second pass.
    pub fn keep_first(&mut self, gradients: Gradients) {
        self.first = Some(gradients);
    }

    pub fn take_first(&mut self) -> Option<Gradients> {
        self.first.take()
    }

    pub(crate) fn seed(&self, draw: Draw) -> u64 {
        split_mix(self.config.seed, draw as u64)
    }

    pub(crate) fn metric(&self) -> Metric<'_> {
        Metric { layout: &self.layout, eta: self.config.eta, filter_scales: &self.filter_scales }
    }

    /// T_w = 1.
    pub(crate) fn flat_metric(&self) -> Metric<'_> {
        Metric { layout: &self.flat, eta: 0.0, filter_scales: &self.filter_scales }
    }

    /// State arenas by name, the base optimizer's included.
    pub fn arenas(&self) -> Vec<(&'static str, &Tensor)> {
        let own = [("friendly", &self.friendly), ("look", &self.look)];
        let own = own.into_iter().filter_map(|(name, arena)| arena.as_ref().map(|arena| (name, arena)));
        self.base.arenas().into_iter().chain(own).collect()
    }

    /// Makes sure that the arena of this name exists; None for an unknown name.
    pub fn arena_mut(&mut self, name: &str, parameters: &ParameterArena) -> Result<Option<&Tensor>> {
        let own = match (name, self.config.variant) {
            ("friendly", Variant::Fsam { .. }) => &mut self.friendly,
            ("look", Variant::LookSam { .. }) => &mut self.look,
            _ => return self.base.arena_mut(name, parameters),
        };
        ensure(own, parameters).map(Some)
    }
}

/// The parameter group of a segment, and whether the group takes part in perturbations.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    pub group: usize,
    pub perturbed: bool,
}

/// How arenas are cut for perturbations.
pub(crate) struct Layouts {
    pub layout: Layout,
    /// The same cut and the same perturbed segments with T_w = 1.
    pub flat: Layout,
    /// Room for one number a filter.
    pub filter_scales: Tensor,
}

impl Layouts {
    /// `places` has an entry for each segment.
    pub fn new(ball: &BallConfig, parameters: &ParameterArena, places: &[Place]) -> Result<Self> {
        let cut = |geometry: &dyn Fn(&Segment) -> Geometry| {
            let segments = parameters.segments().iter().zip(places).map(|(segment, place)| SegmentLayout {
                geometry: geometry(segment),
                perturbed: place.perturbed && ball.perturb.includes(segment),
                ..plain_segment(segment, parameters.dtype(), place.group)
            });
            Layout::new(segments.collect())
        };
        let layout = cut(&|segment| geometry(ball, segment));
        let flat = cut(&|_| Geometry::Plain);
        let filter_scales =
            Tensor::f_zeros([layout.filters() as i64], (parameters.master().kind(), parameters.master().device()))?;
        Ok(Self { layout, flat, filter_scales })
    }
}

/// The arena in this place, made if there is none.
pub(crate) fn ensure<'a>(place: &'a mut Option<Tensor>, parameters: &ParameterArena) -> Result<&'a Tensor> {
    if place.is_none() {
        *place = Some(parameters.like()?);
    }
    Ok(place.get_or_insert_with(Tensor::new))
}

/// A segment that is neither rescaled nor perturbed.
pub(crate) fn plain_segment(segment: &Segment, dtype: Dtype, group: usize) -> SegmentLayout {
    let (offset, len, half) = (segment.offset, segment.len, segment.is_half(dtype));
    SegmentLayout { offset, len, geometry: Geometry::Plain, group, perturbed: false, half }
}

fn geometry(config: &BallConfig, segment: &Segment) -> Geometry {
    let filter = || Geometry::Filter { len: segment.len / segment.shape[0] as usize };
    match (config.scale, segment.shape.len()) {
        (Scale::None, _) => Geometry::Plain,
        _ if !config.adaptive.includes(segment) => Geometry::Plain,
        (Scale::Filter, 4) => filter(),
        (Scale::Filter, 2) if config.linear_filters => filter(),
        (Scale::Element | Scale::Filter, _) => Geometry::Element,
    }
}
