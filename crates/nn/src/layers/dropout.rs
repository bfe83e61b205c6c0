//! Dropout (Srivastava 2014), with the mask that the pass's seed gives.

use tch::{Tensor, no_grad};

use super::draws::{Draws, per_element};
use super::{Context, Pass};
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
        Ok(Self { drop, draws: builder.draws(drop > 0.0) })
    }

    /// Whether it never drops anything.
    pub fn is_idle(&self) -> bool {
        self.drop == 0.0
    }

    /// Whether the pass drops anything.
    pub fn drops(&self, context: &Context) -> bool {
        !self.is_idle() && matches!(context.pass, Pass::Train { .. })
    }

    pub fn forward(&self, input: Tensor, context: &Context) -> Result<Tensor> {
        let Pass::Train { mask_seed, .. } = context.pass else { return Ok(input) };
        if self.is_idle() {
            return Ok(input);
        }
        let keep = 1.0 - self.drop;
        let mask = no_grad(|| -> Result<Tensor> {
            let generator = self.draws.generator(mask_seed)?;
            Ok(per_element(&input, |mask| Ok(generator.bernoulli_(mask, keep)?))?.f_div_scalar_(keep)?)
        })?;
        Ok(input.f_mul(&mask)?)
    }
}
