//! Models that compute in float16, and the scaling of the loss that they need.

mod common;

use common::*;
use flatmin_nn::{Dtype, Model, Pass, Statistics};
use flatmin_optim::{Optimizer, OptimizerConfig, StepOutcome, Target};
use serde_json::{Value, json};
use tch::{Kind, Tensor};

fn of_dtype(dtype: Dtype) -> Model {
    Model::new(model_with_dropout(3, 0.0).spec().clone(), dtype, 3).unwrap()
}

fn scaled(model: &mut Model, sharpness: &Value, loss_scale: &Value) -> Optimizer {
    let config = json!({
        "base": sgd(), "sharpness": sharpness, "clip": { "norm": 0.5 }, "lossScale": loss_scale,
    });
    Optimizer::new(model, serde_json::from_value::<OptimizerConfig>(config).unwrap()).unwrap()
}

fn float_batch(seed: u64) -> (Tensor, Target) {
    let (images, target) = batch(seed);
    (images.to_kind(Kind::Float), target)
}

fn flat(model: &Model) -> Tensor {
    model.parameters().master().to_kind(Kind::Double).copy()
}

fn distance(a: &Tensor, b: &Tensor) -> f64 {
    ((a - b).norm() / b.norm()).double_value(&[])
}

#[test]
fn a_power_of_two_changes_no_bit_of_any_method() {
    for (name, sharpness) in variants().into_iter().chain([("asam", asam(0.5)), ("none", Value::Null)]) {
        let run = |loss_scale: Value| {
            let mut model = model(2);
            let mut optimizer = scaled(&mut model, &sharpness, &loss_scale);
            let outcomes: Vec<StepOutcome> =
                (0..4).map(|seed| step(&mut model, &mut optimizer, &batch(seed), seed)).collect();
            let norms: Vec<f64> = outcomes.iter().map(|outcome| outcome.gradient_norm).collect();
            (state(&model), norms)
        };
        assert_eq!(run(json!({ "initial": 1024 })), run(Value::Null), "{name}");
    }
}

#[test]
fn a_step_of_asam_is_that_of_float32_within_rounding() {
    let [(float, reference), (half, outcome)] = [Dtype::Float32, Dtype::Float16].map(|dtype| {
        let mut model = of_dtype(dtype);
        let before = flat(&model);
        let mut optimizer = scaled(&mut model, &asam(0.5), &Value::Null);
        let outcome = step(&mut model, &mut optimizer, &float_batch(1), 1);
        (flat(&model) - before, outcome)
    });
    assert_eq!((reference.loss_scale, outcome.loss_scale), (None, Some(65_536.0)));
    assert!(outcome.finite);
    let near = |a: f64, b: f64| assert!((a / b - 1.0).abs() < 0.01, "{a} for {b}");
    near(outcome.reported.loss, reference.reported.loss);
    near(outcome.perturbed_loss.unwrap(), reference.perturbed_loss.unwrap());
    near(outcome.gradient_norm, reference.gradient_norm);
    assert!(distance(&half, &float) < 0.02, "{}", distance(&half, &float));
    let rounding = outcome.rounding.unwrap();
    assert!((rounding.ratio * rounding.cosine - 1.0).abs() < 0.02, "{rounding:?}");
}

#[test]
fn weights_and_gradients_have_16_bits_and_all_else_has_32() {
    let mut model = of_dtype(Dtype::Float16);
    scaled(&mut model, &Value::Null, &Value::Null);
    let (images, target) = float_batch(1);
    pass(&model, &images, &target);
    let gradients = model.parameters().gradients().unwrap();
    let leaves = model.parameters().leaves();
    for ((segment, leaf), gradient) in model.parameters().segments().iter().zip(leaves).zip(gradients.tensors()) {
        let expected = if segment.shape.len() >= 2 { Kind::Half } else { Kind::Float };
        assert_eq!(leaf.kind(), expected, "{}", segment.name);
        assert_eq!(gradient.as_ref().unwrap().kind(), expected, "{}", segment.name);
    }
    let logits = model.forward(&images, Pass::Train { statistics: Statistics::Ignore, mask_seed: 1 }).unwrap();
    assert_eq!(logits.kind(), Kind::Float);
}

#[test]
fn small_gradients_survive() {
    let zeros = |initial: f64| {
        let mut model = of_dtype(Dtype::Float16);
        scaled(&mut model, &Value::Null, &json!({ "initial": initial }));
        let (images, target) = float_batch(1);
        pass(&model, &images, &target);
        let gradients = model.parameters().gradients().unwrap();
        let gradient = gradients.tensors()[model.parameters().position("conv2.weight").unwrap()].as_ref().unwrap();
        let zeros: i64 = gradient.eq(0.0).sum(Kind::Int64).int64_value(&[]);
        zeros
    };
    let (small, large) = (zeros(2f64.powi(-16)), zeros(4096.0));
    assert!(small > 100 && large < 10, "{small} and {large}");
}

#[test]
fn steps_that_overflow_are_skipped_and_halve_the_scale() {
    let initial = 2f64.powi(30);
    let mut model = of_dtype(Dtype::Float16);
    let mut optimizer = scaled(&mut model, &asam(0.5), &json!({ "initial": initial, "growthInterval": 2 }));
    let before = state(&model);
    let mut skips = 0;
    while !step(&mut model, &mut optimizer, &float_batch(skips), skips).finite {
        skips += 1;
        assert_eq!(state(&model), before);
        assert_eq!(optimizer.loss_scale(), Some(initial * 0.5f64.powi(skips as i32)));
        assert!(skips < 40);
    }
    assert!(skips > 0);
    assert_eq!((optimizer.skipped(), optimizer.steps()), (skips, 1));
    assert_ne!(state(&model), before);
    let scale = optimizer.loss_scale().unwrap();
    // The next good step is the second of two.
    if step(&mut model, &mut optimizer, &float_batch(7), 7).finite {
        assert_eq!(optimizer.loss_scale(), Some(2.0 * scale));
    }
}

#[test]
fn infinities_of_the_second_pass_count_too() {
    let mut model = of_dtype(Dtype::Float16);
    let mut optimizer = scaled(&mut model, &asam(0.5), &json!({ "initial": 256 }));
    let before = state(&model);
    let (images, target) = float_batch(1);
    pass(&model, &images, &target);
    assert!(optimizer.ascent_step(&mut model).unwrap().finite);
    pass(&model, &(&images * f64::INFINITY), &target);
    assert!(!optimizer.descent_step(&mut model).unwrap().finite);
    assert_eq!((optimizer.loss_scale(), optimizer.skipped()), (Some(128.0), 1));
    assert_eq!(model.loss_scale(), 128.0);
    assert_eq!(state(&model), before);
}

#[test]
fn a_restored_optimizer_goes_on_with_its_scale() {
    let options = json!({ "initial": 64, "growthInterval": 3 });
    let mut first = of_dtype(Dtype::Float16);
    let mut original = scaled(&mut first, &asam(0.5), &options);
    for seed in 0..4 {
        step(&mut first, &mut original, &float_batch(seed), seed);
    }
    let counters = serde_json::to_string(&original.counters(first.parameters())).unwrap();
    let mut second = of_dtype(Dtype::Float16);
    let mut restored = scaled(&mut second, &asam(0.5), &options);
    second.load_state_dict(first.state_dict().unwrap(), true).unwrap();
    let arenas = original.state_dict(first.parameters()).unwrap();
    restored.load_state(&mut second, &arenas, &serde_json::from_str(&counters).unwrap()).unwrap();
    assert_eq!((second.loss_scale(), restored.loss_scale()), (128.0, Some(128.0)));
    for seed in 4..7 {
        step(&mut first, &mut original, &float_batch(seed), seed);
        step(&mut second, &mut restored, &float_batch(seed), seed);
        assert_eq!(restored.loss_scale(), original.loss_scale());
    }
    assert_eq!(restored.loss_scale(), Some(256.0));
    assert_eq!(state(&first), state(&second));
}

#[test]
fn bad_options_are_refused() {
    let mut model = of_dtype(Dtype::Float16);
    for bad in [json!({ "initial": 0 }), json!({ "growthFactor": 0.9 }), json!({ "backoffFactor": 1.5 })] {
        let config: OptimizerConfig = serde_json::from_value(json!({ "base": sgd(), "lossScale": bad })).unwrap();
        let error = Optimizer::new(&mut model, config).map(drop).unwrap_err();
        assert_eq!(error.code(), "ERR_FLATMIN_OPTION");
    }
}
