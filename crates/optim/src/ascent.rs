//! The way to w + eps: for a norm ball the eps that raises the loss most to first order, for some variants another
//! displacement.
//!
//! With h = T_w g and 1/p + 1/q = 1: eps = rho T_w sign(h) |h|^(q-1) / norm_q(h)^(q-1), so that norm_p(T_w^-1 eps) = rho and
//! the gain is rho norm_q(h) (Foret 2021, equation 2, and Kwon 2021, equation 9, for a diagonal T_w).

use flatmin_nn::{Gradients, ParameterArena};
use flatmin_torch_ext::Generator;
use flatmin_torch_ext::cpu::{GradientNorms, Mask, MaskUnit, Origin, Shape, split_mix};
use tch::{Device, Tensor};

use crate::base::BaseOptimizer;
use crate::config::{MaskBy, PNorm, Restore, Variant};
use crate::error::Result;
use crate::kernels::{self, Displacement, Metric};
use crate::mix::{At, Mix};
use crate::rounding::Rounding;
use crate::sam::{Draw, Sam};
use crate::setting::Setting;

/// What an ascent found. Weights are perturbed only if all was finite.
pub struct Ascent {
    /// norm2 of the gradient at w.
    pub gradient_norm: f64,
    pub finite: bool,
    pub rounding: Option<Rounding>,
}

impl<O: BaseOptimizer> Sam<O> {
    /// Writes working = w + eps from gradients, if they are finite; `inner` counts the ascents of this step. Parameters
    /// without a gradient stay at w.
    pub fn ascend(&mut self, setting: &Setting<'_>, gradients: Gradients, inner: u64) -> Result<Ascent> {
        let parameters = setting.parameters;
        let (at, origin) = match inner {
            0 => (At::Master, Origin::Master),
            _ => (At::Working, Origin::Working),
        };
        let objective = setting.objective(&gradients, at);
        // Of the whole gradient, if the direction is something else.
        let full_norm = (self.config.clip.is_some() || self.friendly.is_some())
            .then(|| kernels::norms(self.flat_metric(), parameters, &objective))
            .transpose()?
            .map(|norms| norms.plain);
        let factor = match (&self.config.clip, full_norm) {
            (Some(clip), Some(norm)) if norm.is_finite() => clip.factor(norm),
            _ => 1.0,
        };
        let objective = objective.scaled(factor);
        let direction = match (self.config.variant, &self.friendly) {
            (Variant::Fsam { sigma, .. }, Some(mean)) => objective.clone().plus(-sigma, &Mix::of_arena(mean)),
            _ => objective.clone(),
        };
        let norms = kernels::norms(self.metric(), parameters, &direction)?;
        let gradient_norm = full_norm.unwrap_or(norms.plain);
        let finite = norms.is_finite() && gradient_norm.is_finite();
        let mut rounding = None;
        if finite {
            let (metric, displacement) = self.displacement(setting, &direction, norms, origin)?;
            rounding = kernels::perturb(metric, parameters, &direction, &displacement)?;
            if self.config.variant.keeps_first() {
                self.first = Some(gradients);
            }
        }
        Ok(Ascent { gradient_norm, finite, rounding })
    }

    /// Writes working = w + eps for the variants that need no gradient for it.
    pub fn ascend_ahead(&mut self, setting: &Setting<'_>) -> Result<Option<Rounding>> {
        let parameters = setting.parameters;
        let displacement = |shape, coefficients| Displacement {
            shape,
            coefficients,
            origin: Origin::Master,
            mask: None,
            round_trip: self.config.restore == Restore::Subtract,
        };
        if self.config.variant == Variant::Random {
            let master = parameters.master();
            let mut noise = Tensor::f_zeros(master.size(), (master.kind(), Device::Cpu))?;
            let seed = split_mix(self.seed(Draw::Noise), setting.attempt);
            Generator::new(seed)?.normal_(&mut noise, 0.0, 1.0)?;
            let noise = noise.f_to_device(master.device())?;
            let direction = Mix::of_arena(&noise);
            let norm = kernels::norms(self.flat_metric(), parameters, &direction)?.scaled;
            // T_w needs the filters' norms; the direction is not a gradient.
            kernels::norms(self.metric(), parameters, &direction)?;
            let coefficients = lengths(&setting.radii(), norm, 0.0);
            let displacement = displacement(Shape::Linear, coefficients);
            return kernels::perturb(self.metric(), parameters, &direction, &displacement);
        }
        let momentum = self.base.arenas().into_iter().find(|(name, _)| *name == "momentum");
        // None before the first step: MSAM begins at w.
        let Some((_, momentum)) = momentum else { return Ok(None) };
        let direction = Mix::of_arena(momentum).scaled(-1.0);
        let norm = kernels::norms(self.metric(), parameters, &direction)?.scaled;
        let coefficients = lengths(&setting.radii(), norm, self.config.guard);
        let displacement = displacement(Shape::Quadratic, coefficients);
        kernels::perturb(self.metric(), parameters, &direction, &displacement)
    }

    fn displacement(
        &self,
        setting: &Setting<'_>,
        direction: &Mix<'_>,
        norms: GradientNorms,
        origin: Origin,
    ) -> Result<(Metric<'_>, Displacement)> {
        let round_trip = self.config.restore == Restore::Subtract;
        let whole = |shape, coefficients| Displacement { shape, coefficients, origin, mask: None, round_trip };
        Ok(match self.config.variant {
            Variant::Extragradient => {
                let coefficients = setting.groups.iter().map(|group| -setting.lr(group)).collect();
                (self.flat_metric(), whole(Shape::Linear, coefficients))
            }
            Variant::Esam { beta, mask, .. } => {
                let (shape, coefficients) = self.worst(setting, direction, norms)?;
                let unit = match mask {
                    MaskBy::Element => MaskUnit::Element,
                    MaskBy::Tensor => MaskUnit::Segment,
                };
                let seed = split_mix(self.seed(Draw::Mask), setting.attempt);
                let mask = (beta < 1.0).then_some(Mask { seed, keep: beta, unit });
                let coefficients = coefficients.into_iter().map(|c| c / beta).collect();
                (self.metric(), Displacement { mask, ..whole(shape, coefficients) })
            }
            _ => {
                let (shape, coefficients) = self.worst(setting, direction, norms)?;
                (self.metric(), whole(shape, coefficients))
            }
        })
    }

    fn worst(&self, setting: &Setting<'_>, direction: &Mix<'_>, norms: GradientNorms) -> Result<(Shape, Vec<f64>)> {
        let ball = Ball { p: self.config.p, guard: self.config.guard, radii: &setting.radii() };
        worst(self.metric(), setting.parameters, &ball, direction, norms)
    }
}

/// A ball norm_p(T_w^-1 eps) <= rho.
pub(crate) struct Ball<'a> {
    pub p: PNorm,
    /// Added to the norm that is divided by.
    pub guard: f64,
    /// rho, by parameter group.
    pub radii: &'a [f64],
}

/// The point of the ball where the loss is largest to first order.
pub(crate) fn worst(
    metric: Metric<'_>,
    parameters: &ParameterArena,
    ball: &Ball<'_>,
    direction: &Mix<'_>,
    norms: GradientNorms,
) -> Result<(Shape, Vec<f64>)> {
    let &Ball { p, guard, radii } = ball;
    Ok(match p {
        PNorm::Infinite(_) => (Shape::Sign, radii.to_vec()),
        PNorm::Finite(2.0) => (Shape::Quadratic, lengths(radii, norms.scaled, guard)),
        PNorm::Finite(p) => {
            let q = p / (p - 1.0);
            let norm = kernels::dual_norm(metric, parameters, direction, q)?;
            let guard = if norm.largest == 0.0 { 0.0 } else { guard / norm.largest };
            let coefficients = radii.iter().map(|&radius| match norm.relative {
                0.0 => 0.0,
                relative => radius / (relative + guard).powf(q - 1.0),
            });
            (Shape::Power { unit: norm.largest, exponent: q - 1.0 }, coefficients.collect())
        }
    })
}

/// rho / norm for each group; 0 if the norm is.
fn lengths(radii: &[f64], norm: f64, guard: f64) -> Vec<f64> {
    let length = |&radius: &f64| if norm == 0.0 { 0.0 } else { radius / (norm + guard) };
    radii.iter().map(length).collect()
}
