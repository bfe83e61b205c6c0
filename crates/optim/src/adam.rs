//! Adam (Kingma and Ba 2015) and AdamW (Loshchilov and Hutter 2019), each with PyTorch's meaning.

use flatmin_nn::ParameterArena;
use flatmin_torch_ext::cpu::AdamStep;
use flatmin_torch_ext::cuda;
use tch::Tensor;

use crate::base::{BaseOptimizer, DeviceDescent};
use crate::error::Result;
use crate::group::Group;
use crate::kernels::{self, Moments};
use crate::mix::Mix;
use crate::setting::Setting;

/// `m = b1 m + (1 - b1) d; v = b2 v + (1 - b2) d^2; w -= lr m^ / (sqrt(v^) + eps)`, with bias-corrected moments and
/// `d = g + wd w`; decoupled: `d = g` and `w -= lr wd w` apart.
pub struct Adam {
    betas: [f64; 2],
    eps: f64,
    decoupled: bool,
    first_moment: Tensor,
    second_moment: Tensor,
    counts: Vec<u64>,
}

impl Adam {
    pub fn new(betas: [f64; 2], eps: f64, decoupled: bool, parameters: &ParameterArena) -> Result<Self> {
        Ok(Self {
            betas,
            eps,
            decoupled,
            first_moment: parameters.like()?,
            second_moment: parameters.like()?,
            counts: vec![0; parameters.segments().len()],
        })
    }

    fn beta1(&self, setting: &Setting<'_>) -> f64 {
        self.betas[0] * setting.factors.momentum
    }

    fn is_decoupled(&self, setting: &Setting<'_>) -> bool {
        self.decoupled || setting.is_decoupled()
    }
}

impl BaseOptimizer for Adam {
    fn descend(&mut self, setting: &Setting<'_>, gradient: &Mix<'_>) -> Result<()> {
        let steps: Vec<AdamStep> = setting
            .groups
            .iter()
            .map(|group| AdamStep {
                lr: setting.lr(group),
                beta1: self.beta1(setting),
                beta2: self.betas[1],
                eps: self.eps,
                weight_decay: setting.weight_decay(group),
                decoupled: self.is_decoupled(setting),
            })
            .collect();
        self.count(setting, &|position| gradient.is_present(position));
        let moments = Moments { first: &self.first_moment, second: &self.second_moment };
        kernels::adam(setting.layout, setting.parameters, gradient, moments, &steps, &self.counts)
    }

    fn descend_on_device(&mut self, setting: &Setting<'_>, descent: &DeviceDescent<'_>) -> Result<()> {
        let DeviceDescent { update, gradient, groups, counts } = descent;
        let moments = (&self.first_moment, &self.second_moment);
        Ok(update.adam(gradient, groups, moments, counts, self.is_decoupled(setting))?)
    }

    fn device_options(&self, setting: &Setting<'_>, group: &Group) -> cuda::Group {
        let (beta1, beta2) = (self.beta1(setting), self.betas[1]);
        cuda::Group { beta1, beta2, eps: self.eps, ..setting.device_options(group) }
    }

    fn count(&mut self, _setting: &Setting<'_>, is_present: &dyn Fn(usize) -> bool) {
        for (position, count) in self.counts.iter_mut().enumerate() {
            *count += u64::from(is_present(position));
        }
    }

    fn arenas(&self) -> Vec<(&'static str, &Tensor)> {
        vec![("first_moment", &self.first_moment), ("second_moment", &self.second_moment)]
    }

    fn arena_mut(&mut self, name: &str, _parameters: &ParameterArena) -> Result<Option<&Tensor>> {
        Ok(match name {
            "first_moment" => Some(&self.first_moment),
            "second_moment" => Some(&self.second_moment),
            _ => None,
        })
    }

    fn counts(&self) -> &[u64] {
        &self.counts
    }

    fn set_counts(&mut self, counts: Vec<u64>) {
        self.counts = counts;
    }
}
