//! PyramidNets for CIFAR (Han 2017, table 1): channels grow by the same amount with every unit, shortcuts are padded with
//! zero channels; optionally with ShakeDrop (Yamada 2018). Named as in pytorchcv.

use super::parts::{batch_norm, residual, sequential};
use super::units::{Filters, activation, basic, bottleneck, conv_norm, net, stages};
use super::{Entry, ZooOptions};
use crate::spec::{Activation, GammaInit, Layer, ModelSpec, Pool2d, Residual, ShakeDrop, Shortcut, ZeroPad};

const OPTIONS: &[&str] = &["shakeDrop", "zeroInitResidual"];

pub(super) const MODELS: &[Entry] = &[
    Entry {
        name: "pyramidnet110_a48",
        options: OPTIONS,
        spec: |options| spec("pyramidnet110_a48", 18, 48.0, false, 0.0, options),
    },
    Entry {
        name: "pyramidnet110_a270",
        options: OPTIONS,
        spec: |options| spec("pyramidnet110_a270", 18, 270.0, false, 0.0, options),
    },
    Entry {
        name: "pyramidnet272_a200_bottleneck",
        options: OPTIONS,
        spec: |options| spec("pyramidnet272_a200_bottleneck", 30, 200.0, true, 0.5, options),
    },
];

/// Three stages of `units` units, at whose end channels (a quarter of them, with bottlenecks) have grown by `alpha`.
fn spec(name: &str, units: usize, alpha: f64, bottlenecks: bool, shake_drop: f64, options: &ZooOptions) -> ModelSpec {
    let last_p = options.shake_drop.unwrap_or(shake_drop);
    let (mut index, mut in_channels) = (0, 16);
    let mut features = vec![sequential("init_block", conv_norm(Filters::new(16, 3, 1), GammaInit::Ones))];
    let total = (3 * units) as f64;
    features.extend(stages(&[units; 3], |name, _, stride| {
        index += 1;
        let share = f64::from(index) / total;
        let width = (16.0 + alpha * share).round_ties_even() as i64;
        let convolutions = if bottlenecks { bottleneck(4 * width, stride) } else { basic(width, stride) };
        let out_channels = if bottlenecks { 4 * width } else { width };
        let shortcut = shortcut(out_channels - in_channels, stride);
        in_channels = out_channels;
        unit(name, &convolutions, shortcut, last_p * share, options.last_gamma())
    }));
    features.push(sequential("post_activ", activation()));
    net(name, options, features)
}

/// Batch norm before every convolution and after the last, ReLU between convolutions alone (the paper's figure 6d).
fn unit(name: String, convolutions: &[Filters], shortcut: Shortcut, p: f64, last_gamma: GammaInit) -> Layer {
    let block = |(index, filters): (usize, &Filters)| {
        let mut layers = activation();
        layers.truncate(if index == 0 { 1 } else { 2 });
        layers.push(filters.named("conv"));
        sequential(&format!("conv{}", index + 1), layers)
    };
    let body = sequential("body", convolutions.iter().enumerate().map(block).collect());
    let mut layers = vec![body, batch_norm("bn", last_gamma)];
    layers.extend((p > 0.0).then_some(Layer::ShakeDrop(ShakeDrop { p })));
    let activation = Activation::None;
    Layer::Residual(Residual { name: Some(name), activation, ..residual(layers, shortcut, "identity") })
}

fn shortcut(added_channels: i64, stride: i64) -> Shortcut {
    let pool = Layer::AvgPool2d(Pool2d { kernel_size: 2, stride: None, padding: 0 });
    let pad = Layer::ZeroPad(ZeroPad { channels: added_channels, ..ZeroPad::default() });
    match (stride, added_channels) {
        (1, 0) => Shortcut::Identity,
        (1, _) => Shortcut::Layers(vec![pad]),
        _ => Shortcut::Layers(vec![pool, pad]),
    }
}
