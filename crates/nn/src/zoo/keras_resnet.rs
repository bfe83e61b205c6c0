//! The bottleneck ResNet-20 of the study "Sharpness-Aware-Minimization-TensorFlow" (571,114 trainable parameters), with the
//! habits of its Keras code: biases everywhere, no batch norm on projections, one more batch norm and ReLU before the
//! pooling, TensorFlow's padding, eps and momentum. `docs/models.md` has its layers.

use super::parts::{CIFAR, convolution, linear, model, pooled, relu, residual, sequential};
use super::{Entry, ZooOptions};
use crate::spec::{BatchNorm2d, Conv2d, GammaInit, Init, Layer, ModelSpec, Shortcut, ZeroPad};

pub(super) const MODELS: &[Entry] = &[Entry { name: "resnet20_bottleneck", options: &["zeroInitResidual"], spec }];

fn spec(options: &ZooOptions) -> ModelSpec {
    model("resnet20_bottleneck", CIFAR, options, |num_classes| {
        let [_, mut height, mut width] = options.input_shape.unwrap_or(CIFAR.0);
        let mut layers = vec![conv("conv1", 16, 3, 1, 1), norm("bn1", GammaInit::Ones), relu()];
        for (stage, (inner, out_channels)) in [(16, 64), (64, 128), (128, 256)].into_iter().enumerate() {
            let blocks = (0..2).map(|index| {
                let stride = if stage > 0 && index == 0 { 2 } else { 1 };
                let block = block(inner, out_channels, stride, index == 0, [height, width], options.last_gamma());
                [height, width] = [height, width].map(|size| (size + stride - 1) / stride);
                block
            });
            layers.push(sequential(&format!("layer{}", stage + 1), blocks.collect()));
        }
        layers.extend([norm("bn2", GammaInit::Ones), relu()]);
        layers.extend(pooled(linear("fc", num_classes, Init::KaimingNormal)));
        layers
    })
}

fn block(inner: i64, out: i64, stride: i64, projects: bool, size: [i64; 2], last_gamma: GammaInit) -> Layer {
    let mut layers = vec![conv("conv1", inner, 1, 1, 0), norm("bn1", GammaInit::Ones), relu()];
    if stride == 1 {
        layers.push(conv("conv2", inner, 3, 1, 1));
    } else {
        layers.extend([same_padding(size), conv("conv2", inner, 3, stride, 0)]);
    }
    layers.extend([norm("bn2", GammaInit::Ones), relu(), conv("conv3", out, 1, 1, 0), norm("bn3", last_gamma)]);
    let shortcut = if projects { Shortcut::Layers(vec![conv("0", out, 1, stride, 0)]) } else { Shortcut::Identity };
    Layer::Residual(residual(layers, shortcut, "downsample"))
}

/// TensorFlow's padding `same` of a 3 x 3 convolution with stride 2: an even size gets its only zero at the end.
fn same_padding([height, width]: [i64; 2]) -> Layer {
    let (top, left) = (height % 2, width % 2);
    Layer::ZeroPad(ZeroPad { left, right: 1, top, bottom: 1, channels: 0 })
}

fn conv(name: &str, out_channels: i64, kernel_size: i64, stride: i64, padding: i64) -> Layer {
    let name = Some(name.into());
    let plain = convolution(out_channels, kernel_size, Init::KaimingNormal);
    Layer::Conv2d(Conv2d { name, stride, padding, bias: true, ..plain })
}

/// Keras's momentum of 0.99 is the weight of the old statistics.
fn norm(name: &str, init: GammaInit) -> Layer {
    Layer::BatchNorm2d(BatchNorm2d { name: Some(name.into()), eps: 1e-3, momentum: 0.01, affine: true, init })
}
