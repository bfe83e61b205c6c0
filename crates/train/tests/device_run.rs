//! Whole runs on a device, with the twin of the CUDA library's kernels in the GPU's place: the same story as on the CPU, from
//! the batches that are made there to the checkpoint that goes on elsewhere.

mod common;

use common::*;
use flatmin_data::{ArrayOptions, Dataset, ImageShape, Pixels};
use flatmin_nn::{Dtype, Engine, Model};
use flatmin_optim::{Loss, Optimizer};
use flatmin_torch_ext::cuda::Place;
use flatmin_train::{Augment, Datasets, Event, ModelSlot, OptimizerSlot, TrainConfig};
use tch::{Kind, Tensor};

fn byte_sets() -> Datasets {
    let shape = ImageShape { height: 6, width: 6, channels: 2 };
    let set = |count: usize| {
        let pixels = (0..count * shape.elements()).map(|index| (index * 37 % 251) as u8).collect();
        let labels = (0..count as u32).map(|index| index % 3).collect();
        Dataset::from_arrays(Pixels::U8(pixels), shape, labels, ArrayOptions::default()).unwrap()
    };
    Datasets { train: set(70), validation: Some(set(20)), test: None }
}

fn pair_on(engine: Engine) -> Pair {
    let mut model = Model::new(spec(), Dtype::Float64, 7).unwrap().moved(engine).unwrap();
    let optimizer = Optimizer::new(&mut model, serde_json::from_value(asam()).unwrap()).unwrap();
    Pair { model: ModelSlot::new(model), optimizer: OptimizerSlot::new(optimizer) }
}

fn augmented(epochs: u64) -> TrainConfig {
    let augment = Augment { pad_crop: Some(2), flip: true, cutout: Some(2), ..Augment::default() };
    TrainConfig { augment, ..config(epochs) }
}

fn run(engine: Engine, config: &TrainConfig) -> (Vec<f64>, Vec<(String, Tensor)>, String) {
    let pair = pair_on(engine);
    let story = Story::of(&pair.start(&byte_sets(), config, None).unwrap());
    let Some(Event::Start(start)) = story.events.first() else { panic!("no start") };
    let epochs = story.epochs();
    let losses = epochs.iter().flat_map(|epoch| {
        let validation = epoch.validation.as_ref().unwrap();
        [epoch.train.loss, epoch.train.accuracy, validation.loss, epoch.sharpness.unwrap()]
    });
    (losses.collect(), pair.state(), start.device.clone())
}

fn assert_alike(own: &[(String, Tensor)], other: &[(String, Tensor)]) {
    assert_eq!(own.len(), other.len());
    for ((name, own), (_, other)) in own.iter().zip(other) {
        let difference = f64::try_from((own - other).to_kind(Kind::Double).norm()).unwrap();
        let scale = f64::try_from(own.to_kind(Kind::Double).norm()).unwrap().max(1e-3);
        assert!(difference <= 1e-8 * scale, "{name} differs by {difference}");
    }
}

#[test]
fn a_run_tells_the_same_story() {
    let mixed = Augment { mixup: Some(0.5), ..augmented(2).augment };
    let weighted = Loss::CrossEntropy { label_smoothing: 0.0, class_weights: Some(vec![1.0, 2.0, 4.0].into()) };
    let configs =
        [augmented(2), TrainConfig { augment: mixed, ..augmented(2) }, TrainConfig { loss: weighted, ..augmented(2) }];
    for config in configs {
        let own = run(Engine::Cpu, &config);
        let twin = run(Engine::Cuda(Place::twin()), &config);
        assert_eq!(twin.2, "cpu");
        for (own, twin) in own.0.iter().zip(&twin.0) {
            assert!((own - twin).abs() <= 1e-8 * own.abs().max(1.0), "{own} and {twin}");
        }
        assert_alike(&own.1, &twin.1);
    }
}

#[test]
fn a_set_of_too_many_classes_is_refused_at_once() {
    let options = ArrayOptions { num_classes: Some(4), ..ArrayOptions::default() };
    let shape = ImageShape { height: 6, width: 6, channels: 2 };
    let four = Dataset::from_arrays(Pixels::U8(vec![7; 4 * 72]), shape, vec![0, 1, 2, 3], options).unwrap();
    for engine in [Engine::Cpu, Engine::Cuda(Place::twin())] {
        for sets in [
            Datasets { train: four.clone(), ..byte_sets() },
            Datasets { validation: Some(four.clone()), ..byte_sets() },
        ] {
            let error = pair_on(engine).start(&sets, &config(1), None).map(drop).unwrap_err();
            assert_eq!(error.code(), "ERR_FLATMIN_DATA");
            assert!(error.to_string().contains("it has 4 classes"), "{error}");
        }
    }
}

#[test]
fn a_checkpoint_goes_on_from_one_device_to_another() {
    let folder = tempfile::tempdir().unwrap();
    let whole = run(Engine::Cpu, &augmented(3));
    let first = pair_on(Engine::Cuda(Place::twin()));
    let config = TrainConfig { run_dir: Some(folder.path().join("run")), await_epoch_end: true, ..augmented(3) };
    let begun = first.start(&byte_sets(), &config, None).unwrap();
    Story::read(&begun, stop_after(2)).unwrap();
    let second = pair_on(Engine::Cpu);
    let going_on = TrainConfig { run_dir: None, await_epoch_end: false, ..config.clone() };
    let rest = second.start(&byte_sets(), &going_on, config.run_dir.as_deref()).unwrap();
    assert_eq!(Story::of(&rest).epochs().len(), 1);
    assert_alike(&whole.1, &second.state());
}
