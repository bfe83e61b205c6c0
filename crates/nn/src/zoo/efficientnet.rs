//! EfficientNet-B0 (Tan 2019, table 1): inverted residuals with depthwise convolutions, squeeze and excitation, stochastic
//! depth; named and initialised as in torchvision, so that its weights load.

use super::parts::{
    IMAGENET, add, conv_norm, convolution, dropout, linear, model, pooled, sequential, stochastic_depth,
};
use super::{Entry, ZooOptions};
use crate::spec::{Conv2d, Gate, GlobalAvgPool2d, Init, Layer, ModelSpec, Pointwise, Sequential};

pub(super) const MODELS: &[Entry] =
    &[Entry { name: "efficientnet_b0", options: &["dropout", "stochasticDepth"], spec }];

/// Expansion, kernel size, stride, output channels and blocks of each stage.
const STAGES: [(i64, i64, i64, i64, usize); 7] = [
    (1, 3, 1, 16, 1),
    (6, 3, 2, 24, 2),
    (6, 5, 2, 40, 2),
    (6, 3, 2, 80, 3),
    (6, 5, 1, 112, 3),
    (6, 5, 2, 192, 4),
    (6, 3, 1, 320, 1),
];

fn spec(options: &ZooOptions) -> ModelSpec {
    let last_drop = options.stochastic_depth.unwrap_or(0.2);
    let blocks: usize = STAGES.iter().map(|stage| stage.4).sum();
    model("efficientnet_b0", IMAGENET, options, |num_classes| {
        let mut features = vec![sequential("0", conv_norm_silu(32, 3, 2, 1))];
        let (mut in_channels, mut block) = (32, 0);
        for (stage, (expansion, kernel_size, stride, out_channels, count)) in STAGES.into_iter().enumerate() {
            let layers = (0..count).map(|index| {
                let stride = if index == 0 { stride } else { 1 };
                let layers = inverted(in_channels, expansion, kernel_size, stride, out_channels);
                // As torchvision counts: a share of all blocks, so that the last one stays below the whole.
                let drop = last_drop * block as f64 / blocks as f64;
                let name = index.to_string();
                let layer = if stride == 1 && in_channels == out_channels {
                    add(&name, vec![sequential("block", layers), stochastic_depth("stochastic_depth", drop)])
                } else {
                    sequential(&name, vec![sequential("block", layers)])
                };
                (in_channels, block) = (out_channels, block + 1);
                layer
            });
            features.push(sequential(&(stage + 1).to_string(), layers.collect()));
        }
        features.push(sequential("8", conv_norm_silu(1280, 1, 1, 1)));
        let mut layers = vec![sequential("features", features)];
        layers.extend(pooled(sequential(
            "classifier",
            vec![dropout(options.dropout.unwrap_or(0.2)), linear("1", num_classes, Init::UniformFanOut)],
        )));
        layers
    })
}

/// The layers of MBConv: widen (unless the expansion is 1), filter each channel, weigh the channels, narrow.
fn inverted(in_channels: i64, expansion: i64, kernel_size: i64, stride: i64, out_channels: i64) -> Vec<Layer> {
    let wide = in_channels * expansion;
    let sequence = |layers| Layer::Sequential(Sequential { name: None, layers });
    let mut layers = Vec::new();
    if expansion > 1 {
        layers.push(sequence(conv_norm_silu(wide, 1, 1, 1)));
    }
    layers.extend([
        sequence(conv_norm_silu(wide, kernel_size, stride, wide)),
        squeeze_excitation(wide, in_channels / 4),
        sequence(conv_norm(out_channels, 1, 1, 1)),
    ]);
    layers
}

fn conv_norm_silu(out_channels: i64, kernel_size: i64, stride: i64, groups: i64) -> Vec<Layer> {
    let mut layers = conv_norm(out_channels, kernel_size, stride, groups);
    layers.push(Layer::Silu(Pointwise { name: Some("2".into()) }));
    layers
}

/// How much of each channel passes, from the means of all (Hu 2018, section 3).
fn squeeze_excitation(channels: i64, squeezed: i64) -> Layer {
    let fully_connected = |name: &str, out_channels| {
        let plain = convolution(out_channels, 1, Init::KaimingNormalFanOut);
        Layer::Conv2d(Conv2d { name: Some(name.into()), bias: true, ..plain })
    };
    let named = |name: &str| Pointwise { name: Some(name.into()) };
    let layers = vec![
        Layer::GlobalAvgPool2d(GlobalAvgPool2d {}),
        fully_connected("fc1", squeezed),
        Layer::Silu(named("activation")),
        fully_connected("fc2", channels),
        Layer::Sigmoid(named("scale_activation")),
    ];
    Layer::Gate(Gate { name: None, layers })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Dtype, Model};

    #[test]
    fn names_and_parameters_are_torchvisions() {
        let model = Model::new(spec(&ZooOptions::default()), Dtype::Float32, 0).unwrap();
        assert_eq!(model.summary().parameters, 5_288_548);
        let names: Vec<String> = model.state_dict().unwrap().into_iter().map(|entry| entry.0).collect();
        for name in [
            "features.1.0.block.1.fc1.bias",
            "features.2.1.block.3.1.running_var",
            "features.8.0.weight",
            "classifier.1.weight",
        ] {
            assert!(names.iter().any(|found| found == name), "{name}");
        }
    }
}
