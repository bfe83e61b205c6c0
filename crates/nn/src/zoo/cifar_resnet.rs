//! The ResNets for CIFAR (He 2016, section 4.2) with parameter-free shortcuts, named and initialised as in
//! akamaster/pytorch_resnet_cifar10, so that its weights load.

use super::ZooOptions;
use crate::spec::{
    Activation, BatchNorm2d, Conv2d, FORMAT, Flatten, GlobalAvgPool2d, Init, Layer, Linear, ModelSpec, Relu, Residual,
    Sequential, Shortcut,
};

/// A ResNet of 6n + 2 layers: three stages of n blocks with 16, 32 and 64 channels.
pub(super) fn spec(depth: usize, options: &ZooOptions) -> ModelSpec {
    let blocks = (depth - 2) / 6;
    let num_classes = options.num_classes.unwrap_or(10);
    let mut layers = vec![conv("conv1", 16, 1), norm("bn1"), Layer::Relu(Relu::default())];
    for (stage, channels) in [16, 32, 64].into_iter().enumerate() {
        let stride = |index: usize| if stage > 0 && index == 0 { 2 } else { 1 };
        let name = Some(format!("layer{}", stage + 1));
        let layers_of_stage = (0..blocks).map(|index| block(channels, stride(index))).collect();
        layers.push(Layer::Sequential(Sequential { name, layers: layers_of_stage }));
    }
    layers.extend([
        Layer::GlobalAvgPool2d(GlobalAvgPool2d {}),
        Layer::Flatten(Flatten {}),
        Layer::Linear(Linear {
            name: Some("linear".into()),
            out_features: num_classes,
            bias: true,
            init: Init::KaimingNormal,
        }),
    ]);
    ModelSpec {
        format: FORMAT,
        name: format!("resnet{depth}"),
        input_shape: options.input_shape.unwrap_or([3, 32, 32]),
        num_classes,
        layers,
        class_names: None,
        normalization: None,
    }
}

fn block(channels: i64, stride: i64) -> Layer {
    Layer::Residual(Residual {
        name: None,
        layers: vec![
            conv("conv1", channels, stride),
            norm("bn1"),
            Layer::Relu(Relu::default()),
            conv("conv2", channels, 1),
            norm("bn2"),
        ],
        shortcut: if stride == 1 { Shortcut::Identity } else { Shortcut::OptionA },
        activation: Activation::Relu,
    })
}

fn conv(name: &str, out_channels: i64, stride: i64) -> Layer {
    Layer::Conv2d(Conv2d {
        name: Some(name.into()),
        out_channels,
        kernel_size: 3,
        stride,
        padding: 1,
        groups: 1,
        bias: false,
        init: Init::KaimingNormal,
    })
}

fn norm(name: &str) -> Layer {
    Layer::BatchNorm2d(BatchNorm2d { name: Some(name.into()), eps: 1e-5, momentum: 0.1, affine: true })
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
