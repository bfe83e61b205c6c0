//! What a run does, tells and leaves behind.

mod common;

use std::fs;

use common::{Pair, Story, asam, config, images, sam_with_adam, sets, stop_after};
use flatmin_optim::Loss;
use flatmin_torch_ext::num_threads;
use flatmin_train::{
    Acknowledgement, CheckpointKind, CheckpointPolicy, Datasets, EndReason, EpochEvent, Event, NonFinite, StepMetric,
    TrainConfig,
};
use serde_json::{Value, json};

#[test]
fn learns_and_tells_of_it() {
    let pair = Pair::new(asam());
    let story = Story::of(&pair.start(&sets(), &config(8), None).unwrap());
    let Event::Start(start) = &story.events[0] else { panic!("{:?}", story.events[0]) };
    // 100 images in batches of 16 are 7 steps an epoch.
    assert_eq!((start.steps, start.epochs, start.steps_per_epoch, start.seed), (56, 8, 7, 5));
    let epochs = story.epochs();
    let numbers: Vec<u64> = epochs.iter().map(|epoch| epoch.epoch).collect();
    assert_eq!(numbers, (1..=8).collect::<Vec<_>>());
    assert!(epochs[7].train.loss < 0.6 * epochs[0].train.loss);
    let test = epochs[7].test.as_ref().unwrap();
    assert!(test.accuracy > 0.8, "{test:?}");
    assert_eq!(epochs[7].generalization_gap, Some(test.loss - epochs[7].train.loss));
    assert!(epochs.iter().all(|epoch| epoch.sharpness.is_some_and(f64::is_finite) && epoch.warning.is_none()));
    let end = story.end();
    assert_eq!(end.reason, EndReason::Finished);
    assert_eq!((end.result.epochs, end.result.steps, end.result.skipped_steps), (8, 56, 0));
    assert_eq!(end.result.test.as_ref(), Some(test));
    assert_eq!(end.result.checkpoint, None);
}

#[test]
fn the_model_remembers_what_it_was_trained_on() {
    let pair = Pair::new(asam());
    Story::of(&pair.start(&sets(), &config(1), None).unwrap());
    let spec = pair.model.spec();
    assert_eq!(spec.class_names.as_deref().unwrap(), ["0", "1", "2"]);
    let recommended = sets().train.normalization().clone();
    assert_eq!(flatmin_train::for_data(spec.normalization.as_ref().unwrap()), recommended);
}

#[test]
fn best_is_chosen_on_validation_and_never_on_test() {
    let root = tempfile::tempdir().unwrap();
    let mut options = config(6);
    options.run_dir = Some(root.path().join("with"));
    // A test set whose labels are shifted does best when the model is worst.
    let wrong = images(30, 4).with_label_noise(1.0, 1).unwrap();
    let mut chosen = sets();
    chosen.test = Some(wrong);
    let story = Story::of(&Pair::new(asam()).start(&chosen, &options, None).unwrap());
    let validation: Vec<f64> = story.epochs().iter().map(|epoch| epoch.validation.as_ref().unwrap().accuracy).collect();
    let highest = validation.iter().copied().fold(0.0, f64::max);
    let best = story.end().result.best.unwrap();
    assert_eq!(best.accuracy, highest);
    assert_eq!(best.epoch as usize, validation.iter().position(|&accuracy| accuracy == highest).unwrap() + 1);
    let written = story.events.iter().rev().find_map(|event| match event {
        Event::Checkpoint(checkpoint) if checkpoint.kind == CheckpointKind::Best => Some(checkpoint),
        _ => None,
    });
    assert_eq!(written.unwrap().metric, Some(highest));

    options.run_dir = Some(root.path().join("without"));
    let only_test = Datasets { validation: None, ..sets() };
    let story = Story::of(&Pair::new(asam()).start(&only_test, &options, None).unwrap());
    assert_eq!(story.end().result.best, None);
    assert!(!root.path().join("without/checkpoints/best").exists());
    assert!(root.path().join("without/checkpoints/last/state.json").exists());
}

#[test]
fn the_run_folder_holds_config_and_events() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("run");
    let mut options = config(3);
    options.run_dir = Some(path.clone());
    options.checkpoint = CheckpointPolicy { best: false, every_epochs: 2, ..CheckpointPolicy::default() };
    options.environment = Some(json!({"cpu": "a fast one"}));
    let pair = Pair::new(asam());
    Story::of(&pair.start(&sets(), &options, None).unwrap());
    let described: Value = serde_json::from_str(&fs::read_to_string(path.join("config.json")).unwrap()).unwrap();
    assert_eq!(described["train"]["epochs"], 3);
    assert_eq!(described["environment"]["cpu"], "a fast one");
    assert_eq!(described["optimizer"]["sharpness"]["rho"], 0.2);
    assert_eq!(described["data"]["train"]["count"], 100);
    let lines = fs::read_to_string(path.join("events.jsonl")).unwrap();
    let events: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let kinds: Vec<&str> = events.iter().map(|event| event["type"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["start", "epoch", "epoch", "checkpoint", "epoch", "checkpoint", "end"]);
    assert!(events[1]["train"]["loss"].is_f64() && events[1]["test"]["accuracy"].is_f64());
    assert_eq!(events[6]["result"]["steps"], 21);
    // The first step is always kept.
    let steps = fs::read_to_string(path.join("steps.jsonl")).unwrap();
    let first: Value = serde_json::from_str(steps.lines().next().unwrap()).unwrap();
    assert_eq!((&first["type"], &first["step"], &first["epoch"]), (&json!("step"), &json!(1), &json!(1)));

    // A run folder is not overwritten; the refusal comes as the run's error, and the model is free again.
    let again = Story::read(&pair.start(&sets(), &options, None).unwrap(), |_| Acknowledgement::default());
    assert_eq!(again.map(|_| ()).unwrap_err().code(), "ERR_FLATMIN_OPTION");
    assert!(!pair.model.is_training());
}

#[test]
fn stopping_and_aborting_leave_a_checkpoint() {
    let root = tempfile::tempdir().unwrap();
    for (reason, name) in [(EndReason::Stopped, "stopped"), (EndReason::Aborted, "aborted")] {
        let mut options = config(1000);
        options.run_dir = Some(root.path().join(name));
        options.checkpoint = CheckpointPolicy { last: false, best: false, every_epochs: 1 };
        let run = Pair::new(asam()).start(&sets(), &options, None).unwrap();
        // The start event tells that the run is under way; it cannot have come to its end by itself.
        run.events().next_blocking().unwrap();
        if reason == EndReason::Stopped {
            run.stop()
        } else {
            run.abort()
        }
        let story = Story::of(&run);
        let end = story.end();
        assert_eq!(end.reason, reason);
        assert!(end.result.steps < 7000);
        let checkpoint = end.result.checkpoint.as_ref().unwrap();
        assert!(checkpoint.join("model.safetensors").exists() && checkpoint.ends_with("checkpoints/last"));
    }
}

#[test]
fn a_stop_file_ends_the_run_with_a_checkpoint() {
    let root = tempfile::tempdir().unwrap();
    let mut options = config(1_000_000);
    options.run_dir = Some(root.path().join("run"));
    let run = Pair::new(asam()).start(&sets(), &options, None).unwrap();
    run.events().next_blocking().unwrap();
    let file = root.path().join("run/stop");
    fs::write(&file, "").unwrap();
    let story = Story::of(&run);
    assert_eq!(story.end().reason, EndReason::Stopped);
    assert!(story.end().result.checkpoint.as_ref().unwrap().join("state.json").exists());
    assert!(!file.exists());
}

#[test]
fn answers_at_epoch_ends_stop_and_set_the_learning_rate() {
    let pair = Pair::new(asam());
    let mut options = config(9);
    options.await_epoch_end = true;
    let run = pair.start(&sets(), &options, None).unwrap();
    let story = Story::read(&run, |epoch| Acknowledgement { stop: epoch.epoch == 3, lr: Some(0.01) }).unwrap();
    let rates: Vec<f64> = story.epochs().iter().map(|epoch| epoch.lr).collect();
    assert_eq!(rates, [0.1, 0.01, 0.01]);
    assert_eq!(story.end().reason, EndReason::Stopped);
    assert_eq!(story.end().result.epochs, 3);
}

#[test]
fn a_run_that_waits_for_an_answer_can_be_aborted() {
    let mut options = config(9);
    options.await_epoch_end = true;
    let run = Pair::new(asam()).start(&sets(), &options, None).unwrap();
    while !matches!(run.events().next_blocking().unwrap(), Some(Event::Epoch(_))) {}
    run.abort();
    assert_eq!(Story::of(&run).end().reason, EndReason::Aborted);
}

#[test]
fn max_steps_ends_within_an_epoch_and_reports_it() {
    let mut options = config(5);
    options.max_steps = Some(10);
    let story = Story::of(&Pair::new(asam()).start(&sets(), &options, None).unwrap());
    assert_eq!(story.epochs().len(), 2);
    assert_eq!((story.end().result.steps, story.end().result.epochs), (10, 1));
    assert_eq!(story.end().reason, EndReason::Finished);
}

#[test]
fn a_model_has_one_run_at_a_time() {
    let pair = Pair::new(asam());
    let mut options = config(2);
    options.await_epoch_end = true;
    let run = pair.start(&sets(), &options, None).unwrap();
    let second = pair.start(&sets(), &options, None).map(|_| ()).unwrap_err();
    assert_eq!(second.code(), "ERR_FLATMIN_BUSY");
    assert_eq!(pair.model.lock_for_change().map(|_| ()).unwrap_err().code(), "ERR_FLATMIN_BUSY");
    Story::of(&run);
    assert!(pair.model.lock_for_change().is_ok());
}

#[test]
fn a_run_has_threads_of_its_own() {
    let new_thread = || std::thread::spawn(num_threads).join().unwrap();
    let options = config(1);
    let held = TrainConfig { threads: Some(2), await_epoch_end: true, ..options.clone() };
    let run = Pair::new(asam()).start(&sets(), &held, None).unwrap();
    while !matches!(run.events().next_blocking().unwrap(), Some(Event::Epoch(_))) {}
    assert_eq!(new_thread(), 1);
    Story::of(&Pair::new(asam()).start(&sets(), &options, None).unwrap());
    run.acknowledge(Acknowledgement::default());
    Story::of(&run);
    assert_eq!(new_thread(), 1);
}

#[test]
fn divergence_is_an_error_after_all_events() {
    let pair = Pair::new(json!({"base": {"type": "sgd", "lr": 1e30}}));
    let run = pair.start(&sets(), &config(50), None).unwrap();
    let mut warned = false;
    let error = loop {
        match run.events().next_blocking() {
            Ok(Some(Event::Epoch(epoch))) => warned |= epoch.warning.is_some() && epoch.skipped_steps > 0,
            Ok(Some(_)) => (),
            Ok(None) => panic!("the run ended well"),
            Err(error) => break error,
        }
    };
    assert_eq!(error.code(), "ERR_FLATMIN_NON_FINITE");
    assert!(warned);
    assert!(!pair.model.is_training());
}

#[test]
fn a_run_that_failed_says_so_in_its_folder() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("run");
    let mut options = config(2);
    options.run_dir = Some(path.clone());
    let pair = Pair::new(json!({"base": {"type": "sgd", "lr": 1e-3}}));
    let diverge = |_: &EpochEvent| Acknowledgement { lr: Some(1e30), ..Acknowledgement::default() };
    let failing = TrainConfig { await_epoch_end: true, epochs: 50, ..options.clone() };
    let error = Story::read(&pair.start(&sets(), &failing, None).unwrap(), diverge).map(|_| ()).unwrap_err();
    let events = || -> Vec<Value> {
        let lines = fs::read_to_string(path.join("events.jsonl")).unwrap();
        lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let told = json!({"code": "ERR_FLATMIN_NON_FINITE", "message": error.to_string()});
    assert_eq!(events().last(), Some(&json!({"type": "end", "reason": "failed", "error": told})));
}

#[test]
fn a_step_that_is_not_finite_ends_the_run_if_asked_to_and_many_in_a_row_do_anyway() {
    let failure = |change: &dyn Fn(&mut TrainConfig)| {
        let mut options = config(50);
        change(&mut options);
        let run = Pair::new(json!({"base": {"type": "sgd", "lr": 1e30}})).start(&sets(), &options, None).unwrap();
        let error = Story::read(&run, |_| Acknowledgement::default()).map(|_| ()).unwrap_err();
        assert_eq!(error.code(), "ERR_FLATMIN_NON_FINITE");
        error.to_string()
    };
    assert!(failure(&|options| options.non_finite = NonFinite::Error).contains("diverged: step "));
    assert!(failure(&|options| options.max_consecutive_skips = 3).contains("each of the last 3 steps"));
}

#[test]
fn steps_tell_the_norms_of_weights_and_update() {
    let pair = Pair::new(asam());
    let before = pair.state();
    let mut options = config(1);
    options.max_steps = Some(1);
    options.step_metrics = vec![StepMetric::UpdateNorm, StepMetric::WeightNorm];
    let story = Story::of(&pair.start(&sets(), &options, None).unwrap());
    let step = story.events.iter().find_map(|event| match event {
        Event::Step(step) => Some(step),
        _ => None,
    });
    let (mut update, mut weight) = (0.0, 0.0);
    for ((name, after), (_, before)) in pair.model.lock().state_dict().unwrap().iter().zip(&before) {
        if name.ends_with("weight") || name.ends_with("bias") {
            let square = |tensor: tch::Tensor| tensor.square().sum(tch::Kind::Double).double_value(&[]);
            update += square(after - before);
            weight += square(after.shallow_clone());
        }
    }
    let step = step.unwrap();
    assert!((step.update_norm.unwrap() / f64::sqrt(update) - 1.0).abs() < 1e-6 && update > 0.0);
    assert!((step.weight_norm.unwrap() / f64::sqrt(weight) - 1.0).abs() < 1e-6);
}

#[test]
fn mixing_changes_what_is_learnt_by_seed_alone() {
    let losses = |mixup: Option<f64>, seed: u64, threads: usize| {
        let mut options = config(2);
        (options.augment.mixup, options.seed, options.loader_threads) = (mixup, seed, Some(threads));
        let story = Story::of(&Pair::new(asam()).start(&sets(), &options, None).unwrap());
        story.epochs().iter().map(|epoch| epoch.train.loss).collect::<Vec<_>>()
    };
    let mixed = losses(Some(1.0), 5, 1);
    assert_eq!(mixed, losses(Some(1.0), 5, 3));
    assert_ne!(mixed, losses(None, 5, 1));
    assert_ne!(mixed, losses(Some(1.0), 6, 1));
}

#[test]
fn accumulated_gradients_are_those_of_the_whole_batch() {
    // Without batch norm and dropout, whose parts differ from the whole.
    let layers = json!([{"type": "flatten"}, {"type": "linear", "outFeatures": 3}]);
    let run = |accumulate: Option<u64>| {
        let pair = Pair::with_layers(layers.clone(), asam());
        let options = TrainConfig { accumulate, ..config(2) };
        Story::of(&pair.start(&sets(), &options, None).unwrap());
        pair.state()
    };
    for ((name, whole), (_, parts)) in run(None).iter().zip(&run(Some(5))) {
        let largest = f64::try_from((whole - parts).abs().max()).unwrap();
        assert!(largest < 1e-5, "{name}: {largest}");
    }
}

#[test]
fn class_weights_must_fit_the_model() {
    let mut options = config(1);
    options.loss = Loss::Focal { gamma: 2.0, class_weights: Some(vec![1.0, 2.0].into()) };
    let error = Pair::new(asam()).start(&sets(), &options, None).map(|_| ()).unwrap_err();
    assert_eq!(error.code(), "ERR_FLATMIN_OPTION");
    options.loss = Loss::Focal { gamma: 2.0, class_weights: Some(vec![1.0, 2.0, 0.5].into()) };
    let story = Story::of(&Pair::new(asam()).start(&sets(), &options, None).unwrap());
    assert!(story.epochs()[0].train.loss.is_finite());
}

#[test]
fn batches_do_not_depend_on_loader_threads() {
    let losses = |threads: usize| {
        let mut options = config(2);
        options.loader_threads = Some(threads);
        options.augment.pad_crop = Some(1);
        options.augment.flip = true;
        let story = Story::of(&Pair::new(sam_with_adam()).start(&sets(), &options, None).unwrap());
        story.epochs().iter().map(|epoch| epoch.train.loss).collect::<Vec<_>>()
    };
    assert_eq!(losses(0), losses(3));
}

#[test]
fn data_that_does_not_fit_is_refused_at_once() {
    let pair = Pair::new(asam());
    let digits = flatmin_data::digits().unwrap();
    let wrong = Datasets { train: digits, validation: None, test: None };
    assert_eq!(pair.start(&wrong, &config(1), None).map(|_| ()).unwrap_err().code(), "ERR_FLATMIN_SHAPE");
    assert!(!pair.model.is_training());
}

#[test]
fn hyper_parameters_change_during_a_run() {
    let pair = Pair::new(asam());
    let mut options = config(2);
    options.await_epoch_end = true;
    let run = pair.start(&sets(), &options, None).unwrap();
    let optimizer = pair.optimizer.clone();
    let story = Story::read(&run, |epoch| {
        if epoch.epoch == 1 {
            optimizer.set_group(0, "lr", 0.025).unwrap();
            assert_eq!(optimizer.view().groups[0].lr, 0.025);
            assert_eq!(optimizer.set_group(0, "lr", -1.0).unwrap_err().code(), "ERR_FLATMIN_OPTION");
        }
        stop_after(9)(epoch)
    });
    assert_eq!(story.unwrap().epochs()[1].lr, 0.025);
    assert_eq!(pair.optimizer.view().steps, 14);
}
