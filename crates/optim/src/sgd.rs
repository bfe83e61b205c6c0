//! SGD with momentum, Nesterov's form, dampening and weight decay, each with PyTorch's meaning.

use flatmin_nn::ParameterArena;
use flatmin_torch_ext::cpu::SgdStep;
use flatmin_torch_ext::cuda;
use tch::Tensor;

use crate::base::{BaseOptimizer, DeviceDescent};
use crate::error::Result;
use crate::group::Group;
use crate::kernels;
use crate::mix::Mix;
use crate::setting::Setting;

/// `d = g + wd w; b = mu b + (1 - dampening) d (first: b = d); w -= lr (nesterov ? d + mu b : b)`.
pub struct Sgd {
    dampening: f64,
    nesterov: bool,
    momentum: Option<Tensor>,
    counts: Vec<u64>,
}

impl Sgd {
    pub fn new(dampening: f64, nesterov: bool, segments: usize) -> Self {
        Self { dampening, nesterov, momentum: None, counts: vec![0; segments] }
    }

    /// The momentum arena comes into being with the first step that uses momentum.
    fn ensure_momentum(&mut self, parameters: &ParameterArena) -> Result<&Tensor> {
        if self.momentum.is_none() {
            self.momentum = Some(parameters.like()?);
        }
        Ok(self.momentum.get_or_insert_with(Tensor::new))
    }
}

impl BaseOptimizer for Sgd {
    fn descend(&mut self, setting: &Setting<'_>, gradient: &Mix<'_>) -> Result<()> {
        let steps: Vec<SgdStep> = setting
            .groups
            .iter()
            .map(|group| SgdStep {
                lr: setting.lr(group),
                momentum: setting.momentum(group),
                dampening: self.dampening,
                weight_decay: setting.weight_decay(group),
                decoupled: setting.is_decoupled(),
                nesterov: self.nesterov,
            })
            .collect();
        if setting.uses_momentum() {
            self.ensure_momentum(setting.parameters)?;
        }
        let first: Vec<bool> = self.counts.iter().map(|&count| count == 0).collect();
        kernels::sgd(setting.layout, setting.parameters, gradient, self.momentum.as_ref(), &steps, &first)?;
        self.count(setting, &|position| gradient.is_present(position));
        Ok(())
    }

    fn descend_on_device(&mut self, setting: &Setting<'_>, descent: &DeviceDescent<'_>) -> Result<()> {
        let DeviceDescent { update, gradient, groups, counts } = descent;
        let (decoupled, nesterov) = (setting.is_decoupled(), self.nesterov);
        let momentum = if setting.uses_momentum() { Some(self.ensure_momentum(setting.parameters)?) } else { None };
        Ok(update.sgd(gradient, groups, momentum, counts, decoupled, nesterov)?)
    }

    fn device_options(&self, setting: &Setting<'_>, group: &Group) -> cuda::Group {
        let (momentum, dampening) = (setting.momentum(group), self.dampening);
        cuda::Group { momentum, dampening, ..setting.device_options(group) }
    }

    fn count(&mut self, setting: &Setting<'_>, is_present: &dyn Fn(usize) -> bool) {
        for (position, (count, segment)) in self.counts.iter_mut().zip(setting.layout.segments()).enumerate() {
            if is_present(position) && setting.momentum(&setting.groups[segment.group]) != 0.0 {
                *count += 1;
            }
        }
    }

    fn arenas(&self) -> Vec<(&'static str, &Tensor)> {
        self.momentum.iter().map(|arena| ("momentum", arena)).collect()
    }

    fn arena_mut(&mut self, name: &str, parameters: &ParameterArena) -> Result<Option<&Tensor>> {
        if name == "momentum" { self.ensure_momentum(parameters).map(Some) } else { Ok(None) }
    }

    fn counts(&self) -> &[u64] {
        &self.counts
    }

    fn set_counts(&mut self, counts: Vec<u64>) {
        self.counts = counts;
    }
}
