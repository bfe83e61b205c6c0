//! ShakeDrop (Yamada 2018, arXiv 1802.02375): the branch of a residual is scaled by b + alpha - b alpha in the forward pass and
//! by b + beta - b beta in the backward pass, b = 1 with probability 1 - p, alpha from U(-1, 1), beta from U(0, 1); one
//! draw of the three for each image.

use tch::{Tensor, no_grad};

use super::draws::{Draws, per_image};
use super::{Context, Pass};
use crate::compile::Builder;
use crate::error::Result;
use crate::site::Site;
use crate::spec;

#[derive(Debug, PartialEq)]
pub(crate) struct ShakeDrop {
    pub keep: f64,
    draws: Draws,
}

impl ShakeDrop {
    pub fn compile(spec: &spec::ShakeDrop, site: &Site, builder: &mut Builder) -> Result<Self> {
        if !(0.0..=1.0).contains(&spec.p) {
            return Err(site.option("p", spec.p, "a probability from 0 to 1"));
        }
        Ok(Self { keep: 1.0 - spec.p, draws: builder.draws(true) })
    }

    pub fn forward(&self, input: Tensor, context: &Context) -> Result<Tensor> {
        let Pass::Train { mask_seed, .. } = context.pass else {
            // The expectation, since alpha's is 0.
            return Ok(input.f_mul_scalar(self.keep)?);
        };
        let (forward, backward) = no_grad(|| -> Result<_> {
            let generator = self.draws.generator(mask_seed)?;
            let keep = per_image(&input, |values| Ok(generator.bernoulli_(values, self.keep)?))?;
            let alpha = per_image(&input, |values| Ok(generator.uniform_(values, -1.0, 1.0)?))?;
            let beta = per_image(&input, |values| Ok(generator.uniform_(values, 0.0, 1.0)?))?;
            let one = keep.f_ones_like()?;
            Ok((alpha.f_lerp_tensor(&one, &keep)?, beta.f_lerp_tensor(&one, &keep)?))
        })?;
        // Autograd sees the first term alone.
        let rest = forward.f_sub(&backward)?;
        Ok(input.f_mul(&backward)?.f_addcmul_(&input.f_detach()?, &rest)?)
    }
}
