//! ResNeXt-29 8x64d for CIFAR (Xie 2017, section 5.3): bottlenecks whose 3 x 3 convolution has 8 groups, of 64 channels in
//! the first stage; named as in pytorchcv.

use super::parts::sequential;
use super::units::{Filters, conv_block, conv_blocks, conv_norm, net, stages, unit};
use super::{Entry, ZooOptions};
use crate::spec::{GammaInit, ModelSpec, Shortcut};

pub(super) const MODELS: &[Entry] = &[Entry { name: "resnext29_8x64d", options: &["zeroInitResidual"], spec }];

const CARDINALITY: i64 = 8;

fn spec(options: &ZooOptions) -> ModelSpec {
    let mut in_channels = 64;
    let mut features = vec![conv_block("init_block", Filters::new(64, 3, 1), GammaInit::Ones, true)];
    features.extend(stages(&[3; 3], |name, stage, stride| {
        let out_channels = [256, 512, 1024][stage];
        let inner = CARDINALITY * out_channels / 4;
        let grouped = Filters { groups: CARDINALITY, ..Filters::new(inner, 3, stride) };
        let convolutions = [Filters::new(inner, 1, 1), grouped, Filters::new(out_channels, 1, 1)];
        let shortcut = if in_channels == out_channels {
            Shortcut::Identity
        } else {
            Shortcut::Layers(conv_norm(Filters::new(out_channels, 1, stride), GammaInit::Ones))
        };
        in_channels = out_channels;
        let body = sequential("body", conv_blocks(&convolutions, options.last_gamma()));
        unit(name, body, shortcut, "identity_conv")
    }));
    net("resnext29_8x64d", options, features)
}
