//! A trained ResNet-20: the values that PyTorch gives, and what rescaling its weights does to them. Needs the weights and
//! images of the shared data folder (`FLATMIN_SHARED`, or `shared` beside the checkout), and says so where they are missing.

mod common;

use std::path::{Path, PathBuf};

use common::{near, quietly};
use flatmin_analysis::{CurvatureOptions, Method, SharpnessOptions, curvature, sharpness};
use flatmin_data::{ArrayOptions, Dataset, ImageShape, Pixels, decode_image};
use flatmin_nn::zoo::{self, ZooOptions};
use flatmin_nn::{Dtype, Model, Normalization, ParamKind};
use flatmin_optim::{Adaptive, BallConfig, Scale};
use flatmin_train::EvaluateOptions;
use serde_json::Value;

/// Images a side of a mosaic.
const SIDE: usize = 50;

fn shared() -> Option<PathBuf> {
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared");
    let folder = std::env::var_os("FLATMIN_SHARED").map_or_else(beside, PathBuf::from).join("data");
    if folder.join("weights/resnet20-cifar10.safetensors").exists() && folder.join("cifar10").exists() {
        return Some(folder);
    }
    eprintln!("skipped: no weights and images in {}", folder.display());
    None
}

fn trained(shared: &Path, dtype: Dtype) -> Model {
    let mut model = Model::new(zoo::spec("resnet20", &ZooOptions::default()).unwrap(), dtype, 0).unwrap();
    model.load_weights(&shared.join("weights/resnet20-cifar10.safetensors"), true).unwrap();
    let normalization = Normalization { mean: vec![0.485, 0.456, 0.406], std: vec![0.229, 0.224, 0.225] };
    model.set_normalization(Some(normalization)).unwrap();
    model
}

/// The first test images of CIFAR-10, from their mosaic.
fn test_images(shared: &Path, count: usize) -> Dataset {
    let whole = ImageShape { height: 32 * SIDE, width: 32 * SIDE, channels: 3 };
    let mosaic = decode_image(shared.join("cifar10/test-00.webp").as_path()).unwrap().resize(whole).unwrap();
    let mut pixels = Vec::with_capacity(count * 3072);
    for image in 0..count {
        for row in 0..32 {
            let start = (((image / SIDE) * 32 + row) * 32 * SIDE + (image % SIDE) * 32) * 3;
            pixels.extend(mosaic[start..start + 96].iter().map(|value| (value * 255.0).round() as u8));
        }
    }
    let labels = std::fs::read(shared.join("cifar10/test-labels.bin")).unwrap();
    let labels = labels[..count].iter().map(|&label| u32::from(label)).collect();
    let options = ArrayOptions { num_classes: Some(10), ..ArrayOptions::default() };
    Dataset::from_arrays(Pixels::U8(pixels), ImageShape { height: 32, width: 32, channels: 3 }, labels, options)
        .unwrap()
}

/// All cases of a golden file. `FLATMIN_GOLDEN` names another one, for more images than a test should take.
#[test]
fn values_are_those_of_pytorch() {
    let Some(shared) = shared() else { return };
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../__test__/goldens/sharpness-resnet20.json");
    let file = std::env::var_os("FLATMIN_GOLDEN").map_or(own, PathBuf::from);
    let golden: Value = serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
    let dtype = serde_json::from_value(golden["dtype"].clone()).unwrap();
    let set = test_images(&shared, golden["images"].as_u64().unwrap() as usize);
    let mut model = trained(&shared, dtype);
    let number = |value: &Value| value.as_f64().unwrap();
    let data = EvaluateOptions { batch_size: 250, ..EvaluateOptions::default() };
    for (name, case) in golden["cases"].as_object().unwrap() {
        let options: SharpnessOptions = serde_json::from_value(case["options"].clone()).unwrap();
        let options = SharpnessOptions { data: data.clone(), ..options };
        let found = quietly(|monitor| sharpness(&mut model, &set, &options, monitor));
        near(found.loss, number(&case["loss"]), 1e-5);
        assert_eq!(found.accuracy, number(&case["accuracy"]));
        for (found, expected) in found.points.iter().zip(case["points"].as_array().unwrap()) {
            let error = found.sharpness / number(&expected["sharpness"]) - 1.0;
            println!("{name}, rho {}: {:.6}, relative difference {error:.1e}", found.rho, found.sharpness);
            near(found.sharpness, number(&expected["sharpness"]), 1e-4);
            near(found.norm, number(&expected["norm"]), 1e-5);
            assert!((found.accuracy - number(&expected["accuracy"])).abs() <= 1.0 / set.len() as f64 + 1e-9);
        }
    }
    if let Some(expected) = golden.get("eigenvalue") {
        let options = CurvatureOptions { data, tolerance: 1e-3, ..Default::default() };
        let found = quietly(|monitor| curvature(&mut model, &set, &options, monitor));
        println!("largest eigenvalue {:?}", found.eigenvalues);
        near(found.eigenvalues[0].value, number(&expected["value"]), 1e-4);
    }
}

/// The same function after every convolution was multiplied by a power of two, by turns large and small, and its batch norm
/// took that back: mean x a, variance x a^2, the epsilon made up for.
fn rescaled(model: &mut Model, factor: f64) {
    let segments = model.parameters().segments().to_vec();
    let convolutions = segments.iter().filter(|segment| segment.kind == ParamKind::ConvWeight);
    for (turn, segment) in convolutions.enumerate() {
        let a = if turn % 2 == 0 { factor } else { 1.0 / factor };
        let position = model.parameters().position(&segment.name).unwrap();
        let weight = model.parameters().read(position).unwrap();
        model.parameters_mut().write(position, &(weight * a)).unwrap();
        let norm = segment.name.replace("conv", "bn").replace(".weight", "");
        let norm = (0..model.buffers().len()).find(|&at| model.buffers().name(at) == norm).unwrap();
        let statistics = model.buffers().committed(norm);
        let _ = statistics.mean.shallow_clone().f_mul_scalar_(a).unwrap();
        let variance = (&statistics.variance + 1e-5) * a.powi(2) - 1e-5;
        statistics.variance.shallow_clone().copy_(&variance);
    }
}

fn measures(model: &mut Model, set: &Dataset, method: Method, ball: BallConfig, rho: f64) -> f64 {
    let options = SharpnessOptions { method, rho: vec![rho], ball, steps: 10, restarts: 0, ..Default::default() };
    quietly(|monitor| sharpness(model, set, &options, monitor)).points[0].sharpness
}

#[test]
fn adaptive_sharpness_does_not_see_rescaling_and_plain_sharpness_does() {
    let Some(shared) = shared() else { return };
    let set = test_images(&shared, 20);
    let ball = |scale, eta| BallConfig { scale, eta, adaptive: Adaptive::All, ..BallConfig::default() };
    let all = |model: &mut Model, method| {
        [
            measures(model, &set, method, ball(Scale::Element, 0.0), 0.1),
            measures(model, &set, method, ball(Scale::Filter, 0.0), 0.01),
            measures(model, &set, method, ball(Scale::Element, 0.01), 0.1),
            measures(model, &set, method, ball(Scale::None, 0.0), 0.02),
        ]
    };
    for (method, element, filter) in [(Method::OneStep, 1e-5, 1e-4), (Method::Ascent, 1e-4, 1e-4)] {
        let mut model = trained(&shared, Dtype::Float32);
        let before = all(&mut model, method);
        rescaled(&mut model, 8.0);
        let after = all(&mut model, method);
        let change = |at: usize| after[at] / before[at];
        println!(
            "{method:?}: element-wise {:.1e}, filter-wise {:.1e}, eta 0.01 {:.3} times, plain {:.2} times",
            change(0) - 1.0,
            change(1) - 1.0,
            change(2),
            change(3),
        );
        near(after[0], before[0], element);
        near(after[1], before[1], filter);
        assert!(change(3) > 4.0 || change(3) < 0.25, "plain sharpness changed {} times only", change(3));
    }
}
