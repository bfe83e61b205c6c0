//! Layer scale (Touvron 2021): a learnt factor for each channel, which starts near 0 so that a deep net starts near the
//! identity.

use tch::Tensor;

use super::{Context, ParamId};
use crate::arena::ParamKind;
use crate::compile::Builder;
use crate::error::Result;
use crate::init::ParamInit;
use crate::site::Site;
use crate::spec;

#[derive(Debug, PartialEq)]
pub(crate) struct LayerScale {
    pub factors: ParamId,
}

impl LayerScale {
    /// The parameter is `[channels, 1, 1]` for images and `[features]` for tokens, as torchvision and timm have it.
    pub fn compile(spec: &spec::LayerScale, site: &Site, builder: &mut Builder) -> Result<Self> {
        if !spec.init.is_finite() {
            return Err(site.option("init", spec.init, "a finite number"));
        }
        let shape = match site.input[..] {
            [channels, _, _] => vec![channels, 1, 1],
            _ => vec![site.vectors()?],
        };
        let init = ParamInit::Constant(spec.init);
        Ok(Self { factors: builder.own_parameter(site, &shape, ParamKind::LayerScale, init)? })
    }

    pub fn forward(&self, input: &Tensor, context: &Context) -> Result<Tensor> {
        Ok(input.f_mul(&context.parameter(self.factors).f_to_kind(input.kind())?)?)
    }
}
