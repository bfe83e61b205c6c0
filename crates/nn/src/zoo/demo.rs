//! A small convolutional net for the 8 x 8 digits: it trains within seconds on one core and is large enough to memorise
//! noisy labels, which is what the demo shows.

use super::ZooOptions;
use crate::spec::{BatchNorm2d, Conv2d, FORMAT, Flatten, GlobalAvgPool2d, Init, Layer, Linear, ModelSpec, Relu};

/// Four 3 x 3 convolutions with batch norm and ReLU, 32-32-64-64 channels, the third with stride 2.
pub(super) fn spec(options: &ZooOptions) -> ModelSpec {
    let num_classes = options.num_classes.unwrap_or(10);
    let mut layers = Vec::new();
    for (index, (channels, stride)) in [(32, 1), (32, 1), (64, 2), (64, 1)].into_iter().enumerate() {
        layers.extend(stage(index + 1, channels, stride));
    }
    layers.extend([
        Layer::GlobalAvgPool2d(GlobalAvgPool2d {}),
        Layer::Flatten(Flatten {}),
        Layer::Linear(Linear {
            name: Some("linear".into()),
            out_features: num_classes,
            bias: true,
            init: Init::KaimingUniform,
        }),
    ]);
    ModelSpec {
        format: FORMAT,
        name: "demo".into(),
        input_shape: options.input_shape.unwrap_or([1, 8, 8]),
        num_classes,
        layers,
        class_names: None,
        normalization: None,
    }
}

fn stage(number: usize, out_channels: i64, stride: i64) -> [Layer; 3] {
    [
        Layer::Conv2d(Conv2d {
            name: Some(format!("conv{number}")),
            out_channels,
            kernel_size: 3,
            stride,
            padding: 1,
            groups: 1,
            bias: false,
            init: Init::KaimingUniform,
        }),
        Layer::BatchNorm2d(BatchNorm2d { name: Some(format!("bn{number}")), eps: 1e-5, momentum: 0.1, affine: true }),
        Layer::Relu(Relu::default()),
    ]
}
