//! What every base optimizer can do: one descent write over the arenas, and give its state away for a checkpoint.

use flatmin_nn::ParameterArena;
use flatmin_torch_ext::cuda::{self, Groups, Update};
use tch::Tensor;

use crate::adam::Adam;
use crate::config::BaseConfig;
use crate::error::Result;
use crate::group::Group;
use crate::mix::Mix;
use crate::setting::Setting;
use crate::sgd::Sgd;

/// A base optimizer. It sees only the gradient it is given, once a step, at w.
pub trait BaseOptimizer: Send {
    /// Steps the master weights of every parameter that has a gradient, and lets the network read them.
    fn descend(&mut self, setting: &Setting<'_>, gradient: &Mix<'_>) -> Result<()>;

    /// Queues the same step on a device, to be taken unless the record says that it is skipped. Counts nothing.
    fn descend_on_device(&mut self, setting: &Setting<'_>, descent: &DeviceDescent<'_>) -> Result<()>;

    /// Options of a group as the device's kernels read them.
    fn device_options(&self, setting: &Setting<'_>, group: &Group) -> cuda::Group;

    /// Counts a step of the segments that have a gradient.
    fn count(&mut self, setting: &Setting<'_>, is_present: &dyn Fn(usize) -> bool);

    /// State arenas by name, with the offsets of the parameter arena.
    fn arenas(&self) -> Vec<(&'static str, &Tensor)>;

    /// Makes sure that the arena of this name exists (before a checkpoint is read into it); None for an unknown name.
    fn arena_mut(&mut self, name: &str, parameters: &ParameterArena) -> Result<Option<&Tensor>>;

    /// How often each segment was stepped.
    fn counts(&self) -> &[u64];

    fn set_counts(&mut self, counts: Vec<u64>);
}

/// What a descent on a device reads and writes.
pub struct DeviceDescent<'a> {
    pub update: Update<'a>,
    pub gradient: cuda::Blend<'a>,
    pub groups: &'a Groups,
    /// Steps of each segment, int64.
    pub counts: &'a Tensor,
}

impl BaseOptimizer for Box<dyn BaseOptimizer> {
    fn descend(&mut self, setting: &Setting<'_>, gradient: &Mix<'_>) -> Result<()> {
        (**self).descend(setting, gradient)
    }

    fn descend_on_device(&mut self, setting: &Setting<'_>, descent: &DeviceDescent<'_>) -> Result<()> {
        (**self).descend_on_device(setting, descent)
    }

    fn device_options(&self, setting: &Setting<'_>, group: &Group) -> cuda::Group {
        (**self).device_options(setting, group)
    }

    fn count(&mut self, setting: &Setting<'_>, is_present: &dyn Fn(usize) -> bool) {
        (**self).count(setting, is_present);
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
