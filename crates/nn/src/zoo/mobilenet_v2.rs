//! MobileNetV2 (Sandler 2018, table 2) for CIFAR: inverted residuals with depthwise convolutions; the first two of the five
//! reductions of size left out, as 32 x 32 images want; named and initialised as in torchvision.

use super::parts::{CIFAR, add, batch_norm, conv, conv_norm, dropout, linear, model, pooled, sequential};
use super::{Entry, ZooOptions};
use crate::spec::{GammaInit, Init, Layer, ModelSpec, Relu};

pub(super) const MODELS: &[Entry] = &[Entry { name: "mobilenet_v2", options: &["dropout"], spec }];

/// Expansion, output channels, blocks and stride of each stage.
const STAGES: [(i64, i64, usize, i64); 7] =
    [(1, 16, 1, 1), (6, 24, 2, 1), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)];

fn spec(options: &ZooOptions) -> ModelSpec {
    model("mobilenet_v2", CIFAR, options, |num_classes| {
        let mut features = vec![sequential("0", conv_norm_relu6(32, 3, 1, 1))];
        let mut in_channels = 32;
        for (expansion, out_channels, count, stride) in STAGES {
            for index in 0..count {
                let stride = if index == 0 { stride } else { 1 };
                let branch = vec![sequential("conv", inverted(in_channels, expansion, stride, out_channels))];
                let name = features.len().to_string();
                let keeps_shape = stride == 1 && in_channels == out_channels;
                features.push(if keeps_shape { add(&name, branch) } else { sequential(&name, branch) });
                in_channels = out_channels;
            }
        }
        features.push(sequential("18", conv_norm_relu6(1280, 1, 1, 1)));
        let mut layers = vec![sequential("features", features)];
        layers.extend(pooled(sequential(
            "classifier",
            vec![dropout(options.dropout.unwrap_or(0.2)), linear("1", num_classes, Init::Normal)],
        )));
        layers
    })
}

/// Widen (unless the expansion is 1), filter each channel, narrow without activation.
fn inverted(in_channels: i64, expansion: i64, stride: i64, out_channels: i64) -> Vec<Layer> {
    let wide = in_channels * expansion;
    let mut blocks = Vec::new();
    if expansion > 1 {
        blocks.push(conv_norm_relu6(wide, 1, 1, 1));
    }
    blocks.push(conv_norm_relu6(wide, 3, stride, wide));
    let mut layers: Vec<Layer> =
        blocks.into_iter().enumerate().map(|(index, block)| sequential(&index.to_string(), block)).collect();
    let (narrowing, norm) = (layers.len().to_string(), (layers.len() + 1).to_string());
    layers.extend([
        conv(&narrowing, out_channels, 1, 1, 1, Init::KaimingNormalFanOut),
        batch_norm(&norm, GammaInit::Ones),
    ]);
    layers
}

fn conv_norm_relu6(out_channels: i64, kernel_size: i64, stride: i64, groups: i64) -> Vec<Layer> {
    let mut layers = conv_norm(out_channels, kernel_size, stride, groups);
    layers.push(Layer::Relu6(Relu { name: Some("2".into()) }));
    layers
}
