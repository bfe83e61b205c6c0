//! A small net in float64 and what the tests of a step need around it.
#![allow(dead_code)] // Each test file uses a part of it.

use flatmin_nn::{Dtype, Model, ModelSpec};
use flatmin_optim::{Loss, Optimizer, OptimizerConfig, StepOptions, StepOutcome, Target, backward, train_step};
use flatmin_torch_ext::Generator;
use serde_json::{Value, json};
use tch::{Device, Kind, Tensor};

pub fn model(seed: u64) -> Model {
    model_with_dropout(seed, 0.25)
}

pub fn model_with_dropout(seed: u64, p: f64) -> Model {
    let spec: ModelSpec = serde_json::from_value(json!({
        "format": 1, "name": "small", "inputShape": [3, 6, 6], "numClasses": 4,
        "layers": [
            { "type": "conv2d", "name": "conv1", "outChannels": 8, "kernelSize": 3, "padding": 1, "bias": false },
            // eps 0: the function is then exactly unchanged when the filters before it are rescaled.
            { "type": "batchNorm2d", "name": "bn1", "eps": 0 },
            { "type": "relu" },
            { "type": "conv2d", "name": "conv2", "outChannels": 8, "kernelSize": 3, "stride": 2, "padding": 1 },
            { "type": "relu" },
            { "type": "dropout", "p": p },
            { "type": "globalAvgPool2d" },
            { "type": "flatten" },
            { "type": "linear", "name": "fc", "outFeatures": 4 }
        ]
    }))
    .unwrap();
    Model::new(spec, Dtype::Float64, seed).unwrap()
}

pub fn batch(seed: u64) -> (Tensor, Target) {
    let mut images = Tensor::empty([16, 3, 6, 6], (Kind::Double, Device::Cpu));
    Generator::new(seed).unwrap().normal_(&mut images, 0.0, 1.0).unwrap();
    (images, Target::Classes(Tensor::arange(16, (Kind::Int64, Device::Cpu)).remainder(4)))
}

pub fn optimizer(model: &mut Model, base: Value, sharpness: Value) -> Optimizer {
    let config: OptimizerConfig = serde_json::from_value(json!({ "base": base, "sharpness": sharpness })).unwrap();
    Optimizer::new(model, config).unwrap()
}

pub fn sgd() -> Value {
    json!({ "type": "sgd", "lr": 0.1, "momentum": 0.9, "weightDecay": 5e-4 })
}

pub fn asam(rho: f64) -> Value {
    json!({ "rho": rho, "eta": 0.01, "scale": "element", "guard": 1e-16 })
}

pub fn invariant(rho: f64) -> Value {
    json!({ "rho": rho, "eta": 0, "scale": "element", "adaptive": "all" })
}

pub fn bits(tensor: &Tensor) -> Vec<u64> {
    Vec::<f64>::try_from(tensor.flatten(0, -1)).unwrap().into_iter().map(f64::to_bits).collect()
}

/// Master weights and every running statistic, to the bit.
pub fn state(model: &Model) -> Vec<(String, Vec<u64>)> {
    let entries = model.state_dict().unwrap();
    entries.iter().map(|(name, value)| (name.clone(), bits(&value.to_kind(Kind::Double)))).collect()
}

pub fn pass(model: &Model, images: &Tensor, target: &Target) -> f64 {
    backward(model, images, target, &Loss::default(), 5).unwrap().loss
}

pub fn perturbation(model: &Model, name: &str) -> Tensor {
    let parameters = model.parameters();
    let position = parameters.position(name).unwrap();
    parameters.leaves()[position].detach() - parameters.read(position).unwrap()
}

pub fn step(
    model: &mut Model,
    optimizer: &mut Optimizer,
    (images, target): &(Tensor, Target),
    seed: u64,
) -> StepOutcome {
    train_step(model, optimizer, images, target, &Loss::default(), StepOptions::new(seed)).unwrap()
}

/// Options of the wrapper under a name.
pub fn variants() -> Vec<(&'static str, Value)> {
    let variant = |kind: &str| json!({ "rho": 0.2, "seed": 5, "variant": { "type": kind } });
    let mut all: Vec<(&str, Value)> =
        ["gsam", "looksam", "esam", "grst", "wsam", "fsam", "msam", "random", "extragradient"]
            .into_iter()
            .map(|kind| (kind, variant(kind)))
            .collect();
    all.push(("every-k", json!({ "rho": 0.2, "interval": 3 })));
    all.push(("rst", json!({ "rho": 0.2, "probability": 0.5, "seed": 1 })));
    all.push(("part-of-batch", json!({ "rho": 0.2, "ascentFraction": 0.25 })));
    all.push(("m-sharpness", json!({ "rho": 0.2, "microBatch": 5 })));
    all.push(("inner steps", json!({ "rho": 0.2, "innerSteps": 3 })));
    all.push(("sam-on", json!({ "rho": 0.2, "perturb": "norms" })));
    all.push(("filter-wise p", json!({ "rho": 0.2, "scale": "filter", "p": 4.0, "eta": 0.01 })));
    all.push(("infinity", json!({ "rho": 0.01, "p": "inf", "scale": "element", "adaptive": "all" })));
    all
}
