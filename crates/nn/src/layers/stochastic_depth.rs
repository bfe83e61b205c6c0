//! Stochastic depth (Huang 2016): in training, the branch of a residual is dropped with probability p, and scaled by
//! 1 / (1 - p) where it stays.

use tch::{Tensor, no_grad};

use super::draws::{Draws, per_image};
use super::{Context, Pass};
use crate::compile::Builder;
use crate::error::Result;
use crate::site::Site;
use crate::spec;

#[derive(Debug, PartialEq)]
pub(crate) struct StochasticDepth {
    drop: f64,
    mode: spec::DropMode,
    draws: Draws,
}

impl StochasticDepth {
    pub fn compile(spec: &spec::StochasticDepth, site: &Site, builder: &mut Builder) -> Result<Self> {
        if !(0.0..1.0).contains(&spec.p) {
            return Err(site.option("p", spec.p, "a probability of at least 0 and below 1"));
        }
        Ok(Self { drop: spec.p, mode: spec.mode, draws: builder.draws(spec.p > 0.0) })
    }

    pub fn forward(&self, input: Tensor, context: &Context) -> Result<Tensor> {
        let Pass::Train { mask_seed, .. } = context.pass else { return Ok(input) };
        if self.drop == 0.0 {
            return Ok(input);
        }
        let keep = 1.0 - self.drop;
        let factors = no_grad(|| -> Result<Tensor> {
            let drawn = match self.mode {
                spec::DropMode::Row => input.shallow_clone(),
                spec::DropMode::Batch => input.f_narrow(0, 0, 1)?,
            };
            let generator = self.draws.generator(mask_seed)?;
            Ok(per_image(&drawn, |values| Ok(generator.bernoulli_(values, keep)?))?.f_div_scalar(keep)?)
        })?;
        Ok(input.f_mul(&factors)?)
    }
}
