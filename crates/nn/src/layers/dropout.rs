//! Dropout (Srivastava 2014), with the mask that the pass's seed gives.

use flatmin_torch_ext::Draw;
use tch::Tensor;

use super::Context;
use super::draws::Draws;
use crate::compile::Builder;
use crate::error::Result;
use crate::site::Site;
use crate::spec;

#[derive(Debug, PartialEq)]
pub(crate) struct Dropout {
    drop: f64,
    draws: Draws,
}

impl Dropout {
    pub fn compile(spec: &spec::Dropout, site: &Site, builder: &mut Builder) -> Result<Self> {
        builder.count_kept(site.element_count(&site.input)?);
        Self::of("p", spec.p, site, builder)
    }

    /// Of a layer's setting of that name.
    pub fn of(field: &str, drop: f64, site: &Site, builder: &mut Builder) -> Result<Self> {
        if !(0.0..1.0).contains(&drop) {
            return Err(site.option(field, drop, "a share of at least 0 and below 1"));
        }
        Ok(Self { drop, draws: builder.draws() })
    }

    /// Whether it never drops anything.
    pub fn is_idle(&self) -> bool {
        self.drop == 0.0
    }

    /// Whether the pass drops anything.
    pub fn drops(&self, context: &Context) -> bool {
        !self.is_idle() && context.mask_seed.is_some()
    }

    pub fn forward(&self, input: Tensor, context: &Context) -> Result<Tensor> {
        let Some(seed) = context.mask_seed.filter(|_| !self.is_idle()) else { return Ok(input) };
        let mask = self.draws.like(&input, Draw::Mask { keep: 1.0 - self.drop }, seed, context)?;
        Ok(input.f_mul(&mask)?)
    }
}
