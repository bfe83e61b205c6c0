//! Matrix product plus bias.

use std::ops::Range;

use tch::Tensor;

use super::{Context, ParamId};
use crate::arena::ParamKind;
use crate::compile::Builder;
use crate::error::Result;
use crate::init::ParamInit;
use crate::site::Site;
use crate::spec;

#[derive(Debug, PartialEq)]
pub(crate) struct Linear {
    pub weight: ParamId,
    pub bias: Option<ParamId>,
    /// Whether it is the last layer: logits of 16 bits would be off by percents of a probability.
    pub logits: bool,
}

/// Computes in the input's dtype: images and what a global pooling leaves are float32 beside weights of 16 bits.
fn linear(input: &Tensor, weight: &Tensor, bias: Option<&Tensor>, context: &Context) -> Result<Tensor> {
    let weight = weight.f_to_kind(input.kind())?;
    let bias = bias.map(|bias| bias.f_to_kind(input.kind())).transpose()?;
    if context.has_own_kernels()
        && let Some(output) = flatmin_torch_ext::linear(input, &weight, bias.as_ref())?
    {
        return Ok(output);
    }
    Ok(input.f_linear(&weight, bias)?)
}

impl Linear {
    /// Answers the layer and its output shape.
    pub fn compile(spec: &spec::Linear, site: &Site, builder: &mut Builder) -> Result<(Self, Vec<i64>)> {
        let &spec::Linear { out_features, bias, init, .. } = spec;
        let fan_in = site.vectors()?;
        site.check_size("outFeatures", out_features, 1)?;
        let shape = [out_features, fan_in];
        let output = [&site.input[..site.input.len() - 1], &[out_features]].concat();
        builder.count_macs(site.element_count(&output)? * fan_in);
        let bias_init = ParamInit::bias(init, fan_in);
        let weight = builder.parameter(site, "weight", &shape, ParamKind::LinearWeight, ParamInit::Weight(init))?;
        let bias =
            bias.then(|| builder.parameter(site, "bias", &[out_features], ParamKind::Bias, bias_init)).transpose()?;
        Ok((Self { weight, bias, logits: false }, output))
    }

    pub fn forward(&self, input: &Tensor, context: &Context) -> Result<Tensor> {
        let bias = self.bias.map(|bias| context.parameter(bias));
        self.apply(input, context.parameter(self.weight), bias, context)
    }

    /// Some of the output's features.
    pub fn forward_part(&self, input: &Tensor, features: Range<i64>, context: &Context) -> Result<Tensor> {
        let part = |id: ParamId| context.parameter(id).f_narrow(0, features.start, features.end - features.start);
        self.apply(input, &part(self.weight)?, self.bias.map(part).transpose()?.as_ref(), context)
    }

    fn apply(&self, input: &Tensor, weight: &Tensor, bias: Option<&Tensor>, context: &Context) -> Result<Tensor> {
        if self.logits {
            return linear(&input.f_to_kind(context.dtype.kind())?, weight, bias, context);
        }
        Ok(linear(input, weight, bias, context)?.f_to_kind(context.dtype.compute_kind())?)
    }
}
