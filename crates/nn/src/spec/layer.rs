//! The layers of the spec language: plain settings with PyTorch's defaults, no weights. In JSON each is an object with a
//! `type`; a field that the layer does not have is an error.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

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

/// x * layers(x), where the layers give x's shape or one number a channel (squeeze and excitation, Hu 2018).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Gate {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(deserialize_with = "layer_list")]
    pub layers: Vec<Layer>,
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

/// Layers in order, under one name; without layers the identity. Several of one name may stand in one list, if their
/// layers have different names.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Sequential {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(deserialize_with = "layer_list")]
    pub layers: Vec<Layer>,
}

/// activation(layers(x) + shortcut(x)) (He 2016). With the name `""` its layers are named as if they stood in its place.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Residual {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Run before the branch and the shortcut, for both: the first activation of a pre-activation block with a projection
    /// (He 2016b).
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "layer_list")]
    pub shared: Vec<Layer>,
    /// Those without a name are counted after the shared ones.
    #[serde(deserialize_with = "layer_list")]
    pub layers: Vec<Layer>,
    #[serde(default)]
    pub shortcut: Shortcut,
    /// Of a shortcut of layers, in the state dict; `""` puts its layers beside those of the branch.
    #[serde(default = "shortcut")]
    pub shortcut_name: String,
    #[serde(default)]
    pub activation: Activation,
}

/// In JSON `"identity"`, `"optionA"` or `{"layers": [...]}`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Shortcut {
    #[default]
    Identity,
    /// Without parameters (He 2016, section 3.3, option A): every s-th row and column, then zero channels on both sides.
    OptionA,
    /// Layers named `shortcut.0`, `shortcut.1`, ... within the residual, or as `shortcutName` says.
    Layers(#[serde(deserialize_with = "layer_list")] Vec<Layer>),
}

/// Branches that read the same input. An empty one passes it on. All their layers share the names of this one: those
/// without a name are counted through.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Parallel {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(deserialize_with = "branch_list")]
    pub branches: Vec<Vec<Layer>>,
}

/// What is applied to the sum of a residual.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Activation {
    #[default]
    Relu,
    None,
}

/// Reads a list of layers so that an error tells which layer it is about.
pub(super) fn layer_list<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Layer>, D::Error> {
    Vec::<Value>::deserialize(deserializer)?.into_iter().enumerate().map(|(index, value)| layer(index, value)).collect()
}

fn branch_list<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Vec<Layer>>, D::Error> {
    let branch = |(index, branch): (usize, Value)| {
        layer_list(branch).map_err(|error| D::Error::custom(format!("branches[{index}]: {error}")))
    };
    Vec::<Value>::deserialize(deserializer)?.into_iter().enumerate().map(branch).collect()
}

fn layer<E: serde::de::Error>(index: usize, value: Value) -> Result<Layer, E> {
    let kind = value.get("type").and_then(Value::as_str).map(|kind| format!(" ({kind})")).unwrap_or_default();
    Layer::deserialize(value).map_err(|error| E::custom(format!("layers[{index}]{kind}: {error}")))
}

fn one() -> i64 {
    1
}

fn yes() -> bool {
    true
}

fn small() -> f64 {
    1e-5
}

fn tenth() -> f64 {
    0.1
}

fn hundredth() -> f64 {
    0.01
}

fn millionth() -> f64 {
    1e-6
}

fn half() -> f64 {
    0.5
}

fn shortcut() -> String {
    "shortcut".into()
}
