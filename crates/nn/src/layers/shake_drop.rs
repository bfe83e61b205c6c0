//! ShakeDrop (Yamada 2018, arXiv 1802.02375): the branch of a residual is scaled by b + alpha - b alpha in the forward pass and
//! by b + beta - b beta in the backward pass, b = 1 with probability 1 - p, alpha from U(-1, 1), beta from U(0, 1); one
//! draw of the three for each image.

use tch::Tensor;

use super::Context;
use super::draws::Draws;
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
        Ok(Self { keep: 1.0 - spec.p, draws: builder.draws() })
    }

    pub fn forward(&self, input: Tensor, context: &Context) -> Result<Tensor> {
        let Some(seed) = context.mask_seed else {
            // The expectation, since alpha's is 0.
            return Ok(input.f_mul_scalar(self.keep)?);
        };
        let [keep, alpha, beta] = self.draws.uniforms(&input, seed, context)?;
        let (keep, alpha) = (keep.f_lt(self.keep)?, alpha.f_mul_scalar(2.0)?.f_sub_scalar(1.0)?);
        let factor = |shaken: &Tensor| shaken.f_masked_fill(&keep, 1.0)?.f_to_kind(input.kind());
        let (forward, backward) = (factor(&alpha)?, factor(&beta)?);
        // Autograd sees the first term alone.
        let rest = forward.f_sub(&backward)?;
        Ok(input.f_mul(&backward)?.f_addcmul_(&input.f_detach()?, &rest)?)
    }
}
