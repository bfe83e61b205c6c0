//! What the tests of this crate share: specs from JSON, and images that are a formula of their index.

#![allow(dead_code, reason = "each test binary uses a part")]

pub mod formula;

use flatmin_nn::{Dtype, Model, ModelSpec, Pass, Standing, Statistics};
use serde_json::{Value, json};
use tch::{Device, Kind, Tensor};

pub const STAGE: Pass = Pass::Train { statistics: Statistics::Stage, mask_seed: 1 };
pub const IGNORE: Pass = Pass::Train { statistics: Statistics::Ignore, mask_seed: 1 };

pub fn spec(input_shape: [i64; 3], num_classes: i64, layers: Value) -> ModelSpec {
    let spec = json!({
        "format": 1, "name": "net", "inputShape": input_shape, "numClasses": num_classes, "layers": layers,
    });
    ModelSpec::from_value(spec).unwrap()
}

/// Images [2, 4, 4] in 2 classes, the names and shapes of the weight files in `__test__/fixtures`.
pub fn small(dtype: Dtype, seed: u64) -> Model {
    let layers = json!([
        { "type": "conv2d", "name": "conv", "outChannels": 4, "kernelSize": 3, "bias": false },
        { "type": "batchNorm2d", "name": "bn" }, { "type": "relu" },
        { "type": "flatten" }, { "type": "linear", "name": "fc", "outFeatures": 2 },
    ]);
    Model::new(spec([2, 4, 4], 2, layers), dtype, seed).unwrap()
}

/// A float64 model.
pub fn model(input_shape: [i64; 3], num_classes: i64, layers: Value) -> Model {
    Model::new(spec(input_shape, num_classes, layers), Dtype::Float64, 3).unwrap()
}

/// Values between -1 and 1 that look random, `[batch, ...]` of the model's dtype.
pub fn images(model: &Model, batch: i64) -> Tensor {
    let [channels, height, width] = model.spec().input_shape;
    let index = Tensor::arange(batch * channels * height * width, (Kind::Double, Device::Cpu));
    ((index * 12.9898).sin() * 43.758).sin().reshape([batch, channels, height, width]).to_kind(model.dtype().kind())
}

pub fn close(found: &Tensor, expected: &Tensor, tolerance: f64) {
    assert_eq!(found.size(), expected.size());
    let largest = f64::try_from((found - expected).abs().max()).unwrap();
    assert!(largest <= tolerance, "they differ by {largest}");
}

/// A parameter that requires a gradient, as a plain tensor of its own.
pub fn copy_of(model: &Model, name: &str) -> Tensor {
    let parameters = model.parameters();
    parameters.read(parameters.position(name).unwrap()).unwrap().set_requires_grad(true)
}

/// The gradient that a backward pass left for a parameter.
pub fn gradient_of(model: &Model, name: &str) -> Tensor {
    let parameters = model.parameters();
    let gradients = parameters.gradients().unwrap();
    gradients.tensors()[parameters.position(name).unwrap()].as_ref().unwrap().shallow_clone()
}

/// Lets the network read its weights plus one.
pub fn perturb(model: &Model) {
    let parameters = model.parameters();
    tch::no_grad(|| parameters.working().shallow_clone().copy_(&(parameters.master() + 1.0)));
    parameters.stand(Standing::Working).unwrap();
}

/// Sets every parameter and statistic to values that look random, so that nothing is 0 or 1 by accident.
pub fn scramble(model: &mut Model) {
    let entries: Vec<_> = model.state_dict().unwrap();
    let changed = entries.into_iter().enumerate().map(|(index, (name, value))| {
        if value.kind() == Kind::Int64 {
            return (name, value + 17);
        }
        let noise = Tensor::arange(value.numel() as i64, (Kind::Double, Device::Cpu)) + index as f64 * 0.37;
        (name, noise.sin().abs().reshape(value.size()) * 0.5 + 0.2)
    });
    model.load_state_dict(changed.collect::<Vec<_>>(), true).unwrap();
}

/// Logits and gradients of a net against those of a formula over copies of its parameters.
pub fn expect_equal(mut net: Model, formula: impl Fn(&Tensor, &dyn Fn(&str) -> Tensor) -> Tensor) {
    scramble(&mut net);
    let x = images(&net, 4);
    let names: Vec<String> = net.parameters().segments().iter().map(|segment| segment.name.clone()).collect();
    let copies: Vec<(String, Tensor)> = names.into_iter().map(|name| (name.clone(), copy_of(&net, &name))).collect();
    let parameter = |name: &str| copies.iter().find(|copy| copy.0 == name).unwrap().1.shallow_clone();
    let expected = formula(&x, &parameter);
    let logits = net.forward(&x, IGNORE).unwrap();
    close(&logits, &expected, 1e-11 * f64::try_from(expected.abs().max()).unwrap());
    logits.square().sum(Kind::Double).backward();
    expected.square().sum(Kind::Double).backward();
    for (name, copy) in &copies {
        let scale = f64::try_from(copy.grad().abs().max()).unwrap();
        close(&gradient_of(&net, name), &copy.grad(), 1e-10 * scale.max(1.0));
    }
}
