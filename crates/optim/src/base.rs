//! What every base optimizer can do: one descent write over the arenas, and give its state away for a checkpoint.

use flatmin_nn::ParameterArena;
use tch::Tensor;

use crate::adam::Adam;
use crate::config::BaseConfig;
use crate::error::Result;
use crate::mix::Mix;
use crate::setting::Setting;
use crate::sgd::Sgd;

/// A base optimizer. It sees only the gradient it is given, once a step, at w.
pub trait BaseOptimizer: Send {
    /// Steps the master weights of every parameter that has a gradient and sets working = master everywhere.
    fn descend(&mut self, setting: &Setting<'_>, gradient: &Mix<'_>) -> Result<()>;

    /// State arenas by name, with the offsets of the parameter arena.
    fn arenas(&self) -> Vec<(&'static str, &Tensor)>;

    /// Makes sure that the arena of this name exists (before a checkpoint is read into it); None for an unknown name.
    fn arena_mut(&mut self, name: &str, parameters: &ParameterArena) -> Result<Option<&Tensor>>;

    /// How often each segment was stepped.
    fn counts(&self) -> &[u64];

    fn set_counts(&mut self, counts: Vec<u64>);
}

impl BaseOptimizer for Box<dyn BaseOptimizer> {
    fn descend(&mut self, setting: &Setting<'_>, gradient: &Mix<'_>) -> Result<()> {
        (**self).descend(setting, gradient)
    }

    fn arenas(&self) -> Vec<(&'static str, &Tensor)> {
        (**self).arenas()
    }

    fn arena_mut(&mut self, name: &str, parameters: &ParameterArena) -> Result<Option<&Tensor>> {
        (**self).arena_mut(name, parameters)
    }

    fn counts(&self) -> &[u64] {
        (**self).counts()
    }

    fn set_counts(&mut self, counts: Vec<u64>) {
        (**self).set_counts(counts);
    }
}

/// Makes the base optimizer that the options name.
pub fn build(config: &BaseConfig, parameters: &ParameterArena) -> Result<Box<dyn BaseOptimizer>> {
    let segments = parameters.segments().len();
    Ok(match *config {
        BaseConfig::Sgd { dampening, nesterov, .. } => Box::new(Sgd::new(dampening, nesterov, segments)),
        BaseConfig::Adam { betas, eps, .. } => Box::new(Adam::new(betas, eps, false, parameters)?),
        BaseConfig::AdamW { betas, eps, .. } => Box::new(Adam::new(betas, eps, true, parameters)?),
    })
}
