//! The search for the worst point of a ball, in its coordinates u of eps = T_w u: projected gradient ascent (Madry 2018,
//! here on weights instead of images), and the mean over the sphere.

use flatmin_nn::Model;
use flatmin_optim::{Neighbourhood, Noise};
use tch::Tensor;

use crate::arena::{copy, scale};
use crate::error::{Error, Result};
use crate::objective::{Objective, Outcome};
use crate::sharpness::{Method, SharpnessOptions};

pub(crate) struct Search<'a> {
    pub model: &'a Model,
    pub ball: &'a Neighbourhood,
    pub objective: &'a Objective<'a>,
    pub options: &'a SharpnessOptions,
}

/// Where a search ended.
pub(crate) struct Reached {
    pub outcome: Outcome,
    pub norm: f64,
    /// Loss minus loss at w, point by point; of `random` draw by draw.
    pub curve: Vec<f64>,
}

/// The best point of an ascent so far.
struct Best {
    outcome: Outcome,
    u: Tensor,
}

impl Search<'_> {
    /// The highest loss found in the ball; `h` is the gradient with respect to u at w.
    pub fn worst(&self, clean: &Outcome, h: &Tensor, rho: f64) -> Result<Reached> {
        let parameters = self.model.parameters();
        let first = parameters.like()?;
        self.ball.climb(parameters, &first, h, rho)?;
        if self.options.method == Method::OneStep {
            self.ball.enter(self.model, &first)?;
            let outcome = self.objective.value(self.model)?;
            let curve = vec![0.0, outcome.loss - clean.loss];
            let reached = Reached { outcome, norm: self.ball.norm(parameters, &first)?, curve };
            return if reached.outcome.loss.is_finite() { Ok(reached) } else { Err(not_finite(rho)) };
        }
        let mut best = self.climb(clean, first, rho, self.options.steps - 1, vec![0.0])?;
        for restart in 0..self.options.restarts {
            let mut start = self.ball.random(parameters, Noise::Normal, self.seed(restart))?;
            scale(&mut start, rho)?;
            let other = self.climb(clean, start, rho, self.options.steps, Vec::new())?;
            best = match (best, other) {
                (Some(best), Some(other)) if other.outcome.loss > best.outcome.loss => Some(other),
                (best, other) => best.or(other),
            };
        }
        best.ok_or_else(|| not_finite(rho))
    }

    /// Ascends from `u`; None if no loss on the way is finite. `curve` holds what came before.
    fn climb(
        &self,
        clean: &Outcome,
        mut u: Tensor,
        rho: f64,
        steps: usize,
        mut curve: Vec<f64>,
    ) -> Result<Option<Reached>> {
        let parameters = self.model.parameters();
        let mut best: Option<Best> = None;
        for step in 0..=steps {
            self.ball.enter(self.model, &u)?;
            // No gradient is needed where the ascent ends.
            let (outcome, gradient) = match step < steps {
                true => self.objective.gradient(self.model).map(|(outcome, gradient)| (outcome, Some(gradient)))?,
                false => (self.objective.value(self.model)?, None),
            };
            if !outcome.loss.is_finite() {
                break;
            }
            curve.push(outcome.loss - clean.loss);
            if best.as_ref().is_none_or(|best| outcome.loss > best.outcome.loss) {
                best = Some(Best { outcome, u: copy(&u)? });
            }
            let Some(gradient) = gradient else { break };
            let h = self.ball.scaled(parameters, &gradient)?;
            let slope = self.ball.slope(parameters, &h)?;
            if slope == 0.0 || !slope.is_finite() {
                break;
            }
            self.ball.climb(parameters, &u, &h, self.options.step_size * rho)?;
            self.ball.project(parameters, &mut u, rho)?;
        }
        best.map(|Best { outcome, u }| Ok(Reached { outcome, norm: self.ball.norm(parameters, &u)?, curve }))
            .transpose()
    }

    /// The mean over random points at distance rho.
    pub fn average(&self, clean: &Outcome, rho: f64) -> Result<Reached> {
        let draws = self.options.draws;
        let mut mean = Outcome { count: clean.count, ..Outcome::default() };
        let mut curve = Vec::with_capacity(draws);
        for draw in 0..draws {
            let mut u = self.ball.random(self.model.parameters(), Noise::Normal, self.seed(draw))?;
            scale(&mut u, rho)?;
            self.ball.enter(self.model, &u)?;
            let outcome = self.objective.value(self.model)?;
            if !outcome.loss.is_finite() {
                return Err(not_finite(rho));
            }
            curve.push(outcome.loss - clean.loss);
            mean.loss += outcome.loss / draws as f64;
            mean.accuracy += outcome.accuracy / draws as f64;
        }
        Ok(Reached { outcome: mean, norm: rho, curve })
    }

    /// The same for every radius, so that a curve over radii is smooth.
    fn seed(&self, index: usize) -> u64 {
        flatmin_torch_ext::cpu::split_mix(self.options.seed, index as u64)
    }
}

fn not_finite(rho: f64) -> Error {
    Error::NonFinite { what: format!("the loss at every point found within rho {rho}"), hint: "use smaller radii" }
}
