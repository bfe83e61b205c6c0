//! Batch norm together with what follows it: an addition (a residual's shortcut) and a ReLU. The three are one node
//! because memory traffic, not arithmetic, is what they cost.

use flatmin_torch_ext::{BatchNorm, batch_norm_relu, channels_last};
use tch::{Kind, Tensor};

use super::{Context, ParamId, Pass, Statistics};
use crate::arena::ParamKind;
use crate::buffers::RunningStatistics;
use crate::compile::Builder;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::init::ParamInit;
use crate::site::Site;
use crate::spec;

/// relu(batch_norm(x) + addend), addend and ReLU optional.
#[derive(Debug, PartialEq)]
pub(crate) struct NormAct {
    pub affine: Option<(ParamId, ParamId)>,
    /// Position in the model's [`crate::BufferArena`].
    pub norm: usize,
    momentum: f64,
    pub eps: f64,
    pub relu: bool,
}

impl NormAct {
    pub fn compile(spec: &spec::BatchNorm2d, site: &Site, builder: &mut Builder) -> Result<Self> {
        let &spec::BatchNorm2d { eps, momentum, affine, init, .. } = spec;
        let [channels, ..] = site.image()?;
        site.check_eps(eps)?;
        if !(0.0..=1.0).contains(&momentum) {
            return Err(site.option("momentum", momentum, "a number from 0 to 1"));
        }
        let affine = if affine {
            let gamma =
                builder.parameter(site, "weight", &[channels], ParamKind::NormWeight, ParamInit::gamma(init))?;
            let beta = builder.parameter(site, "bias", &[channels], ParamKind::NormBias, ParamInit::Constant(0.0))?;
            Some((gamma, beta))
        } else {
            None
        };
        let norm = builder.norm(site, channels);
        Ok(Self { affine, norm, momentum, eps, relu: false })
    }

    /// `input` and `addend` are `[batch, channels, height, width]`.
    pub fn forward(&self, input: &Tensor, addend: Option<&Tensor>, context: &Context) -> Result<Tensor> {
        let buffers = context.buffers;
        let affine = self.affine.map(|(gamma, beta)| (context.parameter(gamma), context.parameter(beta)));
        let (running, training) = match context.pass {
            _ if buffers.is_frozen(self.norm) => (Some(buffers.committed(self.norm)), false),
            Pass::Eval => (Some(buffers.committed(self.norm)), false),
            Pass::Train { statistics: Statistics::Ignore, .. } => (None, true),
            Pass::Train { statistics: Statistics::Frozen, .. } => (Some(buffers.committed(self.norm)), false),
            Pass::Train { .. } => (Some(buffers.staged(self.norm)), true),
        };
        let momentum = match context.pass {
            Pass::Train { statistics: Statistics::Average, .. } => 1.0 / buffers.staged_passes() as f64,
            _ => self.momentum,
        };
        if training {
            self.check_sample_count(input, context)?;
        }
        // The fused passes know no float16.
        let is_fused = training && self.relu && context.fused && input.kind() != Kind::Half;
        if let Some((gamma, beta)) = affine.filter(|_| is_fused) {
            let running = running.map(|RunningStatistics { mean, variance }| (mean, variance));
            let norm = BatchNorm { gamma, beta, running, momentum, eps: self.eps };
            match context.engine {
                Engine::Cpu => return Ok(batch_norm_relu(input, addend, &norm)?),
                Engine::Cuda(place) => {
                    let (input, addend) = (channels_last(input)?, addend.map(channels_last).transpose()?);
                    return Ok(place.batch_norm_relu(&input, addend.as_ref(), &norm, true)?);
                }
                Engine::Torch(_) => {}
            }
        }
        self.composite(input, addend, affine, running, training, momentum)
    }

    /// Operation by operation: what evaluation, other activations and second derivatives take. Addition and ReLU run in
    /// place: the backward pass of batch norm needs its input, never its output.
    fn composite(
        &self,
        input: &Tensor,
        addend: Option<&Tensor>,
        affine: Option<(&Tensor, &Tensor)>,
        running: Option<&RunningStatistics>,
        training: bool,
        momentum: f64,
    ) -> Result<Tensor> {
        let mut output = input.f_batch_norm(
            affine.map(|pair| pair.0),
            affine.map(|pair| pair.1),
            running.map(|running| &running.mean),
            running.map(|running| &running.variance),
            training,
            momentum,
            self.eps,
            true,
        )?;
        if let Some(addend) = addend {
            output = output.f_add_(addend)?;
        }
        Ok(if self.relu { output.f_relu_()? } else { output })
    }

    /// One value has no variance; torch would put NaN into the running statistics.
    fn check_sample_count(&self, input: &Tensor, context: &Context) -> Result<()> {
        let shape = input.size();
        if shape[0] * shape[2..].iter().product::<i64>() > 1 {
            return Ok(());
        }
        let what = format!("the input of layer '{}' (batchNorm2d) in training", context.buffers.name(self.norm));
        Err(Error::shape(what, &shape, "more than one value for each channel: use a larger batch"))
    }
}
