//! Engines measure the same: libtorch's operations, and the CUDA library's kernels as their twin, both here on the CPU, against
//! kernels of our own.

mod common;

use common::{conv, images, measures, quietly};
use flatmin_analysis::{Method, SharpnessOptions, sharpness};
use flatmin_nn::{Dtype, Engine};
use flatmin_torch_ext::cuda::Place;
use flatmin_train::EvaluateOptions;
use serde_json::Value;
use tch::Device;

/// The largest difference of numbers in the same places, as a share of them or, of small ones, of a hundredth.
fn distance(a: &Value, b: &Value) -> f64 {
    let largest = |distances: &mut dyn Iterator<Item = f64>| distances.fold(0.0, f64::max);
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => {
            let (a, b) = (a.as_f64().unwrap(), b.as_f64().unwrap());
            (a - b).abs() / a.abs().max(b.abs()).max(0.01)
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            largest(&mut a.iter().zip(b).map(|(a, b)| distance(a, b)))
        }
        (Value::Object(a), Value::Object(b)) if a.len() == b.len() => {
            largest(&mut a.iter().map(|(name, a)| distance(a, &b[name])))
        }
        _ if a == b => 0.0,
        _ => f64::INFINITY,
    }
}

#[test]
fn every_measure_finds_the_same() {
    let set = images(4, 4, 30);
    for (dtype, tolerance) in [(Dtype::Float64, 1e-9), (Dtype::Float32, 1e-3)] {
        for (name, measure) in measures() {
            let on = |engine| {
                let mut model = conv(dtype).moved(engine).unwrap();
                quietly(|monitor| measure.run(&mut model, &set, monitor))
            };
            let own = on(Engine::Cpu);
            for engine in [Engine::Torch(Device::Cpu), Engine::Cuda(Place::twin())] {
                let found = distance(&on(engine), &own);
                assert!(found <= tolerance, "{name} of {dtype:?} on {engine:?} differs by {found}");
            }
        }
    }
}

#[test]
fn many_batches_are_told_one_by_one() {
    let set = images(4, 4, 30);
    let data = EvaluateOptions { batch_size: 1, ..EvaluateOptions::default() };
    let options = SharpnessOptions { method: Method::OneStep, data, ..SharpnessOptions::default() };
    let on = |engine| {
        let mut model = conv(Dtype::Float64).moved(engine).unwrap();
        let found = quietly(|monitor| sharpness(&mut model, &set, &options, monitor));
        assert_eq!(found.points[0].spread.count, 30);
        serde_json::to_value(found).unwrap()
    };
    let own = on(Engine::Cpu);
    for engine in [Engine::Torch(Device::Cpu), Engine::Cuda(Place::twin())] {
        let found = distance(&on(engine), &own);
        assert!(found <= 1e-9, "on {engine:?} it differs by {found}");
    }
}
