//! The ResNets for CIFAR (He 2016, section 4.2) with parameter-free shortcuts, named and initialised as in
//! akamaster/pytorch_resnet_cifar10, so that its weights load.

use super::parts::{CIFAR, batch_norm, conv, linear, model, relu, sequential};
use super::{Entry, ZooOptions};
use crate::spec::{Activation, Flatten, GammaInit, GlobalAvgPool2d, Init, Layer, ModelSpec, Residual, Shortcut};

pub(super) const MODELS: &[Entry] = &[
    Entry { name: "resnet20", options: &[], spec: |options| spec(20, options) },
    Entry { name: "resnet32", options: &[], spec: |options| spec(32, options) },
    Entry { name: "resnet44", options: &[], spec: |options| spec(44, options) },
    Entry { name: "resnet56", options: &[], spec: |options| spec(56, options) },
    Entry { name: "resnet110", options: &[], spec: |options| spec(110, options) },
];

/// A ResNet of 6n + 2 layers: three stages of n blocks with 16, 32 and 64 channels.
fn spec(depth: usize, options: &ZooOptions) -> ModelSpec {
    model(&format!("resnet{depth}"), CIFAR, options, |num_classes| {
        let mut layers = vec![conv3x3("conv1", 16, 1), norm("bn1"), relu()];
        for (stage, channels) in [16, 32, 64].into_iter().enumerate() {
            let stride = |index: usize| if stage > 0 && index == 0 { 2 } else { 1 };
            let blocks = (0..(depth - 2) / 6).map(|index| block(channels, stride(index)));
            layers.push(sequential(&format!("layer{}", stage + 1), blocks.collect()));
        }
        layers.extend([
            Layer::GlobalAvgPool2d(GlobalAvgPool2d {}),
            Layer::Flatten(Flatten {}),
            linear("linear", num_classes, Init::KaimingNormal),
        ]);
        layers
    })
}

fn block(channels: i64, stride: i64) -> Layer {
    Layer::Residual(Residual {
        name: None,
        shared: vec![],
        layers: vec![
            conv3x3("conv1", channels, stride),
            norm("bn1"),
            relu(),
            conv3x3("conv2", channels, 1),
            norm("bn2"),
        ],
        shortcut: if stride == 1 { Shortcut::Identity } else { Shortcut::OptionA },
        shortcut_name: "shortcut".into(),
        activation: Activation::Relu,
    })
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
            let model = Model::new(spec(depth, &ZooOptions::default()), Dtype::Float32, 0).unwrap();
            assert_eq!(model.summary().parameters, parameters, "resnet{depth}");
        }
    }

    #[test]
    fn stages_halve_the_image() {
        let model = Model::new(spec(20, &ZooOptions::default()), Dtype::Float32, 0).unwrap();
        let rows = model.summary().layers;
        let shape = |name: &str| rows.iter().find(|row| row.name == name).unwrap().output_shape.clone();
        assert_eq!(shape("layer1.2"), [16, 32, 32]);
        assert_eq!(shape("layer2.0"), [32, 16, 16]);
        assert_eq!(shape("layer3.2.bn2"), [64, 8, 8]);
        assert_eq!(rows.iter().map(|row| row.parameters).sum::<i64>(), 269_722);
    }
}
