//! The way down: what the base optimizer gets, made from the gradients of the passes as the variant says.

use flatmin_nn::Gradients;
use tch::Tensor;

use crate::base::BaseOptimizer;
use crate::config::Variant;
use crate::error::Result;
use crate::kernels;
use crate::mix::{At, Mix};
use crate::sam::{Plan, Sam, ensure};
use crate::setting::Setting;

/// What the base optimizer gets.
struct Combined<'a> {
    gradient: Mix<'a>,
    /// Its norm, where inner products have told it; not finite if anything that went into the step is not.
    norm: Option<f64>,
    /// Moves the weights after the base optimizer's step.
    then: Option<Mix<'a>>,
}

impl<'a> From<Mix<'a>> for Combined<'a> {
    fn from(gradient: Mix<'a>) -> Self {
        Self { gradient, norm: None, then: None }
    }
}

impl<O: BaseOptimizer> Sam<O> {
    /// Steps the base optimizer from w, with the gradients of the step's last pass, and answers the norm of what it got.
    /// Nothing is stepped if that is not finite.
    pub fn descend(&mut self, setting: &Setting<'_>, gradients: &Gradients, plan: Plan) -> Result<f64> {
        let at = match plan {
            Plan::Plain | Plan::Reuse => At::Master,
            Plan::Ahead | Plan::Both => At::Working,
        };
        let last = setting.objective(gradients, at);
        let first = self.first.take();
        let first = first.as_ref().map(|first| setting.objective(first, At::Master));
        let look = self.look.as_ref().map(Tensor::shallow_clone);
        let combination = Combination { setting, variant: self.config.variant, probability: self.config.probability };
        let Combined { gradient, norm, then } = combination.of(plan, first.as_ref(), last.clone(), look.as_ref())?;
        let (norm, gradient) = clipped(setting, gradient, norm)?;
        if norm.is_finite() {
            if let (Plan::Both, Some(first)) = (plan, &first) {
                self.remember(setting, first, &last)?;
            }
            self.base.descend(setting, &gradient)?;
            if let Some(then) = then {
                kernels::translate(setting.layout, setting.parameters, &then)?;
            }
        }
        Ok(norm)
    }

    /// Keeps what a variant's later steps need: LookSAM's gv, F-SAM's mean gradient.
    fn remember(&mut self, setting: &Setting<'_>, first: &Mix<'_>, last: &Mix<'_>) -> Result<()> {
        let (layout, parameters) = (setting.layout, setting.parameters);
        match self.config.variant {
            Variant::LookSam { .. } => {
                let found = kernels::products(layout, parameters, first, last)?;
                let look = ensure(&mut self.look, parameters)?;
                let rest = last.clone().plus(-ratio(found.ab, found.aa), first);
                kernels::assign(layout, parameters, look, &rest)?;
            }
            Variant::Fsam { lambda, .. } => {
                let past = self.friendly.as_ref().map(Tensor::shallow_clone);
                let next = match &past {
                    Some(past) => first.clone().scaled(1.0 - lambda).plus(lambda, &Mix::of_arena(past)),
                    None => first.clone(),
                };
                kernels::assign(layout, parameters, ensure(&mut self.friendly, parameters)?, &next)?;
            }
            _ => {}
        }
        Ok(())
    }
}

struct Combination<'s> {
    setting: &'s Setting<'s>,
    variant: Variant,
    probability: f64,
}

impl Combination<'_> {
    /// `first` is the gradient at w if the variant wants it again, `last` that of the last pass.
    fn of<'a>(
        &self,
        plan: Plan,
        first: Option<&Mix<'a>>,
        last: Mix<'a>,
        look: Option<&'a Tensor>,
    ) -> Result<Combined<'a>> {
        let setting = self.setting;
        let products = |a: &Mix<'_>, b: &Mix<'_>| kernels::products(setting.layout, setting.parameters, a, b);
        Ok(match (plan, self.variant, first) {
            (Plan::Reuse, Variant::LookSam { alpha, .. }, _) => match look {
                Some(look) => {
                    let look = Mix::of_arena(look);
                    let found = products(&last, &look)?;
                    let c = alpha * ratio(found.aa, found.bb).sqrt();
                    Combined { gradient: last.plus(c, &look), norm: Some(found.norm(1.0, c)), then: None }
                }
                None => last.into(),
            },
            (Plan::Both, Variant::Gsam { alpha }, Some(first)) => {
                let found = products(first, &last)?;
                let c = 1.0 + alpha * ratio(found.ab, found.bb);
                let gradient = last.scaled(c).plus(-alpha, first);
                Combined { gradient, norm: Some(found.norm(-alpha, c)), then: None }
            }
            (Plan::Both, Variant::Grst { c }, Some(first)) => {
                let c = c.unwrap_or(1.0 / self.probability);
                last.scaled(c).plus(1.0 - c, first).into()
            }
            (Plan::Both, Variant::Wsam { c, coupled: true }, Some(first)) => {
                last.scaled(c / (1.0 - c)).plus((1.0 - 2.0 * c) / (1.0 - c), first).into()
            }
            (Plan::Both, Variant::Wsam { c, coupled: false }, Some(first)) => {
                let rates: Vec<f64> = setting.groups.iter().map(|group| -setting.lr(group) * c / (1.0 - c)).collect();
                let found = products(first, &last)?;
                let norm = if found.bb.is_finite() { found.norm(1.0, 0.0) } else { f64::NAN };
                let then = last.plus(-1.0, first).scaled_by_group(&rates);
                Combined { gradient: first.clone(), norm: Some(norm), then: Some(then) }
            }
            _ => last.into(),
        })
    }
}

/// The norm of a gradient, computed unless it is known, and the gradient after clipping.
pub(crate) fn clipped<'a>(setting: &Setting<'_>, gradient: Mix<'a>, norm: Option<f64>) -> Result<(f64, Mix<'a>)> {
    let norm = norm.map_or_else(|| kernels::norm(setting.layout, setting.parameters, &gradient), Ok)?;
    Ok(match &setting.clip {
        Some(clip) if norm.is_finite() => (norm, gradient.scaled(clip.factor(norm))),
        _ => (norm, gradient),
    })
}

/// a / b; 0 if there is nothing to divide by.
fn ratio(a: f64, b: f64) -> f64 {
    if b == 0.0 { 0.0 } else { a / b }
}
