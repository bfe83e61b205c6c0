//! Convolution with square filters.

use flatmin_torch_ext::conv2d;
use tch::Tensor;

use super::{Context, ParamId, Pass};
use crate::arena::ParamKind;
use crate::compile::Builder;
use crate::error::Result;
use crate::init::ParamInit;
use crate::site::Site;
use crate::spec;

#[derive(Debug, PartialEq)]
pub(crate) struct Conv2d {
    pub weight: ParamId,
    pub bias: Option<ParamId>,
    pub stride: i64,
    pub padding: i64,
    pub groups: i64,
}

impl Conv2d {
    /// Answers the layer and its output shape.
    pub fn compile(spec: &spec::Conv2d, site: &Site, builder: &mut Builder) -> Result<(Self, Vec<i64>)> {
        let &spec::Conv2d { out_channels, kernel_size, stride, padding, groups, bias, init, .. } = spec;
        let [channels, ..] = site.image()?;
        site.check_size("outChannels", out_channels, 1)?;
        site.check_size("groups", groups, 1)?;
        if channels % groups != 0 {
            return Err(site.misfit(format!("channels divisible by groups, which is {groups}")));
        }
        if out_channels % groups != 0 {
            return Err(site.option("outChannels", out_channels, format!("a multiple of groups, which is {groups}")));
        }
        let [height, width] = site.windows(kernel_size, stride, padding)?;
        let shape = [out_channels, channels / groups, kernel_size, kernel_size];
        let output = vec![out_channels, height, width];
        builder.count_macs(site.element_count(&output)? * site.element_count(&shape[1..])?);
        let bias_init = ParamInit::bias(init, site.element_count(&shape[1..])?);
        let weight = builder.parameter(site, "weight", &shape, ParamKind::ConvWeight, ParamInit::Weight(init))?;
        let bias =
            bias.then(|| builder.parameter(site, "bias", &[out_channels], ParamKind::Bias, bias_init)).transpose()?;
        Ok((Self { weight, bias, stride, padding, groups }, output))
    }

    pub fn forward(&self, input: &Tensor, context: &Context) -> Result<Tensor> {
        let weight = context.parameter(self.weight);
        if self.bias.is_none()
            && context.has_own_kernels()
            && matches!(context.pass, Pass::Train { .. })
            && let Some(output) = conv2d(input, weight, self.stride, self.padding)?
        {
            return Ok(output);
        }
        // Rounded images would cost more of the gradient's direction than everything else that is rounded.
        let weight = weight.f_to_kind(input.kind())?;
        let output = input.f_conv2d(
            &weight,
            context.bias(self.bias, &weight)?,
            [self.stride, self.stride],
            [self.padding, self.padding],
            [1, 1],
            self.groups,
        )?;
        Ok(output.f_to_kind(context.dtype.compute_kind())?)
    }
}
