//! The optimizer of a run: a base optimizer, bare or inside `Sam`, with the order of its steps watched over.

use flatmin_nn::{Dtype, Gradients, Model, ParameterArena, Statistics};
use flatmin_torch_ext::cpu::{self, Geometry, GradientTable, Layout, Real, SegmentLayout, Slab};
use serde::{Deserialize, Serialize};
use tch::{Device, Tensor};

use crate::base::{self, BaseOptimizer, Update, with_real};
use crate::config::{BatchNormPolicy, OptimizerConfig, SharpnessConfig};
use crate::error::{Error, Result};
use crate::group::{Factors, Group};
use crate::sam::Sam;

/// Where in a step the optimizer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// At w: gradients taken now are for an ascent or a plain step.
    Clean,
    /// At w + eps: gradients taken now are for the descent.
    Perturbed,
    /// The ascent met a gradient that is not finite: the weights are at w and the descent will do nothing.
    Skipping,
}

/// What a step found. A step whose gradient is not finite changes nothing and is counted in [`Optimizer::skipped`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StepInfo {
    /// norm2 of the gradient over all parameters.
    pub gradient_norm: f64,
    pub finite: bool,
}

/// The counters of an optimizer, for a checkpoint; its arenas travel as tensors.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Counters {
    pub steps: u64,
    pub skipped: u64,
    /// How often each parameter was stepped, by name.
    pub parameter_steps: Vec<(String, u64)>,
}

enum Wrapped {
    Plain(Box<dyn BaseOptimizer>),
    Sam(Sam<Box<dyn BaseOptimizer>>),
}

/// Steps one model. Made for its arena: stepping another model is an error.
pub struct Optimizer {
    config: OptimizerConfig,
    wrapped: Wrapped,
    layout: Layout,
    groups: Vec<Group>,
    factors: Factors,
    phase: Phase,
    steps: u64,
    skipped: u64,
}

impl Optimizer {
    /// # Errors
    /// `ERR_FLATMIN_OPTION` for an option out of range.
    pub fn new(model: &Model, config: OptimizerConfig) -> Result<Self> {
        config.validate()?;
        let parameters = model.parameters();
        let base = base::build(&config.base, parameters)?;
        let wrapped = match &config.sharpness {
            None => Wrapped::Plain(base),
            Some(sharpness) => Wrapped::Sam(Sam::new(base, sharpness.clone(), parameters)?),
        };
        Ok(Self {
            groups: vec![Group::new(&config)],
            config,
            wrapped,
            layout: plain_layout(parameters),
            factors: Factors::default(),
            phase: Phase::Clean,
            steps: 0,
            skipped: 0,
        })
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

    /// What a schedule multiplies every group's own values by, from now on.
    pub fn set_factors(&mut self, factors: Factors) {
        self.factors = factors;
    }

    /// Goes to w + eps with the gradients at w, which are used up.
    ///
    /// # Errors
    /// `ERR_FLATMIN_STEP_ORDER` without gradients, twice in a row, or without a sharpness-aware wrapper.
    pub fn ascent_step(&mut self, model: &mut Model) -> Result<StepInfo> {
        let Wrapped::Sam(sam) = &self.wrapped else {
            return Err(Error::StepOrder {
                step: "ascentStep",
                found: "on a bare base optimizer",
                expected: "wrap it in SAM or ASAM, or call step alone",
            });
        };
        if self.phase != Phase::Clean {
            return Err(Error::StepOrder {
                step: "ascentStep",
                found: "twice in a row",
                expected: "after ascentStep come backward and descentStep",
            });
        }
        let gradients = take_gradients(model.parameters(), "ascentStep")?;
        let norms = sam.ascend(model.parameters_mut(), &gradients, &self.groups, self.factors.rho);
        model.parameters().clear_gradients();
        let info = StepInfo { gradient_norm: norms.plain, finite: norms.is_finite() };
        if !info.finite {
            self.skip(model);
            self.phase = Phase::Skipping;
            return Ok(info);
        }
        model.parameters().bump_working_version();
        if sam.config().batch_norm == BatchNormPolicy::First {
            model.set_statistics(Statistics::Ignore);
        }
        self.phase = Phase::Perturbed;
        Ok(info)
    }

    /// Returns to w and steps the base optimizer with the gradients at w + eps, which are used up.
    ///
    /// # Errors
    /// `ERR_FLATMIN_STEP_ORDER` before an ascent or without gradients.
    pub fn descent_step(&mut self, model: &mut Model) -> Result<StepInfo> {
        match self.phase {
            Phase::Clean => Err(Error::StepOrder {
                step: "descentStep",
                found: "before ascentStep",
                expected: "the order is backward, ascentStep, backward, descentStep",
            }),
            Phase::Perturbed => self.descend(model, "descentStep"),
            Phase::Skipping => {
                model.parameters().clear_gradients();
                model.discard_statistics();
                self.leave_step(model);
                Ok(StepInfo { gradient_norm: f64::NAN, finite: false })
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
    pub fn abandon_step(&mut self, model: &mut Model) {
        restore(&self.layout, model.parameters());
        model.parameters().bump_working_version();
        model.parameters().clear_gradients();
        model.discard_statistics();
        self.leave_step(model);
    }

    fn descend(&mut self, model: &mut Model, step: &'static str) -> Result<StepInfo> {
        let gradients = take_gradients(model.parameters(), step)?;
        let gradient_norm = plain_norm(&self.layout, model.parameters(), &gradients);
        let info = StepInfo { gradient_norm, finite: gradient_norm.is_finite() };
        if !info.finite {
            restore(&self.layout, model.parameters());
            self.skip(model);
        } else {
            let update = Update {
                parameters: model.parameters_mut(),
                layout: &self.layout,
                gradients: &gradients,
                groups: &self.groups,
                factors: self.factors,
            };
            match &mut self.wrapped {
                Wrapped::Plain(base) => base.descend(update)?,
                Wrapped::Sam(sam) => sam.base_mut().descend(update)?,
            }
            model.commit_statistics();
            self.steps += 1;
        }
        model.parameters().bump_working_version();
        model.parameters().clear_gradients();
        self.leave_step(model);
        Ok(info)
    }

    fn skip(&mut self, model: &mut Model) {
        self.skipped += 1;
        model.discard_statistics();
    }

    fn leave_step(&mut self, model: &mut Model) {
        model.set_statistics(Statistics::Stage);
        self.phase = Phase::Clean;
    }

    fn base(&self) -> &dyn BaseOptimizer {
        match &self.wrapped {
            Wrapped::Plain(base) => base,
            Wrapped::Sam(sam) => sam.base(),
        }
    }

    fn base_mut(&mut self) -> &mut dyn BaseOptimizer {
        match &mut self.wrapped {
            Wrapped::Plain(base) => base,
            Wrapped::Sam(sam) => sam.base_mut(),
        }
    }

    /// Copies of the state arenas, one tensor for each parameter, named `arena.parameter`, in PyTorch's layout.
    pub fn state_dict(&self, parameters: &ParameterArena) -> Result<Vec<(String, Tensor)>> {
        let mut state = Vec::new();
        for (name, arena) in self.base().arenas() {
            for (position, segment) in parameters.segments().iter().enumerate() {
                state.push((format!("{name}.{}", segment.name), parameters.read_from(arena, position)?));
            }
        }
        Ok(state)
    }

    pub fn counters(&self, parameters: &ParameterArena) -> Counters {
        let names = parameters.segments().iter().map(|segment| segment.name.clone());
        Counters {
            steps: self.steps,
            skipped: self.skipped,
            parameter_steps: names.zip(self.base().counts().iter().copied()).collect(),
        }
    }

    /// Puts back what [`Optimizer::state_dict`] and [`Optimizer::counters`] gave. All is checked before any is changed.
    ///
    /// # Errors
    /// `ERR_FLATMIN_CHECKPOINT` if names or shapes are not those of this optimizer and model.
    pub fn load_state(
        &mut self,
        parameters: &ParameterArena,
        state: &[(String, Tensor)],
        counters: &Counters,
    ) -> Result<()> {
        let mut places = Vec::with_capacity(state.len());
        for (name, value) in state {
            let unknown = || Error::State { name: name.clone(), reason: "is not known here".into() };
            let (arena, parameter) = name.split_once('.').ok_or_else(unknown)?;
            let position = parameters.position(parameter).ok_or_else(unknown)?;
            if self.base_mut().arena_mut(arena, parameters)?.is_none() {
                return Err(unknown());
            }
            let shape = &parameters.segments()[position].shape;
            if value.size() != *shape {
                let reason = format!("has shape {:?}, expected {shape:?}", value.size());
                return Err(Error::State { name: name.clone(), reason });
            }
            places.push((arena, position));
        }
        let mut counts = vec![0; parameters.segments().len()];
        for (name, count) in &counters.parameter_steps {
            let position = parameters.position(name).ok_or_else(|| Error::State {
                name: name.clone(),
                reason: "is counted but not a parameter here".into(),
            })?;
            counts[position] = *count;
        }
        for ((arena, position), (_, value)) in places.into_iter().zip(state) {
            if let Some(arena) = self.base_mut().arena_mut(arena, parameters)? {
                parameters.write_to(arena, position, value)?;
            }
        }
        self.base_mut().set_counts(counts);
        (self.steps, self.skipped) = (counters.steps, counters.skipped);
        Ok(())
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

fn plain_layout(parameters: &ParameterArena) -> Layout {
    let segments = parameters.segments().iter().map(|segment| SegmentLayout {
        offset: segment.offset,
        len: segment.len,
        geometry: Geometry::Plain,
        group: 0,
        perturbed: false,
    });
    Layout::new(segments.collect())
}

fn plain_norm(layout: &Layout, parameters: &ParameterArena, gradients: &Gradients) -> f64 {
    fn norm<T: Real>(layout: &Layout, parameters: &ParameterArena, gradients: &Gradients) -> f64 {
        let no_filters = Tensor::zeros([0], (T::KIND, Device::Cpu));
        let table = GradientTable::<T>::new(gradients.tensors());
        cpu::gradient_norms(layout, Slab::of(parameters.master()), &table, 0.0, Slab::of(&no_filters)).plain
    }
    with_real!(parameters.dtype(), norm(layout, parameters, gradients))
}

fn restore(layout: &Layout, parameters: &ParameterArena) {
    fn copy<T: Real>(layout: &Layout, parameters: &ParameterArena) {
        cpu::restore::<T>(layout, Slab::of(parameters.master()), Slab::of(parameters.working()));
    }
    with_real!(parameters.dtype(), copy(layout, parameters));
}
