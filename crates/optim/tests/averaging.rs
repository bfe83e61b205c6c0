//! Averages of weights against `torch.optim.swa_utils.AveragedModel`'s formulas, in float64 along a run of ASAM.

use flatmin_nn::{Dtype, Model, ModelSpec, Pass};
use flatmin_optim::{AverageConfig, Averaging, Loss, Optimizer, Target, backward};
use flatmin_torch_ext::Generator;
use serde_json::{Value, json};
use tch::{Device, Kind, Tensor};

fn model() -> Model {
    let spec: ModelSpec = serde_json::from_value(json!({
        "format": 1, "name": "small", "inputShape": [2, 4, 4], "numClasses": 3,
        "layers": [
            { "type": "conv2d", "name": "conv", "outChannels": 4, "kernelSize": 3, "padding": 1, "bias": false },
            { "type": "batchNorm2d", "name": "bn" },
            { "type": "relu" },
            { "type": "flatten" },
            { "type": "linear", "name": "fc", "outFeatures": 3 }
        ]
    }))
    .unwrap();
    Model::new(spec, Dtype::Float64, 1).unwrap()
}

fn batch(seed: u64) -> (Tensor, Target) {
    let mut images = Tensor::empty([8, 2, 4, 4], (Kind::Double, Device::Cpu));
    Generator::new(seed).unwrap().normal_(&mut images, 0.0, 1.0).unwrap();
    (images, Target::Classes(Tensor::arange(8, (Kind::Int64, Device::Cpu)).remainder(3)))
}

fn config(options: Value) -> AverageConfig {
    serde_json::from_value(options).unwrap()
}

type Entries = Vec<(String, Tensor)>;

/// Six steps of ASAM. The average takes the weights between ascent and descent, so that seeing w + eps would show.
/// Answers it and, for each of its updates, the model's state at w.
fn follow(options: Value) -> (Averaging, Vec<Entries>) {
    let mut model = model();
    let sharpness = json!({ "rho": 0.5, "eta": 0.01, "scale": "element" });
    let optimizer = json!({ "base": { "type": "sgd", "lr": 0.1, "momentum": 0.9 }, "sharpness": sharpness });
    let mut optimizer = Optimizer::new(&mut model, serde_json::from_value(optimizer).unwrap()).unwrap();
    let mut averaging = Averaging::new(config(options), &model).unwrap();
    let mut seen = Vec::new();
    for step in 0..6 {
        let (images, target) = batch(step);
        backward(&model, &images, &target, &Loss::default(), step).unwrap();
        optimizer.ascent_step(&mut model).unwrap();
        averaging.update(&model).unwrap();
        seen.push(model.state_dict().unwrap());
        backward(&model, &images, &target, &Loss::default(), step).unwrap();
        optimizer.descent_step(&mut model).unwrap();
    }
    (averaging, seen)
}

/// `decays[t]` is the weight of the average so far when the weights number t + 1 come in.
fn expected(seen: &[Entries], entry: usize, decays: &[f64]) -> Tensor {
    seen[1..]
        .iter()
        .zip(decays)
        .fold(seen[0][entry].1.copy(), |average, (state, decay)| average * *decay + &state[entry].1 * (1.0 - decay))
}

fn check(averaging: &Averaging, seen: &[Entries], decays: &[f64], with_statistics: bool) {
    assert_eq!(averaging.count().weights, 6);
    let found = averaging.model().unwrap().state_dict().unwrap();
    for (entry, (name, value)) in found.iter().enumerate() {
        let is_statistic = name.contains("running");
        if name.contains("tracked") || (is_statistic && !with_statistics) {
            continue;
        }
        let largest = (value - expected(seen, entry, decays)).abs().max().double_value(&[]);
        assert!(largest < 1e-14, "{name}: {largest}");
    }
}

#[test]
fn ema_is_the_exponential_mean_of_w_and_of_the_statistics() {
    let (averaging, seen) = follow(json!({ "type": "ema", "decay": 0.7 }));
    check(&averaging, &seen, &[0.7; 5], true);
    assert!(!averaging.count().stale);
}

#[test]
fn warm_up_begins_with_short_memories() {
    let (averaging, seen) = follow(json!({ "type": "ema", "decay": 0.3, "warmup": true }));
    let decays: Vec<f64> = (1..6).map(|t| f64::min(0.3, (1.0 + f64::from(t)) / (10.0 + f64::from(t)))).collect();
    assert!(decays[0] < 0.3 && decays[4] == 0.3);
    check(&averaging, &seen, &decays, true);
}

#[test]
fn swa_is_the_equal_mean_and_its_statistics_are_to_be_estimated() {
    let (averaging, seen) = follow(json!({ "type": "swa" }));
    let decays: Vec<f64> = (1..6).map(|n| f64::from(n) / f64::from(n + 1)).collect();
    check(&averaging, &seen, &decays, false);
    assert!(averaging.count().stale);
}

#[test]
fn estimated_statistics_are_the_means_over_the_batches() {
    let (mut averaging, _) = follow(json!({ "type": "swa" }));
    averaging.sync().unwrap();
    averaging.start_statistics();
    let images: Vec<Tensor> = (10..13).map(|seed| batch(seed).0).collect();
    images.iter().for_each(|images| averaging.observe(images, 0).unwrap());
    averaging.finish_statistics();
    assert!(!averaging.count().stale);
    let model = averaging.model().unwrap();
    let parameters = model.parameters();
    let weight = parameters.read(parameters.position("conv.weight").unwrap()).unwrap();
    let before: Vec<Tensor> =
        images.iter().map(|x| x.conv2d(&weight, None::<&Tensor>, [1, 1], [1, 1], [1, 1], 1)).collect();
    let axes = [0i64, 2, 3];
    let means: Vec<Tensor> = before.iter().map(|x| x.mean_dim(&axes[..], false, Kind::Double)).collect();
    let variances: Vec<Tensor> = before.iter().map(|x| x.var_dim(&axes[..], true, false)).collect();
    let statistics = model.buffers().committed(0);
    for (found, batches) in [(&statistics.mean, means), (&statistics.variance, variances)] {
        let expected = Tensor::stack(&batches, 0).mean_dim(0, false, Kind::Double);
        assert!((found - expected).abs().max().double_value(&[]) < 1e-12);
    }
    assert_eq!(model.buffers().batches_tracked(0), 3);
}

#[test]
fn the_network_reads_what_was_averaged() {
    let (mut averaging, _) = follow(json!({ "type": "ema", "decay": 0.5 }));
    averaging.sync().unwrap();
    let (images, _) = batch(20);
    let average = averaging.model().unwrap();
    let mut copy = model();
    copy.load_state_dict(average.state_dict().unwrap(), true).unwrap();
    assert_eq!(average.forward(&images, Pass::Eval).unwrap(), copy.forward(&images, Pass::Eval).unwrap());
}

#[test]
fn weights_are_taken_when_they_are_due() {
    let due = |options: Value| {
        let config = config(options);
        (1..=40).filter(|&step| config.is_due(step, 5, 8)).collect::<Vec<u64>>()
    };
    assert_eq!(due(json!({ "type": "ema", "everySteps": 15 })), [15, 30]);
    assert_eq!(due(json!({ "type": "swa" })), [35, 40]);
    assert_eq!(due(json!({ "type": "swa", "startEpoch": 1, "everyEpochs": 3 })), [5, 20, 35]);
    assert_eq!(due(json!({ "type": "swa", "startEpoch": 6, "everySteps": 4 })), [29, 33, 37]);
}

#[test]
fn wrong_options_name_themselves() {
    let cases = [
        (json!({ "type": "ema", "decay": 1.5 }), "decay"),
        (json!({ "type": "ema", "everySteps": 0 }), "everySteps"),
        (json!({ "type": "swa", "everyEpochs": 0 }), "everyEpochs"),
        (json!({ "type": "swa", "startEpoch": 9 }), "startEpoch"),
        (json!({ "type": "swa", "startEpoch": 0 }), "startEpoch"),
    ];
    for (options, name) in cases {
        let error = config(options).validate(8).unwrap_err();
        assert_eq!(error.code(), "ERR_FLATMIN_OPTION");
        assert!(error.to_string().contains(name), "{error}");
    }
}
