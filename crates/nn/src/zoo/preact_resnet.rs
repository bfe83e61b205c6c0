//! Pre-activation ResNets for CIFAR (He 2016b, "Identity Mappings in Deep Residual Networks"): ResNet-164 of the paper's
//! table 3, and the ResNet-18 of four stages that studies of CIFAR use; named as in pytorchcv.

use super::parts::sequential;
use super::units::{Filters, activation, basic, bottleneck, net, pre_activation_unit, stages};
use super::{Entry, ZooOptions};
use crate::spec::ModelSpec;

pub(super) const MODELS: &[Entry] = &[
    Entry {
        name: "preact_resnet18",
        options: &[],
        spec: |options| {
            pre_activation_net("preact_resnet18", 64, &[(2, 64), (2, 128), (2, 256), (2, 512)], basic, options)
        },
    },
    Entry {
        name: "preact_resnet164",
        options: &[],
        spec: |options| {
            pre_activation_net("preact_resnet164", 16, &[(18, 64), (18, 128), (18, 256)], bottleneck, options)
        },
    },
];

/// A convolution, stages of so many units and channels each, and the activation that ends the last unit.
pub(super) fn pre_activation_net(
    name: &str,
    stem: i64,
    shape: &[(usize, i64)],
    branch: fn(i64, i64) -> Vec<Filters>,
    options: &ZooOptions,
) -> ModelSpec {
    let counts: Vec<usize> = shape.iter().map(|stage| stage.0).collect();
    let mut in_channels = stem;
    let units = stages(&counts, |name, stage, stride| {
        let out_channels = shape[stage].1;
        let unit =
            pre_activation_unit(name, in_channels, &branch(out_channels, stride), options.dropout.unwrap_or(0.0));
        in_channels = out_channels;
        unit
    });
    let mut features = vec![Filters::new(stem, 3, 1).named("init_block")];
    features.extend(units);
    features.push(sequential("post_activ", activation()));
    net(name, options, features)
}
