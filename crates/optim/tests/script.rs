//! TorchScript modules as models: every step is that of the same net made of layers. The fixtures are made by
//! `__test__/fixtures/make_weights.py`.

mod common;

use std::path::{Path, PathBuf};

use common::{asam, bits, optimizer, sgd, state, variants};
use flatmin_nn::{Dtype, Engine, Model, ModelSpec, Pass, ScriptOptions, Statistics};
use flatmin_optim::{Averaging, Loss, StepOptions, Target, train_step};
use flatmin_torch_ext::cuda::Place;
use serde_json::{Value, json};
use tch::{Device, Kind, Tensor};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../__test__/fixtures").join(name)
}

fn options() -> ScriptOptions {
    serde_json::from_value(json!({ "inputShape": [2, 4, 4] })).unwrap()
}

fn script(name: &str) -> Model {
    Model::from_torch_script(&fixture(name), options(), Dtype::Float64).unwrap()
}

/// The net of `small-script.pt`, layer by layer.
fn layers() -> Model {
    let spec = json!({ "format": 1, "name": "small", "inputShape": [2, 4, 4], "numClasses": 2, "layers": [
        { "type": "conv2d", "name": "conv", "outChannels": 4, "kernelSize": 3, "bias": false },
        { "type": "batchNorm2d", "name": "bn" }, { "type": "relu" },
        { "type": "flatten" }, { "type": "linear", "name": "fc", "outFeatures": 2 },
    ] });
    let mut model = Model::new(ModelSpec::from_value(spec).unwrap(), Dtype::Float64, 0).unwrap();
    model.load_weights(&fixture("small.safetensors"), true).unwrap();
    model
}

fn batch(seed: i64) -> (Tensor, Target) {
    let index = Tensor::arange(8 * 32, (Kind::Double, Device::Cpu)) + 1000 * seed;
    let images = ((index * 12.9898).sin() * 43.758).sin().reshape([8, 2, 4, 4]);
    (images, Target::Classes(Tensor::arange(8, (Kind::Int64, Device::Cpu)).remainder(2)))
}

fn train(model: &mut Model, sharpness: Value, steps: i64) {
    let mut optimizer = optimizer(model, sgd(), sharpness);
    for seed in 0..steps {
        let (images, target) = batch(seed);
        let outcome =
            train_step(model, &mut optimizer, &images, &target, &Loss::default(), StepOptions::new(seed as u64));
        assert!(outcome.unwrap().finite);
        assert_eq!(bits(model.parameters().standing()), bits(model.parameters().master()));
    }
}

fn assert_close(found: &Model, expected: &Model, what: &str) {
    let entries = found.state_dict().unwrap().into_iter().zip(expected.state_dict().unwrap());
    for ((name, value), (other, wanted)) in entries {
        assert_eq!(name, other, "{what}");
        let error = f64::try_from((value - &wanted).abs().max()).unwrap();
        assert!(error < 1e-12, "{what}: {name} differs by {error}");
    }
}

#[test]
fn it_starts_with_the_values_of_the_file_and_answers_as_the_layers_do() {
    let (script, layers) = (script("small-script.pt"), layers());
    assert_eq!((script.spec().name.as_str(), script.spec().num_classes), ("small-script", 2));
    assert_close(&script, &layers, "start");
    let (images, _) = batch(0);
    for pass in [
        Pass::Eval,
        Pass::Train { statistics: Statistics::Frozen, mask_seed: 1 },
        Pass::Train { statistics: Statistics::Ignore, mask_seed: 1 },
    ] {
        let [a, b] = [&script, &layers].map(|model| model.forward(&images, pass).unwrap());
        assert!(f64::try_from((a - b).abs().max()).unwrap() < 1e-13, "{pass:?}");
    }
    assert_close(&script, &layers, "passes that stage nothing");
}

#[test]
fn every_optimizer_steps_it_as_it_steps_the_layers() {
    // These draw elements and noise in the order of memory, which is another here.
    let variants = variants().into_iter().filter(|(name, _)| !["esam", "random"].contains(name));
    for (name, sharpness) in variants.chain([("sgd", Value::Null), ("asam", asam(0.5))]) {
        let (mut script, mut layers) = (script("small-script.pt"), layers());
        train(&mut script, sharpness.clone(), 4);
        train(&mut layers, sharpness, 4);
        assert_close(&script, &layers, name);
    }
}

#[test]
fn statistics_follow_the_first_pass_and_only_real_steps() {
    let mut model = script("small-script.pt");
    let mut sam = optimizer(&mut model, sgd(), asam(0.5));
    let before = state(&model);
    let (images, target) = batch(1);
    let infinite = images.shallow_clone() * f64::INFINITY;
    let step = |model: &mut Model, sam: &mut _, images: &Tensor| {
        train_step(model, sam, images, &target, &Loss::default(), StepOptions::new(1)).unwrap()
    };
    assert!(!step(&mut model, &mut sam, &infinite).finite);
    assert_eq!(state(&model), before);
    step(&mut model, &mut sam, &images);
    let count = model.state_dict().unwrap()[5].1.int64_value(&[]);
    assert_eq!(count, 1);
}

#[test]
fn both_passes_drop_the_same_values() {
    let mut model = script("dropout-script.pt");
    let mut sam = optimizer(&mut model, sgd(), json!({ "rho": 0.0 }));
    let (images, target) = batch(1);
    let mut step = |seed| {
        let options = StepOptions::new(seed);
        train_step(&mut model, &mut sam, &images, &target, &Loss::default(), options).unwrap()
    };
    assert_eq!(step(1).sharpness, Some(0.0));
    assert_eq!(step(2).sharpness, Some(0.0));
    let model = script("dropout-script.pt");
    let logits = |mask_seed| model.forward(&images, Pass::Train { statistics: Statistics::Ignore, mask_seed }).unwrap();
    assert_eq!(logits(3), logits(3));
    assert_ne!(logits(3), logits(4));
}

/// The Hessian times a vector, against a difference of gradients.
#[test]
fn second_derivatives_exist() {
    let mut model = script("small-script.pt");
    model.set_fused(false);
    let (images, target) = batch(2);
    let leaves: Vec<Tensor> = model.parameters().leaves().iter().map(Tensor::shallow_clone).collect();
    let inputs: Vec<&Tensor> = leaves.iter().collect();
    let gradients = |model: &Model, create: bool| {
        let pass = Pass::Train { statistics: Statistics::Ignore, mask_seed: 1 };
        let loss = Loss::default().apply(&model.forward(&images, pass).unwrap(), &target).unwrap();
        Tensor::f_run_backward(&[loss], &inputs, create, create).unwrap()
    };
    let vectors: Vec<Tensor> = leaves.iter().map(|leaf| (leaf.detach() * 3.0).sin()).collect();
    let along = |gradients: &[Tensor]| -> Tensor {
        gradients.iter().zip(&vectors).map(|(g, v)| (g * v).sum(Kind::Double)).sum()
    };
    let products = Tensor::f_run_backward(&[along(&gradients(&model, true))], &inputs, false, false).unwrap();
    let h = 1e-5;
    let mut shifted = |sign: f64| {
        for (position, vector) in vectors.iter().enumerate() {
            let moved = model.parameters().read(position).unwrap() + vector * (sign * h);
            model.parameters_mut().write(position, &moved).unwrap();
        }
        let found = gradients(&model, false);
        for (position, vector) in vectors.iter().enumerate() {
            let back = model.parameters().read(position).unwrap() - vector * (sign * h);
            model.parameters_mut().write(position, &back).unwrap();
        }
        found
    };
    let (plus, minus) = (shifted(1.0), shifted(-1.0));
    for ((product, plus), minus) in products.iter().zip(plus).zip(minus) {
        let error = f64::try_from((product - (plus - minus) / (2.0 * h)).abs().max()).unwrap();
        assert!(error < 1e-7, "{error}");
    }
}

#[test]
fn frozen_parts_and_averages_work_as_with_layers() {
    let run = |mut model: Model| {
        model.freeze(&["bn.*"]).unwrap();
        let config = serde_json::from_value(json!({ "type": "ema", "decay": 0.5 })).unwrap();
        let mut average = Averaging::new(config, &model).unwrap();
        for _ in 0..3 {
            train(&mut model, asam(0.5), 1);
            average.update(&model).unwrap();
        }
        let mut averaged = layers();
        averaged.load_state_dict(average.model().unwrap().state_dict().unwrap(), true).unwrap();
        averaged
    };
    assert_close(&run(script("small-script.pt")), &run(layers()), "average");
}

#[test]
fn trained_modules_are_saved_as_modules_and_as_weights() {
    let folder = tempfile::tempdir().unwrap();
    let mut model = script("small-script.pt");
    train(&mut model, asam(0.5), 2);
    model.freeze(&["conv.weight"]).unwrap();
    let path = folder.path().join("trained.pt");
    model.save(&path).unwrap();
    let back = Model::from_torch_script(&path, options(), Dtype::Float64).unwrap();
    assert_eq!(state(&back), state(&model));
    assert_eq!(back.frozen(), ["conv.weight"]);
    train(&mut model, asam(0.5), 1);
    let weights = folder.path().join("trained.safetensors");
    model.save(&weights).unwrap();
    let mut layers = layers();
    layers.load_weights(&weights, true).unwrap();
    assert_eq!(state(&layers), state(&model));
    assert_eq!(Model::spec_in(&weights).unwrap(), None);
}

/// Going to one of them, a model is read anew, constants and all, and put over other arenas: as for a GPU.
fn engines() -> [Engine; 2] {
    [Engine::Torch(Device::Cpu), Engine::Cuda(Place::twin())]
}

/// What two training passes leave, to the bit: gradients, None where there is none; then logits, parameters and statistics.
fn traces(mut model: Model) -> Vec<Option<Vec<u64>>> {
    for seed in [7, 8] {
        let (images, target) = batch(seed);
        let pass = Pass::Train { statistics: Statistics::Stage, mask_seed: seed as u64 };
        let logits = model.forward(&images, pass).unwrap();
        Loss::default().apply(&logits, &target).unwrap().backward();
        model.commit_statistics();
    }
    let logits = bits(&model.forward(&batch(9).0, Pass::Eval).unwrap());
    let values = state(&model).into_iter().map(|(_, values)| values);
    let gradients = model.parameters().gradients().unwrap();
    let gradients = gradients.tensors().iter().map(|gradient| gradient.as_ref().map(bits));
    gradients.chain([logits].into_iter().chain(values).map(Some)).collect()
}

#[test]
fn a_model_that_has_moved_computes_the_same() {
    for (name, frozen) in [("small-script.pt", 0), ("dropout-script.pt", 0), ("constant-script.pt", 1)] {
        let stayed = traces(script(name));
        assert_eq!(stayed.iter().filter(|trace| trace.is_none()).count(), frozen);
        for engine in engines() {
            let moved = || script(name).moved(engine).unwrap();
            assert_eq!(moved().engine(), engine);
            assert_eq!(traces(moved()), stayed, "{name} on {engine:?}");
            assert_eq!(traces(moved().moved(Engine::Cpu).unwrap()), stayed, "{name} back from {engine:?}");
        }
    }
}

#[test]
fn engines_step_it_alike() {
    for name in ["small-script.pt", "constant-script.pt"] {
        for sharpness in [Value::Null, asam(0.5), json!({ "rho": 0.2, "masks": "fresh" })] {
            let mut own = script(name);
            train(&mut own, sharpness.clone(), 4);
            for engine in engines() {
                let mut other = script(name).moved(engine).unwrap();
                train(&mut other, sharpness.clone(), 4);
                assert_close(&other, &own, name);
            }
        }
    }
}

#[test]
fn a_model_that_has_moved_is_averaged_and_saved() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("moved.pt");
    for engine in engines() {
        let mut model = script("constant-script.pt").moved(engine).unwrap();
        train(&mut model, asam(0.5), 2);
        let config = serde_json::from_value(json!({ "type": "ema", "decay": 0.5 })).unwrap();
        let mut average = Averaging::new(config, &model).unwrap();
        average.update(&model).unwrap();
        average.sync().unwrap();
        model.save(&path).unwrap();
        let opened = Model::from_torch_script(&path, options(), Dtype::Float64).unwrap();
        assert_eq!(opened.frozen(), ["fc.bias"]);
        let averaged = average.model().unwrap();
        assert_eq!(averaged.engine(), engine);
        let (images, _) = batch(5);
        let answer = |model: &Model| (state(model), bits(&model.forward(&images, Pass::Eval).unwrap()));
        assert_eq!(answer(averaged), answer(&model));
        assert_eq!(answer(&opened), answer(&model));
    }
}

#[test]
fn files_and_options_that_do_not_fit_are_refused() {
    let open = |path: &Path, edit: Value, dtype| {
        let mut all = json!({ "inputShape": [2, 4, 4] });
        all.as_object_mut().unwrap().extend(edit.as_object().unwrap().clone());
        Model::from_torch_script(path, serde_json::from_value(all).unwrap(), dtype).map(drop).unwrap_err()
    };
    let small = fixture("small-script.pt");
    let cases = [
        (open(Path::new("absent.pt"), json!({}), Dtype::Float32), "ERR_FLATMIN_PATH", "absent.pt"),
        (open(&fixture("small.pt"), json!({}), Dtype::Float32), "ERR_FLATMIN_FORMAT", "no TorchScript"),
        (open(&fixture("small.safetensors"), json!({}), Dtype::Float32), "ERR_FLATMIN_FORMAT", "no TorchScript"),
        (open(&small, json!({ "inputShape": [3, 4, 4] }), Dtype::Float32), "ERR_FLATMIN_FORMAT", "inputShape"),
        (open(&small, json!({ "numClasses": 3 }), Dtype::Float32), "ERR_FLATMIN_SHAPE", "[2, 3]"),
        (open(&small, json!({ "classNames": ["a"] }), Dtype::Float32), "ERR_FLATMIN_OPTION", "classNames"),
        (open(&small, json!({}), Dtype::BFloat16), "ERR_FLATMIN_OPTION", "bfloat16"),
    ];
    for (error, code, part) in cases {
        assert_eq!(error.code(), code, "{error}");
        assert!(error.to_string().contains(part), "{error}");
    }
}
