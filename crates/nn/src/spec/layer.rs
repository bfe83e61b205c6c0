//! The layers of the spec language: plain settings with PyTorch's defaults, no weights. In JSON each is an object with a
//! `type`; a field that the layer does not have is an error. Their settings stand in `image`, `token` and `composed`.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use super::composed::{Gate, Parallel, Residual, Sequential};
use super::image::{BatchNorm2d, Conv2d, Dropout, Flatten, GlobalAvgPool2d, Linear, Pool2d, Relu, ShakeDrop, ZeroPad};
use super::token::{
    ClassToken, Gelu, LayerNorm, LayerScale, LeakyRelu, Pointwise, PositionEmbedding, SelfAttention, StochasticDepth,
    ToImage, TokenPool,
};

/// One layer. Shapes are of one image, without the batch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "camelCase")]
pub enum Layer {
    Conv2d(Conv2d),
    BatchNorm2d(BatchNorm2d),
    Linear(Linear),
    Relu(Relu),
    /// min(max(x, 0), 6).
    Relu6(Relu),
    /// x / (1 + exp(-x)), also called swish.
    Silu(Pointwise),
    Gelu(Gelu),
    /// x min(max(x + 3, 0), 6) / 6 (Howard 2019).
    Hardswish(Pointwise),
    /// 1 / (1 + exp(-x)).
    Sigmoid(Pointwise),
    Tanh(Pointwise),
    LeakyRelu(LeakyRelu),
    /// Of `[features]`, or of each token of `[tokens, features]`.
    LayerNorm(LayerNorm),
    /// Of the channels of each pixel.
    LayerNorm2d(LayerNorm),
    LayerScale(LayerScale),
    SelfAttention(SelfAttention),
    /// `[channels, height, width]` to a token a pixel, row by row: `[height * width, channels]`.
    ToTokens(Pointwise),
    ToImage(ToImage),
    ClassToken(ClassToken),
    PositionEmbedding(PositionEmbedding),
    TokenPool(TokenPool),
    StochasticDepth(StochasticDepth),
    Gate(Gate),
    MaxPool2d(Pool2d),
    AvgPool2d(Pool2d),
    GlobalAvgPool2d(GlobalAvgPool2d),
    Flatten(Flatten),
    Dropout(Dropout),
    ShakeDrop(ShakeDrop),
    ZeroPad(ZeroPad),
    Sequential(Sequential),
    Residual(Residual),
    /// Joins the branches over channels, or over features.
    Concat(Parallel),
    /// Adds the branches.
    Sum(Parallel),
    /// Mixes two branches at random (Gastaldi 2017), an image at a time: alpha x1 + (1 - alpha) x2 in the forward pass,
    /// with another number beta in the place of alpha in the backward pass, both from U(0, 1). Evaluation takes the mean.
    ShakeShake(Parallel),
}

impl Layer {
    /// The `type` that JSON has.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Conv2d(_) => "conv2d",
            Self::BatchNorm2d(_) => "batchNorm2d",
            Self::Linear(_) => "linear",
            Self::Relu(_) => "relu",
            Self::Relu6(_) => "relu6",
            Self::Silu(_) => "silu",
            Self::Gelu(_) => "gelu",
            Self::Hardswish(_) => "hardswish",
            Self::Sigmoid(_) => "sigmoid",
            Self::Tanh(_) => "tanh",
            Self::LeakyRelu(_) => "leakyRelu",
            Self::LayerNorm(_) => "layerNorm",
            Self::LayerNorm2d(_) => "layerNorm2d",
            Self::LayerScale(_) => "layerScale",
            Self::SelfAttention(_) => "selfAttention",
            Self::ToTokens(_) => "toTokens",
            Self::ToImage(_) => "toImage",
            Self::ClassToken(_) => "classToken",
            Self::PositionEmbedding(_) => "positionEmbedding",
            Self::TokenPool(_) => "tokenPool",
            Self::StochasticDepth(_) => "stochasticDepth",
            Self::Gate(_) => "gate",
            Self::MaxPool2d(_) => "maxPool2d",
            Self::AvgPool2d(_) => "avgPool2d",
            Self::GlobalAvgPool2d(_) => "globalAvgPool2d",
            Self::Flatten(_) => "flatten",
            Self::Dropout(_) => "dropout",
            Self::ShakeDrop(_) => "shakeDrop",
            Self::ZeroPad(_) => "zeroPad",
            Self::Sequential(_) => "sequential",
            Self::Residual(_) => "residual",
            Self::Concat(_) => "concat",
            Self::Sum(_) => "sum",
            Self::ShakeShake(_) => "shakeShake",
        }
    }

    /// Whether it has layers of its own that end in one output: only then it may have the name `""`, and its layers the
    /// names of the list that it stands in.
    pub(crate) fn joins_branches(&self) -> bool {
        matches!(self, Self::Residual(_) | Self::Concat(_) | Self::Sum(_) | Self::ShakeShake(_))
    }

    /// The name it was given; without one its index in its list serves.
    pub fn name(&self) -> Option<&str> {
        match self {
            Self::Conv2d(layer) => layer.name.as_deref(),
            Self::BatchNorm2d(layer) => layer.name.as_deref(),
            Self::Linear(layer) => layer.name.as_deref(),
            Self::Relu(layer) | Self::Relu6(layer) => layer.name.as_deref(),
            Self::Silu(layer)
            | Self::Hardswish(layer)
            | Self::Sigmoid(layer)
            | Self::Tanh(layer)
            | Self::ToTokens(layer) => layer.name.as_deref(),
            Self::Gelu(layer) => layer.name.as_deref(),
            Self::LeakyRelu(layer) => layer.name.as_deref(),
            Self::LayerNorm(layer) | Self::LayerNorm2d(layer) => layer.name.as_deref(),
            Self::LayerScale(layer) => layer.name.as_deref(),
            Self::SelfAttention(layer) => layer.name.as_deref(),
            Self::ToImage(layer) => layer.name.as_deref(),
            Self::ClassToken(layer) => layer.name.as_deref(),
            Self::PositionEmbedding(layer) => layer.name.as_deref(),
            Self::TokenPool(layer) => layer.name.as_deref(),
            Self::StochasticDepth(layer) => layer.name.as_deref(),
            Self::Gate(layer) => layer.name.as_deref(),
            Self::Sequential(layer) => layer.name.as_deref(),
            Self::Residual(layer) => layer.name.as_deref(),
            Self::Concat(layer) | Self::Sum(layer) | Self::ShakeShake(layer) => layer.name.as_deref(),
            Self::MaxPool2d(_)
            | Self::AvgPool2d(_)
            | Self::GlobalAvgPool2d(_)
            | Self::Flatten(_)
            | Self::Dropout(_)
            | Self::ShakeDrop(_)
            | Self::ZeroPad(_) => None,
        }
    }
}

/// Reads a list of layers so that an error tells which layer it is about.
pub(super) fn layer_list<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Layer>, D::Error> {
    Vec::<Value>::deserialize(deserializer)?.into_iter().enumerate().map(|(index, value)| layer(index, value)).collect()
}

pub(super) fn branch_list<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Vec<Layer>>, D::Error> {
    let branch = |(index, branch): (usize, Value)| {
        layer_list(branch).map_err(|error| D::Error::custom(format!("branches[{index}]: {error}")))
    };
    Vec::<Value>::deserialize(deserializer)?.into_iter().enumerate().map(branch).collect()
}

fn layer<E: serde::de::Error>(index: usize, value: Value) -> Result<Layer, E> {
    let kind = value.get("type").and_then(Value::as_str).map(|kind| format!(" ({kind})")).unwrap_or_default();
    Layer::deserialize(value).map_err(|error| E::custom(format!("layers[{index}]{kind}: {error}")))
}
