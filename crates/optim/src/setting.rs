//! What every update of a step works on and with.

use flatmin_nn::{Gradients, ParameterArena};
use flatmin_torch_ext::cpu::Layout;
use flatmin_torch_ext::cuda;

use crate::config::{Clip, Decay};
use crate::group::{Factors, Group};
use crate::mix::{At, Mix};

/// Arenas are written through the kernels' raw pointers: whoever makes a setting holds the model exclusively.
pub struct Setting<'a> {
    pub parameters: &'a ParameterArena,
    /// The cut of the arenas, nothing perturbed.
    pub layout: &'a Layout,
    pub groups: &'a [Group],
    /// What schedules multiply the groups' values by.
    pub factors: Factors,
    pub decay: Decay,
    pub clip: Option<Clip>,
    /// What the loss was multiplied by.
    pub loss_scale: f64,
    /// Steps begun before this one.
    pub attempt: u64,
}

impl Setting<'_> {
    /// The gradient of the objective: of the loss, and of the penalty if weight decay is one.
    pub fn objective<'a>(&self, gradients: &'a Gradients, at: At) -> Mix<'a> {
        let mix = Mix::of(gradients).scaled(1.0 / self.loss_scale);
        if self.decay != Decay::Loss || self.groups.iter().all(|group| group.weight_decay == 0.0) {
            return mix;
        }
        mix.plus_weights(at, self.groups.iter().map(|group| group.weight_decay).collect())
    }

    /// The weight decay that is left to the base optimizer.
    pub fn weight_decay(&self, group: &Group) -> f64 {
        if self.decay == Decay::Loss { 0.0 } else { group.weight_decay }
    }

    pub fn lr(&self, group: &Group) -> f64 {
        group.lr * self.factors.lr
    }

    /// 0 for a group that is not perturbed.
    fn rho(&self, group: &Group) -> f64 {
        group.rho.unwrap_or(0.0) * self.factors.rho
    }

    /// SGD's.
    pub fn momentum(&self, group: &Group) -> f64 {
        group.momentum.unwrap_or(0.0) * self.factors.momentum
    }

    /// Whether the step needs an arena of momenta.
    pub fn uses_momentum(&self) -> bool {
        self.groups.iter().any(|group| self.momentum(group) != 0.0)
    }

    /// Whether weights shrink apart from the gradient, whatever the base optimizer.
    pub fn is_decoupled(&self) -> bool {
        self.decay == Decay::Decoupled
    }

    /// What every base optimizer has of a group's options on a device.
    pub fn device_options(&self, group: &Group) -> cuda::Group {
        cuda::Group {
            rho: self.rho(group),
            lr: self.lr(group),
            weight_decay: self.weight_decay(group),
            ..cuda::Group::default()
        }
    }

    /// The radii in force, by group.
    pub fn radii(&self) -> Vec<f64> {
        self.groups.iter().map(|group| self.rho(group)).collect()
    }
}
