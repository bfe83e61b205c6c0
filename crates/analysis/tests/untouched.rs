//! What a measurement leaves behind: nothing. And what it refuses.

mod common;

use common::{bits, conv, images, linear, quietly};
use flatmin_analysis::{
    Axis, CurvatureOptions, DensityOptions, Error, LineEnd, LineOptions, MarginOptions, Method, Monitor, Result,
    SharpnessOptions, SurfaceOptions, all_layer_margins, curvature, interpolation, sharpness, surface,
};
use flatmin_data::Dataset;
use flatmin_nn::{Dtype, Model, Pass};
use flatmin_optim::{BallConfig, Loss, Optimizer, Perturb, Target, backward};
use serde_json::json;
use tch::{Kind, Tensor};

type Measure = Box<dyn Fn(&mut Model, &Dataset, &Monitor<'_>) -> Result<()>>;

fn measures() -> Vec<(&'static str, Measure)> {
    let by = |method| -> Measure {
        let options = SharpnessOptions { method, steps: 3, draws: 3, rho: vec![0.1, 0.2], ..Default::default() };
        Box::new(move |model, set, monitor| sharpness(model, set, &options, monitor).map(drop))
    };
    let axis = Axis { from: -1.0, to: 1.0, points: 3 };
    vec![
        ("one step", by(Method::OneStep)),
        ("ascent", by(Method::Ascent)),
        ("random", by(Method::Random)),
        (
            "groups",
            Box::new(|model, set, monitor| {
                let options = SharpnessOptions { m: Some(7), steps: 3, ..Default::default() };
                sharpness(model, set, &options, monitor).map(drop)
            }),
        ),
        (
            "curvature",
            Box::new(|model, set, monitor| {
                let density = Some(DensityOptions { probes: 1, steps: 3, ..DensityOptions::default() });
                let options = CurvatureOptions { iterations: 4, trace_probes: 2, density, ..Default::default() };
                curvature(model, set, &options, monitor).map(drop)
            }),
        ),
        (
            "surface",
            Box::new(move |model, set, monitor| {
                surface(model, set, &SurfaceOptions { x: axis, y: axis, ..Default::default() }, monitor).map(drop)
            }),
        ),
        (
            "line",
            Box::new(|model, set, monitor| {
                let other = Model::new(model.spec().clone(), model.dtype(), 99).unwrap();
                interpolation(model, &LineEnd::of(&other)?, set, &LineOptions::default(), monitor).map(drop)
            }),
        ),
        (
            "margins",
            Box::new(|model, set, monitor| {
                all_layer_margins(model, set, &MarginOptions { steps: 3, ..Default::default() }, monitor).map(drop)
            }),
        ),
    ]
}

#[test]
fn a_model_is_as_it_was_to_the_end_or_stopped_midway() {
    let set = images(4, 4, 30);
    for dtype in [Dtype::Float32, Dtype::Float64] {
        for (name, measure) in measures() {
            let mut model = conv(dtype);
            // Gradients of a custom loop that is under way.
            let pixels = Tensor::ones([6, 1, 4, 4], (dtype.kind(), tch::Device::Cpu));
            let target = Target::Classes(Tensor::arange(6, (Kind::Int64, tch::Device::Cpu)).remainder(3));
            backward(&model, &pixels, &target, &Loss::default(), 1).unwrap();
            let before = bits(&model);
            quietly(|monitor| measure(&mut model, &set, monitor));
            assert!(bits(&model) == before && model.is_fused(), "{name}");
            let passes = std::cell::Cell::new(0);
            let report = |_| passes.set(passes.get() + 1);
            let stopped = measure(&mut model, &set, &Monitor::new(&report, &|| passes.get() == 2));
            assert!(matches!(stopped, Err(Error::Stopped)), "{name}");
            assert!(bits(&model) == before && model.is_fused(), "{name}, stopped");
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
        measure(&mut conv(Dtype::Float64), &set, &Monitor::new(&report, &|| false)).unwrap();
        let progress: flatmin_analysis::Progress = last.get().unwrap();
        assert_eq!(progress.done, progress.total, "{name}");
    }
}

#[test]
fn a_model_between_ascent_and_descent_is_refused() {
    let (mut model, set) = (linear(), images(2, 3, 20));
    let config = json!({"base": {"type": "sgd", "lr": 0.1}, "sharpness": {"rho": 0.1}});
    let mut optimizer = Optimizer::new(&mut model, serde_json::from_value(config).unwrap()).unwrap();
    let pixels = Tensor::ones([6, 1, 2, 3], (Kind::Double, tch::Device::Cpu));
    let target = Target::Classes(Tensor::arange(6, (Kind::Int64, tch::Device::Cpu)).remainder(3));
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
