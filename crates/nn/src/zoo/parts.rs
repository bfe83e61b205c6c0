//! Layers and models as the families of the zoo write them: names given, everything else as in the papers they share.

use super::ZooOptions;
use crate::spec::{
    Activation, BatchNorm2d, Conv2d, DropMode, Dropout, FORMAT, Flatten, GammaInit, GlobalAvgPool2d, Init, Layer,
    LayerNorm, Linear, ModelSpec, Pool2d, Relu, Residual, Sequential, Shortcut, StochasticDepth,
};

/// Input and classes of CIFAR-10.
pub(super) const CIFAR: ([i64; 3], i64) = ([3, 32, 32], 10);

/// Input and classes of ImageNet.
pub(super) const IMAGENET: ([i64; 3], i64) = ([3, 224, 224], 1000);

/// A convolution that keeps the image's size, without name and bias.
pub(super) fn convolution(out_channels: i64, kernel_size: i64, init: Init) -> Conv2d {
    let padding = kernel_size / 2;
    Conv2d { name: None, out_channels, kernel_size, stride: 1, padding, groups: 1, bias: false, init }
}

/// A convolution that keeps the image's size but for the stride, without bias.
pub(super) fn conv(name: &str, out_channels: i64, kernel_size: i64, stride: i64, groups: i64, init: Init) -> Layer {
    Layer::Conv2d(Conv2d { name: Some(name.into()), stride, groups, ..convolution(out_channels, kernel_size, init) })
}

pub(super) fn batch_norm(name: &str, init: GammaInit) -> Layer {
    Layer::BatchNorm2d(BatchNorm2d { name: Some(name.into()), eps: 1e-5, momentum: 0.1, affine: true, init })
}

/// A convolution and its batch norm, as torchvision's blocks begin.
pub(super) fn conv_norm(out_channels: i64, kernel_size: i64, stride: i64, groups: i64) -> Vec<Layer> {
    vec![
        conv("0", out_channels, kernel_size, stride, groups, Init::KaimingNormalFanOut),
        batch_norm("1", GammaInit::Ones),
    ]
}

/// Normalisation over channels, an image's or a token's, with the eps of transformers.
pub(super) fn layer_norm(name: &str) -> LayerNorm {
    LayerNorm { name: Some(name.into()), eps: 1e-6, affine: true }
}

/// The probabilities of stochastic depth for `blocks` blocks: from 0 by equal steps to `last` (Huang 2016, equation 4).
pub(super) fn drop_probabilities(last: f64, blocks: usize) -> impl Iterator<Item = f64> {
    (0..blocks).map(move |block| last * block as f64 / (blocks - 1).max(1) as f64)
}

pub(super) fn stochastic_depth(name: &str, p: f64) -> Layer {
    Layer::StochasticDepth(StochasticDepth { name: Some(name.into()), p, mode: DropMode::Row })
}

pub(super) fn dropout(p: f64) -> Layer {
    Layer::Dropout(Dropout { p })
}

/// relu(layers(x) + shortcut(x)), without a name.
pub(super) fn residual(layers: Vec<Layer>, shortcut: Shortcut, shortcut_name: &str) -> Residual {
    let (shared, activation) = (vec![], Activation::Relu);
    Residual { name: None, shared, layers, shortcut, shortcut_name: shortcut_name.into(), activation }
}

/// x + layers(x).
pub(super) fn add(name: &str, layers: Vec<Layer>) -> Layer {
    Layer::Residual(Residual {
        name: Some(name.into()),
        activation: Activation::None,
        ..residual(layers, Shortcut::Identity, "shortcut")
    })
}

/// The mean of each channel, and what makes classes of the means.
pub(super) fn pooled(classifier: Layer) -> [Layer; 3] {
    [Layer::GlobalAvgPool2d(GlobalAvgPool2d {}), Layer::Flatten(Flatten {}), classifier]
}

pub(super) fn relu() -> Layer {
    Layer::Relu(Relu::default())
}

pub(super) fn max_pool(kernel_size: i64, stride: i64, padding: i64) -> Layer {
    Layer::MaxPool2d(Pool2d { kernel_size, stride: Some(stride), padding })
}

pub(super) fn linear(name: &str, out_features: i64, init: Init) -> Layer {
    Layer::Linear(Linear { name: Some(name.into()), out_features, bias: true, init })
}

pub(super) fn sequential(name: &str, layers: Vec<Layer>) -> Layer {
    Layer::Sequential(Sequential { name: Some(name.into()), layers })
}

/// A model for the input and the classes of its data set, unless the options say otherwise; `layers` gets the number of
/// classes.
pub(super) fn model(
    name: &str,
    (input_shape, num_classes): ([i64; 3], i64),
    options: &ZooOptions,
    layers: impl FnOnce(i64) -> Vec<Layer>,
) -> ModelSpec {
    let num_classes = options.num_classes.unwrap_or(num_classes);
    ModelSpec {
        format: FORMAT,
        name: name.into(),
        input_shape: options.input_shape.unwrap_or(input_shape),
        num_classes,
        layers: layers(num_classes),
        class_names: None,
        normalization: None,
    }
}
