//! The executable layers: what the spec's layers become once shapes are known and parameters have their places.
//! Activations are channels-last; each layer consumes its input, so that memory is free as soon as autograd allows.

mod activation;
mod batch_norm;
mod conv;
mod draws;
mod dropout;
mod gate;
mod layer_norm;
mod layer_scale;
mod linear;
mod parallel;
mod pool;
mod relu;
mod residual;
mod self_attention;
mod shake_drop;
mod stochastic_depth;
mod tokens;
mod zero_pad;

pub(crate) use activation::Activation;
pub(crate) use batch_norm::NormAct;
pub(crate) use conv::Conv2d;
pub(crate) use draws::Draws;
pub(crate) use dropout::Dropout;
pub(crate) use gate::Gate;
pub(crate) use layer_norm::LayerNorm;
pub(crate) use layer_scale::LayerScale;
pub(crate) use linear::Linear;
pub(crate) use parallel::{Merge, Parallel};
pub(crate) use pool::{Pool2d, Reduction};
pub(crate) use relu::Relu;
pub(crate) use residual::{Residual, Shortcut};
pub(crate) use self_attention::SelfAttention;
pub(crate) use shake_drop::ShakeDrop;
pub(crate) use stochastic_depth::StochasticDepth;
pub(crate) use tokens::{ClassToken, PositionEmbedding, ToImage};
pub(crate) use zero_pad::ZeroPad;

use flatmin_torch_ext::{Seed, image_mean};
use tch::Tensor;

use crate::buffers::BufferArena;
use crate::dtype::{Dtype, is_half};
use crate::engine::Engine;
use crate::error::Result;
use crate::spec;

/// What a forward pass is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pass {
    /// Committed running statistics; what training draws at random takes its expectation.
    Eval,
    /// The batch's statistics; random draws (dropout's masks, say) that depend on `mask_seed` and the layer alone, so that
    /// both passes of a step can have the same.
    Train { statistics: Statistics, mask_seed: u64 },
}

/// What a training pass does with the running statistics of batch norm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Statistics {
    /// Update the staged copy.
    #[default]
    Stage,
    /// Leave them alone.
    Ignore,
    /// Leave them alone, and normalise with them instead of the batch's own.
    Frozen,
    /// Update the staged copy so that it becomes the mean over the passes since the last commit, whatever the momentum:
    /// PyTorch's `momentum=None`, with which `update_bn` estimates the statistics of averaged weights.
    Average,
}

/// A parameter, counted in the order of the spec.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ParamId(pub usize);

/// What the layers read in one forward pass.
pub(crate) struct Context<'a> {
    pub leaves: &'a [Tensor],
    /// Position in `leaves` of each parameter.
    pub positions: &'a [usize],
    pub buffers: &'a BufferArena,
    pub pass: Pass,
    /// Where random layers find the seed of their draws; None in evaluation.
    pub mask_seed: Option<Seed<'a>>,
    pub dtype: Dtype,
    pub engine: Engine,
    /// Whether layers may run as functions of our own, which have no second derivative.
    pub fused: bool,
}

impl Context<'_> {
    /// Whether layers may run as functions of our own that are made of libtorch's operations.
    pub fn has_own_passes(&self) -> bool {
        self.fused && !matches!(self.engine, Engine::Torch(_))
    }

    /// Whether layers may run as kernels of our own, which are for the CPU.
    pub fn has_own_kernels(&self) -> bool {
        self.fused && self.engine == Engine::Cpu
    }

    pub fn parameter(&self, id: ParamId) -> &Tensor {
        &self.leaves[self.positions[id.0]]
    }

    /// A bias in the dtype of the layer's weight, as torch wants it beside weights of 16 bits.
    pub fn bias(&self, bias: Option<ParamId>, weight: &Tensor) -> Result<Option<Tensor>> {
        bias.map(|bias| Ok(self.parameter(bias).f_to_kind(weight.kind())?)).transpose()
    }
}

/// One step of a forward pass. Sequences are flattened away; batch norm takes the ReLU behind it along.
#[derive(Debug, PartialEq)]
pub(crate) enum Node {
    Conv2d(Conv2d),
    NormAct(NormAct),
    Linear(Linear),
    Relu(Relu),
    Pool2d(Pool2d),
    GlobalAvgPool2d,
    Flatten,
    Dropout(Dropout),
    ShakeDrop(ShakeDrop),
    ZeroPad(ZeroPad),
    Residual(Residual),
    Parallel(Parallel),
    Activation(Activation),
    LayerNorm(LayerNorm),
    LayerScale(LayerScale),
    SelfAttention(SelfAttention),
    ToTokens,
    ToImage(ToImage),
    ClassToken(ClassToken),
    PositionEmbedding(PositionEmbedding),
    ClassOnly,
    TokenPool(spec::Pool),
    StochasticDepth(StochasticDepth),
    Gate(Gate),
}

impl Node {
    /// Whether its output is a tensor of its own in training, neither a view of its input nor written over it.
    pub fn is_new(&self) -> bool {
        match self {
            Self::Relu(relu) => !relu.in_place,
            Self::Residual(residual) => residual.tail.is_none() && !residual.in_place,
            Self::Flatten
            | Self::ToTokens
            | Self::ToImage(_)
            | Self::ClassOnly
            | Self::TokenPool(spec::Pool::Class) => false,
            _ => true,
        }
    }

    /// Whether it treats each token by itself, in training too.
    pub fn is_pointwise(&self) -> bool {
        match self {
            Self::Linear(_)
            | Self::Relu(_)
            | Self::Activation(_)
            | Self::LayerNorm(_)
            | Self::LayerScale(_)
            | Self::StochasticDepth(_) => true,
            Self::Dropout(dropout) => dropout.is_idle(),
            Self::Residual(residual) => {
                let Residual { shared, branch, tail: None, shortcut: Shortcut::Identity, .. } = residual else {
                    return false;
                };
                shared.iter().chain(branch).all(Self::is_pointwise)
            }
            _ => false,
        }
    }

    fn forward(&self, input: Tensor, context: &Context) -> Result<Tensor> {
        match self {
            Self::Conv2d(layer) => layer.forward(&input, context),
            Self::NormAct(layer) => layer.forward(&input, None, context),
            Self::Linear(layer) => layer.forward(&input, context),
            Self::Relu(layer) => layer.forward(input),
            Self::Pool2d(layer) => layer.forward(&input),
            // The mean of an image of 16 bits stays in float32: what follows is cheap, and needs the digits.
            Self::GlobalAvgPool2d if is_half(input.kind()) && context.has_own_passes() => Ok(image_mean(&input)?),
            Self::GlobalAvgPool2d if is_half(input.kind()) => {
                Ok(input.f_mean_dim(&[2i64, 3][..], true, context.dtype.kind())?)
            }
            Self::GlobalAvgPool2d => Ok(input.f_adaptive_avg_pool2d([1, 1])?),
            Self::Flatten => Ok(input.f_flatten(1, -1)?),
            Self::Dropout(layer) => layer.forward(input, context),
            Self::ShakeDrop(layer) => layer.forward(input, context),
            Self::ZeroPad(layer) => layer.forward(&input),
            Self::Residual(layer) => layer.forward(input, context),
            Self::Parallel(layer) => layer.forward(input, context),
            Self::Activation(layer) => layer.forward(&input),
            Self::LayerNorm(layer) => layer.forward(&input, context),
            Self::LayerScale(layer) => layer.forward(&input, context),
            Self::SelfAttention(layer) => layer.forward(&input, context),
            Self::ToTokens => tokens::to_tokens(&input),
            Self::ToImage(layer) => layer.forward(&input),
            Self::ClassToken(layer) => layer.forward(&input, context),
            Self::PositionEmbedding(layer) => layer.forward(&input, context),
            Self::ClassOnly => tokens::class_only(&input),
            Self::TokenPool(pool) => tokens::pool(*pool, &input, context),
            Self::StochasticDepth(layer) => layer.forward(input, context),
            Self::Gate(layer) => layer.forward(&input, context),
        }
    }
}

/// Runs nodes in order.
pub(crate) fn run(nodes: &[Node], input: Tensor, context: &Context) -> Result<Tensor> {
    nodes.iter().try_fold(input, |value, node| node.forward(value, context))
}
