//! SGD with momentum, Nesterov's form, dampening and weight decay, each with PyTorch's meaning.

use flatmin_nn::{Dtype, ParameterArena};
use flatmin_torch_ext::cpu::{self, GradientTable, Real, SgdStep, Slab};
use tch::Tensor;

use crate::base::{BaseOptimizer, Update, with_real};
use crate::error::Result;

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
    fn descend(&mut self, update: Update<'_>) -> Result<()> {
        let steps: Vec<SgdStep> = update
            .groups
            .iter()
            .map(|group| SgdStep {
                lr: group.lr * update.factors.lr,
                momentum: group.momentum.unwrap_or(0.0) * update.factors.momentum,
                dampening: self.dampening,
                weight_decay: group.weight_decay,
                nesterov: self.nesterov,
            })
            .collect();
        if steps.iter().any(|step| step.momentum != 0.0) {
            self.ensure_momentum(update.parameters)?;
        }
        let first: Vec<bool> = self.counts.iter().map(|&count| count == 0).collect();
        with_real!(update.parameters.dtype(), run(&update, self.momentum.as_ref(), &steps, &first));
        let segments = update.layout.segments().iter().zip(update.gradients.tensors());
        for (count, (segment, gradient)) in self.counts.iter_mut().zip(segments) {
            if gradient.is_some() && steps[segment.group].momentum != 0.0 {
                *count += 1;
            }
        }
        Ok(())
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

fn run<T: Real>(update: &Update<'_>, momentum: Option<&Tensor>, steps: &[SgdStep], first: &[bool]) {
    let gradients = GradientTable::<T>::new(update.gradients.tensors());
    cpu::sgd(
        update.layout,
        Slab::of(update.parameters.master()),
        Slab::of(update.parameters.working()),
        momentum.map(Slab::of),
        &gradients,
        steps,
        first,
    );
}
