//! What an optimizer remembers from step to step, given away for a checkpoint and put back.

use flatmin_nn::{Model, ParameterArena};
use serde::{Deserialize, Serialize};
use tch::Tensor;

use crate::error::{Error, Result};
use crate::loss_scale::LossScaleState;
use crate::optimizer::Optimizer;

/// The counters of an optimizer, for a checkpoint; its arenas travel as tensors.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Counters {
    pub steps: u64,
    pub skipped: u64,
    /// How often each parameter was stepped, by name.
    pub parameter_steps: Vec<(String, u64)>,
    /// None if the loss is not scaled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss_scale: Option<LossScaleState>,
}

impl Optimizer {
    /// Copies of the state arenas, one tensor for each parameter, named `arena.parameter`, in PyTorch's layout.
    pub fn state_dict(&self, parameters: &ParameterArena) -> Result<Vec<(String, Tensor)>> {
        let mut state = Vec::new();
        for (name, arena) in self.arenas() {
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
            loss_scale: self.loss_scale.as_ref().map(|loss_scale| loss_scale.state),
        }
    }

    /// Puts back what [`Optimizer::state_dict`] and [`Optimizer::counters`] gave. All is checked before any is changed.
    ///
    /// # Errors
    /// `ERR_FLATMIN_CHECKPOINT` if names or shapes are not those of this optimizer and model.
    pub fn load_state(&mut self, model: &mut Model, state: &[(String, Tensor)], counters: &Counters) -> Result<()> {
        let parameters = model.parameters();
        let mut places = Vec::with_capacity(state.len());
        for (name, value) in state {
            let unknown = || Error::State { name: name.clone(), reason: "is not known here".into() };
            let (arena, parameter) = name.split_once('.').ok_or_else(unknown)?;
            let position = parameters.position(parameter).ok_or_else(unknown)?;
            if self.arena_mut(arena, parameters)?.is_none() {
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
            if let Some(arena) = self.arena_mut(arena, parameters)? {
                parameters.write_to(arena, position, value)?;
            }
        }
        self.base_mut().set_counts(counts);
        (self.steps, self.skipped) = (counters.steps, counters.skipped);
        if let (Some(loss_scale), Some(state)) = (&mut self.loss_scale, counters.loss_scale) {
            loss_scale.state = state;
        }
        self.apply_loss_scale(model);
        Ok(())
    }
}
