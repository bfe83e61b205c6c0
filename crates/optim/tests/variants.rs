//! The variants as strategies of one wrapper: when they make two passes, what they keep, and what holds for each of them.
//! (Their numbers are held to transcriptions of the formulas by the golden tests.)

mod common;

use common::*;
use flatmin_nn::Model;
use flatmin_optim::{Loss, Optimizer, OptimizerConfig, Plan, StepOptions, Target, backward, train_step};
use serde_json::{Value, json};
use tch::{Device, Kind, Tensor, no_grad};

fn momentum_and_state(model: &Model, optimizer: &Optimizer) -> Vec<(String, Vec<u64>)> {
    let state = optimizer.state_dict(model.parameters()).unwrap();
    state.iter().map(|(name, tensor)| (name.clone(), bits(tensor))).collect()
}

#[test]
fn each_trains_leaves_no_perturbation_and_repeats_to_the_bit() {
    for (name, sharpness) in variants() {
        let run = || {
            let mut model = model(1);
            let mut optimizer = optimizer(&mut model, sgd(), sharpness.clone());
            for seed in 0..7 {
                let outcome = step(&mut model, &mut optimizer, &batch(seed), seed);
                assert!(outcome.finite && outcome.reported.loss.is_finite(), "{name}");
                assert_eq!(bits(model.parameters().standing()), bits(model.parameters().master()), "{name}");
                assert!(!model.parameters().has_gradients().unwrap(), "{name} leaves gradients");
            }
            assert_eq!(optimizer.steps(), 7);
            state(&model)
        };
        let (first, second) = (run(), run());
        assert_eq!(first, second, "{name}");
        assert_ne!(first, state(&model(1)), "{name} stands still");
    }
}

#[test]
fn each_goes_on_to_the_bit_from_its_saved_state() {
    for (name, sharpness) in variants() {
        let (mut first, mut second) = (model(2), model(3));
        let mut original = optimizer(&mut first, sgd(), sharpness.clone());
        for seed in 0..4 {
            step(&mut first, &mut original, &batch(seed), seed);
        }
        let mut restored = optimizer(&mut second, sgd(), sharpness);
        second.load_state_dict(first.state_dict().unwrap(), true).unwrap();
        let saved = original.state_dict(first.parameters()).unwrap();
        restored.load_state(&mut second, &saved, &original.counters(first.parameters())).unwrap();
        for seed in 4..9 {
            step(&mut first, &mut original, &batch(seed), seed);
            step(&mut second, &mut restored, &batch(seed), seed);
        }
        assert_eq!(state(&first), state(&second), "{name}");
    }
}

#[test]
fn each_skips_a_step_that_is_not_finite_and_changes_nothing() {
    for (name, sharpness) in variants() {
        let mut model = model(4);
        let mut optimizer = optimizer(&mut model, sgd(), sharpness);
        for seed in 0..4 {
            step(&mut model, &mut optimizer, &batch(seed), seed);
        }
        let before = (state(&model), momentum_and_state(&model, &optimizer));
        let (images, target) = batch(9);
        let outcome = step(&mut model, &mut optimizer, &(images * f64::INFINITY, target), 9);
        assert!(!outcome.finite, "{name}");
        assert_eq!(optimizer.skipped(), 1, "{name}");
        assert_eq!((state(&model), momentum_and_state(&model, &optimizer)), before, "{name}");
        assert!(step(&mut model, &mut optimizer, &batch(5), 5).finite, "{name} goes on");
    }
}

#[test]
fn a_second_gradient_that_is_not_finite_changes_nothing_either() {
    for (name, sharpness) in variants() {
        let mut model = model(4);
        let mut optimizer = optimizer(&mut model, sgd(), sharpness);
        if optimizer.plan() != Some(Plan::Both) || optimizer.sharpness().unwrap().inner_steps > 1 {
            continue;
        }
        let before = (state(&model), momentum_and_state(&model, &optimizer));
        let (images, target) = batch(9);
        backward(&model, &images, &target, &Loss::default(), 1).unwrap();
        assert!(optimizer.ascent_step(&mut model).unwrap().finite, "{name}");
        backward(&model, &images, &target, &Loss::default(), 1).unwrap();
        let _ = no_grad(|| model.parameters().leaves()[0].grad().get(1).fill_(f64::INFINITY));
        assert!(!optimizer.descent_step(&mut model).unwrap().finite, "{name}");
        assert_eq!((state(&model), momentum_and_state(&model, &optimizer)), before, "{name}");
    }
}

#[test]
fn plans_follow_interval_probability_and_what_was_kept() {
    let plans = |sharpness: Value, steps: u64| {
        let mut model = model(5);
        let mut optimizer = optimizer(&mut model, sgd(), sharpness);
        let plans: Vec<Plan> = (0..steps)
            .map(|seed| {
                let plan = optimizer.plan().unwrap();
                step(&mut model, &mut optimizer, &batch(seed), seed);
                plan
            })
            .collect();
        plans
    };
    use Plan::{Ahead, Both, Plain, Reuse};
    assert_eq!(plans(json!({ "rho": 0.1, "interval": 3 }), 5), [Both, Plain, Plain, Both, Plain]);
    let look = json!({ "rho": 0.1, "variant": { "type": "looksam", "interval": 3 } });
    assert_eq!(plans(look, 5), [Both, Reuse, Reuse, Both, Reuse]);
    assert_eq!(plans(json!({ "rho": 0.1, "variant": { "type": "msam" } }), 2), [Ahead, Ahead]);
    let coins = plans(json!({ "rho": 0.1, "probability": 0.5, "seed": 8 }), 40);
    let heads = coins.iter().filter(|&&plan| plan == Both).count();
    assert!((8..=32).contains(&heads), "{heads} of 40");
    assert_ne!(coins, plans(json!({ "rho": 0.1, "probability": 0.5, "seed": 9 }), 40));
}

#[test]
fn a_plain_step_is_the_base_optimizers() {
    let (mut plain_model, mut sam_model) = (model(6), model(6));
    let mut plain = optimizer(&mut plain_model, sgd(), Value::Null);
    let mut sam = optimizer(&mut sam_model, sgd(), json!({ "rho": 0.3, "probability": 1e-12 }));
    for seed in 0..3 {
        step(&mut plain_model, &mut plain, &batch(seed), seed);
        step(&mut sam_model, &mut sam, &batch(seed), seed);
    }
    assert_eq!(state(&plain_model), state(&sam_model));
}

#[test]
fn one_micro_batch_of_all_samples_is_sam() {
    let run = |sharpness: Value| {
        let mut model = model(7);
        let mut optimizer = optimizer(&mut model, sgd(), sharpness);
        for seed in 0..3 {
            step(&mut model, &mut optimizer, &batch(seed), seed);
        }
        state(&model)
    };
    assert_eq!(run(json!({ "rho": 0.3, "microBatch": 16 })), run(json!({ "rho": 0.3 })));
    assert_ne!(run(json!({ "rho": 0.3, "microBatch": 4 })), run(json!({ "rho": 0.3 })));
}

#[test]
fn sam_on_moves_norm_layers_alone_and_differentiates_with_respect_to_them() {
    let mut model = model(8);
    let mut optimizer = optimizer(&mut model, sgd(), json!({ "rho": 0.3, "perturb": "norms" }));
    let (images, target) = batch(1);
    backward(&model, &images, &target, &Loss::default(), 1).unwrap();
    optimizer.ascent_step(&mut model).unwrap();
    let mut square = 0.0;
    for segment in model.parameters().segments() {
        let eps = perturbation(&model, &segment.name).square().sum(Kind::Double).double_value(&[]);
        assert_eq!(eps > 0.0, segment.name.starts_with("bn1"), "{}", segment.name);
        square += eps;
    }
    assert!((square.sqrt() - 0.3).abs() < 1e-12);
    optimizer.abandon_step(&mut model).unwrap();
    // A whole step computes only those gradients in its first pass, to the same end.
    let (mut whole, mut pieces) = (common::model(8), model);
    let mut by_step = common::optimizer(&mut whole, sgd(), json!({ "rho": 0.3, "perturb": "norms" }));
    step(&mut whole, &mut by_step, &batch(1), 1);
    for half in [Optimizer::ascent_step, Optimizer::descent_step] {
        backward(&pieces, &images, &target, &Loss::default(), 1).unwrap();
        half(&mut optimizer, &mut pieces).unwrap();
    }
    assert_eq!(state(&whole), state(&pieces));
}

#[test]
fn groups_have_their_own_radius_and_one_joint_norm() {
    let config = json!({
        "base": sgd(),
        "groups": [
            { "parameters": ["conv2.*"], "rho": 0.0 },
            { "kinds": ["normWeight", "normBias"], "perturb": false, "weightDecay": 0.0 },
            { "parameters": ["fc.weight"], "rho": 0.4, "lr": 0.0 },
        ],
        "sharpness": { "rho": 0.2 },
    });
    let mut model = model(9);
    let config: OptimizerConfig = serde_json::from_value(config).unwrap();
    let mut optimizer = Optimizer::new(&mut model, config).unwrap();
    let (images, target) = batch(2);
    backward(&model, &images, &target, &Loss::default(), 1).unwrap();
    let gradient = |name: &str| model.parameters().leaves()[model.parameters().position(name).unwrap()].grad().copy();
    let names: Vec<String> = model.parameters().segments().iter().map(|segment| segment.name.clone()).collect();
    let gradients: Vec<Tensor> = names.iter().map(|name| gradient(name)).collect();
    // rho 0 stays in the norm, perturb: false leaves it.
    let norm = names
        .iter()
        .zip(&gradients)
        .filter(|(name, _)| !name.starts_with("bn"))
        .map(|(_, g)| g.square().sum(Kind::Double).double_value(&[]))
        .sum::<f64>()
        .sqrt();
    optimizer.ascent_step(&mut model).unwrap();
    for (name, g) in names.iter().zip(&gradients) {
        let rho = match name.as_str() {
            "conv2.weight" | "conv2.bias" | "bn1.weight" | "bn1.bias" => 0.0,
            "fc.weight" => 0.4,
            _ => 0.2,
        };
        let difference = perturbation(&model, name) - g * (rho / norm);
        assert!(difference.abs().max().double_value(&[]) < 1e-14, "{name}");
    }
    let fc = model.parameters().position("fc.weight").unwrap();
    let before = bits(&model.parameters().read(fc).unwrap());
    backward(&model, &images, &target, &Loss::default(), 1).unwrap();
    optimizer.descent_step(&mut model).unwrap();
    assert_eq!(bits(&model.parameters().read(fc).unwrap()), before, "lr 0");
}

#[test]
fn groups_that_fit_nothing_or_overlap_are_refused() {
    let error = |groups: Value| {
        let mut model = model(10);
        let config = json!({ "base": sgd(), "groups": groups, "sharpness": { "rho": 0.1 } });
        Optimizer::new(&mut model, serde_json::from_value(config).unwrap()).map(drop).unwrap_err()
    };
    for groups in [
        json!([{ "parameters": ["nowhere.*"] }]),
        json!([{ "parameters": ["conv1.*"] }, { "kinds": ["convWeight"] }]),
        json!([{ "kinds": ["bias"], "lr": -1.0 }]),
    ] {
        assert_eq!(error(groups).code(), "ERR_FLATMIN_OPTION");
    }
}

#[test]
fn accumulated_parts_make_the_gradient_of_the_whole() {
    // Frozen statistics and no dropout: parts then share nothing but the weights.
    let run = |accumulate: Option<u64>| {
        let mut model = model_with_dropout(11, 0.0);
        let mut optimizer = optimizer(&mut model, sgd(), json!({ "rho": 0.3, "batchNorm": "frozen" }));
        let (images, target) = batch(3);
        let options = StepOptions { mask_seed: 1, accumulate };
        let outcome = train_step(&mut model, &mut optimizer, &images, &target, &Loss::default(), options).unwrap();
        (outcome.reported, model)
    };
    let (whole, model_of_whole) = run(None);
    for size in [16, 5, 1] {
        let (parts, model) = run(Some(size));
        assert!((parts.loss - whole.loss).abs() < 1e-12);
        assert_eq!((parts.count, parts.correct), (whole.count, whole.correct));
        let difference = (model.parameters().master() - model_of_whole.parameters().master()).abs().max();
        assert!(difference.double_value(&[]) < 1e-12, "parts of {size}");
    }
}

#[test]
fn frozen_statistics_normalise_both_passes_and_stay() {
    let mut model = model(12);
    for seed in 0..3 {
        let mut warm = optimizer(&mut model, sgd(), Value::Null);
        step(&mut model, &mut warm, &batch(seed), seed);
    }
    let statistics = |model: &Model| -> Vec<(String, Vec<u64>)> {
        state(model).into_iter().filter(|(name, _)| name.contains("running") || name.contains("tracked")).collect()
    };
    let before = statistics(&model);
    let mut sam = optimizer(&mut model, sgd(), json!({ "rho": 0.0, "batchNorm": "frozen" }));
    let (images, target) = batch(6);
    let outcome = step(&mut model, &mut sam, &(images.shallow_clone(), target), 6);
    assert_eq!(statistics(&model), before);
    assert_eq!(outcome.sharpness, Some(0.0));
    // One image alone: with the batch's own statistics a constant would remain of it.
    let one = (images.narrow(0, 0, 1), Target::Classes(Tensor::zeros([1], (Kind::Int64, Device::Cpu))));
    assert!(step(&mut model, &mut sam, &one, 7).finite);
}

#[test]
fn fresh_masks_differ_between_the_passes() {
    let rise = |masks: &str| {
        let mut model = model(13);
        let mut optimizer = optimizer(&mut model, sgd(), json!({ "rho": 0.0, "masks": masks }));
        step(&mut model, &mut optimizer, &batch(1), 1).sharpness.unwrap()
    };
    assert_eq!(rise("shared"), 0.0);
    assert_ne!(rise("fresh"), 0.0);
}

#[test]
fn esam_perturbs_a_share_of_the_weights_and_takes_the_samples_that_rise_most() {
    let mut model = model(14);
    let esam = json!({ "rho": 0.2, "variant": { "type": "esam", "beta": 0.5, "gamma": 0.25 } });
    let mut optimizer = optimizer(&mut model, sgd(), esam);
    let (images, target) = batch(4);
    backward(&model, &images, &target, &Loss::default(), 1).unwrap();
    optimizer.ascent_step(&mut model).unwrap();
    let (mut moved, mut all) = (0, 0);
    for segment in model.parameters().segments() {
        moved += perturbation(&model, &segment.name).count_nonzero(None).int64_value(&[]);
        all += segment.len as i64;
    }
    let share = moved as f64 / all as f64;
    // Some gradients are 0 behind dead units; five standard deviations above one half are the bound above.
    assert!(share > 0.3 && share < 0.5 + 5.0 * (0.25 / all as f64).sqrt(), "{share}");
    optimizer.abandon_step(&mut model).unwrap();
    let outcome = step(&mut model, &mut optimizer, &(images, target), 1);
    assert_eq!(outcome.reported.count, 16);
    assert!(outcome.sharpness.is_none(), "the second pass saw other samples");
}

#[test]
fn options_that_cannot_go_together_are_named() {
    let cases = [
        (json!({ "rho": 0.1, "microBatch": 4, "variant": { "type": "gsam" } }), "microBatch"),
        (json!({ "rho": 0.1, "innerSteps": 2, "variant": { "type": "wsam" } }), "innerSteps"),
        (json!({ "rho": 0.1, "p": 1.0 }), "p"),
        (json!({ "rho": 0.1, "probability": 0.0 }), "probability"),
        (json!({ "rho": 0.1, "ascentFraction": 1.5 }), "ascentFraction"),
        (json!({ "rho": 0.1, "clip": { "norm": 0.0 } }), "ascentClip"),
        (json!({ "rho": 0.1, "variant": { "type": "wsam", "c": 1.0 } }), "c"),
        (json!({ "rho": 0.1, "variant": { "type": "msam" }, "p": 4.0 }), "variant"),
    ];
    for (sharpness, option) in cases {
        let mut model = model(15);
        let config = serde_json::from_value(json!({ "base": sgd(), "sharpness": sharpness })).unwrap();
        let error = Optimizer::new(&mut model, config).map(drop).unwrap_err();
        assert_eq!(error.code(), "ERR_FLATMIN_OPTION");
        assert!(error.to_string().contains(option), "{error}");
    }
    let mut model = model(15);
    let adam = json!({ "base": { "type": "adam" }, "sharpness": { "rho": 0.1, "variant": { "type": "msam" } } });
    assert!(Optimizer::new(&mut model, serde_json::from_value(adam).unwrap()).is_err(), "MSAM needs a momentum");
}

#[test]
fn a_zero_gradient_stays_harmless() {
    for (name, sharpness) in variants() {
        let mut model = model(16);
        let mut optimizer = optimizer(&mut model, json!({ "type": "sgd", "lr": 0.1, "momentum": 0.9 }), sharpness);
        let before = bits(model.parameters().master());
        for _ in 0..2 {
            let two_passes = match optimizer.plan() {
                Some(Plan::Ahead) => {
                    optimizer.ascent_step(&mut model).unwrap();
                    false
                }
                _ => true,
            };
            let pass = |model: &Model| {
                let (images, target) = batch(1);
                backward(model, &images, &target, &Loss::default(), 1).unwrap();
                for leaf in model.parameters().leaves() {
                    let _ = no_grad(|| leaf.grad().zero_());
                }
            };
            if two_passes {
                let ascents = optimizer.sharpness().unwrap().inner_steps;
                for _ in 0..ascents {
                    pass(&model);
                    optimizer.ascent_step(&mut model).unwrap();
                }
            }
            pass(&model);
            assert!(optimizer.descent_step(&mut model).unwrap().finite, "{name}");
        }
        assert_eq!(bits(model.parameters().master()), before, "{name}");
    }
}
