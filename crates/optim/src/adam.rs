//! Adam (Kingma and Ba 2015) and AdamW (Loshchilov and Hutter 2019), each with PyTorch's meaning.

use flatmin_nn::{Dtype, ParameterArena};
use flatmin_torch_ext::cpu::{self, AdamStep, Real, Slab};
use tch::Tensor;

use crate::base::BaseOptimizer;
use crate::config::Decay;
use crate::error::Result;
use crate::kernels::{with_real, working};
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
}

impl BaseOptimizer for Adam {
    fn descend(&mut self, setting: &Setting<'_>, gradient: &Mix<'_>) -> Result<()> {
        let steps: Vec<AdamStep> = setting
            .groups
            .iter()
            .map(|group| AdamStep {
                lr: group.lr * setting.factors.lr,
                beta1: self.betas[0] * setting.factors.momentum,
                beta2: self.betas[1],
                eps: self.eps,
                weight_decay: setting.weight_decay(group),
                decoupled: self.decoupled || setting.decay == Decay::Decoupled,
            })
            .collect();
        for (position, count) in self.counts.iter_mut().enumerate() {
            *count += u64::from(gradient.is_present(position));
        }
        with_real!(setting.parameters.dtype(), run(setting, gradient, self, &steps));
        Ok(())
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

fn run<T: Real>(setting: &Setting<'_>, gradient: &Mix<'_>, adam: &Adam, steps: &[AdamStep]) {
    let (layout, parameters) = (setting.layout, setting.parameters);
    let master = Slab::of(parameters.master());
    let (first, second) = (Slab::of(&adam.first_moment), Slab::of(&adam.second_moment));
    gradient.run::<T, _>(layout, parameters, |gradient| {
        cpu::adam(layout, master, working(parameters), first, second, gradient, steps, &adam.counts);
    });
}
