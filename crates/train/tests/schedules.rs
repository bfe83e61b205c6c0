//! Schedules against `torch.optim.lr_scheduler`: `__test__/goldens/make_schedules.py` tells how the values came about.

mod common;

use std::path::Path;

use common::{Pair, Story, asam, config, sam_with_adam, sets};
use flatmin_train::{Acknowledgement, Own, PlateauStates, ScheduleConfig, Schedules, TrainConfig, Watched};
use serde_json::{Value, json};

struct Goldens(Value);

impl Goldens {
    fn read() -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../__test__/goldens/schedules.json");
        Self(serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap())
    }

    fn cases(&self, key: &str) -> &[Value] {
        let cases = self.0[key].as_array().unwrap();
        assert!(!cases.is_empty());
        cases
    }

    fn whole(&self, key: &str) -> u64 {
        self.0[key].as_u64().unwrap()
    }

    fn own(&self) -> Own {
        let number = |key: &str| self.0[key].as_f64().unwrap();
        Own { lr: number("lr"), rho: number("rho"), momentum: number("momentum") }
    }

    fn schedules(&self, case: &Value) -> Schedules {
        let (epochs, steps_per_epoch) = (self.whole("epochs"), self.whole("stepsPerEpoch"));
        let mut config = json!({"epochs": epochs, "schedule": case["schedule"]});
        if case["rhoSchedule"].is_object() {
            config["rhoSchedule"] = case["rhoSchedule"].clone();
        }
        let config: TrainConfig = serde_json::from_value(config).unwrap();
        config.validate().unwrap();
        let schedules = Schedules::new(&config, steps_per_epoch, epochs * steps_per_epoch);
        schedules.check(self.own()).unwrap();
        schedules
    }
}

fn numbers(values: &Value) -> Vec<f64> {
    values.as_array().unwrap().iter().map(|value| value.as_f64().unwrap_or(f64::NAN)).collect()
}

/// To 1e-12 of each value. PyTorch's linear one-cycle subtracts from the peak what it falls by, so that its smallest values
/// carry the peak's rounding: so much is allowed, too.
fn assert_same(case: &Value, key: &str, found: &[f64]) {
    let expected = numbers(&case[key]);
    assert_eq!(found.len(), expected.len());
    let rounding = f64::EPSILON * expected.iter().copied().fold(0.0, f64::max);
    for (at, (found, expected)) in found.iter().zip(&expected).enumerate() {
        let near = (found - expected).abs() <= (1e-12 * expected.abs()).max(rounding);
        assert!(near, "{key} {at} of {}: {found}, PyTorch {expected}", case["schedule"]);
    }
}

#[test]
fn every_step_of_every_schedule() {
    let goldens = Goldens::read();
    let own = goldens.own();
    for case in goldens.cases("byStep") {
        let schedules = goldens.schedules(case);
        let steps = goldens.whole("epochs") * goldens.whole("stepsPerEpoch");
        let factors: Vec<_> = (0..steps).map(|step| schedules.factors(step, own, &PlateauStates::default())).collect();
        let values = |value: &dyn Fn(usize) -> f64| (0..factors.len()).map(value).collect::<Vec<f64>>();
        assert_same(case, "lr", &values(&|step| own.lr * factors[step].lr));
        assert_same(case, "momentum", &values(&|step| own.momentum * factors[step].momentum));
        assert!(factors.iter().all(|factors| factors.rho == 1.0));
    }
}

#[test]
fn every_epoch_of_a_plateau() {
    let goldens = Goldens::read();
    let own = goldens.own();
    for case in goldens.cases("plateau") {
        let schedules = goldens.schedules(case);
        let watches_accuracy = case["schedule"]["mode"] == "max";
        let mut states = PlateauStates::default();
        let after_each = numbers(&case["scores"]).into_iter().map(|score| {
            let watched = match watches_accuracy {
                true => Watched { loss: f64::NAN, accuracy: score },
                false => Watched { loss: score, accuracy: f64::NAN },
            };
            schedules.observe(1, watched, own, &mut states);
            // As a checkpoint keeps it.
            states = serde_json::from_str(&serde_json::to_string(&states).unwrap()).unwrap();
            own.lr * schedules.factors(1, own, &states).lr
        });
        assert_same(case, "lr", &after_each.collect::<Vec<f64>>());
    }
}

#[test]
fn rho_follows_the_learning_rate() {
    let goldens = Goldens::read();
    let own = goldens.own();
    for case in goldens.cases("rhoByLr") {
        let schedules = goldens.schedules(case);
        let steps = goldens.whole("epochs") * goldens.whole("stepsPerEpoch");
        let rho = |step| own.rho * schedules.factors(step, own, &PlateauStates::default()).rho;
        assert_same(case, "rho", &(0..steps).map(rho).collect::<Vec<f64>>());
    }
}

#[test]
fn a_run_tells_what_is_in_force() {
    let mut options = config(2);
    options.schedule = schedule(json!({"type": "oneCycle", "by": "epoch", "pctStart": 0.5, "divFactor": 10}));
    options.rho_schedule = Some(schedule(json!({"type": "linear", "by": "epoch", "startFactor": 0.5, "endFactor": 1})));
    for (optimizer, lr, rho) in [(asam(), 0.1, 0.2), (sam_with_adam(), 0.01, 0.05)] {
        let pair = Pair::new(optimizer);
        let story = Story::of(&pair.start(&sets(), &options, None).unwrap());
        let found: Vec<_> = story.epochs().iter().map(|epoch| (epoch.lr, epoch.rho.unwrap(), epoch.momentum)).collect();
        // Two ticks: a rise that is over at once, and the end.
        let expected = [(lr, 0.5 * rho, 0.85), (lr / 1e5, 0.75 * rho, 0.95)];
        for (found, expected) in found.iter().zip(expected) {
            let pairs = [(found.0, expected.0), (found.1, expected.1), (found.2, expected.2)];
            assert!(pairs.iter().all(|(found, expected)| (found - expected).abs() <= 1e-12 * expected), "{found:?}");
        }
        // The optimizer keeps its own values.
        let group = pair.optimizer.view().groups[0].clone();
        assert_eq!((group.lr, group.rho), (lr, Some(rho)));
    }
}

#[test]
fn a_schedule_of_what_the_optimizer_lacks_is_refused() {
    let failure = |optimizer: Value, change: Value| {
        let mut options = serde_json::to_value(config(1)).unwrap();
        options.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        let options = serde_json::from_value(options).unwrap();
        let run = Pair::new(optimizer).start(&sets(), &options, None).unwrap();
        let error = Story::read(&run, |_| Acknowledgement::default()).map(|_| ()).unwrap_err();
        assert_eq!(error.code(), "ERR_FLATMIN_OPTION");
        error.to_string()
    };
    let sgd = json!({"base": {"type": "sgd", "lr": 0.1}});
    let refusals = [
        (sgd.clone(), json!({"rhoSchedule": {"type": "cosine"}}), "rhoSchedule is given"),
        (sgd.clone(), json!({"momentumSchedule": {"type": "cosine"}}), "momentumSchedule is given"),
        (sgd, json!({"schedule": {"type": "oneCycle"}}), "schedule.cycleMomentum is true"),
        (asam(), json!({"rhoSchedule": {"type": "lr", "min": 0.3}}), "rhoSchedule.min is 0.3; expected at most"),
    ];
    for (optimizer, change, message) in refusals {
        let found = failure(optimizer, change);
        assert!(found.contains(message), "{found}");
    }
}

fn schedule(options: Value) -> ScheduleConfig {
    serde_json::from_value(options).unwrap()
}
