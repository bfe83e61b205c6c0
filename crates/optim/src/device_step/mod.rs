//! A whole step on a device: both passes and the update are queued without a word to the host in between, and what the step
//! found is read at its end. Decisions that the host takes elsewhere (radius over norm, skipping, clipping) are taken by
//! the kernels. After a few such steps the queue itself is recorded as a CUDA graph and replayed ([`recording`]).
//!
//! It computes what [`crate::train_step`] does for SAM and ASAM in their plain form around any base optimizer, and for base
//! optimizers alone; other variants go step by step, with libtorch's operations.

mod memory;
mod recording;

use flatmin_nn::{Engine, Model};
use flatmin_torch_ext::Seed;
use flatmin_torch_ext::cpu::Origin;
use flatmin_torch_ext::cuda::{Ball, Blend, Displacement, NormPass, Shape, StepValues, Table};
use tch::Tensor;

use crate::base::DeviceDescent;
use crate::config::{Decay, MetricsFrom, PNorm, Restore, SharpnessConfig, Variant};
use crate::error::Result;
use crate::loss::{Loss, Target};
use crate::optimizer::{Optimizer, Phase};
use crate::rounding::{self, Rounding};
use crate::sam::Plan;
use crate::step::{PassNumber, PassOutcome, Share, StepOptions, StepOutcome, masks, pass_seed, queue_pass};
pub(crate) use memory::DeviceStep;
use memory::Memory;
pub use recording::Recorded;

/// What a step is queued for: input on the device and what is done with it.
pub(crate) struct Job<'a> {
    pub images: &'a Tensor,
    pub target: &'a Target,
    pub loss: &'a Loss,
    pub options: StepOptions,
}

impl Job<'_> {
    /// Of both passes.
    fn mask_seeds(&self, optimizer: &Optimizer) -> [u64; 2] {
        let ascents = optimizer.sharpness().map_or(0, |sharpness| masks(sharpness, 1));
        [0, ascents].map(|ascents| pass_seed(self.options.mask_seed, PassNumber(ascents)))
    }
}

impl Optimizer {
    /// Steps on the device as a whole, with what the host does meanwhile; None where this optimizer or model goes another way.
    pub(crate) fn step_on_device(
        &mut self,
        model: &mut Model,
        job: &Job<'_>,
        meanwhile: &mut dyn FnMut(),
    ) -> Result<Option<StepOutcome>> {
        let Engine::Cuda(place) = model.engine() else { return Ok(None) };
        self.check_engine(model)?;
        let plan = self.plan().unwrap_or(Plan::Plain);
        let begun = self.phase() != Phase::Clean || model.parameters().has_gradients()?;
        if begun
            || self.loss_scale.is_some()
            || !self.fits_device(job.options)
            || !matches!(plan, Plan::Both | Plan::Plain)
        {
            return Ok(None);
        }
        let mut step = match self.take_device_step().filter(|step| step.serves(model)) {
            Some(step) => step,
            None => Box::new(DeviceStep::new(self, model, place)?),
        };
        let outcome = step.run(self, model, job, plan, meanwhile);
        self.put_device_step(step);
        outcome.map(Some)
    }

    /// Whether the options are those that [`queue`] knows.
    fn fits_device(&self, options: StepOptions) -> bool {
        let plain = |sharpness: &SharpnessConfig| {
            let SharpnessConfig { variant, inner_steps, ascent_fraction, micro_batch, clip, .. } = sharpness;
            let whole = *inner_steps == 1 && *ascent_fraction >= 1.0 && micro_batch.is_none();
            *variant == Variant::Sam && whole && clip.is_none()
        };
        let config = self.config();
        // One factor would have to reach the gradient and the penalty in the loss.
        let clips_penalty = config.clip.is_some() && config.decay == Decay::Loss;
        options.accumulate.is_none() && !clips_penalty && config.sharpness.as_ref().is_none_or(plain)
    }
}

/// What a queued step leaves for the host to count.
#[derive(Debug, Clone, Default)]
pub(crate) struct Traces {
    /// Passes that staged running statistics.
    pub staged: i64,
    /// Which segments the descent had a gradient for.
    pub present: Vec<bool>,
}

impl DeviceStep {
    /// Whether the model lies where it lay.
    fn serves(&self, model: &Model) -> bool {
        self.memory.addresses == addresses(model)
    }

    fn run(
        &mut self,
        optimizer: &mut Optimizer,
        model: &mut Model,
        job: &Job<'_>,
        plan: Plan,
        meanwhile: &mut dyn FnMut(),
    ) -> Result<StepOutcome> {
        let traces = self.start(optimizer, model, job, plan)?;
        meanwhile();
        let (values, found) = self.read()?;
        optimizer.count_device_step(model, values.proceeds, &traces);
        Ok(outcome(optimizer, model, plan, job.images.size()[0], &found, &values))
    }
}

/// Where the arenas of a model lie.
fn addresses(model: &Model) -> [usize; 5] {
    let parameters = model.parameters();
    let address = |arena: &Tensor| arena.data_ptr() as usize;
    let half = parameters.working_half().map_or(0, address);
    let [first, second] = model.buffers().addresses();
    [address(parameters.master()), address(parameters.working()), half, first, second]
}

/// Queues the passes and the update. Nothing in it waits for the device, and its options lie where `memory` has them: so it can be
/// recorded.
fn queue(memory: &Memory, optimizer: &mut Optimizer, model: &mut Model, job: &Job<'_>, plan: Plan) -> Result<Traces> {
    let (sharpness, seeds) = (optimizer.sharpness().cloned(), job.mask_seeds(optimizer));
    let pass = |model: &Model, number: i64, inputs: Option<&[usize]>| -> Result<()> {
        let (in_memory, share) = (memory.mask_seed(number)?, Share { weight: 1.0, inputs });
        // The host seeds what a program draws from, and is not to wait for the device to know with what.
        let seed = if model.is_script() { Seed::Value(seeds[number as usize]) } else { Seed::Memory(&in_memory) };
        let (loss, correct) = queue_pass(model, job.images, job.target, job.loss, seed, share)?;
        memory.note(2 * number, &loss)?;
        memory.note(2 * number + 1, &correct)
    };
    model.set_statistics(optimizer.statistics_at_w());
    let inputs = optimizer.first_pass_inputs(model.parameters());
    pass(model, 0, inputs.as_deref())?;
    let mut gradients = model.parameters().gradients()?;
    memory.set(&memory.first, model.parameters(), &gradients)?;
    let gradient = memory.objective(optimizer, &memory.first, &memory.master);
    let ball = sharpness.as_ref().filter(|_| plan == Plan::Both).map(|sharpness| memory.ball(sharpness));
    memory.update(model).norms(&gradient, memory.metric(), NormPass::First, ball.as_ref())?;
    let mut last = &memory.first;
    if let (Some(sharpness), Some(ball)) = (&sharpness, &ball) {
        ascend(memory, model, sharpness, ball, &gradient)?;
        model.parameters().clear_gradients();
        // Free for the second pass; what is queued reads them before it.
        drop(gradients);
        model.parameters().bump_working_version();
        model.set_statistics(optimizer.statistics_at_w_plus_eps(plan));
        pass(model, 1, None)?;
        gradients = model.parameters().gradients()?;
        memory.set(&memory.second, model.parameters(), &gradients)?;
        let second = memory.objective(optimizer, &memory.second, &memory.working);
        memory.update(model).norms(&second, memory.metric(), NormPass::Second, None)?;
        last = &memory.second;
    }
    descend(memory, optimizer, model, last, plan)?;
    let staged = model.buffers().staged_passes();
    if let Some(statistics) = model.buffers().staged_arena().filter(|arena| arena.numel() > 0) {
        memory.update(model).commit(model.buffers().arena(), statistics)?;
    }
    model.parameters().clear_gradients();
    model.parameters().bump_working_version();
    Ok(Traces { staged, present: gradients.tensors().iter().map(Option::is_some).collect() })
}

/// working = w + eps.
fn ascend(
    memory: &Memory,
    model: &Model,
    sharpness: &SharpnessConfig,
    ball: &Ball<'_>,
    gradient: &Blend<'_>,
) -> Result<()> {
    let (update, metric) = (memory.update(model), memory.metric());
    let shape = match sharpness.p {
        PNorm::Infinite(_) => Shape::Sign,
        PNorm::Finite(2.0) => Shape::Quadratic,
        PNorm::Finite(p) => {
            update.dual_norm(gradient, metric, ball)?;
            Shape::Power { exponent: 1.0 / (p - 1.0) }
        }
    };
    let round_trip = sharpness.restore == Restore::Subtract;
    let displacement =
        Displacement { shape, coefficients: &memory.coefficients, origin: Origin::Master, mask: None, round_trip };
    if model.parameters().working_half().is_some() {
        update.correct_rounding(gradient, metric, &displacement, rounding::PASSES)?;
    }
    Ok(update.perturb(gradient, metric, &displacement)?)
}

/// The base optimizer's step with the gradients of the last pass.
fn descend(memory: &Memory, optimizer: &mut Optimizer, model: &Model, last: &Table, plan: Plan) -> Result<()> {
    let update = memory.update(model);
    let weights = if plan == Plan::Both { &memory.working } else { &memory.master };
    let gradient = match optimizer.config().clip {
        None => memory.objective(optimizer, last, weights),
        Some(clip) => {
            update.clip(clip.norm, clip.guard, &memory.clip)?;
            Blend::of(last, 1.0, Some(&memory.clip))
        }
    };
    let descent = DeviceDescent { update, gradient, groups: &memory.groups, counts: &memory.counts };
    let (base, setting) = optimizer.base_and_setting(model);
    base.descend_on_device(&setting, &descent)
}

fn outcome(
    optimizer: &Optimizer,
    model: &Model,
    plan: Plan,
    count: i64,
    found: &[f64],
    values: &StepValues,
) -> StepOutcome {
    let pass = |slot: usize| PassOutcome { loss: found[slot], correct: found[slot + 1] as i64, count };
    let first = pass(0);
    let alone = StepOutcome::new(first, None, None, values.first_plain, values.proceeds);
    let Some(sharpness) = optimizer.sharpness().filter(|_| plan == Plan::Both && values.first_plain.is_finite()) else {
        return alone;
    };
    let second = pass(2);
    let rounding = model.parameters().working_half().map(|_| Rounding {
        ratio: values.ratio,
        cosine: values.cosine,
        factor: values.half_factor,
    });
    StepOutcome {
        reported: if sharpness.metrics == MetricsFrom::Second { second } else { first },
        perturbed_loss: Some(second.loss),
        sharpness: Some(second.loss - first.loss),
        rounding,
        ..alone
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flatmin_nn::{Dtype, zoo};
    use flatmin_torch_ext::cuda::Place;
    use serde_json::{Value, json};
    use tch::{Device, Kind};

    /// Whether a step of the twin goes as a whole.
    fn is_whole(sharpness: Value, accumulate: Option<u64>) -> bool {
        let spec = zoo::spec("demo", &zoo::ZooOptions::default()).unwrap();
        let mut model = Model::new(spec, Dtype::Float32, 1).unwrap().moved(Engine::Cuda(Place::twin())).unwrap();
        let config = json!({ "base": { "type": "sgd", "lr": 0.1 }, "sharpness": sharpness });
        let mut optimizer = Optimizer::new(&mut model, serde_json::from_value(config).unwrap()).unwrap();
        let images = Tensor::ones([4, 1, 8, 8], (Kind::Float, Device::Cpu));
        let target = Target::Classes(Tensor::zeros([4], (Kind::Int64, Device::Cpu)));
        let options = StepOptions { mask_seed: 0, accumulate };
        crate::train_step(&mut model, &mut optimizer, &images, &target, &Loss::default(), options).unwrap();
        optimizer.take_device_step().is_some()
    }

    #[test]
    fn plain_sam_and_base_optimizers_step_as_a_whole_and_others_do_not() {
        assert!(is_whole(Value::Null, None));
        assert!(is_whole(json!({ "rho": 0.1, "scale": "element", "eta": 0.01 }), None));
        assert!(!is_whole(json!({ "rho": 0.1 }), Some(2)));
        assert!(!is_whole(json!({ "rho": 0.1, "variant": { "type": "gsam" } }), None));
        assert!(!is_whole(json!({ "rho": 0.1, "innerSteps": 2 }), None));
    }
}
