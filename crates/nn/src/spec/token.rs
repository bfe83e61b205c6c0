//! Settings of the layers of transformers, and of the convolutional nets that learnt from them.

use serde::{Deserialize, Serialize};

use super::defaults::{hundredth, millionth, small, yes};
use super::image::Init;

/// Normalises each vector of features to mean 0 and variance 1 (Ba 2016).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LayerNorm {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(default = "small")]
    pub eps: f64,
    /// Whether gamma and beta are learned.
    #[serde(default = "yes")]
    pub affine: bool,
}

/// A function of each value, or a view, without settings.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Pointwise {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// x Phi(x), Phi the distribution function of N(0, 1) (Hendrycks 2016).
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Gelu {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(default)]
    pub approximate: Approximation,
}

/// Of Phi.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Approximation {
    #[default]
    None,
    /// (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2.
    Tanh,
}

impl Approximation {
    /// PyTorch's word.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Tanh => "tanh",
        }
    }
}

/// max(x, 0) + negativeSlope min(x, 0).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LeakyRelu {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(default = "hundredth")]
    pub negative_slope: f64,
}

/// A learnt factor for each channel or feature (Touvron 2021). Its parameter has the layer's own name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LayerScale {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Of every factor.
    #[serde(default = "millionth")]
    pub init: f64,
}

/// Multi-head self-attention over `[tokens, features]` (Vaswani 2017). Its linear maps are named `qkv` and `proj`, as timm
/// has them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SelfAttention {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// A divisor of the features.
    pub num_heads: i64,
    /// Of both linear maps.
    #[serde(default = "yes")]
    pub bias: bool,
    /// Share of the attention weights that training zeroes.
    #[serde(default)]
    pub dropout: f64,
    #[serde(default)]
    pub init: Init,
}

/// `[height * width, channels]` to `[channels, height, width]`: what `toTokens` took apart. Square unless one of the sizes
/// is given.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ToImage {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub height: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub width: Option<i64>,
}

/// Puts a learnt token in front of the others (Dosovitskiy 2021). Its parameter, `[1, 1, features]`, has the layer's own
/// name.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ClassToken {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// Adds a learnt vector to the token of each place (Dosovitskiy 2021). Its parameter, `[1, tokens, features]`, has the
/// layer's own name.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PositionEmbedding {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// `[tokens, features]` to `[features]`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TokenPool {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(default)]
    pub pool: Pool,
}

/// What stands for all tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Pool {
    /// The first of them.
    #[default]
    Class,
    Mean,
}

/// In training, zeroes everything with probability `p` and else scales it by 1 / (1 - p): the branch of a residual is
/// dropped (Huang 2016).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StochasticDepth {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    pub p: f64,
    #[serde(default)]
    pub mode: DropMode,
}

/// What drops out together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum DropMode {
    /// Each image by itself.
    #[default]
    Row,
    /// The whole batch.
    Batch,
}
