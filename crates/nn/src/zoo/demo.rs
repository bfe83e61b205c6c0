//! A small convolutional net for the 8 x 8 digits: it trains within seconds on one core and is large enough to memorise
//! noisy labels, which is what the demo shows.

use super::parts::{batch_norm, conv, linear, model, pooled, relu};
use super::{Entry, ZooOptions};
use crate::spec::{GammaInit, Init, ModelSpec};

pub(super) const MODELS: &[Entry] = &[Entry { name: "demo", options: &[], spec }];

/// Four 3 x 3 convolutions with batch norm and ReLU, 32-32-64-64 channels, the third with stride 2.
fn spec(options: &ZooOptions) -> ModelSpec {
    model("demo", ([1, 8, 8], 10), options, |num_classes| {
        let mut layers = Vec::new();
        for (number, channels, stride) in [(1, 32, 1), (2, 32, 1), (3, 64, 2), (4, 64, 1)] {
            layers.extend([
                conv(&format!("conv{number}"), channels, 3, stride, 1, Init::KaimingUniform),
                batch_norm(&format!("bn{number}"), GammaInit::Ones),
                relu(),
            ]);
        }
        layers.extend(pooled(linear("linear", num_classes, Init::KaimingUniform)));
        layers
    })
}
