//! Engines compute the same steps: libtorch's operations, here on the CPU, against kernels of our own.

mod common;

use common::*;
use flatmin_nn::{Dtype, Engine, Model};
use flatmin_optim::{Optimizer, StepOutcome};
use serde_json::{Value, json};
use tch::{Device, Kind, Tensor};

const TORCH: Engine = Engine::Torch(Device::Cpu);

/// Steps taken on an engine, and the numbers they ended with: weights, statistics and the optimizer's state.
fn train(engine: Engine, dtype: Dtype, base: &Value, sharpness: &Value) -> (Vec<StepOutcome>, Vec<(String, Tensor)>) {
    let mut model = Model::new(model(1).spec().clone(), dtype, 1).unwrap().moved(engine).unwrap();
    assert_eq!(model.engine(), engine);
    let mut optimizer = optimizer(&mut model, base.clone(), sharpness.clone());
    let outcomes = (0..5).map(|seed| {
        let (images, target) = batch(seed);
        step(&mut model, &mut optimizer, &(images.to_kind(dtype.kind()), target), seed)
    });
    let outcomes = outcomes.collect();
    let state = optimizer.state_dict(model.parameters()).unwrap();
    (outcomes, model.state_dict().unwrap().into_iter().chain(state).collect())
}

fn distance(a: &Tensor, b: &Tensor) -> f64 {
    let (a, b) = (a.to_kind(Kind::Double), b.to_kind(Kind::Double));
    let scale = f64::try_from(b.norm()).unwrap().max(1e-3);
    f64::try_from((a - b).norm()).unwrap() / scale
}

fn compare(dtype: Dtype, base: &Value, sharpness: &Value, tolerance: f64) {
    let (own, torch) = (train(Engine::Cpu, dtype, base, sharpness), train(TORCH, dtype, base, sharpness));
    for (own, torch) in own.0.iter().zip(&torch.0) {
        assert_eq!(own.finite, torch.finite);
        let differs = |a: f64, b: f64| (a - b).abs() > tolerance * a.abs().max(1e-3);
        assert!(!differs(own.reported.loss, torch.reported.loss), "{sharpness} {base}: {own:?} and {torch:?}");
        assert!(!differs(own.gradient_norm, torch.gradient_norm), "{sharpness} {base}: {own:?} and {torch:?}");
    }
    assert_eq!(own.1.len(), torch.1.len());
    for ((name, own), (other, torch)) in own.1.iter().zip(&torch.1) {
        assert_eq!(name, other);
        let distance = distance(torch, own);
        assert!(distance <= tolerance, "{sharpness} {base}: {name} differs by {distance}");
    }
}

#[test]
fn every_variant_steps_alike() {
    for (_, sharpness) in variants() {
        compare(Dtype::Float64, &sgd(), &sharpness, 1e-10);
    }
    compare(Dtype::Float64, &sgd(), &Value::Null, 1e-12);
    compare(Dtype::Float64, &sgd(), &json!({ "rho": 0.1, "p": 1.5, "scale": "element" }), 1e-10);
    compare(Dtype::Float64, &sgd(), &json!({ "rho": 0.1, "restore": "subtract" }), 1e-10);
    let masked = json!({ "rho": 0.2, "seed": 5, "variant": { "type": "esam", "beta": 0.5, "mask": "element" } });
    compare(Dtype::Float64, &sgd(), &masked, 1e-10);
}

#[test]
fn every_base_optimizer_steps_alike() {
    let nesterov = json!({ "type": "sgd", "lr": 0.1, "momentum": 0.9, "weightDecay": 5e-4, "nesterov": true });
    let damped = json!({ "type": "sgd", "lr": 0.1, "momentum": 0.9, "dampening": 0.3 });
    let adam = json!({ "type": "adam", "lr": 1e-2, "weightDecay": 1e-2 });
    let adamw = json!({ "type": "adamw", "lr": 1e-2, "weightDecay": 1e-2 });
    for base in [nesterov, damped, adam, adamw, json!({ "type": "sgd", "lr": 0.1 })] {
        compare(Dtype::Float64, &base, &asam(0.5), 1e-9);
    }
}

#[test]
fn rounded_weights_are_perturbed_alike() {
    let (own, torch) = (
        train(Engine::Cpu, Dtype::BFloat16, &sgd(), &asam(0.5)).0,
        train(TORCH, Dtype::BFloat16, &sgd(), &asam(0.5)).0,
    );
    let (own, torch) = (&own[0], &torch[0]);
    assert!((own.reported.loss - torch.reported.loss).abs() < 0.01 * own.reported.loss);
    let (own, torch) = (own.rounding.unwrap(), torch.rounding.unwrap());
    assert!((own.ratio - torch.ratio).abs() < 0.05 && (own.cosine - torch.cosine).abs() < 0.05, "{own:?} {torch:?}");
}

#[test]
fn a_step_that_is_not_finite_is_skipped() {
    let mut model = model(4).moved(TORCH).unwrap();
    let mut optimizer = optimizer(&mut model, sgd(), asam(0.5));
    step(&mut model, &mut optimizer, &batch(1), 1);
    let before = state(&model);
    let (images, target) = batch(2);
    assert!(!step(&mut model, &mut optimizer, &(images * f64::INFINITY, target), 2).finite);
    assert_eq!((optimizer.skipped(), state(&model)), (1, before));
    assert_eq!(bits(model.parameters().working()), bits(model.parameters().master()));
}

#[test]
fn moving_keeps_weights_statistics_and_what_is_frozen() {
    let mut model = model(4);
    let mut optimizer = optimizer(&mut model, sgd(), Value::Null);
    step(&mut model, &mut optimizer, &batch(1), 1);
    model.freeze(&["conv1.*"]).unwrap();
    let (before, frozen) = (state(&model), model.frozen());
    let mut model = model.moved(TORCH).unwrap();
    assert_eq!((state(&model), model.frozen()), (before, frozen));
    assert_eq!(model.twin().unwrap().engine(), TORCH);
    // Its state lies where the model was.
    let error = optimizer.base_step(&mut model).unwrap_err();
    assert_eq!(error.code(), "ERR_FLATMIN_DEVICE");
    assert!(Optimizer::new(&mut model, optimizer.config().clone()).is_ok());
}
