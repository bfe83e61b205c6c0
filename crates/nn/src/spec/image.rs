//! Settings of the layers of convolutional nets.

use serde::{Deserialize, Serialize};

use super::defaults::{half, one, small, tenth, yes};

/// How the weights of a convolution or linear layer start. Fan in is the number of inputs of one output value, fan out the
/// number of output channels times the filter's area. Biases start as U(-b, b), b = 1 / sqrt(fan in), beside the first two,
/// and as 0 beside the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Init {
    /// PyTorch's default, `kaiming_uniform_(a=sqrt(5))`: U(-b, b), b = 1 / sqrt(fan in).
    #[default]
    KaimingUniform,
    /// N(0, 2 / fan in) (He 2015, equation 10).
    KaimingNormal,
    /// N(0, 2 / fan out), of torchvision's ResNets.
    KaimingNormalFanOut,
    /// N(0, 0.02^2): `trunc_normal_(std=0.02)`, whose bounds at 2 and -2 cut nothing; of vision transformers and ConvNeXt.
    Normal,
    /// U(-b, b), b = 1 / sqrt(fan out), of the classifier of torchvision's EfficientNets.
    UniformFanOut,
}

/// How gamma of a normalisation starts. A residual whose last gamma is 0 starts as its shortcut (Goyal 2017, section 5.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum GammaInit {
    #[default]
    Ones,
    Zeros,
}

/// `[channels, height, width]` to `[outChannels, h, w]`, h = floor((height + 2 padding - kernelSize) / stride) + 1.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Conv2d {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    pub out_channels: i64,
    pub kernel_size: i64,
    #[serde(default = "one")]
    pub stride: i64,
    #[serde(default)]
    pub padding: i64,
    #[serde(default = "one")]
    pub groups: i64,
    #[serde(default = "yes")]
    pub bias: bool,
    #[serde(default)]
    pub init: Init,
}

/// Normalises each channel over batch, height and width (Ioffe 2015). The running statistics move by `momentum`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BatchNorm2d {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(default = "small")]
    pub eps: f64,
    #[serde(default = "tenth")]
    pub momentum: f64,
    /// Whether gamma and beta are learned.
    #[serde(default = "yes")]
    pub affine: bool,
    /// Of gamma; beta starts as 0.
    #[serde(default)]
    pub init: GammaInit,
}

/// `[features]` to `[outFeatures]`; of `[tokens, features]` each token.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Linear {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    pub out_features: i64,
    #[serde(default = "yes")]
    pub bias: bool,
    #[serde(default)]
    pub init: Init,
}

/// max(x, 0).
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Relu {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// Maximum or mean over square windows. The mean counts the zeros of the padding, as PyTorch does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Pool2d {
    pub kernel_size: i64,
    /// The kernel's size unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stride: Option<i64>,
    #[serde(default)]
    pub padding: i64,
}

/// Mean of each channel: `[channels, height, width]` to `[channels, 1, 1]`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GlobalAvgPool2d {}

/// `[channels, height, width]` to `[channels * height * width]`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Flatten {}

/// In training, zeroes a share `p` of the values and scales the others by 1 / (1 - p).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Dropout {
    #[serde(default = "half")]
    pub p: f64,
}

/// Scales each image at random (Yamada 2018, arXiv 1802.02375): in training by b + alpha - b alpha, as if it had been by
/// b + beta - b beta in the backward pass, where b is 0 with probability `p` and else 1, alpha from U(-1, 1) and beta from
/// U(0, 1); in evaluation by the expectation 1 - p.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ShakeDrop {
    #[serde(default = "half")]
    pub p: f64,
}

/// `[channels, height, width]` with so many zeros more on each side and so many zero channels more after the others.
/// Negative sides cut off.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ZeroPad {
    pub left: i64,
    pub right: i64,
    pub top: i64,
    pub bottom: i64,
    pub channels: i64,
}
