//! The optimizer of a run: a base optimizer, bare or inside `Sam`, with the order of its steps watched over.

use flatmin_nn::{Dtype, Engine, Gradients, Model, ParameterArena, Statistics, device_name};
use flatmin_torch_ext::cpu::Layout;
use serde::Serialize;
use tch::Tensor;

use crate::base::{self, BaseOptimizer};
use crate::combine::clipped;
use crate::config::{BaseConfig, BatchNormPolicy, OptimizerConfig, SharpnessConfig};
use crate::device_step::{DeviceStep, Recorded, Traces};
use crate::error::{Error, Result};
use crate::group::{Factors, Group};
use crate::kernels;
use crate::loss_scale::{LossScale, LossScaleConfig};
use crate::mix::At;
use crate::rounding::Rounding;
use crate::sam::{Plan, Sam, plain_segment};
use crate::setting::Setting;

/// Where in a step the optimizer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// At w: gradients taken now are for an ascent or a plain step.
    Clean,
    /// At w + eps: gradients taken now are for the descent, or for a further ascent where the options ask for several.
    Perturbed,
    /// At w, with all the gradients that the step needs: it has no second pass.
    Ready,
    /// The ascent met a gradient that is not finite: the weights are at w and the descent will do nothing.
    Skipping,
}

/// What a step found. A step whose gradient is not finite changes nothing and is counted in [`Optimizer::skipped`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StepInfo {
    /// norm2 of the gradient over all parameters; NaN if the half of the step at hand computes none.
    pub gradient_norm: f64,
    pub finite: bool,
    /// After an ascent of a model that computes in 16 bits: what rounding made of eps.
    pub rounding: Option<Rounding>,
    /// After an ascent: whether the step goes on with a pass at w + eps. Without one, the descent comes next.
    pub second_pass: bool,
}

enum Wrapped {
    Plain(Box<dyn BaseOptimizer>),
    Sam(Box<Sam<Box<dyn BaseOptimizer>>>),
}

/// Steps one model. Made for its arena: stepping another model is an error.
pub struct Optimizer {
    config: OptimizerConfig,
    /// Where its state lies.
    engine: Engine,
    wrapped: Wrapped,
    layout: Layout,
    groups: Vec<Group>,
    factors: Factors,
    pub(crate) loss_scale: Option<LossScale>,
    phase: Phase,
    /// Ascents of the step at hand.
    ascents: u64,
    pub(crate) steps: u64,
    pub(crate) skipped: u64,
    /// What whole steps keep on a device, once there was one.
    device_step: Option<Box<DeviceStep>>,
}

impl Optimizer {
    /// Readies the model for the first pass of a step, too.
    ///
    /// # Errors
    /// `ERR_FLATMIN_OPTION` for an option out of range, or a parameter group that does not fit the model.
    pub fn new(model: &mut Model, config: OptimizerConfig) -> Result<Self> {
        config.validate()?;
        let parameters = model.parameters();
        let assigned = config.assign_groups(parameters)?;
        let base = base::build(&config.base, parameters)?;
        let wrapped = match &config.sharpness {
            None => Wrapped::Plain(base),
            Some(sharpness) => Wrapped::Sam(Box::new(Sam::new(base, sharpness, &config, &assigned, parameters)?)),
        };
        let segments = parameters
            .segments()
            .iter()
            .zip(&assigned)
            .map(|(segment, &group)| plain_segment(segment, parameters.dtype(), group));
        let rest = Group::new(&config);
        let loss_scale = config.loss_scale.or_else(|| (model.dtype() == Dtype::Float16).then(LossScaleConfig::default));
        let optimizer = Self {
            groups: std::iter::once(rest.clone()).chain(config.groups.iter().map(|own| rest.with(own))).collect(),
            layout: Layout::new(segments.collect()),
            engine: parameters.engine(),
            config,
            wrapped,
            factors: Factors::default(),
            loss_scale: loss_scale.map(LossScale::new),
            phase: Phase::Clean,
            ascents: 0,
            steps: 0,
            skipped: 0,
            device_step: None,
        };
        model.set_statistics(optimizer.statistics_at_w());
        optimizer.apply_loss_scale(model);
        Ok(optimizer)
    }

    pub fn config(&self) -> &OptimizerConfig {
        &self.config
    }

    /// The options of the perturbation; None for a bare base optimizer.
    pub fn sharpness(&self) -> Option<&SharpnessConfig> {
        self.config.sharpness.as_ref()
    }

    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// Steps taken, skipped ones not counted.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// Steps given up because a gradient was not finite.
    pub fn skipped(&self) -> u64 {
        self.skipped
    }

    pub fn groups(&self) -> &[Group] {
        &self.groups
    }

    /// Sets one hyper-parameter of one group.
    pub fn set_group(&mut self, group: usize, key: &str, value: f64) -> Result<()> {
        let count = self.groups.len();
        self.groups
            .get_mut(group)
            .ok_or_else(|| Error::Option {
                option: "group".into(),
                found: group.to_string(),
                expected: format!("an index below {count}"),
            })?
            .set(key, value)
    }

    /// The learning rate in force in the first group, schedule included.
    pub fn lr(&self) -> f64 {
        self.groups[0].lr * self.factors.lr
    }

    /// The radius in force in the first group, schedule included; None without a sharpness-aware wrapper.
    pub fn rho(&self) -> Option<f64> {
        self.groups[0].rho.map(|rho| rho * self.factors.rho)
    }

    /// The first group's own momentum, schedule not included: of SGD, or Adam's beta1.
    pub fn own_momentum(&self) -> f64 {
        match self.config.base {
            BaseConfig::Sgd { .. } => self.groups[0].momentum.unwrap_or(0.0),
            BaseConfig::Adam { betas, .. } | BaseConfig::AdamW { betas, .. } => betas[0],
        }
    }

    /// The momentum in force in the first group, schedule included.
    pub fn momentum(&self) -> f64 {
        self.own_momentum() * self.factors.momentum
    }

    /// What the loss of the step at hand is multiplied by before each backward pass; None if it is not scaled.
    pub fn loss_scale(&self) -> Option<f64> {
        self.loss_scale.as_ref().map(|loss_scale| loss_scale.state.scale)
    }

    /// Lets the model's passes know.
    pub(crate) fn apply_loss_scale(&self, model: &mut Model) {
        model.set_loss_scale(self.loss_scale().unwrap_or(1.0));
    }

    /// What a schedule multiplies every group's own values by, from now on.
    pub fn set_factors(&mut self, factors: Factors) {
        self.factors = factors;
    }

    /// What passes the next step makes; None for a bare base optimizer.
    pub fn plan(&self) -> Option<Plan> {
        match &self.wrapped {
            Wrapped::Plain(_) => None,
            Wrapped::Sam(sam) => Some(sam.plan(self.steps, self.attempt())),
        }
    }

    /// The parameters whose gradients the next first pass needs, by position; None: all of them. An ascent over a part of
    /// the parameters leaves it to the second pass to differentiate with respect to the others.
    pub(crate) fn first_pass_inputs(&self, parameters: &ParameterArena) -> Option<Vec<usize>> {
        let Wrapped::Sam(sam) = &self.wrapped else { return None };
        match (self.plan()?, sam.perturbed_positions()) {
            (Plan::Both, Some(mut positions)) if !sam.config().variant.keeps_first() => {
                positions.retain(|&position| parameters.is_trainable(position));
                (!positions.is_empty()).then_some(positions)
            }
            _ => None,
        }
    }

    /// Steps begun, skipped ones included.
    pub fn attempt(&self) -> u64 {
        self.steps + self.skipped
    }

    /// Goes to w + eps with the gradients at w, which are used up. On a step without a second pass the weights stay, and
    /// the gradients wait for the descent. Variants that need no gradient for it go before the first pass.
    ///
    /// # Errors
    /// `ERR_FLATMIN_STEP_ORDER` without gradients (or with them, for those variants), too often in a row, or without a
    /// sharpness-aware wrapper.
    pub fn ascent_step(&mut self, model: &mut Model) -> Result<StepInfo> {
        self.check_engine(model)?;
        let plan = match self.phase {
            Phase::Clean => self.plan(),
            _ => self.sharpness().map(|_| Plan::Both),
        };
        let (Wrapped::Sam(sam), Some(plan)) = (&mut self.wrapped, plan) else {
            return Err(Error::StepOrder {
                step: "ascentStep",
                found: "on a bare base optimizer",
                expected: "wrap it in SAM or ASAM, or call step alone",
            });
        };
        let further = self.phase == Phase::Perturbed && self.ascents < sam.config().inner_steps;
        if self.phase != Phase::Clean && !further {
            return Err(Error::StepOrder {
                step: "ascentStep",
                found: "once more than the step has ascents",
                expected: "after ascentStep come backward and descentStep",
            });
        }
        let attempt = self.steps + self.skipped;
        let setting = setting(model, &self.config, &self.layout, &self.groups, self.factors, attempt);
        let mut info = StepInfo { gradient_norm: f64::NAN, finite: true, rounding: None, second_pass: true };
        match plan {
            Plan::Ahead => {
                if model.parameters().has_gradients()? {
                    return Err(Error::StepOrder {
                        step: "ascentStep",
                        found: "after backward",
                        expected: "this optimizer perturbs first: ascentStep, backward, descentStep",
                    });
                }
                info.rounding = sam.ascend_ahead(&setting)?;
            }
            Plan::Plain | Plan::Reuse => {
                sam.keep_first(take_gradients(model.parameters(), "ascentStep")?);
                info.second_pass = false;
            }
            Plan::Both => {
                let gradients = take_gradients(model.parameters(), "ascentStep")?;
                let ascent = sam.ascend(&setting, gradients, self.ascents)?;
                (info.gradient_norm, info.finite) = (ascent.gradient_norm, ascent.finite);
                info.rounding = ascent.rounding;
            }
        }
        model.parameters().clear_gradients();
        if !info.finite {
            self.give_up(model)?;
            self.phase = Phase::Skipping;
            return Ok(StepInfo { second_pass: false, ..info });
        }
        if info.second_pass {
            model.parameters().bump_working_version();
        }
        self.ascents += 1;
        self.phase = if info.second_pass { Phase::Perturbed } else { Phase::Ready };
        model.set_statistics(self.statistics_at_w_plus_eps(plan));
        Ok(info)
    }

    /// Returns to w and steps the base optimizer with the gradients at w + eps, which are used up.
    ///
    /// # Errors
    /// `ERR_FLATMIN_STEP_ORDER` before an ascent or without gradients.
    pub fn descent_step(&mut self, model: &mut Model) -> Result<StepInfo> {
        let inner_steps = self.sharpness().map_or(1, |sharpness| sharpness.inner_steps);
        match self.phase {
            Phase::Clean => Err(Error::StepOrder {
                step: "descentStep",
                found: "before ascentStep",
                expected: "the order is backward, ascentStep, backward, descentStep",
            }),
            Phase::Perturbed if self.ascents < inner_steps => Err(Error::StepOrder {
                step: "descentStep",
                found: "after fewer ascents than innerSteps",
                expected: "backward and ascentStep innerSteps times, then backward and descentStep",
            }),
            Phase::Perturbed | Phase::Ready => self.descend(model, "descentStep"),
            Phase::Skipping => {
                model.parameters().clear_gradients();
                model.discard_statistics();
                self.leave_step(model);
                Ok(StepInfo { gradient_norm: f64::NAN, finite: false, rounding: None, second_pass: false })
            }
        }
    }

    /// Steps the base optimizer with the gradients at w, which are used up: plain training.
    ///
    /// # Errors
    /// `ERR_FLATMIN_STEP_ORDER` between an ascent and its descent, or without gradients.
    pub fn base_step(&mut self, model: &mut Model) -> Result<StepInfo> {
        if self.phase != Phase::Clean {
            return Err(Error::StepOrder {
                step: "step",
                found: "between ascentStep and descentStep",
                expected: "finish the step with backward and descentStep first",
            });
        }
        self.descend(model, "step")
    }

    /// Returns to w without a step, whatever the phase, and forgets gradients and statistics of the step begun.
    ///
    /// # Errors
    /// If libtorch fails.
    pub fn abandon_step(&mut self, model: &mut Model) -> Result<()> {
        self.check_engine(model)?;
        self.return_to_w(model)?;
        self.leave_step(model);
        Ok(())
    }

    pub(crate) fn check_engine(&self, model: &Model) -> Result<()> {
        if self.engine == model.engine() {
            return Ok(());
        }
        let expected = format!(
            "{}, where its model is: make an optimizer once the model is there",
            device_name(model.engine().device())
        );
        Err(flatmin_nn::Error::device("the optimizer's state", self.engine.device(), expected).into())
    }

    /// Returns to w within a step, for the next of several perturbations; running statistics stay staged.
    pub(crate) fn next_micro_batch(&mut self, model: &mut Model) -> Result<()> {
        self.return_to_w(model)?;
        self.phase = Phase::Clean;
        self.ascents = 0;
        model.set_statistics(self.statistics_at_w());
        Ok(())
    }

    fn return_to_w(&mut self, model: &mut Model) -> Result<()> {
        kernels::restore(&self.layout, model.parameters())?;
        model.parameters().bump_working_version();
        model.parameters().clear_gradients();
        if let Wrapped::Sam(sam) = &mut self.wrapped {
            sam.take_first();
        }
        Ok(())
    }

    fn descend(&mut self, model: &mut Model, step: &'static str) -> Result<StepInfo> {
        self.check_engine(model)?;
        let kept = match &mut self.wrapped {
            Wrapped::Sam(sam) if self.phase == Phase::Ready => sam.take_first(),
            _ => None,
        };
        let plan = match self.phase {
            Phase::Clean => Plan::Plain,
            _ => self.plan().unwrap_or(Plan::Plain),
        };
        let gradients = kept.map_or_else(|| take_gradients(model.parameters(), step), Ok)?;
        let attempt = self.attempt();
        let setting = setting(model, &self.config, &self.layout, &self.groups, self.factors, attempt);
        let gradient_norm = match &mut self.wrapped {
            Wrapped::Plain(base) => {
                let (norm, gradient) = clipped(&setting, setting.objective(&gradients, At::Master), None)?;
                if norm.is_finite() {
                    base.descend(&setting, &gradient)?;
                }
                norm
            }
            Wrapped::Sam(sam) => sam.descend(&setting, &gradients, plan)?,
        };
        let info = StepInfo { gradient_norm, finite: gradient_norm.is_finite(), rounding: None, second_pass: false };
        if info.finite {
            model.commit_statistics();
            self.steps += 1;
            if let Some(loss_scale) = &mut self.loss_scale {
                loss_scale.grow();
            }
        } else {
            self.give_up(model)?;
        }
        model.parameters().bump_working_version();
        model.parameters().clear_gradients();
        self.leave_step(model);
        Ok(info)
    }

    /// Leaves a step whose gradient is not finite: back at w, counted.
    fn give_up(&mut self, model: &mut Model) -> Result<()> {
        self.return_to_w(model)?;
        model.discard_statistics();
        self.skipped += 1;
        if let Some(loss_scale) = &mut self.loss_scale {
            loss_scale.back_off();
        }
        Ok(())
    }

    fn leave_step(&mut self, model: &mut Model) {
        model.discard_statistics();
        self.apply_loss_scale(model);
        self.phase = Phase::Clean;
        self.ascents = 0;
        model.set_statistics(self.statistics_at_w());
    }

    /// Whether whole steps on a GPU run as recorded graphs; None where they cannot be, and before the first.
    pub fn recorded(&self) -> Option<Recorded> {
        self.device_step.as_ref()?.recorded()
    }

    pub(crate) fn take_device_step(&mut self) -> Option<Box<DeviceStep>> {
        self.device_step.take()
    }

    pub(crate) fn put_device_step(&mut self, step: Box<DeviceStep>) {
        self.device_step = Some(step);
    }

    /// Counts what a device has done.
    pub(crate) fn count_device_step(&mut self, model: &mut Model, taken: bool, traces: &Traces) {
        if taken {
            let (base, setting) = self.base_and_setting(model);
            base.count(&setting, &|position| traces.present[position]);
            model.buffers_mut().count(traces.staged);
            self.steps += 1;
        } else {
            self.skipped += 1;
        }
        self.leave_step(model);
    }

    /// The base optimizer, and what it works on.
    pub(crate) fn base_and_setting<'a>(&'a mut self, model: &'a Model) -> (&'a mut dyn BaseOptimizer, Setting<'a>) {
        let attempt = self.attempt();
        let setting = setting(model, &self.config, &self.layout, &self.groups, self.factors, attempt);
        let base: &mut dyn BaseOptimizer = match &mut self.wrapped {
            Wrapped::Plain(base) => base,
            Wrapped::Sam(sam) => sam.base_mut(),
        };
        (base, setting)
    }

    /// The cut with the geometry of the perturbation, if there is one.
    pub(crate) fn ascent_layout(&self) -> &Layout {
        match &self.wrapped {
            Wrapped::Plain(_) => &self.layout,
            Wrapped::Sam(sam) => &sam.layout,
        }
    }

    /// What the first pass of the next step does with running statistics.
    pub(crate) fn statistics_at_w(&self) -> Statistics {
        match self.sharpness() {
            Some(SharpnessConfig { batch_norm: BatchNormPolicy::Frozen, .. }) => Statistics::Frozen,
            Some(sharpness) if sharpness.ascent_fraction < 1.0 && self.plan() == Some(Plan::Both) => Statistics::Ignore,
            _ => Statistics::Stage,
        }
    }

    /// What passes after an ascent do with running statistics.
    pub(crate) fn statistics_at_w_plus_eps(&self, plan: Plan) -> Statistics {
        let Some(sharpness) = self.sharpness() else { return Statistics::Stage };
        match (plan, sharpness.batch_norm) {
            (_, BatchNormPolicy::Frozen) => Statistics::Frozen,
            (Plan::Plain | Plan::Reuse, _) => Statistics::Ignore,
            (Plan::Ahead, _) | (Plan::Both, BatchNormPolicy::Both) => Statistics::Stage,
            (Plan::Both, BatchNormPolicy::First) if sharpness.ascent_fraction < 1.0 => Statistics::Stage,
            (Plan::Both, BatchNormPolicy::First) => Statistics::Ignore,
        }
    }

    pub(crate) fn base(&self) -> &dyn BaseOptimizer {
        match &self.wrapped {
            Wrapped::Plain(base) => base,
            Wrapped::Sam(sam) => sam.base(),
        }
    }

    pub(crate) fn base_mut(&mut self) -> &mut dyn BaseOptimizer {
        match &mut self.wrapped {
            Wrapped::Plain(base) => base,
            Wrapped::Sam(sam) => sam.base_mut(),
        }
    }

    pub(crate) fn arenas(&self) -> Vec<(&'static str, &Tensor)> {
        match &self.wrapped {
            Wrapped::Plain(base) => base.arenas(),
            Wrapped::Sam(sam) => sam.arenas(),
        }
    }

    pub(crate) fn arena_mut(&mut self, name: &str, parameters: &ParameterArena) -> Result<Option<&Tensor>> {
        match &mut self.wrapped {
            Wrapped::Plain(base) => base.arena_mut(name, parameters),
            Wrapped::Sam(sam) => sam.arena_mut(name, parameters),
        }
    }
}

/// The gradients since the last step.
fn take_gradients(parameters: &ParameterArena, step: &'static str) -> Result<Gradients> {
    let gradients = parameters.gradients()?;
    if !gradients.any() {
        return Err(Error::StepOrder {
            step,
            found: "without gradients",
            expected: "call backward before it, on the same model",
        });
    }
    Ok(gradients)
}

fn setting<'a>(
    model: &'a Model,
    config: &OptimizerConfig,
    layout: &'a Layout,
    groups: &'a [Group],
    factors: Factors,
    attempt: u64,
) -> Setting<'a> {
    let (parameters, loss_scale) = (model.parameters(), model.loss_scale());
    Setting { parameters, layout, groups, factors, decay: config.decay, clip: config.clip, loss_scale, attempt }
}
