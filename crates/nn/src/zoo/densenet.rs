//! DenseNets (Huang 2017): every layer reads the outputs of all before it in its block. DenseNet-121 for ImageNet (table 1)
//! and DenseNet-BC-100-12 for CIFAR (section 3); named and initialised as in torchvision, so that its weights load.

use super::parts::{CIFAR, IMAGENET, batch_norm, conv, dropout, linear, max_pool, model, pooled, sequential};
use super::{Entry, ZooOptions};
use crate::spec::{GammaInit, Init, Layer, ModelSpec, Parallel, Pool2d, Relu};

const OPTIONS: &[&str] = &["dropout"];

pub(super) const MODELS: &[Entry] = &[
    Entry { name: "densenet_bc_100_12", options: OPTIONS, spec: bc_100_12 },
    Entry { name: "densenet121", options: OPTIONS, spec: densenet121 },
];

/// Channels of a layer's 1 x 1 convolution, in growth rates.
const BOTTLENECK: i64 = 4;

fn bc_100_12(options: &ZooOptions) -> ModelSpec {
    model("densenet_bc_100_12", CIFAR, options, |num_classes| {
        layers(vec![plain_conv("conv0", 24, 3, 1)], 24, 12, &[16; 3], num_classes, options)
    })
}

fn densenet121(options: &ZooOptions) -> ModelSpec {
    model("densenet121", IMAGENET, options, |num_classes| {
        let stem = vec![plain_conv("conv0", 64, 7, 2), norm("norm0"), relu("relu0"), max_pool(3, 2, 1)];
        layers(stem, 64, 32, &[6, 12, 24, 16], num_classes, options)
    })
}

/// Blocks of so many layers; between two of them a transition halves channels and size.
fn layers(
    mut features: Vec<Layer>,
    mut channels: i64,
    growth_rate: i64,
    blocks: &[i64],
    num_classes: i64,
    options: &ZooOptions,
) -> Vec<Layer> {
    for (index, &count) in blocks.iter().enumerate() {
        if index > 0 {
            channels /= 2;
            features.push(transition(&format!("transition{index}"), channels));
        }
        let block = (1..=count).map(|layer| dense_layer(&format!("denselayer{layer}"), growth_rate, options));
        features.push(sequential(&format!("denseblock{}", index + 1), block.collect()));
        channels += count * growth_rate;
    }
    features.extend([norm("norm5"), relu("relu5")]);
    let mut layers = vec![sequential("features", features)];
    layers.extend(pooled(linear("classifier", num_classes, Init::KaimingUniform)));
    layers
}

/// What it reads, and so many channels more.
fn dense_layer(name: &str, growth_rate: i64, options: &ZooOptions) -> Layer {
    let mut branch = vec![
        norm("norm1"),
        relu("relu1"),
        plain_conv("conv1", BOTTLENECK * growth_rate, 1, 1),
        norm("norm2"),
        relu("relu2"),
        plain_conv("conv2", growth_rate, 3, 1),
    ];
    branch.extend(options.dropout.map(dropout));
    Layer::Concat(Parallel { name: Some(name.into()), branches: vec![vec![], branch] })
}

fn transition(name: &str, out_channels: i64) -> Layer {
    let pool = Layer::AvgPool2d(Pool2d { kernel_size: 2, stride: None, padding: 0 });
    sequential(name, vec![norm("norm"), relu("relu"), plain_conv("conv", out_channels, 1, 1), pool])
}

fn plain_conv(name: &str, out_channels: i64, kernel_size: i64, stride: i64) -> Layer {
    conv(name, out_channels, kernel_size, stride, 1, Init::KaimingNormal)
}

fn norm(name: &str) -> Layer {
    batch_norm(name, GammaInit::Ones)
}

fn relu(name: &str) -> Layer {
    Layer::Relu(Relu { name: Some(name.into()) })
}
