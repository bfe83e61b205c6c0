//! The ResNets for CIFAR (He 2016, section 4.2). With parameter-free shortcuts they are named and initialised as in
//! akamaster/pytorch_resnet_cifar10, with projections (option B) as in torchvision and chenyaofo/pytorch-cifar-models, so
//! that their weights load.

use super::parts::{CIFAR, batch_norm, conv, linear, model, pooled, relu, residual, sequential, stochastic_depth};
use super::{Entry, ZooOptions};
use crate::spec::{GammaInit, Init, Layer, ModelSpec, Shortcut};

const OPTIONS: &[&str] = &["zeroInitResidual", "stochasticDepth"];

pub(super) const MODELS: &[Entry] = &[
    Entry { name: "resnet20", options: OPTIONS, spec: |options| spec("resnet20", 20, ShortcutOption::A, options) },
    Entry { name: "resnet32", options: OPTIONS, spec: |options| spec("resnet32", 32, ShortcutOption::A, options) },
    Entry { name: "resnet44", options: OPTIONS, spec: |options| spec("resnet44", 44, ShortcutOption::A, options) },
    Entry { name: "resnet56", options: OPTIONS, spec: |options| spec("resnet56", 56, ShortcutOption::A, options) },
    Entry { name: "resnet110", options: OPTIONS, spec: |options| spec("resnet110", 110, ShortcutOption::A, options) },
    Entry { name: "resnet20_b", options: OPTIONS, spec: |options| spec("resnet20_b", 20, ShortcutOption::B, options) },
    Entry { name: "resnet32_b", options: OPTIONS, spec: |options| spec("resnet32_b", 32, ShortcutOption::B, options) },
    Entry { name: "resnet44_b", options: OPTIONS, spec: |options| spec("resnet44_b", 44, ShortcutOption::B, options) },
    Entry { name: "resnet56_b", options: OPTIONS, spec: |options| spec("resnet56_b", 56, ShortcutOption::B, options) },
    Entry {
        name: "resnet110_b",
        options: OPTIONS,
        spec: |options| spec("resnet110_b", 110, ShortcutOption::B, options),
    },
];

/// How a shortcut changes its shape (He 2016, section 4.1).
#[derive(Debug, Clone, Copy)]
enum ShortcutOption {
    /// Every second pixel, zero channels.
    A,
    /// A 1 x 1 convolution and batch norm.
    B,
}

/// A ResNet of 6n + 2 layers: three stages of n blocks with 16, 32 and 64 channels.
fn spec(name: &str, depth: usize, option: ShortcutOption, options: &ZooOptions) -> ModelSpec {
    let blocks = (depth - 2) / 6;
    // Huang 2016, equation 4: already the first block is dropped at times.
    let drop = |block: usize| options.stochastic_depth.unwrap_or(0.0) * block as f64 / (3 * blocks) as f64;
    model(name, CIFAR, options, |num_classes| {
        let mut layers = vec![conv3x3("conv1", 16, 1), norm("bn1"), relu()];
        for (stage, channels) in [16, 32, 64].into_iter().enumerate() {
            let stage_layers = (0..blocks).map(|index| {
                let stride = if stage > 0 && index == 0 { 2 } else { 1 };
                block(channels, stride, option, drop(stage * blocks + index + 1), options.last_gamma())
            });
            layers.push(sequential(&format!("layer{}", stage + 1), stage_layers.collect()));
        }
        let head = match option {
            ShortcutOption::A => "linear",
            ShortcutOption::B => "fc",
        };
        layers.extend(pooled(linear(head, num_classes, Init::KaimingNormal)));
        layers
    })
}

fn block(channels: i64, stride: i64, option: ShortcutOption, drop: f64, last_gamma: GammaInit) -> Layer {
    let mut layers = vec![
        conv3x3("conv1", channels, stride),
        norm("bn1"),
        relu(),
        conv3x3("conv2", channels, 1),
        batch_norm("bn2", last_gamma),
    ];
    layers.extend((drop > 0.0).then(|| stochastic_depth("stochastic_depth", drop)));
    let shortcut = match option {
        _ if stride == 1 => Shortcut::Identity,
        ShortcutOption::A => Shortcut::OptionA,
        ShortcutOption::B => Shortcut::Layers(vec![conv("0", channels, 1, stride, 1, Init::KaimingNormal), norm("1")]),
    };
    Layer::Residual(residual(layers, shortcut, "downsample"))
}

fn conv3x3(name: &str, out_channels: i64, stride: i64) -> Layer {
    conv(name, out_channels, 3, stride, 1, Init::KaimingNormal)
}

fn norm(name: &str) -> Layer {
    batch_norm(name, GammaInit::Ones)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Dtype, Model};

    /// Table 6 of He 2016 rounds these to 0.27, 0.46, 0.66, 0.85 and 1.7 million.
    #[test]
    fn parameter_counts_are_those_of_the_published_models() {
        for (depth, parameters) in [(20, 269_722), (32, 464_154), (44, 658_586), (56, 853_018), (110, 1_727_962)] {
            let spec = spec("net", depth, ShortcutOption::A, &ZooOptions::default());
            let model = Model::new(spec, Dtype::Float32, 0).unwrap();
            assert_eq!(model.summary().parameters, parameters, "resnet{depth}");
        }
    }

    #[test]
    fn stages_halve_the_image() {
        let model = Model::new(spec("net", 20, ShortcutOption::A, &ZooOptions::default()), Dtype::Float32, 0).unwrap();
        let rows = model.summary().layers;
        let shape = |name: &str| rows.iter().find(|row| row.name == name).unwrap().output_shape.clone();
        assert_eq!(shape("layer1.2"), [16, 32, 32]);
        assert_eq!(shape("layer2.0"), [32, 16, 16]);
        assert_eq!(shape("layer3.2.bn2"), [64, 8, 8]);
        assert_eq!(rows.iter().map(|row| row.parameters).sum::<i64>(), 269_722);
    }
}
