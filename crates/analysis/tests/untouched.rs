//! What a measurement leaves behind: nothing. And what it refuses.

mod common;

use common::{bits, conv, images, linear, measures, quietly};
use flatmin_analysis::{Error, LineEnd, LineOptions, Method, Monitor, SharpnessOptions, interpolation, sharpness};
use flatmin_nn::{Dtype, Engine, Model, Pass};
use flatmin_optim::{BallConfig, Loss, Optimizer, Perturb, Target, backward};
use flatmin_torch_ext::cuda::Place;
use serde_json::json;
use tch::{Device, Kind, Tensor};

#[test]
fn a_model_is_as_it_was_to_the_end_or_stopped_midway() {
    let set = images(4, 4, 30);
    let engines = [Engine::Cpu, Engine::Torch(Device::Cpu), Engine::Cuda(Place::twin())];
    for (engine, dtype) in engines
        .into_iter()
        .flat_map(|engine| [Dtype::Float32, Dtype::Float64, Dtype::BFloat16].map(|dtype| (engine, dtype)))
    {
        for (name, measure) in measures().into_iter().filter(|(_, measure)| measure.takes(dtype)) {
            let mut model = conv(dtype).moved(engine).unwrap();
            // Gradients of a custom loop that is under way.
            let pixels = Tensor::ones([6, 1, 4, 4], (dtype.kind(), Device::Cpu));
            let target = Target::Classes(Tensor::arange(6, (Kind::Int64, Device::Cpu)).remainder(3));
            backward(&model, &pixels, &target, &Loss::default(), 1).unwrap();
            let before = bits(&model);
            quietly(|monitor| measure.run(&mut model, &set, monitor));
            assert!(bits(&model) == before && model.is_fused(), "{name} on {engine:?}");
            let passes = std::cell::Cell::new(0);
            let report = |_| passes.set(passes.get() + 1);
            let stopped = measure.run(&mut model, &set, &Monitor::new(&report, &|| passes.get() == 2));
            assert!(matches!(stopped, Err(Error::Stopped)), "{name}");
            assert!(bits(&model) == before && model.is_fused(), "{name} on {engine:?}, stopped");
            assert_eq!(passes.get(), 2, "{name}");
        }
    }
}

#[test]
fn progress_ends_where_it_was_planned() {
    let set = images(4, 4, 30);
    for (name, measure) in measures() {
        let last = std::cell::Cell::new(None);
        let report = |progress| last.set(Some(progress));
        measure.run(&mut conv(Dtype::Float64), &set, &Monitor::new(&report, &|| false)).unwrap();
        let progress: flatmin_analysis::Progress = last.get().unwrap();
        assert_eq!(progress.done, progress.total, "{name}");
    }
}

#[test]
fn a_model_between_ascent_and_descent_is_refused() {
    let (mut model, set) = (linear(), images(2, 3, 20));
    let config = json!({"base": {"type": "sgd", "lr": 0.1}, "sharpness": {"rho": 0.1}});
    let mut optimizer = Optimizer::new(&mut model, serde_json::from_value(config).unwrap()).unwrap();
    let pixels = Tensor::ones([6, 1, 2, 3], (Kind::Double, Device::Cpu));
    let target = Target::Classes(Tensor::arange(6, (Kind::Int64, Device::Cpu)).remainder(3));
    backward(&model, &pixels, &target, &Loss::default(), 1).unwrap();
    optimizer.ascent_step(&mut model).unwrap();
    let before = bits(&model);
    let monitor = Monitor::new(&|_| {}, &|| false);
    let error = sharpness(&mut model, &set, &SharpnessOptions::default(), &monitor).unwrap_err();
    assert_eq!(error.code(), "ERR_FLATMIN_STEP_ORDER");
    assert!(bits(&model) == before);
}

#[test]
fn options_and_models_that_do_not_fit_are_refused() {
    let set = images(2, 3, 20);
    let code = |model: &mut Model, options: &SharpnessOptions| {
        let monitor = Monitor::new(&|_| {}, &|| false);
        sharpness(model, &set, options, &monitor).unwrap_err().code()
    };
    let base = SharpnessOptions::default;
    for rho in [vec![], vec![0.0], vec![0.1, -1.0], vec![f64::NAN]] {
        assert_eq!(code(&mut linear(), &SharpnessOptions { rho, ..base() }), "ERR_FLATMIN_OPTION");
    }
    for wrong in [
        SharpnessOptions { steps: 0, ..base() },
        SharpnessOptions { m: Some(0), ..base() },
        SharpnessOptions { step_size: 0.0, ..base() },
        SharpnessOptions { ball: BallConfig { eta: -1.0, ..BallConfig::default() }, ..base() },
        // There is no normalisation layer.
        SharpnessOptions { ball: BallConfig { perturb: Perturb::Norms, ..BallConfig::default() }, ..base() },
    ] {
        assert_eq!(code(&mut linear(), &wrong), "ERR_FLATMIN_OPTION");
    }
    let layers = json!([{"type": "flatten"}, {"type": "linear", "outFeatures": 3}]);
    let mut half = common::model([1, 2, 3], layers.clone(), Dtype::BFloat16);
    assert_eq!(code(&mut half, &base()), "ERR_FLATMIN_DTYPE");
    let mut wide = common::model([1, 2, 4], layers, Dtype::Float32);
    assert_eq!(code(&mut wide, &base()), "ERR_FLATMIN_SHAPE");
    let far = SharpnessOptions { rho: vec![1e300], method: Method::OneStep, ..base() };
    assert_eq!(code(&mut common::conv_of(2, 3, Dtype::Float32), &far), "ERR_FLATMIN_NON_FINITE");
    let other = LineEnd::of(&conv(Dtype::Float64)).unwrap();
    let monitor = Monitor::new(&|_| {}, &|| false);
    let error = interpolation(&mut linear(), &other, &set, &LineOptions::default(), &monitor).unwrap_err();
    assert_eq!(error.code(), "ERR_FLATMIN_OPTION");
}

#[test]
fn evaluation_mode_it_is() {
    let (mut model, set) = (conv(Dtype::Float64), images(4, 4, 30));
    let found = quietly(|monitor| sharpness(&mut model, &set, &SharpnessOptions::default(), monitor));
    let batches =
        flatmin_train::EvaluationBatches::new(&model, &set, &flatmin_train::EvaluateOptions::default()).unwrap();
    let batch = batches.iter().next().unwrap().unwrap();
    let logits = tch::no_grad(|| model.forward(&batch.images, Pass::Eval)).unwrap();
    let loss = Loss::default().apply(&logits, &batch.target).unwrap().double_value(&[]);
    common::near(found.loss, loss, 1e-12);
}
