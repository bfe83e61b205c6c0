//! A run that was interrupted and resumed equals one that was not, bit for bit.

mod common;

use std::fs;
use std::path::Path;

use common::{Pair, Story, asam, config, images, sam_with_adam, sets, stop_after};
use flatmin_train::{Acknowledgement, Datasets, Mode, Plateau, ScheduleConfig, Shape, TrainConfig, TrainScores};
use serde_json::{Value, json};

fn assert_same_state(one: &Pair, other: &Pair) {
    let (one, other) = (one.state(), other.state());
    assert_eq!(one.len(), other.len());
    for ((name, value), (other_name, other_value)) in one.iter().zip(&other) {
        assert_eq!(name, other_name);
        assert_eq!(value, other_value, "{name} differs");
    }
}

fn scores(story: &Story) -> Vec<(u64, TrainScores)> {
    story.epochs().iter().map(|epoch| (epoch.epoch, epoch.train.clone())).collect()
}

fn with_dir(config: &TrainConfig, path: &Path) -> TrainConfig {
    TrainConfig { run_dir: Some(path.to_path_buf()), ..config.clone() }
}

#[test]
fn at_an_epochs_end() {
    for optimizer in [asam(), sam_with_adam()] {
        let root = tempfile::tempdir().unwrap();
        let mut options = config(4);
        options.schedule.shape = Shape::Cosine { min_factor: 0.0, epochs: None };
        options.augment.flip = true;
        options.await_epoch_end = true;
        let whole = Pair::new(optimizer.clone());
        let told = Story::of(&whole.start(&sets(), &options, None).unwrap());

        let path = root.path().join("run");
        let options = with_dir(&options, &path);
        let first = Pair::new(optimizer.clone()).start(&sets(), &options, None).unwrap();
        Story::read(&first, stop_after(2)).unwrap();
        let resumed = Pair::new(optimizer);
        let rest = Story::of(&resumed.start(&sets(), &options, Some(&path)).unwrap());

        assert_eq!(scores(&rest), scores(&told)[2..]);
        assert_eq!(rest.end().result.best, told.end().result.best);
        assert_eq!(rest.end().result.test, told.end().result.test);
        assert_same_state(&whole, &resumed);
        assert_eq!(resumed.optimizer.view(), whole.optimizer.view());
        // events.jsonl tells of each epoch once.
        let lines = fs::read_to_string(path.join("events.jsonl")).unwrap();
        let events = lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let epochs: Vec<u64> =
            events.filter_map(|event| event["train"]["loss"].as_f64().and(event["epoch"].as_u64())).collect();
        assert_eq!(epochs, [1, 2, 3, 4]);
    }
}

#[test]
fn with_schedules_that_remember() {
    // So high a threshold that most epochs are no better: every reduction falls before or after the interruption.
    let plateau = Plateau { factor: 0.7, patience: 0, threshold: 0.3, cooldown: 1, ..Plateau::default() };
    let mut options = config(7);
    options.await_epoch_end = true;
    options.schedule = ScheduleConfig::new(Shape::Plateau(plateau.clone()));
    options.rho_schedule =
        Some(ScheduleConfig::new(Shape::Plateau(Plateau { mode: Mode::Max, patience: 1, ..plateau })));
    options.momentum_schedule = serde_json::from_value(json!({"type": "linear", "endFactor": 0.5})).unwrap();
    for sets in [sets(), Datasets { validation: None, ..sets() }] {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("run");
        let whole = Pair::new(asam());
        let told = Story::of(&whole.start(&sets, &options, None).unwrap());

        let options = with_dir(&options, &path);
        let first = Pair::new(asam()).start(&sets, &options, None).unwrap();
        Story::read(&first, stop_after(4)).unwrap();
        let resumed = Pair::new(asam());
        let rest = Story::of(&resumed.start(&sets, &options, Some(&path)).unwrap());

        let rates = |story: &Story| -> Vec<(f64, Option<f64>, f64)> {
            story.epochs().iter().map(|epoch| (epoch.lr, epoch.rho, epoch.momentum)).collect()
        };
        let all = rates(&told);
        assert_eq!(rates(&rest), all[4..]);
        assert_same_state(&whole, &resumed);
        assert!(all[0].0 > all[3].0 && all[3].0 > all[6].0, "{all:?}");
        assert!(all[0].1 > all[6].1, "{all:?}");
    }
}

#[test]
fn within_an_epoch() {
    for steps in [3, 7, 12] {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("run");
        let options = config(3);
        let whole = Pair::new(asam());
        let told = Story::of(&whole.start(&sets(), &options, None).unwrap());

        let mut short = with_dir(&options, &path);
        short.max_steps = Some(steps);
        Story::of(&Pair::new(asam()).start(&sets(), &short, None).unwrap());
        let resumed = Pair::new(asam());
        let rest = Story::of(&resumed.start(&sets(), &with_dir(&options, &path), Some(&path)).unwrap());

        assert_eq!(scores(&rest), scores(&told)[steps as usize / 7..]);
        assert_same_state(&whole, &resumed);
    }
}

#[test]
fn from_a_checkpoint_into_another_folder() {
    let root = tempfile::tempdir().unwrap();
    let (from, into) = (root.path().join("from"), root.path().join("into"));
    let options = config(2);
    Story::of(&Pair::new(asam()).start(&sets(), &with_dir(&options, &from), None).unwrap());
    let longer = with_dir(&config(3), &into);
    let last = from.join("checkpoints/last");
    let story = Story::of(&Pair::new(asam()).start(&sets(), &longer, Some(&last)).unwrap());
    assert_eq!(story.epochs().len(), 1);
    let told: Vec<String> = fs::read_to_string(into.join("events.jsonl")).unwrap().lines().map(String::from).collect();
    assert!(told[0].contains("resumedFrom") && told[0].contains("last"));
    assert_eq!(fs::read_to_string(from.join("events.jsonl")).unwrap().matches("\"start\"").count(), 1);
}

#[test]
fn a_run_with_other_batches_is_refused() {
    let root = tempfile::tempdir().unwrap();
    let options = with_dir(&config(1), root.path());
    Story::of(&Pair::new(asam()).start(&sets(), &options, None).unwrap());
    let refusal = |options: &TrainConfig, sets: &flatmin_train::Datasets| {
        let pair = Pair::new(asam());
        let before = pair.state();
        let run = pair.start(sets, options, Some(root.path())).unwrap();
        let error = Story::read(&run, |_| Acknowledgement::default()).map(|_| ()).unwrap_err();
        assert_eq!(pair.state(), before);
        error
    };
    let other_seed = refusal(&TrainConfig { seed: 6, ..options.clone() }, &sets());
    assert_eq!(other_seed.code(), "ERR_FLATMIN_CHECKPOINT");
    assert!(other_seed.to_string().contains("seed was 5 and is 6"), "{other_seed}");
    let mut fewer = sets();
    fewer.train = images(90, 1);
    assert!(refusal(&options, &fewer).to_string().contains("100 and is 90"));
}

#[test]
fn a_missing_or_broken_checkpoint_says_so() {
    let root = tempfile::tempdir().unwrap();
    let failure = || {
        let run = Pair::new(asam()).start(&sets(), &config(1), Some(root.path())).unwrap();
        Story::read(&run, |_| Acknowledgement::default()).map(|_| ()).unwrap_err()
    };
    assert_eq!(failure().code(), "ERR_FLATMIN_PATH");
    fs::write(root.path().join("state.json"), "{").unwrap();
    assert_eq!(failure().code(), "ERR_FLATMIN_CHECKPOINT");
}
