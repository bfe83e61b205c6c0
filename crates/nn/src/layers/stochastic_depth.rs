//! Stochastic depth (Huang 2016): in training, the branch of a residual is dropped with probability p, and scaled by
//! 1 / (1 - p) where it stays.

use flatmin_torch_ext::Draw;
use tch::Tensor;

use super::Context;
use super::draws::Draws;
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
        Ok(Self { drop: spec.p, mode: spec.mode, draws: builder.draws() })
    }

    pub fn forward(&self, input: Tensor, context: &Context) -> Result<Tensor> {
        let Some(seed) = context.mask_seed.filter(|_| self.drop > 0.0) else { return Ok(input) };
        // A number for each image, or one for all, broadcast over the input.
        let mut shape = vec![1; input.dim()];
        if self.mode == spec::DropMode::Row {
            shape[0] = input.size()[0];
        }
        let like = Tensor::f_empty(shape, (input.kind(), input.device()))?;
        let factors = self.draws.like(&like, Draw::Mask { keep: 1.0 - self.drop }, seed, context)?;
        Ok(input.f_mul(&factors)?)
    }
}
