//! Units of the CIFAR nets that pytorchcv has, under its names, so that the weights it publishes load:
//! `features.stage1.unit1.body.conv1.conv.weight` and the like.

use super::ZooOptions;
use super::parts::{CIFAR, batch_norm, conv, linear, model, pooled, residual, sequential};
use crate::spec::{Activation, Dropout, GammaInit, Init, Layer, ModelSpec, Relu, Residual, Shortcut};

/// Channels, kernel size, stride and groups of one convolution.
#[derive(Debug, Clone, Copy)]
pub(super) struct Filters {
    pub out_channels: i64,
    pub kernel_size: i64,
    pub stride: i64,
    pub groups: i64,
}

impl Filters {
    pub const fn new(out_channels: i64, kernel_size: i64, stride: i64) -> Self {
        Self { out_channels, kernel_size, stride, groups: 1 }
    }

    /// He's initialisation by fan out, as the papers' own code has it.
    pub fn named(self, name: &str) -> Layer {
        conv(name, self.out_channels, self.kernel_size, self.stride, self.groups, Init::KaimingNormalFanOut)
    }
}

/// Two 3 x 3 convolutions.
pub(super) fn basic(out_channels: i64, stride: i64) -> Vec<Filters> {
    vec![Filters::new(out_channels, 3, stride), Filters::new(out_channels, 3, 1)]
}

/// 1 x 1, 3 x 3, 1 x 1; a quarter of the channels inside.
pub(super) fn bottleneck(out_channels: i64, stride: i64) -> Vec<Filters> {
    let inner = out_channels / 4;
    vec![Filters::new(inner, 1, 1), Filters::new(inner, 3, stride), Filters::new(out_channels, 1, 1)]
}

/// A net of stages under the name `features`, global pooling and a linear layer named `output`.
pub(super) fn net(name: &str, options: &ZooOptions, features: Vec<Layer>) -> ModelSpec {
    model(name, CIFAR, options, |num_classes| {
        let mut layers = vec![sequential("features", features)];
        layers.extend(pooled(linear("output", num_classes, Init::KaimingUniform)));
        layers
    })
}

/// Stages of so many units each; `unit` gets the unit's name, the stage and the stride, which is 2 where a later stage
/// begins.
pub(super) fn stages(counts: &[usize], mut unit: impl FnMut(String, usize, i64) -> Layer) -> Vec<Layer> {
    let mut stage = |(stage, &count): (usize, &usize)| {
        let units = (0..count).map(|index| {
            let stride = if stage > 0 && index == 0 { 2 } else { 1 };
            unit(format!("unit{}", index + 1), stage, stride)
        });
        sequential(&format!("stage{}", stage + 1), units.collect())
    };
    counts.iter().enumerate().map(&mut stage).collect()
}

/// Batch norm and ReLU.
pub(super) fn activation() -> Vec<Layer> {
    vec![batch_norm("bn", GammaInit::Ones), relu()]
}

/// Convolution and batch norm.
pub(super) fn conv_norm(filters: Filters, gamma: GammaInit) -> Vec<Layer> {
    vec![filters.named("conv"), batch_norm("bn", gamma)]
}

/// Convolution, batch norm and, where no addition follows, ReLU.
pub(super) fn conv_block(name: &str, filters: Filters, gamma: GammaInit, relus: bool) -> Layer {
    let mut layers = conv_norm(filters, gamma);
    layers.extend(relus.then(relu));
    sequential(name, layers)
}

/// The convolutions of a branch, each with batch norm and ReLU after it; the last one's ReLU follows the addition.
pub(super) fn conv_blocks(convolutions: &[Filters], last_gamma: GammaInit) -> Vec<Layer> {
    let last = convolutions.len() - 1;
    let block = |(index, &filters): (usize, &Filters)| {
        let gamma = if index == last { last_gamma } else { GammaInit::Ones };
        conv_block(&format!("conv{}", index + 1), filters, gamma, index < last)
    };
    convolutions.iter().enumerate().map(block).collect()
}

/// relu(branch(x) + shortcut(x)).
pub(super) fn unit(name: String, branch: Layer, shortcut: Shortcut, shortcut_name: &str) -> Layer {
    Layer::Residual(Residual { name: Some(name), ..residual(vec![branch], shortcut, shortcut_name) })
}

/// A unit of which every convolution follows a batch norm and a ReLU (He 2016b). A projection reads what the first of them
/// give, as the branch does. Dropout stands before the second convolution (Zagoruyko 2016).
pub(super) fn pre_activation_unit(name: String, in_channels: i64, convolutions: &[Filters], dropout: f64) -> Layer {
    let out_channels = convolutions[convolutions.len() - 1].out_channels;
    let stride = convolutions.iter().map(|filters| filters.stride).product();
    let projects = in_channels != out_channels || stride != 1;
    let block = |(index, filters): (usize, &Filters)| {
        let mut layers = if index == 0 && projects { vec![] } else { activation() };
        if index == 1 && dropout > 0.0 {
            layers.push(Layer::Dropout(Dropout { p: dropout }));
        }
        layers.push(filters.named("conv"));
        sequential(&format!("conv{}", index + 1), layers)
    };
    let body = sequential("body", convolutions.iter().enumerate().map(block).collect());
    let (shared, shortcut) = if projects {
        let projection = Filters::new(out_channels, 1, stride).named("identity_conv");
        (vec![sequential("body", vec![sequential("conv1", activation())])], Shortcut::Layers(vec![projection]))
    } else {
        (vec![], Shortcut::Identity)
    };
    let (name, activation) = (Some(name), Activation::None);
    Layer::Residual(Residual { name, shared, activation, ..residual(vec![body], shortcut, "") })
}

fn relu() -> Layer {
    Layer::Relu(Relu { name: Some("activ".into()) })
}
