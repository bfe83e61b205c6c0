//! ConvNeXt-T (Liu 2022, table 9): 7 x 7 depthwise convolutions, then a perceptron for each pixel; named and initialised as
//! in torchvision, so that its weights load.

use super::parts::{IMAGENET, add, drop_probabilities, layer_norm, linear, model, sequential, stochastic_depth};
use super::{Entry, ZooOptions};
use crate::spec::{Conv2d, Flatten, Gelu, GlobalAvgPool2d, Init, Layer, LayerScale, ModelSpec, Pointwise, ToImage};

pub(super) const MODELS: &[Entry] = &[Entry { name: "convnext_tiny", options: &["stochasticDepth"], spec }];

/// Channels and blocks.
const STAGES: [(i64, usize); 4] = [(96, 3), (192, 3), (384, 9), (768, 3)];

fn spec(options: &ZooOptions) -> ModelSpec {
    let [_, mut height, mut width] = options.input_shape.unwrap_or(IMAGENET.0);
    let blocks = STAGES.iter().map(|stage| stage.1).sum();
    let mut drops = drop_probabilities(options.stochastic_depth.unwrap_or(0.1), blocks);
    model("convnext_tiny", IMAGENET, options, |num_classes| {
        let mut features = Vec::new();
        for (stage, (channels, count)) in STAGES.into_iter().enumerate() {
            let (reduce, patch) = if stage == 0 {
                (vec![patches("0", channels, 4), norm("1")], 4)
            } else {
                (vec![norm("0"), patches("1", channels, 2)], 2)
            };
            (height, width) = (height / patch, width / patch);
            let block =
                |index: usize| block(&index.to_string(), channels, [height, width], drops.next().unwrap_or(0.0));
            let blocks = (0..count).map(block).collect();
            features.push(sequential(&(2 * stage).to_string(), reduce));
            features.push(sequential(&(2 * stage + 1).to_string(), blocks));
        }
        vec![
            sequential("features", features),
            Layer::GlobalAvgPool2d(GlobalAvgPool2d {}),
            sequential(
                "classifier",
                vec![norm("0"), Layer::Flatten(Flatten {}), linear("2", num_classes, Init::Normal)],
            ),
        ]
    })
}

fn block(name: &str, channels: i64, [height, width]: [i64; 2], drop: f64) -> Layer {
    let layers = vec![
        depthwise("0", channels),
        Layer::ToTokens(Pointwise { name: Some("1".into()) }),
        Layer::LayerNorm(layer_norm("2")),
        linear("3", 4 * channels, Init::Normal),
        Layer::Gelu(Gelu { name: Some("4".into()), ..Gelu::default() }),
        linear("5", channels, Init::Normal),
        Layer::ToImage(ToImage { name: Some("6".into()), height: Some(height), width: Some(width) }),
    ];
    let scale = Layer::LayerScale(LayerScale { name: Some("layer_scale".into()), init: 1e-6 });
    add(name, vec![sequential("block", layers), scale, stochastic_depth("stochastic_depth", drop)])
}

fn depthwise(name: &str, channels: i64) -> Layer {
    convolution(name, Conv2d { out_channels: channels, kernel_size: 7, padding: 3, groups: channels, ..PATCHES })
}

/// A convolution of patches that do not overlap.
fn patches(name: &str, out_channels: i64, size: i64) -> Layer {
    convolution(name, Conv2d { out_channels, kernel_size: size, stride: size, ..PATCHES })
}

const PATCHES: Conv2d = Conv2d {
    name: None,
    out_channels: 1,
    kernel_size: 1,
    stride: 1,
    padding: 0,
    groups: 1,
    bias: true,
    init: Init::Normal,
};

fn convolution(name: &str, conv: Conv2d) -> Layer {
    Layer::Conv2d(Conv2d { name: Some(name.into()), ..conv })
}

fn norm(name: &str) -> Layer {
    Layer::LayerNorm2d(layer_norm(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Dtype, Model};

    #[test]
    fn names_and_parameters_are_torchvisions() {
        let model = Model::new(spec(&ZooOptions::default()), Dtype::Float32, 0).unwrap();
        assert_eq!(model.summary().parameters, 28_589_128);
        let names: Vec<String> = model.state_dict().unwrap().into_iter().map(|entry| entry.0).collect();
        for name in [
            "features.0.1.weight",
            "features.1.0.layer_scale",
            "features.5.8.block.5.bias",
            "features.6.1.weight",
            "classifier.2.bias",
        ] {
            assert!(names.iter().any(|found| found == name), "{name}");
        }
    }
}
