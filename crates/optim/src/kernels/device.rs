//! The kernels of the CUDA library, called one by one: for loops of users' own and for variants, which go pass by pass. Each call
//! brings its few options to the device and waits for what it finds. [`super`] says what each computes.

use flatmin_nn::ParameterArena;
use flatmin_torch_ext::cpu::{self, AdamStep, DualNorm, GradientNorms, Layout, Products, SegmentLayout, SgdStep};
use flatmin_torch_ext::cuda::{self, Arenas, Ball, Cut, Group, Groups, NormPass, Place, StepRecord, Table, Update};
use tch::kind::Element;
use tch::{Kind, Tensor};

use super::{Displacement, Metric, Moments};
use crate::error::Result;
use crate::mix::Mix;
use crate::rounding::{PASSES, Rounding};

/// What the kernels of one call share.
pub struct Call<'a> {
    pub parameters: &'a ParameterArena,
    place: Place,
    cut: Cut,
    record: StepRecord,
}

impl<'a> Call<'a> {
    fn new(place: Place, layout: &Layout, parameters: &'a ParameterArena) -> Result<Self> {
        let (cut, record) = (Cut::new(&place, layout.segments())?, StepRecord::new(&place)?);
        Ok(Self { parameters, place, cut, record })
    }

    /// With the scales of the layout's filters, which may be fewer than there is room for.
    fn measured(place: Place, metric: Metric<'_>, parameters: &'a ParameterArena) -> Result<(Self, Tensor)> {
        let call = Self::new(place, metric.layout, parameters)?;
        let scales = metric.filter_scales.f_narrow(0, 0, call.cut.filters() as i64)?;
        Ok((call, scales))
    }

    fn update(&self) -> Update<'_> {
        let parameters = self.parameters;
        let (master, working, working_half) = (parameters.master(), parameters.working(), parameters.working_half());
        let arenas = Arenas { master, working, working_half };
        Update { place: &self.place, cut: &self.cut, arenas, record: &self.record }
    }

    /// The shape of a displacement, with the unit of a power in the record.
    fn shape(&self, shape: cpu::Shape) -> Result<cuda::Shape> {
        Ok(match shape {
            cpu::Shape::Quadratic => cuda::Shape::Quadratic,
            cpu::Shape::Linear => cuda::Shape::Linear,
            cpu::Shape::Sign => cuda::Shape::Sign,
            cpu::Shape::Power { unit, exponent } => {
                self.record.set_largest(unit)?;
                cuda::Shape::Power { exponent }
            }
        })
    }

    /// Numbers of the host on the device.
    pub fn bring<T: Element>(&self, values: &[T]) -> Result<Tensor> {
        Ok(self.place.bring(&Tensor::f_from_slice(values)?)?)
    }

    pub fn segments(&self) -> &[SegmentLayout] {
        self.cut.segments()
    }

    /// Where the numbers of each segment lie, `[len]` and dense; their memory must outlive the call.
    pub fn table(&self, numbers: &[Option<Tensor>]) -> Result<Table> {
        let table = Table::new(&self.place, &self.cut)?;
        table.set(&self.place, &self.cut, self.parameters.master().kind(), numbers)?;
        Ok(table)
    }
}

pub fn norms(
    place: Place,
    metric: Metric<'_>,
    parameters: &ParameterArena,
    gradient: &Mix<'_>,
) -> Result<GradientNorms> {
    let (call, scales) = Call::measured(place, metric, parameters)?;
    let metric = cuda::Metric { eta: metric.eta, filter_scales: &scales };
    gradient.run_on_device(&call, |blend| Ok(call.update().norms(blend, metric, NormPass::Measure, None)?))?;
    let found = call.record.read()?;
    Ok(GradientNorms { plain: found.plain, scaled: found.scaled })
}

pub fn dual_norm(
    place: Place,
    metric: Metric<'_>,
    parameters: &ParameterArena,
    gradient: &Mix<'_>,
    q: f64,
) -> Result<DualNorm> {
    let (call, scales) = Call::measured(place, metric, parameters)?;
    let metric = cuda::Metric { eta: metric.eta, filter_scales: &scales };
    // The norm alone is wanted: a ball of radius 0.
    let groups = Groups::new(&place, &[Group::default()])?;
    let coefficients = call.bring(&[0.0])?;
    // Of q = 1 the largest finite number, which p / (p - 1) makes 1 again.
    let p = (q / (q - 1.0)).min(f64::MAX);
    let ball = Ball { groups: &groups, p, guard: 0.0, coefficients: &coefficients };
    gradient.run_on_device(&call, |blend| Ok(call.update().dual_norm(blend, metric, &ball)?))?;
    let found = call.record.read()?;
    Ok(DualNorm { largest: found.largest, relative: found.relative })
}

pub fn perturb(
    place: Place,
    metric: Metric<'_>,
    parameters: &ParameterArena,
    direction: &Mix<'_>,
    displacement: &Displacement,
) -> Result<Option<Rounding>> {
    let (call, scales) = Call::measured(place, metric, parameters)?;
    let metric = cuda::Metric { eta: metric.eta, filter_scales: &scales };
    let shape = call.shape(displacement.shape)?;
    let coefficients = call.bring(&displacement.coefficients)?;
    let seed = displacement.mask.map(|mask| call.bring(&[mask.seed.cast_signed()])).transpose()?;
    let mask = displacement.mask.zip(seed.as_ref());
    let mask = mask.map(|(cpu::Mask { keep, unit, .. }, seed)| cuda::Mask { seed, keep, unit });
    let (origin, round_trip) = (displacement.origin, displacement.round_trip);
    let displacement = cuda::Displacement { shape, coefficients: &coefficients, origin, mask, round_trip };
    direction.run_on_device(&call, |blend| {
        let update = call.update();
        if parameters.working_half().is_none() {
            update.perturb(blend, metric, &displacement)?;
            return Ok(None);
        }
        update.correct_rounding(blend, metric, &displacement, PASSES)?;
        update.perturb(blend, metric, &displacement)?;
        let found = call.record.read()?;
        Ok(Some(Rounding { ratio: found.ratio, cosine: found.cosine, factor: found.half_factor }))
    })
}

pub fn displace(
    place: Place,
    metric: Metric<'_>,
    parameters: &ParameterArena,
    direction: &Mix<'_>,
    shape: cpu::Shape,
    coefficients: &[f64],
    arena: &Tensor,
) -> Result<()> {
    let (call, scales) = Call::measured(place, metric, parameters)?;
    let metric = cuda::Metric { eta: metric.eta, filter_scales: &scales };
    let (shape, coefficients) = (call.shape(shape)?, call.bring(coefficients)?);
    let origin = cpu::Origin::Working;
    let displacement = cuda::Displacement { shape, coefficients: &coefficients, origin, mask: None, round_trip: false };
    let arenas = Arenas { master: parameters.master(), working: arena, working_half: None };
    let update = Update { arenas, ..call.update() };
    direction.run_on_device(&call, |blend| Ok(update.perturb(blend, metric, &displacement)?))
}

pub fn restore(place: Place, layout: &Layout, parameters: &ParameterArena) -> Result<()> {
    Ok(Call::new(place, layout, parameters)?.update().restore()?)
}

pub fn products(
    place: Place,
    layout: &Layout,
    parameters: &ParameterArena,
    a: &Mix<'_>,
    b: &Mix<'_>,
) -> Result<Products> {
    let call = Call::new(place, layout, parameters)?;
    let out = place.zeros(&[3], Kind::Double)?;
    a.run_on_device(&call, |a| b.run_on_device(&call, |b| Ok(call.update().products(a, b, &out)?)))?;
    let found: Vec<f64> = Vec::try_from(&out)?;
    Ok(Products { aa: found[0], ab: found[1], bb: found[2] })
}

pub fn assign(place: Place, layout: &Layout, parameters: &ParameterArena, arena: &Tensor, mix: &Mix<'_>) -> Result<()> {
    let call = Call::new(place, layout, parameters)?;
    mix.run_on_device(&call, |blend| Ok(call.update().assign(arena, blend)?))
}

pub fn translate(place: Place, layout: &Layout, parameters: &ParameterArena, mix: &Mix<'_>) -> Result<()> {
    let call = Call::new(place, layout, parameters)?;
    mix.run_on_device(&call, |blend| Ok(call.update().translate(blend)?))
}

pub fn sgd(
    place: Place,
    layout: &Layout,
    parameters: &ParameterArena,
    gradient: &Mix<'_>,
    momentum: Option<&Tensor>,
    steps: &[SgdStep],
    first: &[bool],
) -> Result<()> {
    let call = Call::new(place, layout, parameters)?;
    let group = |&SgdStep { lr, momentum, dampening, weight_decay, .. }: &SgdStep| Group {
        lr,
        momentum,
        dampening,
        weight_decay,
        ..Group::default()
    };
    let groups = Groups::new(&place, &steps.iter().map(group).collect::<Vec<_>>())?;
    let counts = call.bring(&first.iter().map(|&first| i64::from(!first)).collect::<Vec<_>>())?;
    // All groups have the same.
    let SgdStep { decoupled, nesterov, .. } = steps[0];
    gradient
        .run_on_device(&call, |blend| Ok(call.update().sgd(blend, &groups, momentum, &counts, decoupled, nesterov)?))
}

pub fn adam(
    place: Place,
    layout: &Layout,
    parameters: &ParameterArena,
    gradient: &Mix<'_>,
    moments: Moments<'_>,
    steps: &[AdamStep],
    counts: &[u64],
) -> Result<()> {
    let call = Call::new(place, layout, parameters)?;
    let group = |&AdamStep { lr, beta1, beta2, eps, weight_decay, .. }: &AdamStep| Group {
        lr,
        beta1,
        beta2,
        eps,
        weight_decay,
        ..Group::default()
    };
    let groups = Groups::new(&place, &steps.iter().map(group).collect::<Vec<_>>())?;
    // The kernel counts the step itself.
    let counts = call.bring(&counts.iter().map(|&count| count as i64 - 1).collect::<Vec<_>>())?;
    gradient.run_on_device(&call, |blend| {
        let moments = (moments.first, moments.second);
        Ok(call.update().adam(blend, &groups, moments, &counts, steps[0].decoupled)?)
    })
}
