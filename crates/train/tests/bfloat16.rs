//! SAM on bfloat16 weights against SAM on float32 ones: ResNet-20, real images, rho 0.05.

use std::path::{Path, PathBuf};

use flatmin_data::{ImageShape, decode_image};
use flatmin_nn::{Dtype, Model, zoo};
use flatmin_optim::{Loss, Optimizer, OptimizerConfig, Rounding, Target, backward};
use serde_json::json;
use tch::{Kind, Tensor};

const BATCH: usize = 128;
const SIDE: usize = 32;

fn shared(path: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data").join(path);
    let found = path.exists().then_some(path);
    if found.is_none() {
        eprintln!("skipped: no shared data");
    }
    found
}

/// The first images of CIFAR-10's training set, normalised; they lie in a mosaic of 50 a row.
fn batch() -> Option<(Tensor, Target)> {
    let mosaic = decode_image(shared("cifar10/train-00.webp")?.as_path()).unwrap();
    let shape = ImageShape { height: mosaic.height(), width: mosaic.width(), channels: 3 };
    let size = [shape.height, shape.width, 3].map(|size| size as i64);
    let side = SIDE as i64;
    let tiles = Tensor::from_slice(&mosaic.resize(shape).unwrap()).view(size);
    let tiles = tiles.view([size[0] / side, side, size[1] / side, side, 3]).permute([0, 2, 4, 1, 3]);
    let images = tiles.reshape([-1, 3, side, side]).narrow(0, 0, BATCH as i64);
    let channel = |values: [f32; 3]| Tensor::from_slice(&values).view([1, 3, 1, 1]);
    let images = (images - channel([0.485, 0.456, 0.406])) / channel([0.229, 0.224, 0.225]);
    let labels = std::fs::read(shared("cifar10/train-labels.bin")?).unwrap();
    let labels: Vec<i64> = labels[..BATCH].iter().map(|&label| i64::from(label)).collect();
    Some((images, Target::Classes(Tensor::from_slice(&labels))))
}

struct Ascended {
    rise: f64,
    /// At w + eps, all parameters.
    gradient: Tensor,
    rounding: Option<Rounding>,
    /// At the same weights, computed in float32.
    wide_gradient: Tensor,
    /// What the network saw move.
    displacement: Tensor,
}

fn flat<'a>(tensors: impl Iterator<Item = &'a Tensor>) -> Tensor {
    Tensor::cat(&tensors.map(|tensor| tensor.detach().to_kind(Kind::Double).reshape([-1])).collect::<Vec<_>>(), 0)
}

fn ascend(model: &mut Model, images: &Tensor, target: &Target) -> Ascended {
    let config: OptimizerConfig = serde_json::from_value(json!({
        "base": {"type": "sgd", "lr": 0.1}, "sharpness": {"rho": 0.05, "scale": "none"},
    }))
    .unwrap();
    let mut optimizer = Optimizer::new(model, config).unwrap();
    let pass = |model: &Model| backward(model, images, target, &Loss::default(), 0).unwrap().loss;
    let before = flat(model.parameters().leaves().iter());
    let first = pass(model);
    let rounding = optimizer.ascent_step(model).unwrap().rounding;
    let displacement = flat(model.parameters().leaves().iter()) - before;
    let rise = pass(model) - first;
    let gradients = model.parameters().gradients().unwrap();
    let gradient = flat(gradients.tensors().iter().flatten());
    let mut wide = Model::new(model.spec().clone(), Dtype::Float32, 1).unwrap();
    for (position, leaf) in model.parameters().leaves().iter().enumerate() {
        wide.parameters_mut().write(position, &leaf.detach()).unwrap();
    }
    pass(&wide);
    let wide_gradient = flat(wide.parameters().gradients().unwrap().tensors().iter().flatten());
    optimizer.abandon_step(model).unwrap();
    Ascended { rise, gradient, wide_gradient, rounding, displacement }
}

fn dot(a: &Tensor, b: &Tensor) -> f64 {
    (a * b).sum(Kind::Double).double_value(&[])
}

fn cosine(a: &Tensor, b: &Tensor) -> f64 {
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

#[test]
fn the_perturbation_and_what_it_finds_are_those_of_float32() {
    let Some((images, target)) = batch() else { return };
    let Some(weights) = shared("weights/resnet20-cifar10.safetensors") else { return };
    for (trained, on_grid) in [(true, false), (true, true), (false, false), (false, true)] {
        let [mut float, mut half] = [Dtype::Float32, Dtype::BFloat16].map(|dtype| {
            let mut model = Model::new(zoo::spec("resnet20", &zoo::ZooOptions::default()).unwrap(), dtype, 1).unwrap();
            if trained {
                model.load_weights(&weights, true).unwrap();
            }
            if on_grid {
                for position in 0..model.parameters().segments().len() {
                    let rounded = model.parameters().read(position).unwrap().to_kind(Kind::BFloat16);
                    model.parameters_mut().write(position, &rounded).unwrap();
                }
            }
            model
        });
        let (float, half) = (ascend(&mut float, &images, &target), ascend(&mut half, &images, &target));
        assert!(float.rounding.is_none());
        let Rounding { ratio, cosine: angle, factor } = half.rounding.unwrap();
        let projection = dot(&half.displacement, &float.displacement) / dot(&float.displacement, &float.displacement);
        let rise = half.rise / float.rise;
        let gradient = cosine(&half.gradient, &float.gradient);
        let wide_gradient = cosine(&half.wide_gradient, &float.gradient);
        let found = format!(
            "trained {trained}, on the grid {on_grid}: ratio {ratio:.3}, cosine {angle:.3}, factor {factor:.3}, projection on \
             float32's eps {projection:.3}, rise {:.4} / {:.4} = {rise:.3}, cosine of gradients {gradient:.4}, computed in float32 {wide_gradient:.4}",
            half.rise, float.rise
        );
        eprintln!("{found}");
        assert!((ratio * angle - 1.0).abs() < 0.05, "{found}");
        assert!((rise - 1.0).abs() < 0.05, "{found}");
        // The perturbation is the one meant; the rest is what rounded activations do to any gradient.
        assert!(wide_gradient > 0.995, "{found}");
        assert!(gradient > 0.994, "{found}");
    }
}
