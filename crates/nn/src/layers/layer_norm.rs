//! Layer norm (Ba 2016): each vector of features, be it of an image, a token or a pixel, gets mean 0 and variance 1, then a
//! gain and an offset for each feature.

use tch::Tensor;

use super::{Context, ParamId};
use crate::arena::ParamKind;
use crate::compile::Builder;
use crate::error::Result;
use crate::init::ParamInit;
use crate::site::Site;
use crate::spec;

#[derive(Debug, PartialEq)]
pub(crate) struct LayerNorm {
    pub affine: Option<(ParamId, ParamId)>,
    pub features: i64,
    pub eps: f64,
    /// Whether the features are an image's channels.
    pub of_pixels: bool,
}

impl LayerNorm {
    /// Of `[features]` or of each token of `[tokens, features]`.
    pub fn compile(spec: &spec::LayerNorm, site: &Site, builder: &mut Builder) -> Result<Self> {
        Self::over(site.vectors()?, false, spec, site, builder)
    }

    /// Of the channels of each pixel.
    pub fn compile_2d(spec: &spec::LayerNorm, site: &Site, builder: &mut Builder) -> Result<Self> {
        Self::over(site.image()?[0], true, spec, site, builder)
    }

    fn over(
        features: i64,
        of_pixels: bool,
        &spec::LayerNorm { eps, affine, .. }: &spec::LayerNorm,
        site: &Site,
        builder: &mut Builder,
    ) -> Result<Self> {
        site.check_eps(eps)?;
        let affine = if affine {
            let gamma =
                builder.parameter(site, "weight", &[features], ParamKind::NormWeight, ParamInit::Constant(1.0))?;
            let beta = builder.parameter(site, "bias", &[features], ParamKind::NormBias, ParamInit::Constant(0.0))?;
            Some((gamma, beta))
        } else {
            None
        };
        Ok(Self { affine, features, eps, of_pixels })
    }

    /// Gamma and beta are float32 beside activations of 16 bits, and so is what the kernel sums.
    pub fn forward(&self, input: &Tensor, context: &Context) -> Result<Tensor> {
        let (gamma, beta) =
            self.affine.map(|(gamma, beta)| (context.parameter(gamma), context.parameter(beta))).unzip();
        let normalize = |input: &Tensor| input.f_layer_norm([self.features], gamma, beta, self.eps, true);
        // Channels-last images lie as vectors of channels already: permuting moves nothing.
        Ok(if self.of_pixels {
            normalize(&input.f_permute([0, 2, 3, 1])?)?.f_permute([0, 3, 1, 2])?
        } else {
            normalize(input)?
        })
    }
}
