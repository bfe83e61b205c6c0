//! The ResNets for ImageNet (He 2016, table 1) with the stride in the 3 x 3 convolution of a bottleneck (v1.5), their wide
//! (Zagoruyko 2016) and grouped (Xie 2017) kin; named and initialised as in torchvision, so that its weights load.

use super::parts::{IMAGENET, batch_norm, conv, linear, max_pool, model, pooled, relu, residual, sequential};
use super::{Entry, ZooOptions};
use crate::spec::{GammaInit, Init, Layer, ModelSpec, Shortcut};

const OPTIONS: &[&str] = &["zeroInitResidual"];

pub(super) const MODELS: &[Entry] = &[
    Entry { name: "resnet18", options: OPTIONS, spec: |o| spec("resnet18", Block::Basic, [2, 2, 2, 2], o) },
    Entry { name: "resnet34", options: OPTIONS, spec: |o| spec("resnet34", Block::Basic, [3, 4, 6, 3], o) },
    Entry { name: "resnet50", options: OPTIONS, spec: |o| spec("resnet50", BOTTLENECK, [3, 4, 6, 3], o) },
    Entry { name: "resnet101", options: OPTIONS, spec: |o| spec("resnet101", BOTTLENECK, [3, 4, 23, 3], o) },
    Entry { name: "resnet152", options: OPTIONS, spec: |o| spec("resnet152", BOTTLENECK, [3, 8, 36, 3], o) },
    Entry { name: "wide_resnet50_2", options: OPTIONS, spec: |o| spec("wide_resnet50_2", WIDE, [3, 4, 6, 3], o) },
    Entry { name: "resnext50_32x4d", options: OPTIONS, spec: |o| spec("resnext50_32x4d", GROUPED, [3, 4, 6, 3], o) },
];

const BOTTLENECK: Block = Block::Bottleneck { groups: 1, width: 1 };
const WIDE: Block = Block::Bottleneck { groups: 1, width: 2 };
/// 32 groups of 4 channels where a plain bottleneck has 64 channels.
const GROUPED: Block = Block::Bottleneck { groups: 32, width: 2 };

#[derive(Debug, Clone, Copy)]
enum Block {
    /// Two 3 x 3 convolutions.
    Basic,
    /// 1 x 1, 3 x 3, 1 x 1; the first two with `width` times the stage's channels, the last with four times.
    Bottleneck { groups: i64, width: i64 },
}

impl Block {
    fn out_channels(self, channels: i64) -> i64 {
        match self {
            Self::Basic => channels,
            Self::Bottleneck { .. } => 4 * channels,
        }
    }

    fn layers(self, channels: i64, stride: i64, last_gamma: GammaInit) -> Vec<Layer> {
        let out = self.out_channels(channels);
        match self {
            Self::Basic => vec![
                plain_conv("conv1", channels, 3, stride),
                batch_norm("bn1", GammaInit::Ones),
                relu(),
                plain_conv("conv2", out, 3, 1),
                batch_norm("bn2", last_gamma),
            ],
            Self::Bottleneck { groups, width } => vec![
                plain_conv("conv1", width * channels, 1, 1),
                batch_norm("bn1", GammaInit::Ones),
                relu(),
                conv("conv2", width * channels, 3, stride, groups, Init::KaimingNormalFanOut),
                batch_norm("bn2", GammaInit::Ones),
                relu(),
                plain_conv("conv3", out, 1, 1),
                batch_norm("bn3", last_gamma),
            ],
        }
    }
}

fn spec(name: &str, block: Block, blocks: [usize; 4], options: &ZooOptions) -> ModelSpec {
    let last_gamma = options.last_gamma();
    model(name, IMAGENET, options, |num_classes| {
        let mut layers =
            vec![plain_conv("conv1", 64, 7, 2), batch_norm("bn1", GammaInit::Ones), relu(), max_pool(3, 2, 1)];
        let mut in_channels = 64;
        for (stage, (count, channels)) in blocks.into_iter().zip([64, 128, 256, 512]).enumerate() {
            let out_channels = block.out_channels(channels);
            let residuals = (0..count).map(|index| {
                let stride = if stage > 0 && index == 0 { 2 } else { 1 };
                let changes = stride > 1 || in_channels != out_channels;
                in_channels = out_channels;
                projected(block.layers(channels, stride, last_gamma), changes.then_some((out_channels, stride)))
            });
            layers.push(sequential(&format!("layer{}", stage + 1), residuals.collect()));
        }
        layers.extend(pooled(linear("fc", num_classes, Init::KaimingUniform)));
        layers
    })
}

/// A projection (option B) where the shape changes.
fn projected(layers: Vec<Layer>, projection: Option<(i64, i64)>) -> Layer {
    let shortcut = projection.map_or(Shortcut::Identity, |(out_channels, stride)| {
        Shortcut::Layers(vec![plain_conv("0", out_channels, 1, stride), batch_norm("1", GammaInit::Ones)])
    });
    Layer::Residual(residual(layers, shortcut, "downsample"))
}

fn plain_conv(name: &str, out_channels: i64, kernel_size: i64, stride: i64) -> Layer {
    conv(name, out_channels, kernel_size, stride, 1, Init::KaimingNormalFanOut)
}

#[cfg(test)]
mod tests {
    use super::super::spec;
    use super::*;
    use crate::{Dtype, Model};

    /// Counted in torchvision 0.28.
    #[test]
    fn parameter_counts_are_torchvisions() {
        for (name, parameters) in [
            ("resnet18", 11_689_512),
            ("resnet34", 21_797_672),
            ("resnet50", 25_557_032),
            ("resnet101", 44_549_160),
            ("resnet152", 60_192_808),
            ("wide_resnet50_2", 68_883_240),
            ("resnext50_32x4d", 25_028_904),
        ] {
            let options = ZooOptions { input_shape: Some([3, 32, 32]), ..ZooOptions::default() };
            let model = Model::new(spec(name, &options).unwrap(), Dtype::Float32, 0).unwrap();
            assert_eq!(model.summary().parameters, parameters, "{name}");
        }
    }

    #[test]
    fn names_are_torchvisions() {
        let model = Model::new(spec("resnet50", &ZooOptions::default()).unwrap(), Dtype::Float32, 0).unwrap();
        let names: Vec<String> = model.state_dict().unwrap().into_iter().map(|entry| entry.0).collect();
        assert_eq!(names.len(), 320);
        for name in ["conv1.weight", "bn1.running_mean", "layer1.0.downsample.0.weight", "layer4.2.bn3.bias", "fc.bias"]
        {
            assert!(names.iter().any(|found| found == name), "{name}");
        }
    }

    #[test]
    fn zero_gammas_make_blocks_start_as_their_shortcuts() {
        let options = ZooOptions { zero_init_residual: true, ..ZooOptions::default() };
        let model = Model::new(spec("resnet18", &options).unwrap(), Dtype::Float32, 0).unwrap();
        let parameters = model.parameters();
        let largest = |name: &str| {
            let gamma = parameters.read(parameters.position(name).unwrap()).unwrap();
            f64::try_from(gamma.abs().max()).unwrap()
        };
        assert_eq!((largest("layer2.1.bn2.weight"), largest("layer2.1.bn1.weight")), (0.0, 1.0));
    }
}
