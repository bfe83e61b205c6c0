//! VGG-16 with batch norm for CIFAR: configuration D of Simonyan 2015 (table 1) on 32 x 32 images, so that one value of each
//! channel is left, and a classifier of 512 units; named as in torchvision, whose classifier has 4096.

use super::parts::{CIFAR, convolution, dropout, linear, max_pool, model, pooled, relu, sequential};
use super::{Entry, ZooOptions};
use crate::spec::{BatchNorm2d, Conv2d, GammaInit, Init, Layer, ModelSpec};

pub(super) const MODELS: &[Entry] = &[Entry { name: "vgg16_bn", options: &["dropout"], spec }];

/// Channels and convolutions of each stage.
const STAGES: [(i64, usize); 5] = [(64, 2), (128, 2), (256, 3), (512, 3), (512, 3)];

fn spec(options: &ZooOptions) -> ModelSpec {
    model("vgg16_bn", CIFAR, options, |num_classes| {
        let mut features = Vec::new();
        for (channels, count) in STAGES {
            for _ in 0..count {
                features.extend([conv3x3(channels), norm(), relu()]);
            }
            features.push(max_pool(2, 2, 0));
        }
        let p = options.dropout.unwrap_or(0.5);
        let classifier = vec![
            linear("0", 512, Init::KaimingNormalFanOut),
            relu(),
            dropout(p),
            linear("3", 512, Init::KaimingNormalFanOut),
            relu(),
            dropout(p),
            linear("6", num_classes, Init::Normal),
        ];
        let mut layers = vec![sequential("features", features)];
        layers.extend(pooled(sequential("classifier", classifier)));
        layers
    })
}

fn conv3x3(out_channels: i64) -> Layer {
    Layer::Conv2d(Conv2d { bias: true, ..convolution(out_channels, 3, Init::KaimingNormalFanOut) })
}

fn norm() -> Layer {
    Layer::BatchNorm2d(BatchNorm2d { name: None, eps: 1e-5, momentum: 0.1, affine: true, init: GammaInit::Ones })
}
