//! Small models whose measures are known, and data for them.
#![allow(dead_code, reason = "each test binary uses a part")]

use flatmin_analysis::{
    Axis, CurvatureOptions, DensityOptions, LineEnd, LineOptions, MarginOptions, Method, Monitor, Result,
    SharpnessOptions, SurfaceOptions, TrajectoryOptions, all_layer_margins, curvature, interpolation, sharpness,
    surface, trajectory,
};
use flatmin_data::{ArrayOptions, Dataset, ImageShape, Pixels};
use flatmin_nn::{Dtype, Model, ModelSpec};
use flatmin_optim::{BallConfig, Loss};
use flatmin_train::{EvaluateOptions, EvaluationBatches};
use serde_json::{Value, json};
use tch::{Kind, Tensor, no_grad};

pub fn model(input_shape: [i64; 3], layers: Value, dtype: Dtype) -> Model {
    let spec = json!({"format": 1, "name": "net", "inputShape": input_shape, "numClasses": 3, "layers": layers});
    Model::new(ModelSpec::from_value(spec).unwrap(), dtype, 3).unwrap()
}

/// Six numbers in three classes by one linear layer: with the squared error, a quadratic function of its weights.
pub fn linear() -> Model {
    model([1, 2, 3], json!([{"type": "flatten"}, {"type": "linear", "outFeatures": 3}]), Dtype::Float64)
}

/// Convolutions, batch norm whose eps is 0, and a residual block, for images of 4 by 4.
pub fn conv(dtype: Dtype) -> Model {
    conv_of(4, 4, dtype)
}

pub fn conv_of(height: i64, width: i64, dtype: Dtype) -> Model {
    let conv = |stride: i64| json!({"type": "conv2d", "outChannels": 4, "kernelSize": 3, "padding": 1, "stride": stride, "bias": false});
    let norm = json!({"type": "batchNorm2d", "eps": 0});
    let layers = json!([
        conv(1), norm, {"type": "relu"},
        {"type": "residual", "layers": [conv(1), norm, {"type": "relu"}, conv(1), norm], "shortcut": "identity"},
        {"type": "dropout", "p": 0.2},
        {"type": "globalAvgPool2d"}, {"type": "flatten"}, {"type": "linear", "outFeatures": 3},
    ]);
    model([1, height, width], layers, dtype)
}

/// Pixels that look random; the class follows from them but for some images.
pub fn images(height: usize, width: usize, count: usize) -> Dataset {
    let mut state = 0x9e37_79b9_u64;
    let mut random = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1u64 << 24) as f32
    };
    let pixels: Vec<f32> = (0..count * height * width).map(|_| random()).collect();
    let label = |image: &[f32]| ((image[0] + image[1]) * 1.5) as u32 % 3;
    let labels = pixels.chunks(height * width).map(label).collect();
    let shape = ImageShape { height, width, channels: 1 };
    let options = ArrayOptions { num_classes: Some(3), ..ArrayOptions::default() };
    Dataset::from_arrays(Pixels::F32(pixels), shape, labels, options).unwrap()
}

pub fn mse() -> EvaluateOptions {
    EvaluateOptions { loss: Loss::Mse, batch_size: 16, ..EvaluateOptions::default() }
}

/// Runs a measurement that nobody watches or stops.
pub fn quietly<T>(measure: impl FnOnce(&Monitor<'_>) -> Result<T>) -> T {
    measure(&Monitor::new(&|_| {}, &|| false)).unwrap()
}

/// Images with a 1 behind each, `[images, 7]`, and one-hot classes, as the linear model reads them.
pub fn design(model: &Model, set: &Dataset) -> (Tensor, Tensor) {
    let batches = EvaluationBatches::new(model, set, &mse()).unwrap();
    let (mut rows, mut labels) = (Vec::new(), Vec::new());
    for batch in batches.iter() {
        let batch = batch.unwrap();
        rows.push(batch.images.flatten(1, -1));
        labels.push(batch.target.classes().unwrap());
    }
    let rows = Tensor::cat(&rows, 0);
    let ones = Tensor::ones([rows.size()[0], 1], (Kind::Double, tch::Device::Cpu));
    (Tensor::cat(&[rows, ones], 1), Tensor::cat(&labels, 0).one_hot(3).to_kind(Kind::Double))
}

/// Gives the linear model the weights of least squares.
pub fn to_minimum(model: &mut Model, set: &Dataset) {
    let (x, y) = design(model, set);
    let normal = x.transpose(0, 1).matmul(&x);
    let solution = normal.inverse().matmul(&x.transpose(0, 1).matmul(&y)).transpose(0, 1).contiguous();
    write(model, &solution);
}

/// Weight and bias from one matrix, `[3, 7]`.
pub fn write(model: &mut Model, both: &Tensor) {
    let position = |name: &str| model.parameters().position(name).unwrap();
    let (weight, bias) = (position("1.weight"), position("1.bias"));
    model.parameters_mut().write(weight, &both.narrow(1, 0, 6).contiguous()).unwrap();
    model.parameters_mut().write(bias, &both.select(1, 6).contiguous()).unwrap();
}

/// The Hessian of the linear model's squared error, `[21, 21]`: rows of weights with their bias behind.
pub fn hessian(model: &Model, set: &Dataset) -> Tensor {
    let (x, _) = design(model, set);
    let block = x.transpose(0, 1).matmul(&x) * (2.0 / 3.0 / x.size()[0] as f64);
    Tensor::eye(3, (Kind::Double, tch::Device::Cpu)).kron(&block)
}

/// |w| of the linear model in the Hessian's order.
pub fn magnitudes(model: &Model) -> Tensor {
    let read = |name: &str| model.parameters().read(model.parameters().position(name).unwrap()).unwrap();
    no_grad(|| Tensor::cat(&[read("1.weight"), read("1.bias").unsqueeze(1)], 1).abs().flatten(0, -1))
}

/// Eigenvalues, largest first.
pub fn eigenvalues(matrix: &Tensor) -> Vec<f64> {
    let mut values = Vec::<f64>::try_from(matrix.linalg_eigh("L").0).unwrap();
    values.reverse();
    values
}

#[track_caller]
pub fn near(found: f64, expected: f64, relative: f64) {
    assert!((found / expected - 1.0).abs() <= relative, "found {found}, expected {expected}");
}

type Run = Box<dyn Fn(&mut Model, &Dataset, &Monitor<'_>) -> Result<Value>>;

/// A measure with its options; its answer is JSON.
pub struct Measure {
    run: Run,
    /// Whether it goes with 16 bits.
    coarse: bool,
}

impl Measure {
    pub fn takes(&self, dtype: Dtype) -> bool {
        self.coarse || !dtype.is_half()
    }

    pub fn run(&self, model: &mut Model, set: &Dataset, monitor: &Monitor<'_>) -> Result<Value> {
        (self.run)(model, set, monitor)
    }
}

fn value(found: impl serde::Serialize) -> Value {
    serde_json::to_value(found).unwrap()
}

/// All that there are.
pub fn measures() -> Vec<(&'static str, Measure)> {
    let fine = |run| Measure { run, coarse: false };
    let coarse = |run| Measure { run, coarse: true };
    let by = |method, ball: Value, m| {
        let ball: BallConfig = serde_json::from_value(ball).unwrap();
        let options =
            SharpnessOptions { method, ball, m, steps: 3, draws: 3, rho: vec![0.1, 0.2], ..Default::default() };
        fine(Box::new(move |model, set, monitor| sharpness(model, set, &options, monitor).map(value)))
    };
    let plain = || json!({});
    let axis = Axis { from: -1.0, to: 1.0, points: 3 };
    vec![
        ("one step", by(Method::OneStep, plain(), None)),
        ("one step, by filters", by(Method::OneStep, json!({"scale": "filter", "eta": 0.01, "p": 3}), None)),
        ("ascent", by(Method::Ascent, plain(), None)),
        ("ascent, by elements", by(Method::Ascent, json!({"scale": "element", "adaptive": "all", "p": "inf"}), None)),
        ("ascent, norms alone", by(Method::Ascent, json!({"perturb": "norms", "p": 1.5}), None)),
        ("random", by(Method::Random, json!({"scale": "filter"}), None)),
        ("groups", by(Method::Ascent, plain(), Some(7))),
        (
            "curvature",
            fine(Box::new(|model, set, monitor| {
                let density = Some(DensityOptions { probes: 1, steps: 3, ..DensityOptions::default() });
                let options =
                    CurvatureOptions { top_k: 2, iterations: 4, trace_probes: 6, density, ..Default::default() };
                curvature(model, set, &options, monitor).map(value)
            })),
        ),
        (
            "surface",
            fine(Box::new(move |model, set, monitor| {
                let options = SurfaceOptions { x: axis, y: axis, ..Default::default() };
                surface(model, set, &options, monitor).map(value)
            })),
        ),
        (
            "line",
            coarse(Box::new(move |model, set, monitor| {
                let other = Model::new(model.spec().clone(), model.dtype(), 99).unwrap();
                let options = LineOptions { t: axis, ..Default::default() };
                interpolation(model, &LineEnd::of(&other)?, set, &options, monitor).map(value)
            })),
        ),
        (
            "path",
            coarse(Box::new(|model, set, monitor| {
                let folder = tempfile::tempdir().unwrap();
                let files = [7, 8, 9].map(|seed| folder.path().join(format!("{seed}.safetensors")));
                for (seed, file) in files.iter().enumerate() {
                    Model::new(model.spec().clone(), model.dtype(), seed as u64).unwrap().save(file).unwrap();
                }
                let options = TrajectoryOptions { points: 3, ..Default::default() };
                trajectory(model, &files, set, &options, monitor).map(value)
            })),
        ),
        (
            "margins",
            coarse(Box::new(|model, set, monitor| {
                all_layer_margins(model, set, &MarginOptions { steps: 3, ..Default::default() }, monitor).map(value)
            })),
        ),
    ]
}

/// All numbers that a measurement could have changed.
pub fn bits(model: &Model) -> Vec<Vec<u64>> {
    let parameters = model.parameters();
    let arenas = [parameters.master(), parameters.standing(), model.buffers().arena()];
    let numbers = |tensor: &Tensor| {
        let values = Vec::<f64>::try_from(tensor.to_kind(Kind::Double).flatten(0, -1)).unwrap();
        values.into_iter().map(f64::to_bits).collect::<Vec<_>>()
    };
    let read = parameters.leaves().iter().map(|leaf| numbers(&leaf.detach()));
    let gradients = parameters.leaves().iter().filter(|leaf| leaf.grad().defined()).map(|leaf| numbers(&leaf.grad()));
    arenas.into_iter().map(numbers).chain(read).chain(gradients).collect()
}
