//! Losses against their formulas, one element at a time in float64.

use flatmin_optim::{Loss, Target};
use serde_json::{Value, json};
use tch::{Device, Kind, Tensor};

const LOGITS: [[f64; 3]; 4] = [[0.3, -1.2, 2.0], [1.5, 0.4, -0.6], [-0.2, 0.1, 0.0], [4.0, -3.0, 1.0]];
const LABELS: [i64; 4] = [2, 0, 1, 2];
const SOFT: [[f64; 3]; 4] = [[0.2, 0.0, 0.8], [1.0, 0.0, 0.0], [0.3, 0.7, 0.0], [0.0, 0.45, 0.55]];
const WEIGHTS: [f64; 3] = [0.5, 2.0, 1.25];

fn loss(options: Value) -> Loss {
    let loss: Loss = serde_json::from_value(options).unwrap();
    loss.validate().unwrap();
    loss
}

fn value(options: Value, target: &Target) -> f64 {
    loss(options).apply(&Tensor::from_slice2(&LOGITS), target).unwrap().double_value(&[])
}

fn classes() -> Target {
    Target::Classes(Tensor::from_slice(&LABELS))
}

fn soft() -> Target {
    Target::Dense(Tensor::from_slice2(&SOFT))
}

fn one_hot() -> [[f64; 3]; 4] {
    LABELS.map(|label| std::array::from_fn(|class| f64::from(class as i64 == label)))
}

fn log_softmax(row: [f64; 3]) -> [f64; 3] {
    let sum = row.iter().map(|value| value.exp()).sum::<f64>().ln();
    row.map(|value| value - sum)
}

/// Sum over rows and classes of `-w t f(log p)`.
fn summed(targets: [[f64; 3]; 4], weights: [f64; 3], term: impl Fn(f64) -> f64) -> f64 {
    let rows = LOGITS.map(log_softmax).into_iter().zip(targets);
    rows.map(|(row, target)| (0..3).map(|class| -weights[class] * target[class] * term(row[class])).sum::<f64>()).sum()
}

fn smooth(targets: [[f64; 3]; 4], smoothing: f64) -> [[f64; 3]; 4] {
    targets.map(|row| row.map(|share| (1.0 - smoothing) * share + smoothing / 3.0))
}

fn close(found: f64, expected: f64) {
    assert!((found - expected).abs() < 1e-12, "{found} and {expected}");
}

#[test]
fn cross_entropy_smooths_hard_and_soft_targets_alike() {
    for smoothing in [0.0, 0.1] {
        let options = json!({ "type": "crossEntropy", "labelSmoothing": smoothing });
        let plain = [1.0; 3];
        close(value(options.clone(), &classes()), summed(smooth(one_hot(), smoothing), plain, |log| log) / 4.0);
        close(value(options, &soft()), summed(smooth(SOFT, smoothing), plain, |log| log) / 4.0);
    }
    // A soft target in another dtype than the logits is no error.
    let narrow = Target::Dense(Tensor::from_slice2(&SOFT).to_kind(Kind::Float));
    assert!((value(json!({ "type": "crossEntropy" }), &narrow) - summed(SOFT, [1.0; 3], |log| log) / 4.0).abs() < 1e-7);
}

#[test]
fn class_weights_divide_as_in_torch() {
    let options = json!({ "type": "crossEntropy", "labelSmoothing": 0.1, "classWeights": WEIGHTS });
    let share: f64 = LABELS.iter().map(|&label| WEIGHTS[label as usize]).sum();
    close(value(options.clone(), &classes()), summed(smooth(one_hot(), 0.1), WEIGHTS, |log| log) / share);
    close(value(options, &soft()), summed(smooth(SOFT, 0.1), WEIGHTS, |log| log) / 4.0);
}

#[test]
fn focal_loss_is_its_formula_and_cross_entropy_at_gamma_0() {
    for gamma in [0.0, 0.5, 2.0] {
        let term = |log: f64| (1.0 - log.exp()).powf(gamma) * log;
        let options = json!({ "type": "focal", "gamma": gamma, "classWeights": WEIGHTS });
        close(value(options.clone(), &classes()), summed(one_hot(), WEIGHTS, term) / 4.0);
        close(value(options, &soft()), summed(SOFT, WEIGHTS, term) / 4.0);
    }
    let plain = value(json!({ "type": "crossEntropy" }), &classes());
    close(value(json!({ "type": "focal", "gamma": 0 }), &classes()), plain);
}

#[test]
fn the_gradient_of_focal_loss_is_finite_where_a_class_is_certain() {
    for gamma in [0.0, 0.5, 1.0, 2.0] {
        let logits = Tensor::from_slice(&[1e4, 0.0, 0.0]).view([1, 3]).set_requires_grad(true);
        let target = Target::Classes(Tensor::zeros([1], (Kind::Int64, Device::Cpu)));
        loss(json!({ "type": "focal", "gamma": gamma })).apply(&logits, &target).unwrap().backward();
        assert_eq!(logits.grad().isfinite().all().int64_value(&[]), 1, "gamma {gamma}");
    }
}

#[test]
fn wrong_options_name_themselves() {
    let cases = [
        (json!({ "type": "crossEntropy", "labelSmoothing": 1.0 }), "labelSmoothing"),
        (json!({ "type": "crossEntropy", "classWeights": [1.0, -1.0, 0.0] }), "classWeights"),
        (json!({ "type": "focal", "classWeights": [0.0, 0.0] }), "classWeights"),
        (json!({ "type": "focal", "gamma": -1 }), "gamma"),
    ];
    for (options, name) in cases {
        let error = serde_json::from_value::<Loss>(options).unwrap().validate().unwrap_err();
        assert_eq!(error.code(), "ERR_FLATMIN_OPTION");
        assert!(error.to_string().contains(name), "{error}");
    }
    let two = loss(json!({ "type": "focal", "classWeights": [1, 2] }));
    let error = two.apply(&Tensor::from_slice2(&LOGITS), &classes()).unwrap_err();
    assert_eq!(error.code(), "ERR_FLATMIN_OPTION");
    assert!(error.to_string().contains("3, one weight"), "{error}");
}
