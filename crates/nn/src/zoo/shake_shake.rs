//! Shake-Shake nets for CIFAR (Gastaldi 2017): residuals of two branches that are mixed at random; named as in pytorchcv,
//! and like it with the ReLU behind the addition, where the paper's own code has it at the start of each branch.

use super::parts::{batch_norm, sequential};
use super::units::{Filters, basic, conv_block, conv_blocks, net, stages, unit};
use super::{Entry, ZooOptions};
use crate::spec::{GammaInit, Layer, ModelSpec, Parallel, Pool2d, Shortcut, ZeroPad};

const OPTIONS: &[&str] = &["zeroInitResidual"];

pub(super) const MODELS: &[Entry] = &[
    Entry { name: "shake_shake26_2x32d", options: OPTIONS, spec: |options| spec(32, options) },
    Entry { name: "shake_shake26_2x96d", options: OPTIONS, spec: |options| spec(96, options) },
];

/// Three stages of four units; `channels` of each branch in the first.
fn spec(channels: i64, options: &ZooOptions) -> ModelSpec {
    let mut in_channels = 16;
    let mut features = vec![conv_block("init_block", Filters::new(16, 3, 1), GammaInit::Ones, true)];
    features.extend(stages(&[4; 3], |name, stage, stride| {
        let out_channels = channels << stage;
        let branch = |name| vec![sequential(name, conv_blocks(&basic(out_channels, stride), options.last_gamma()))];
        let branches = vec![branch("branch1"), branch("branch2")];
        let mixed = Layer::ShakeShake(Parallel { name: Some(String::new()), branches });
        let shortcut = if in_channels == out_channels {
            Shortcut::Identity
        } else {
            Shortcut::Layers(projection(out_channels, stride))
        };
        in_channels = out_channels;
        unit(name, mixed, shortcut, "")
    }));
    net(&format!("shake_shake26_2x{channels}d"), options, features)
}

/// Half the channels from every second pixel, half from those between them.
fn projection(out_channels: i64, stride: i64) -> Vec<Layer> {
    let subsample = || Layer::AvgPool2d(Pool2d { kernel_size: 1, stride: Some(stride), padding: 0 });
    let half = |name| Filters::new(out_channels / 2, 1, 1).named(name);
    let shift = Layer::ZeroPad(ZeroPad { left: 1, right: -1, top: 1, bottom: -1, channels: 0 });
    let halves = vec![vec![subsample(), half("conv1")], vec![shift, subsample(), half("conv2")]];
    let name = "identity_branch";
    vec![
        Layer::Concat(Parallel { name: Some(name.into()), branches: halves }),
        sequential(name, vec![batch_norm("bn", GammaInit::Ones)]),
    ]
}
