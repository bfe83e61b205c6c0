//! Every model of the zoo that another library has computes what it computes there, from weights of the same names:
//! logits, loss and gradients, evaluating and training. `__test__/goldens/README.md` says how the values were made.

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use common::formula;
use flatmin_nn::zoo::{self, ZooOptions};
use flatmin_nn::{Dtype, Model, Pass, Statistics, Summary};
use serde::Deserialize;
use tch::{Kind, Reduction, Tensor};

/// Largest distance of a float64 value from its golden one, relative to the largest of its kind.
const RELATIVE: f64 = 1e-9;
/// Largest distance of a float32 logit, relative to the largest.
const RELATIVE_SINGLE: f64 = 1e-4;
const MASK_SEED: u64 = 1;

/// No other library has them: `docs/models.md` tells what they are held to instead.
const WITHOUT_REFERENCE: &[&str] = &["demo"];

#[derive(Deserialize)]
struct Golden {
    /// At the model's own number of classes.
    parameters: i64,
    options: ZooOptions,
    /// The hash of all names and shapes of the state dict.
    entries: u32,
    eval: OnePass,
    train: OnePass,
}

/// One forward and backward pass.
#[derive(Deserialize)]
struct OnePass {
    logits: Vec<f64>,
    loss: f64,
    gradient: Gradients,
}

/// In the order of the names.
#[derive(Deserialize)]
struct Gradients {
    rms: Vec<f64>,
    projection: Vec<f64>,
}

fn golden(name: &str) -> Golden {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../__test__/goldens/models");
    let path = Path::new(folder).join(format!("{name}.json"));
    let text = fs::read_to_string(&path).unwrap_or_else(|error| {
        panic!("{}: {error}; make_models.py makes it, or WITHOUT_REFERENCE takes the model out", path.display())
    });
    serde_json::from_str(&text).unwrap()
}

/// The model with the weights of the formula.
fn start(name: &str, options: &ZooOptions, dtype: Dtype) -> Model {
    let mut model = Model::new(zoo::spec(name, options).unwrap(), dtype, 0).unwrap();
    let state = model.state_dict().unwrap().into_iter().filter(|(_, value)| value.kind() != Kind::Int64);
    let values: Vec<_> =
        state.map(|(name, value)| (name.clone(), formula::tensor_value(&name, &value.size()))).collect();
    model.load_state_dict(values, true).unwrap();
    model
}

/// The hash of all names and shapes of the state dict.
fn entries(model: &Model) -> u32 {
    let state: BTreeMap<String, Vec<i64>> =
        model.state_dict().unwrap().into_iter().map(|(name, value)| (name, value.size())).collect();
    let lines = state.into_iter().map(|(name, shape)| {
        let shape: Vec<String> = shape.iter().map(i64::to_string).collect();
        format!("{name} {}", shape.join("x"))
    });
    formula::fnv1a32(&lines.collect::<Vec<_>>().join("\n"))
}

fn batch(model: &Model) -> (Tensor, Tensor) {
    let spec = model.spec();
    let [channels, height, width] = spec.input_shape;
    let images = formula::images(0, [2, channels, height, width]).to_kind(model.dtype().kind());
    (images, formula::labels(0, 2, spec.num_classes))
}

/// The largest distance of values from their golden ones.
fn distance(found: &[f64], golden: &[f64]) -> f64 {
    assert_eq!(found.len(), golden.len());
    // A NaN must not get lost on the way.
    found.iter().zip(golden).map(|(a, b)| (a - b).abs()).fold(0.0, |most, next| if next <= most { most } else { next })
}

fn largest(values: &[f64]) -> f64 {
    values.iter().fold(0.0, |most, value| most.max(value.abs()))
}

fn values_of(tensor: &Tensor) -> Vec<f64> {
    Vec::try_from(tensor.to_kind(Kind::Double).contiguous().flatten(0, -1)).unwrap()
}

fn expect_pass(what: &str, model: &Model, pass: Pass, golden: &OnePass) {
    let (images, labels) = batch(model);
    let logits = model.forward(&images, pass).unwrap();
    let off = distance(&values_of(&logits), &golden.logits) / largest(&golden.logits);
    assert!(off <= RELATIVE, "{what}: logits are off by {off:e}");
    let loss = logits.cross_entropy_loss::<Tensor>(&labels, None, Reduction::Mean, -100, 0.0);
    let off = (loss.double_value(&[]) / golden.loss - 1.0).abs();
    assert!(off <= RELATIVE, "{what}: the loss is off by {off:e}");
    model.parameters().clear_gradients();
    loss.backward();
    expect_gradients(what, model, &golden.gradient);
}

/// Each gradient relative to its own size, but for rounding of the largest's: that of a bias before batch norm is no more.
fn expect_gradients(what: &str, model: &Model, golden: &Gradients) {
    let gradients = model.parameters().gradients().unwrap();
    let segments = model.parameters().segments().iter();
    let by_name: BTreeMap<&str, &Tensor> = segments
        .zip(gradients.tensors())
        .map(|(segment, tensor)| (segment.name.as_str(), tensor.as_ref().unwrap()))
        .collect();
    assert_eq!(by_name.len(), golden.rms.len(), "{what}");
    let floor = 1e-12 * largest(&golden.rms);
    for (index, (name, gradient)) in by_name.into_iter().enumerate() {
        let values = values_of(gradient);
        let root = (values.len() as f64).sqrt();
        let rms = values.iter().map(|value| value * value).sum::<f64>().sqrt() / root;
        let along = formula::uniform(&format!("projection/{name}"), values.len());
        let projection = along.zip(&values).map(|(weight, value)| weight * value).sum::<f64>() / root;
        let tolerance = RELATIVE * golden.rms[index] + floor;
        let off = distance(&[rms, projection], &[golden.rms[index], golden.projection[index]]);
        assert!(off <= tolerance, "{what}: the gradient of {name} is off by {off:e} of {:e}", golden.rms[index]);
    }
}

fn check(name: &str) {
    let golden = golden(name);
    let own = zoo::spec(name, &ZooOptions::default()).unwrap();
    assert_eq!(Summary::of(&own, Dtype::Float32).unwrap().parameters, golden.parameters, "{name}");

    let double = start(name, &golden.options, Dtype::Float64);
    assert_eq!(entries(&double), golden.entries, "{name}: names or shapes differ from the reference's");
    expect_pass(&format!("{name}, evaluating"), &double, Pass::Eval, &golden.eval);
    let train = Pass::Train { statistics: Statistics::Ignore, mask_seed: MASK_SEED };
    expect_pass(&format!("{name}, training"), &double, train, &golden.train);
    drop(double);

    let single = start(name, &golden.options, Dtype::Float32);
    let logits = values_of(&single.forward(&batch(&single).0, Pass::Eval).unwrap());
    let off = distance(&logits, &golden.eval.logits) / largest(&golden.eval.logits);
    assert!(off <= RELATIVE_SINGLE, "{name}: float32 logits are off by {off:e}");
}

/// Two tests, so that one computes while the other makes numbers of the formula.
fn check_every_second(start: usize) {
    let names = zoo::names().into_iter().filter(|name| !WITHOUT_REFERENCE.contains(name));
    names.skip(start).step_by(2).for_each(check);
}

#[test]
fn models_equal_their_references() {
    check_every_second(0);
}

#[test]
fn the_other_models_equal_their_references() {
    check_every_second(1);
}
