//! A step as docs/semantics.md states it, on a small net in float64.

mod common;

use common::*;
use flatmin_nn::{Model, Pass, Statistics};
use flatmin_optim::{Factors, Loss, Optimizer, Phase, StepOptions, Target, train_step};
use flatmin_torch_ext::clear_grad;
use serde_json::{Value, json};
use tch::{Device, Kind, Tensor, no_grad};

#[test]
fn rho_zero_is_the_base_optimizer_bit_for_bit() {
    for base in
        [sgd(), json!({ "type": "adam", "lr": 0.01 }), json!({ "type": "adamw", "lr": 0.01, "weightDecay": 0.1 })]
    {
        let (mut plain_model, mut sam_model) = (model(1), model(1));
        let mut plain = optimizer(&mut plain_model, base.clone(), Value::Null);
        let mut sam = optimizer(&mut sam_model, base, asam(0.0));
        for step in 0..4 {
            let (images, target) = batch(step);
            let loss = Loss::CrossEntropy { label_smoothing: 0.1, class_weights: None };
            train_step(&mut plain_model, &mut plain, &images, &target, &loss, StepOptions::new(step)).unwrap();
            train_step(&mut sam_model, &mut sam, &images, &target, &loss, StepOptions::new(step)).unwrap();
        }
        assert_eq!(state(&plain_model), state(&sam_model));
    }
}

#[test]
fn weights_return_bit_for_bit() {
    let mut model = model(2);
    let mut optimizer = optimizer(&mut model, json!({ "type": "sgd", "lr": 0.0 }), asam(5.0));
    let (images, target) = batch(1);
    let before = bits(model.parameters().standing());
    pass(&model, &images, &target);
    optimizer.ascent_step(&mut model).unwrap();
    assert_ne!(bits(model.parameters().standing()), before);
    assert_eq!(bits(model.parameters().master()), before, "the ascent leaves the master alone");
    pass(&model, &images, &target);
    optimizer.descent_step(&mut model).unwrap();
    assert_eq!(bits(model.parameters().standing()), before, "lr 0: nothing but the return");

    pass(&model, &images, &target);
    optimizer.ascent_step(&mut model).unwrap();
    optimizer.abandon_step(&mut model).unwrap();
    assert_eq!(bits(model.parameters().standing()), before);
    assert_eq!(optimizer.phase(), Phase::Clean);
}

#[test]
fn the_perturbation_has_norm_rho_in_the_metric_of_t() {
    let mut model = model(3);
    let mut optimizer = optimizer(&mut model, sgd(), asam(0.7));
    let (images, target) = batch(2);
    pass(&model, &images, &target);
    optimizer.ascent_step(&mut model).unwrap();
    let square: f64 = model
        .parameters()
        .segments()
        .iter()
        .enumerate()
        .map(|(position, segment)| {
            let eps = perturbation(&model, &segment.name);
            let weights = model.parameters().read(position).unwrap();
            let scale = if segment.kind.is_weight() { weights.abs() + 0.01 } else { weights.ones_like() };
            (eps / scale).square().sum(Kind::Double).double_value(&[])
        })
        .sum();
    assert!((square.sqrt() - 0.7).abs() < 1e-12, "{}", square.sqrt());
}

/// The loss after an ascent at w and at A w, where A keeps the function: filters before a batch norm times a, and weights
/// and biases of one layer times a with those that read them divided by it.
fn loss_after_ascent(sharpness: Value, a: f64) -> (f64, f64) {
    let mut model = model(4);
    let scales = [
        ("conv1.weight", a),
        ("bn1.weight", a),
        ("bn1.bias", a),
        ("conv2.weight", 1.0),
        ("conv2.bias", a),
        ("fc.weight", 1.0 / a),
    ];
    for (name, scale) in scales {
        let position = model.parameters().position(name).unwrap();
        let value = model.parameters().read(position).unwrap() * scale;
        model.parameters_mut().write(position, &value).unwrap();
    }
    let mut optimizer = optimizer(&mut model, sgd(), sharpness);
    let (images, target) = batch(3);
    let at_w = pass(&model, &images, &target);
    optimizer.ascent_step(&mut model).unwrap();
    (at_w, pass(&model, &images, &target))
}

#[test]
fn asam_is_invariant_under_rescaling_and_sam_is_not() {
    let (at_w, invariant_1) = loss_after_ascent(invariant(0.3), 1.0);
    let sam_1 = loss_after_ascent(json!({ "rho": 0.3 }), 1.0).1;
    for a in [2.0, 0.25, 10.0] {
        let (rescaled, invariant_a) = loss_after_ascent(invariant(0.3), a);
        assert!((rescaled - at_w).abs() < 1e-12, "A keeps the function");
        assert!((invariant_a - invariant_1).abs() < 1e-11, "{a}: {invariant_a} and {invariant_1}");
        let sam_a = loss_after_ascent(json!({ "rho": 0.3 }), a).1;
        assert!((sam_a - sam_1).abs() > 1e-3, "{a}: SAM must change");
    }
    assert!(invariant_1 > at_w && sam_1 > at_w, "the ascent ascends");
}

#[test]
fn a_parameter_without_a_gradient_stays() {
    let mut model = model(5);
    let mut optimizer = optimizer(&mut model, sgd(), asam(0.5));
    let (images, target) = batch(4);
    let position = |model: &Model, name| model.parameters().position(name).unwrap();
    let fc = position(&model, "fc.weight");
    let before = bits(&model.parameters().read(fc).unwrap());

    pass(&model, &images, &target);
    clear_grad(&model.parameters().leaves()[fc]);
    optimizer.ascent_step(&mut model).unwrap();
    assert_eq!(perturbation(&model, "fc.weight").abs().max().double_value(&[]), 0.0, "not perturbed");
    assert!(perturbation(&model, "conv1.weight").abs().max().double_value(&[]) > 0.0);

    pass(&model, &images, &target);
    let conv = position(&model, "conv1.weight");
    clear_grad(&model.parameters().leaves()[conv]);
    let conv_before = bits(&model.parameters().read(conv).unwrap());
    optimizer.descent_step(&mut model).unwrap();
    assert_eq!(bits(&model.parameters().read(conv).unwrap()), conv_before, "no decay, no momentum");
    assert_eq!(perturbation(&model, "conv1.weight").abs().max().double_value(&[]), 0.0, "not left perturbed");
    assert_ne!(bits(&model.parameters().read(fc).unwrap()), before);
}

#[test]
fn a_zero_gradient_perturbs_nothing() {
    let mut model = model(6);
    let mut optimizer = optimizer(&mut model, sgd(), invariant(0.5));
    let (images, target) = batch(5);
    pass(&model, &images, &target);
    for leaf in model.parameters().leaves() {
        let _ = no_grad(|| leaf.grad().zero_());
    }
    let before = bits(model.parameters().standing());
    assert!(optimizer.ascent_step(&mut model).unwrap().finite);
    assert_eq!(bits(model.parameters().standing()), before);
}

#[test]
fn a_gradient_that_is_not_finite_skips_the_step_in_either_pass() {
    for bad_pass in [1, 2] {
        let mut model = model(7);
        let mut optimizer = optimizer(&mut model, sgd(), asam(0.5));
        let (images, target) = batch(6);
        train_step(&mut model, &mut optimizer, &images, &target, &Loss::default(), StepOptions::new(1)).unwrap();
        let before = (
            state(&model),
            optimizer.state_dict(model.parameters()).unwrap().iter().map(|(_, t)| bits(t)).collect::<Vec<_>>(),
        );
        let poison = |model: &Model| {
            let _ = no_grad(|| model.parameters().leaves()[0].grad().get(3).fill_(f64::NAN));
        };
        pass(&model, &images, &target);
        if bad_pass == 1 {
            poison(&model);
        }
        assert_eq!(optimizer.ascent_step(&mut model).unwrap().finite, bad_pass == 2);
        pass(&model, &images, &target);
        if bad_pass == 2 {
            poison(&model);
        }
        assert!(!optimizer.descent_step(&mut model).unwrap().finite);
        let after = (
            state(&model),
            optimizer.state_dict(model.parameters()).unwrap().iter().map(|(_, t)| bits(t)).collect::<Vec<_>>(),
        );
        assert_eq!(before, after, "weights, statistics and momentum as before the step");
        assert_eq!(bits(model.parameters().standing()), bits(model.parameters().master()));
        assert_eq!((optimizer.steps(), optimizer.skipped()), (1, 1));
        // And training goes on.
        assert!(
            train_step(&mut model, &mut optimizer, &images, &target, &Loss::default(), StepOptions::new(2))
                .unwrap()
                .finite
        );
    }
}

#[test]
fn an_infinite_input_skips_a_whole_step() {
    let mut model = model(7);
    let mut optimizer = optimizer(&mut model, sgd(), asam(0.5));
    let (images, target) = batch(6);
    let before = state(&model);
    let outcome = train_step(
        &mut model,
        &mut optimizer,
        &(images * f64::INFINITY),
        &target,
        &Loss::default(),
        StepOptions::new(1),
    )
    .unwrap();
    assert!(!outcome.finite && outcome.sharpness.is_none());
    assert_eq!(state(&model), before);
}

#[test]
fn running_statistics_come_from_the_first_pass_or_from_both() {
    let statistics = |policy: &str, lr: f64| {
        let mut model = model(8);
        let sharpness = json!({ "rho": 0.5, "batchNorm": policy });
        let mut optimizer = optimizer(&mut model, json!({ "type": "sgd", "lr": lr }), sharpness);
        let (images, target) = batch(7);
        train_step(&mut model, &mut optimizer, &images, &target, &Loss::default(), StepOptions::new(1)).unwrap();
        state(&model).into_iter().filter(|(name, _)| name.contains("running")).collect::<Vec<_>>()
    };
    let expected = {
        let mut model = model(8);
        let (images, _) = batch(7);
        let _ = model.forward(&images, Pass::Train { statistics: Statistics::Stage, mask_seed: 1 }).unwrap();
        model.commit_statistics();
        state(&model).into_iter().filter(|(name, _)| name.contains("running")).collect::<Vec<_>>()
    };
    assert_eq!(statistics("first", 0.1), expected);
    assert_ne!(statistics("both", 0.1), expected);
}

#[test]
fn both_passes_see_the_same_masks() {
    let mut model = model(9);
    let mut optimizer = optimizer(&mut model, sgd(), json!({ "rho": 0.0 }));
    let (images, target) = batch(8);
    let outcome =
        train_step(&mut model, &mut optimizer, &images, &target, &Loss::default(), StepOptions::new(1)).unwrap();
    assert_eq!(outcome.sharpness, Some(0.0));
}

#[test]
fn steps_in_the_wrong_order_are_refused_and_change_nothing() {
    let mut model = model(10);
    let mut sam = optimizer(&mut model, sgd(), asam(0.5));
    let mut plain = optimizer(&mut model, sgd(), Value::Null);
    let (images, target) = batch(9);
    let code = |result: flatmin_optim::Result<flatmin_optim::StepInfo>| result.unwrap_err().code();
    let before = state(&model);
    assert_eq!(code(sam.ascent_step(&mut model)), "ERR_FLATMIN_STEP_ORDER", "no gradients");
    assert_eq!(code(sam.descent_step(&mut model)), "ERR_FLATMIN_STEP_ORDER", "no ascent");
    assert_eq!(code(plain.base_step(&mut model)), "ERR_FLATMIN_STEP_ORDER", "no gradients");
    pass(&model, &images, &target);
    assert_eq!(code(plain.ascent_step(&mut model)), "ERR_FLATMIN_STEP_ORDER", "not sharpness-aware");
    sam.ascent_step(&mut model).unwrap();
    assert_eq!(code(sam.ascent_step(&mut model)), "ERR_FLATMIN_STEP_ORDER", "twice");
    assert_eq!(code(sam.base_step(&mut model)), "ERR_FLATMIN_STEP_ORDER", "in between");
    assert_eq!(code(sam.descent_step(&mut model)), "ERR_FLATMIN_STEP_ORDER", "no second gradients");
    sam.abandon_step(&mut model).unwrap();
    assert_eq!(state(&model), before);
}

#[test]
fn a_bad_batch_leaves_the_model_at_w() {
    let mut model = model(11);
    let mut sam = optimizer(&mut model, sgd(), asam(0.5));
    let (images, _) = batch(10);
    let before = state(&model);
    let labels = Target::Classes(Tensor::full([16], 4, (Kind::Int64, Device::Cpu)));
    let error = train_step(&mut model, &mut sam, &images, &labels, &Loss::default(), StepOptions::new(1)).unwrap_err();
    assert_eq!(error.code(), "ERR_FLATMIN_DATA");
    let short = Target::Classes(Tensor::zeros([3], (Kind::Int64, Device::Cpu)));
    let error = train_step(&mut model, &mut sam, &images, &short, &Loss::default(), StepOptions::new(1)).unwrap_err();
    assert_eq!(error.code(), "ERR_FLATMIN_SHAPE");
    assert_eq!(state(&model), before);
}

#[test]
fn a_restored_optimizer_continues_bit_for_bit() {
    for base in [sgd(), json!({ "type": "adam", "lr": 0.01 })] {
        let step = |model: &mut Model, optimizer: &mut Optimizer, seed| {
            let (images, target) = batch(seed);
            train_step(model, optimizer, &images, &target, &Loss::default(), StepOptions::new(seed)).unwrap();
        };
        let mut first = model(12);
        let mut original = optimizer(&mut first, base.clone(), asam(0.5));
        step(&mut first, &mut original, 1);
        step(&mut first, &mut original, 2);

        let mut second = model(99);
        let mut restored = optimizer(&mut second, base, asam(0.5));
        second.load_state_dict(first.state_dict().unwrap(), true).unwrap();
        let arenas = original.state_dict(first.parameters()).unwrap();
        restored.load_state(&mut second, &arenas, &original.counters(first.parameters())).unwrap();
        for seed in 3..6 {
            step(&mut first, &mut original, seed);
            step(&mut second, &mut restored, seed);
        }
        assert_eq!(state(&first), state(&second));
        assert_eq!(original.steps(), restored.steps());

        let alien = [("momentum.nowhere".to_string(), Tensor::zeros([1], (Kind::Double, Device::Cpu)))];
        let error = restored.load_state(&mut second, &alien, &original.counters(first.parameters())).unwrap_err();
        assert_eq!(error.code(), "ERR_FLATMIN_CHECKPOINT");
    }
}

#[test]
fn options_out_of_range_are_named() {
    let mut model = model(13);
    let cases = [
        (json!({ "type": "sgd", "lr": -1.0 }), Value::Null, "lr"),
        (json!({ "type": "sgd", "lr": 0.1, "nesterov": true }), Value::Null, "nesterov"),
        (json!({ "type": "adam", "betas": [0.9, 1.0] }), Value::Null, "betas"),
        (sgd(), json!({ "rho": -0.1 }), "rho"),
    ];
    for (base, sharpness, option) in cases {
        let config = serde_json::from_value(json!({ "base": base, "sharpness": sharpness })).unwrap();
        let error = Optimizer::new(&mut model, config).map(|_| ()).unwrap_err();
        assert_eq!(error.code(), "ERR_FLATMIN_OPTION");
        assert!(error.to_string().contains(option), "{error}");
    }
    let mut optimizer = optimizer(&mut model, json!({ "type": "adam" }), Value::Null);
    assert!(optimizer.set_group(0, "momentum", 0.5).is_err());
    assert!(optimizer.set_group(1, "lr", 0.5).is_err());
    optimizer.set_group(0, "lr", 0.5).unwrap();
    assert_eq!(optimizer.lr(), 0.5);
}

#[test]
fn factors_multiply_the_groups_own_values() {
    let bases: [fn(f64) -> Value; 2] = [
        |factor| json!({ "type": "sgd", "lr": 0.1 * factor, "momentum": 0.9 * factor, "weightDecay": 5e-4 }),
        |factor| json!({ "type": "adamw", "lr": 0.01 * factor, "betas": [0.9 * factor, 0.99], "weightDecay": 0.1 }),
    ];
    for base in bases {
        let (mut own_model, mut scaled_model) = (model(6), model(6));
        // Halves are exact.
        let mut own = optimizer(&mut own_model, base(0.5), asam(0.25));
        let mut scaled = optimizer(&mut scaled_model, base(1.0), asam(1.0));
        scaled.set_factors(Factors { lr: 0.5, rho: 0.25, momentum: 0.5 });
        for seed in 0..3 {
            step(&mut own_model, &mut own, &batch(seed), seed);
            step(&mut scaled_model, &mut scaled, &batch(seed), seed);
        }
        assert_eq!(state(&own_model), state(&scaled_model));
        let in_force = |optimizer: &Optimizer| (optimizer.lr(), optimizer.rho(), optimizer.momentum());
        assert_eq!(in_force(&own), in_force(&scaled));
    }
}
