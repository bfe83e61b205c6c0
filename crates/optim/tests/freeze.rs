//! Frozen parts of a model: neither perturbed nor updated by any optimizer, and otherwise as if they were constants.

mod common;

use common::*;
use flatmin_nn::Model;
use flatmin_optim::{Loss, Optimizer, OptimizerConfig, StepOptions, backward, train_step};
use serde_json::{Value, json};

const FROZEN: [&str; 2] = ["conv1.*", "bn1.*"];

fn frozen_state(model: &Model) -> Vec<(String, Vec<u64>)> {
    state(model).into_iter().filter(|(name, _)| name.starts_with("conv1.") || name.starts_with("bn1.")).collect()
}

/// Where the network stands for the parameters that are frozen.
fn frozen_leaves(model: &Model) -> Vec<Vec<u64>> {
    let parameters = model.parameters();
    let positions = ["conv1.weight", "bn1.weight", "bn1.bias"].map(|name| parameters.position(name).unwrap());
    positions.iter().map(|&position| bits(&parameters.leaves()[position].detach().contiguous())).collect()
}

#[test]
fn no_variant_perturbs_or_updates_them() {
    let plain = [("plain", Value::Null)];
    for (name, sharpness) in variants().into_iter().chain(plain) {
        let mut model = model(1);
        let mut optimizer = optimizer(&mut model, sgd(), sharpness.clone());
        // Momentum that was there before must not move them either.
        step(&mut model, &mut optimizer, &batch(1), 1);
        model.freeze(&FROZEN).unwrap();
        let (before, leaves, whole) = (frozen_state(&model), frozen_leaves(&model), state(&model));
        for seed in 2..5 {
            if !sharpness.is_null() && optimizer.plan() == Some(flatmin_optim::Plan::Ahead) {
                optimizer.ascent_step(&mut model).unwrap();
                assert_eq!(frozen_leaves(&model), leaves, "{name} perturbs");
                optimizer.abandon_step(&mut model).unwrap();
            }
            assert!(step(&mut model, &mut optimizer, &batch(seed), seed).finite, "{name}");
        }
        assert_eq!(frozen_state(&model), before, "{name}");
        assert_ne!(state(&model), whole, "{name} stands still");
    }
}

#[test]
fn the_rest_trains_as_with_a_group_that_stands_still() {
    let alone = json!({ "parameters": FROZEN, "lr": 0, "weightDecay": 0 });
    let mut still = alone.clone();
    still["perturb"] = json!(false);
    let cases = [
        (Value::Null, alone),
        (asam(0.5), still.clone()),
        (json!({ "rho": 0.2, "variant": { "type": "random" } }), still.clone()),
        (json!({ "rho": 0.2, "variant": { "type": "msam" } }), still.clone()),
        (json!({ "rho": 0.2, "variant": { "type": "extragradient" } }), still),
    ];
    for (sharpness, group) in cases {
        let run = |groups: Value, freeze: &[&str]| {
            let config = json!({ "base": sgd(), "sharpness": sharpness, "groups": groups });
            let config: OptimizerConfig = serde_json::from_value(config).unwrap();
            let mut model = model(2);
            let mut optimizer = Optimizer::new(&mut model, config).unwrap();
            if !freeze.is_empty() {
                model.freeze(freeze).unwrap();
            }
            for seed in 0..4 {
                step(&mut model, &mut optimizer, &batch(seed), seed);
            }
            state(&model)
        };
        let frozen = run(json!([]), &["conv1.*", "bn1.weight", "bn1.bias"]);
        assert_eq!(frozen, run(json!([group]), &[]), "{sharpness}");
    }
}

#[test]
fn only_norms_that_are_perturbed_may_be_frozen_too() {
    let mut model = model(3);
    let mut sam = optimizer(&mut model, sgd(), json!({ "rho": 0.2, "perturb": "norms" }));
    model.freeze(&["bn1.*"]).unwrap();
    assert_eq!(step(&mut model, &mut sam, &batch(1), 1).sharpness, Some(0.0));
}

#[test]
fn freezing_forgets_their_gradient_and_unfreezing_brings_it_back() {
    let mut model = model(4);
    let (images, target) = batch(1);
    let present = |model: &Model| {
        let position = model.parameters().position("conv1.weight").unwrap();
        model.parameters().gradients().unwrap().tensors()[position].is_some()
    };
    backward(&model, &images, &target, &Loss::default(), 1).unwrap();
    model.freeze(&["conv1.weight"]).unwrap();
    assert!(!present(&model));
    backward(&model, &images, &target, &Loss::default(), 1).unwrap();
    assert!(!present(&model));
    model.unfreeze(&["conv1.*"]).unwrap();
    backward(&model, &images, &target, &Loss::default(), 1).unwrap();
    assert!(present(&model));
}

/// Batch norm then is a fixed map: a batch's images do not see each other.
#[test]
fn frozen_statistics_normalise_and_stay() {
    let mut model = model_with_dropout(5, 0.0);
    let mut sgd = optimizer(&mut model, sgd(), Value::Null);
    step(&mut model, &mut sgd, &batch(1), 1);
    model.freeze(&["*.running_*"]).unwrap();
    assert_eq!(model.frozen(), ["bn1.running_mean", "bn1.running_var", "bn1.num_batches_tracked"]);
    let statistics = |model: &Model| -> Vec<_> {
        state(model).into_iter().filter(|(name, _)| model.frozen().contains(name)).collect()
    };
    let before = statistics(&model);
    let (images, target) = batch(2);
    let whole = pass(&model, &images, &target);
    model.parameters().clear_gradients();
    let halves: f64 = [0, 8]
        .iter()
        .map(|&start| {
            let part = target.narrow(start, 8).unwrap();
            pass(&model, &images.narrow(0, start, 8), &part) / 2.0
        })
        .sum();
    assert!((whole - halves).abs() < 1e-12, "{whole} {halves}");
    model.parameters().clear_gradients();
    train_step(&mut model, &mut sgd, &images, &target, &Loss::default(), StepOptions::new(1)).unwrap();
    assert_eq!(statistics(&model), before);
    model.unfreeze(&["bn1.*"]).unwrap();
    step(&mut model, &mut sgd, &batch(3), 3);
    assert_eq!(model.frozen(), Vec::<String>::new());
    assert_ne!(state(&model).into_iter().filter(|(name, _)| name.contains("running")).collect::<Vec<_>>(), before);
}

#[test]
fn patterns_that_fit_nothing_or_everything_are_refused() {
    let mut model = model(6);
    for patterns in [&["*"][..], &["conv*", "bn1.*", "fc.*"]] {
        let error = model.freeze(patterns).unwrap_err();
        assert_eq!(error.code(), "ERR_FLATMIN_OPTION");
        assert!(error.to_string().contains("something to train"), "{error}");
    }
    let error = model.freeze(&["conv1.*", "layer1.*"]).unwrap_err();
    assert!(error.to_string().contains("'layer1.*'") && error.to_string().contains("'conv1.weight'"), "{error}");
    assert!(model.unfreeze(&["layer1.*"]).is_err());
    assert_eq!(model.frozen(), Vec::<String>::new());
}
