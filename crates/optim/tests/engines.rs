//! Engines compute the same steps: libtorch's operations, and the CUDA library's kernels as their twin, both here on the CPU,
//! against kernels of our own.

mod common;

use common::*;
use flatmin_nn::{Dtype, Engine, Model};
use flatmin_optim::{Loss, Optimizer, Plan, StepOutcome, backward};
use flatmin_torch_ext::cuda::Place;
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
    compare_on(TORCH, dtype, base, sharpness, tolerance);
}

fn compare_on(engine: Engine, dtype: Dtype, base: &Value, sharpness: &Value, tolerance: f64) {
    let (own, torch) = (train(Engine::Cpu, dtype, base, sharpness), train(engine, dtype, base, sharpness));
    for (own, torch) in own.0.iter().zip(&torch.0) {
        assert_eq!(own.finite, torch.finite);
        let differs = |a: f64, b: f64| (a - b).abs() > tolerance * a.abs().max(1e-3);
        assert!(!differs(own.reported.loss, torch.reported.loss), "{sharpness} {base}: {own:?} and {torch:?}");
        assert!(!differs(own.gradient_norm, torch.gradient_norm), "{sharpness} {base}: {own:?} and {torch:?}");
        assert_eq!(own.reported.correct, torch.reported.correct);
        assert_eq!(own.sharpness.is_some(), torch.sharpness.is_some(), "{sharpness} {base}");
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

/// The options that whole steps on a device know.
fn whole_steps() -> Vec<Value> {
    vec![
        Value::Null,
        json!({ "rho": 0.2 }),
        asam(0.5),
        json!({ "rho": 0.2, "scale": "filter", "eta": 0.01 }),
        json!({ "rho": 0.1, "p": 1.5, "scale": "element" }),
        json!({ "rho": 0.2, "scale": "filter", "p": 4.0, "eta": 0.01 }),
        json!({ "rho": 0.01, "p": "inf", "scale": "element", "adaptive": "all" }),
        json!({ "rho": 0.2, "interval": 3 }),
        json!({ "rho": 0.2, "probability": 0.5, "seed": 1 }),
        json!({ "rho": 0.2, "perturb": "norms" }),
        json!({ "rho": 0.2, "restore": "subtract" }),
        json!({ "rho": 0.2, "batchNorm": "both", "metrics": "second" }),
        json!({ "rho": 0.2, "batchNorm": "frozen" }),
        json!({ "rho": 0.2, "masks": "fresh" }),
    ]
}

#[test]
fn whole_steps_by_the_kernels_of_the_cuda_library_are_alike() {
    let twin = Engine::Cuda(Place::twin());
    for sharpness in whole_steps() {
        compare_on(twin, Dtype::Float64, &sgd(), &sharpness, 1e-9);
    }
    for base in ["adam", "adamw"] {
        let base = json!({ "type": base, "lr": 1e-2, "weightDecay": 1e-2 });
        compare_on(twin, Dtype::Float64, &base, &asam(0.5), 1e-9);
    }
    let nesterov = json!({ "type": "sgd", "lr": 0.1, "momentum": 0.9, "weightDecay": 5e-4, "nesterov": true });
    compare_on(twin, Dtype::Float64, &nesterov, &asam(0.5), 1e-9);
    // Variants that it does not know go step by step.
    for (_, sharpness) in variants() {
        compare_on(twin, Dtype::Float64, &sgd(), &sharpness, 1e-9);
    }
}

#[test]
fn steps_taken_apart_are_alike() {
    let all = whole_steps().into_iter().chain(variants().into_iter().map(|(_, sharpness)| sharpness));
    for sharpness in all {
        let states = [Engine::Cpu, Engine::Cuda(Place::twin())].map(|engine| {
            let mut model = model(1).moved(engine).unwrap();
            let mut optimizer = optimizer(&mut model, sgd(), sharpness.clone());
            for seed in 0..4 {
                by_hand(&mut model, &mut optimizer, seed);
            }
            let state = optimizer.state_dict(model.parameters()).unwrap();
            model.state_dict().unwrap().into_iter().chain(state).collect::<Vec<_>>()
        });
        for ((name, own), (_, twin)) in states[0].iter().zip(&states[1]) {
            let distance = distance(twin, own);
            assert!(distance < 1e-9, "{sharpness}: {name} differs by {distance}");
        }
    }
}

/// A step as a loop of one's own takes it.
fn by_hand(model: &mut Model, optimizer: &mut Optimizer, seed: u64) {
    let (images, target) = batch(seed);
    let pass = |model: &Model| backward(model, &images, &target, &Loss::default(), seed).unwrap();
    let plan = optimizer.plan();
    if plan != Some(Plan::Ahead) {
        pass(model);
    }
    if plan.is_none() {
        optimizer.base_step(model).unwrap();
        return;
    }
    while optimizer.ascent_step(model).unwrap().second_pass {
        pass(model);
        if optimizer.descent_step(model).is_ok() {
            return;
        }
    }
    optimizer.descent_step(model).unwrap();
}

#[test]
fn a_whole_step_clips_and_decays_as_the_others() {
    for (decay, clip) in [("loss", Value::Null), ("decoupled", Value::Null), ("optimizer", json!({ "norm": 0.3 }))] {
        let config = json!({ "base": sgd(), "sharpness": asam(0.5), "decay": decay, "clip": clip });
        let states = [Engine::Cpu, Engine::Cuda(Place::twin())].map(|engine| {
            let mut model = model(1).moved(engine).unwrap();
            let mut optimizer = Optimizer::new(&mut model, serde_json::from_value(config.clone()).unwrap()).unwrap();
            for seed in 0..3 {
                step(&mut model, &mut optimizer, &batch(seed), seed);
            }
            model.state_dict().unwrap()
        });
        for ((name, own), (_, twin)) in states[0].iter().zip(&states[1]) {
            let distance = distance(twin, own);
            assert!(distance < 1e-9, "{decay}: {name} differs by {distance}");
        }
    }
}

#[test]
fn rounded_weights_are_perturbed_alike() {
    let first = |engine| train(engine, Dtype::BFloat16, &sgd(), &asam(0.5)).0[0];
    let own = first(Engine::Cpu);
    for other in [first(TORCH), first(Engine::Cuda(Place::twin()))] {
        assert!((own.reported.loss - other.reported.loss).abs() < 0.01 * own.reported.loss);
        let (own, other) = (own.rounding.unwrap(), other.rounding.unwrap());
        let near = (own.ratio - other.ratio).abs() < 0.05 && (own.cosine - other.cosine).abs() < 0.05;
        assert!(near, "{own:?} {other:?}");
    }
}

#[test]
fn a_step_that_is_not_finite_is_skipped() {
    for (engine, sharpness) in [TORCH, Engine::Cuda(Place::twin())].into_iter().zip([asam(0.5), Value::Null]) {
        let mut model = model(4).moved(engine).unwrap();
        let mut optimizer = optimizer(&mut model, sgd(), sharpness);
        step(&mut model, &mut optimizer, &batch(1), 1);
        let before = state(&model);
        let (images, target) = batch(2);
        assert!(!step(&mut model, &mut optimizer, &(images * f64::INFINITY, target), 2).finite);
        assert_eq!((optimizer.skipped(), optimizer.steps(), state(&model)), (1, 1, before));
        assert_eq!(bits(model.parameters().standing()), bits(model.parameters().master()));
        assert!(step(&mut model, &mut optimizer, &batch(3), 3).finite);
    }
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
