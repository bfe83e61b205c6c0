//! Models that compute in 16 bits: what is rounded, what is not, and how near the results are to float32's.

mod common;

use common::{IGNORE, STAGE, close, spec};
use flatmin_nn::{Dtype, Model, ModelSpec, Pass, Standing, zoo};
use serde_json::json;
use tch::{Device, Kind, Tensor, no_grad};

fn resnet20() -> ModelSpec {
    zoo::spec("resnet20", &zoo::ZooOptions::default()).unwrap()
}

/// The same weights in both formats.
fn pair(spec: &ModelSpec) -> [Model; 2] {
    [Dtype::Float32, Dtype::BFloat16].map(|dtype| Model::new(spec.clone(), dtype, 5).unwrap())
}

fn images(model: &Model, batch: i64) -> Tensor {
    common::images(model, batch)
}

/// norm2(a - b) / norm2(b).
fn distance(a: &Tensor, b: &Tensor) -> f64 {
    let (a, b) = (a.to_kind(Kind::Double), b.to_kind(Kind::Double));
    (&a - &b).norm().double_value(&[]) / b.norm().double_value(&[])
}

/// All gradients of a model's parameters in one array.
fn flat_gradient(model: &Model) -> Tensor {
    let gradients = model.parameters().gradients().unwrap();
    let flat = |gradient: &Option<Tensor>| gradient.as_ref().unwrap().to_kind(Kind::Double).reshape([-1]);
    Tensor::cat(&gradients.tensors().iter().map(flat).collect::<Vec<_>>(), 0)
}

fn cosine(a: &Tensor, b: &Tensor) -> f64 {
    (a * b).sum(Kind::Double).double_value(&[]) / (a.norm() * b.norm()).double_value(&[])
}

fn loss(model: &Model, images: &Tensor, pass: Pass) -> Tensor {
    let labels = Tensor::arange(images.size()[0], (Kind::Int64, Device::Cpu)).remainder(10);
    model.forward(images, pass).unwrap().cross_entropy_for_logits(&labels)
}

#[test]
fn matrices_and_filters_are_rounded_and_all_else_is_not() {
    let [float, half] = pair(&resnet20());
    for (position, segment) in half.parameters().segments().iter().enumerate() {
        let leaf = &half.parameters().leaves()[position];
        let expected = if segment.shape.len() >= 2 { Kind::BFloat16 } else { Kind::Float };
        assert_eq!(leaf.kind(), expected, "{}", segment.name);
        let master = half.parameters().read(position).unwrap();
        assert_eq!(master, float.parameters().read(position).unwrap(), "{}", segment.name);
        assert_eq!(leaf.detach(), master.to_kind(expected), "{}", segment.name);
    }
    assert!(half.state_dict().unwrap().iter().all(|(_, value)| value.kind() != Kind::BFloat16));
    assert!(float.parameters().working_half().is_none());
}

#[test]
fn logits_losses_and_gradients_are_near_those_of_float32() {
    let models = pair(&resnet20());
    let images = images(&models[0], 16);
    let logits = models.each_ref().map(|model| no_grad(|| model.forward(&images, Pass::Eval).unwrap()));
    assert_eq!(logits[1].kind(), Kind::Float);
    assert!(distance(&logits[1], &logits[0]) < 0.03, "{}", distance(&logits[1], &logits[0]));
    for model in &models {
        loss(model, &images, STAGE).backward();
    }
    let segments = models[1].parameters().segments();
    for (gradient, segment) in models[1].parameters().gradients().unwrap().tensors().iter().zip(segments) {
        let expected = if segment.shape.len() >= 2 { Kind::BFloat16 } else { Kind::Float };
        assert_eq!(gradient.as_ref().unwrap().kind(), expected, "{}", segment.name);
    }
    let cosine = cosine(&flat_gradient(&models[1]), &flat_gradient(&models[0]));
    assert!(cosine > 0.97, "{cosine}");
}

#[test]
fn fused_and_composite_layers_give_the_same_gradients() {
    let mut model = Model::new(resnet20(), Dtype::BFloat16, 2).unwrap();
    let images = images(&model, 8);
    let [fused, composite] = [true, false].map(|fused| {
        model.set_fused(fused);
        loss(&model, &images, IGNORE).backward();
        let gradient = flat_gradient(&model);
        model.parameters().clear_gradients();
        gradient
    });
    let cosine = cosine(&fused, &composite);
    assert!(cosine > 0.97, "{cosine}");
}

#[test]
fn every_layer_runs() {
    let layers = json!([
        {"type": "conv2d", "outChannels": 6, "kernelSize": 3, "padding": 1},
        {"type": "batchNorm2d", "affine": false},
        {"type": "maxPool2d", "kernelSize": 2},
        {"type": "residual", "layers": [{"type": "conv2d", "outChannels": 6, "kernelSize": 1}, {"type": "batchNorm2d"}],
            "activation": "none"},
        {"type": "avgPool2d", "kernelSize": 2},
        {"type": "relu"},
        {"type": "dropout", "p": 0.25},
        {"type": "flatten"},
        {"type": "linear", "outFeatures": 3},
    ]);
    let spec = spec([3, 8, 8], 3, layers);
    let float = Model::new(spec.clone(), Dtype::Float32, 5).unwrap();
    let images = images(&float, 4);
    for half in [Dtype::BFloat16, Dtype::Float16].map(|dtype| Model::new(spec.clone(), dtype, 5).unwrap()) {
        for pass in [Pass::Eval, STAGE, IGNORE] {
            let [float, rounded] = [&float, &half].map(|model| model.forward(&images, pass).unwrap());
            assert!(distance(&rounded, &float) < 0.05, "{pass:?}: {}", distance(&rounded, &float));
            rounded.square().sum(Kind::Float).backward();
            half.parameters().clear_gradients();
        }
    }
}

#[test]
fn working_weights_return_to_the_rounded_master() {
    let [_, mut half] = pair(&resnet20());
    let before: Vec<Tensor> = half.parameters().leaves().iter().map(|leaf| leaf.detach().copy()).collect();
    let _ = half.parameters().working_half().unwrap().shallow_clone().fill_(1.0);
    let _ = half.parameters().working().shallow_clone().fill_(1.0);
    half.parameters().stand(Standing::Working).unwrap();
    half.parameters_mut().sync_working().unwrap();
    for (leaf, before) in half.parameters().leaves().iter().zip(&before) {
        assert_eq!(leaf.detach(), *before);
    }
}

#[test]
fn files_hold_the_master_and_statistics_in_float32() {
    let [float, half] = pair(&resnet20());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    half.save(&path).unwrap();
    let read = Model::load(&path, None).unwrap();
    assert_eq!(read.dtype(), Dtype::Float32);
    for ((name, found), (_, expected)) in read.state_dict().unwrap().iter().zip(&float.state_dict().unwrap()) {
        close(&found.to_kind(Kind::Double), &expected.to_kind(Kind::Double), 0.0);
        assert!(!name.is_empty());
    }
    assert_eq!(Model::load(&path, Some(Dtype::BFloat16)).unwrap().dtype(), Dtype::BFloat16);
}

#[test]
fn images_are_float32() {
    let [_, half] = pair(&resnet20());
    let rounded = images(&half, 2).to_kind(Kind::BFloat16);
    assert_eq!(half.forward(&rounded, Pass::Eval).unwrap_err().code(), "ERR_FLATMIN_DTYPE");
}
