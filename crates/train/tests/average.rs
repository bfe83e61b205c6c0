//! Averages of the weights along a run: what they hold, what is told of them, and that they survive a resume.

mod common;

use std::cell::RefCell;
use std::path::Path;

use common::{Pair, Story, asam, config, images, sam_with_adam, sets, stop_after};
use flatmin_nn::Model;
use flatmin_train::{Acknowledgement, EvaluateOptions, TrainConfig, evaluate};
use serde_json::{Value, json};
use tch::Tensor;

fn averaging(epochs: u64, average: Value) -> TrainConfig {
    TrainConfig { average: Some(serde_json::from_value(average).unwrap()), await_epoch_end: true, ..config(epochs) }
}

fn with_dir(options: &TrainConfig, path: &Path) -> TrainConfig {
    TrainConfig { run_dir: Some(path.to_path_buf()), ..options.clone() }
}

fn weights(pair: &Pair) -> Vec<(String, Tensor)> {
    let mut state = pair.model.lock().state_dict().unwrap();
    state.retain(|(name, _)| !name.contains("running") && !name.contains("tracked"));
    state
}

fn assert_close(found: &[(String, Tensor)], expected: &[(String, Tensor)]) {
    for ((name, found), (_, expected)) in found.iter().zip(expected) {
        let largest = f64::try_from((found - expected).abs().max()).unwrap();
        assert!(largest < 1e-6, "{name}: {largest}");
    }
}

#[test]
fn swa_gives_the_model_the_mean_of_the_last_epochs_and_scores_it() {
    let pair = Pair::new(asam());
    let options = averaging(6, json!({ "type": "swa", "startEpoch": 4 }));
    let seen = RefCell::new(Vec::new());
    let story = Story::read(&pair.start(&sets(), &options, None).unwrap(), |epoch| {
        if epoch.epoch >= 4 {
            seen.borrow_mut().push(weights(&pair));
        }
        Acknowledgement::default()
    })
    .unwrap();
    let counts: Vec<_> = story.epochs().iter().map(|e| e.averaged.as_ref().map(|scores| scores.weights)).collect();
    assert_eq!(counts, [None, None, None, Some(1), Some(2), Some(3)]);

    let seen = seen.into_inner();
    let mean =
        (0..seen[0].len()).map(|at| (seen[0][at].0.clone(), (&seen[0][at].1 + &seen[1][at].1 + &seen[2][at].1) / 3.0));
    assert_close(&weights(&pair), &mean.collect::<Vec<_>>());
    let result = &story.end().result;
    assert!(result.average_applied);
    // What was told of the average is what the model now scores.
    let scores = evaluate(&pair.model.lock(), &images(30, 3), &EvaluateOptions::default(), &|| false).unwrap().unwrap();
    let told = result.averaged.as_ref().unwrap().test.as_ref().unwrap();
    assert_eq!(scores.accuracy, told.accuracy);
    assert!((scores.loss - told.loss).abs() < 1e-6);
    assert_ne!(result.test.as_ref().unwrap().loss, told.loss);
}

#[test]
fn estimated_statistics_are_those_of_the_training_set() {
    let pair = Pair::new(asam());
    let options = averaging(3, json!({ "type": "swa", "startEpoch": 3 }));
    let path = tempfile::tempdir().unwrap();
    Story::of(&pair.start(&sets(), &with_dir(&options, path.path()), None).unwrap());
    // One epoch is in the average: its weights are the model's, its statistics are not.
    let last = Model::load(&path.path().join("checkpoints/last/model.safetensors"), None).unwrap();
    let average = Model::load(&path.path().join("checkpoints/last/average.safetensors"), None).unwrap();
    assert_eq!(average.spec(), last.spec());
    let read =
        |model: &Model, name: &str| model.state_dict().unwrap().into_iter().find(|(known, _)| known == name).unwrap().1;
    let names: Vec<String> = last.state_dict().unwrap().into_iter().map(|(name, _)| name).collect();
    for name in &names {
        let same = read(&last, name) == read(&average, name);
        assert_eq!(same, !name.contains("running") && !name.contains("tracked"), "{name}");
    }
    let tracked = names.iter().find(|name| name.contains("tracked")).unwrap();
    assert_eq!(read(&average, tracked).int64_value(&[]), 7);
}

#[test]
fn an_average_that_follows_at_once_is_the_model() {
    let pair = Pair::new(sam_with_adam());
    let options = averaging(3, json!({ "type": "ema", "decay": 0 }));
    let story = Story::of(&pair.start(&sets(), &options, None).unwrap());
    for epoch in story.epochs() {
        let averaged = epoch.averaged.as_ref().unwrap();
        assert_eq!((&averaged.validation, &averaged.test), (&epoch.validation, &epoch.test));
    }
    assert_eq!(story.end().result.averaged.as_ref().unwrap().weights, 21);
}

#[test]
fn the_model_keeps_its_own_weights_if_the_options_say_so_or_the_run_was_cut() {
    let plain = Pair::new(asam());
    Story::of(&plain.start(&sets(), &config(3), None).unwrap());
    let beside = Pair::new(asam());
    let options = averaging(3, json!({ "type": "ema", "decay": 0.9, "apply": false }));
    let story = Story::of(&beside.start(&sets(), &options, None).unwrap());
    assert!(!story.end().result.average_applied);
    assert_eq!(beside.state(), plain.state());

    let aborted = Pair::new(asam());
    let options = averaging(3, json!({ "type": "ema", "decay": 0.9 }));
    let run = aborted.start(&sets(), &options, None).unwrap();
    let story = Story::read(&run, |_| {
        run.abort();
        Acknowledgement::default()
    });
    assert!(!story.unwrap().end().result.average_applied);
}

#[test]
fn the_best_epoch_can_be_chosen_on_the_average() {
    let options = averaging(6, json!({ "type": "swa", "startEpoch": 3, "best": true }));
    let story = Story::of(&Pair::new(asam()).start(&sets(), &options, None).unwrap());
    let of_average = |epoch: &&flatmin_train::EpochEvent| {
        epoch.averaged.as_ref().map(|scores| scores.validation.as_ref().unwrap().accuracy)
    };
    let highest = story.epochs().iter().filter_map(of_average).fold(0.0, f64::max);
    let best = story.end().result.best.unwrap();
    assert_eq!(best.accuracy, highest);
    assert!(best.epoch >= 3);
}

#[test]
fn a_resumed_run_averages_and_mixes_bit_for_bit() {
    let averages = [
        json!({ "type": "ema", "decay": 0.9, "warmup": true, "everySteps": 2 }),
        json!({ "type": "ema", "decay": 0.8, "batchNorm": "estimate" }),
        json!({ "type": "swa", "startEpoch": 2 }),
        json!({ "type": "swa", "startEpoch": 2, "everySteps": 3, "batchNorm": "average" }),
    ];
    for average in averages {
        let mut options = averaging(4, average);
        (options.augment.mixup, options.augment.cutmix) = (Some(0.4), Some(1.0));
        options.augment.flip = true;
        let whole = Pair::new(asam());
        let told = Story::of(&whole.start(&sets(), &options, None).unwrap());
        // 7 steps an epoch: within the first, at an end, within the third.
        for steps in [3, 14, 18] {
            let root = tempfile::tempdir().unwrap();
            let path = root.path().join("run");
            let mut short = with_dir(&options, &path);
            short.max_steps = Some(steps);
            Story::of(&Pair::new(asam()).start(&sets(), &short, None).unwrap());
            let resumed = Pair::new(asam());
            let rest = Story::of(&resumed.start(&sets(), &with_dir(&options, &path), Some(&path)).unwrap());
            let scores = |story: &Story, from: usize| {
                let epochs = story.epochs().into_iter().skip(from);
                epochs.map(|epoch| (epoch.train.clone(), epoch.averaged.clone())).collect::<Vec<_>>()
            };
            assert_eq!(scores(&rest, 0), scores(&told, steps as usize / 7));
            assert_eq!(resumed.state(), whole.state());
        }
    }
}

#[test]
fn another_average_cannot_go_on_from_a_checkpoint() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("run");
    let options = with_dir(&averaging(3, json!({ "type": "ema", "decay": 0.9 })), &path);
    Story::read(&Pair::new(asam()).start(&sets(), &options, None).unwrap(), stop_after(1)).unwrap();
    let other = with_dir(&averaging(3, json!({ "type": "ema", "decay": 0.99 })), &path);
    let pair = Pair::new(asam());
    let before = pair.state();
    let run = pair.start(&sets(), &other, Some(&path)).unwrap();
    let error = Story::read(&run, |_| Acknowledgement::default()).map(|_| ()).unwrap_err();
    assert_eq!(error.code(), "ERR_FLATMIN_CHECKPOINT");
    assert!(error.to_string().contains("0.99"), "{error}");
    assert_eq!(pair.state(), before);
}
