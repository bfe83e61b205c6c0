//! One ASAM step on every model of the zoo: it sees a finite loss at w and at w + eps, and brings the weights back to the
//! bit. Models that join the zoo join this test.

mod common;

use common::{asam, optimizer};
use flatmin_nn::zoo::{self, ZooOptions};
use flatmin_nn::{Dtype, Model, Summary};
use flatmin_optim::{Loss, StepOptions, Target, train_step};
use flatmin_torch_ext::{Generator, configure, set_flush_denormal};
use serde_json::json;
use tch::{Device, Kind, Tensor};

/// The model with smaller images than its own where it takes them, so that large ones are done within seconds. Not smaller
/// than 32 pixels: batch norm over few values has gradients that overflow in a net of 152 layers.
fn small(name: &str) -> Model {
    let own = zoo::spec(name, &ZooOptions::default()).unwrap();
    let [channels, height, _] = own.input_shape;
    let smaller = [32, 64].into_iter().filter(|&size| size < height).find_map(|size| {
        let options = ZooOptions { input_shape: Some([channels, size, size]), ..ZooOptions::default() };
        zoo::spec(name, &options).ok().filter(|spec| Summary::of(spec, Dtype::Float32).is_ok())
    });
    Model::new(smaller.unwrap_or(own), Dtype::Float32, 1).unwrap()
}

#[test]
fn an_asam_step_on_every_model_returns_to_w() {
    // As training prepares libtorch: large models spend their time on fresh pages and denormals otherwise.
    configure();
    set_flush_denormal(true);
    for name in zoo::names() {
        let mut model = small(name);
        let mut optimizer = optimizer(&mut model, json!({ "type": "sgd", "lr": 0.0 }), asam(0.5));
        let [channels, height, width] = model.spec().input_shape;
        let mut images = Tensor::empty([2, channels, height, width], (Kind::Float, Device::Cpu));
        Generator::new(2).unwrap().normal_(&mut images, 0.0, 1.0).unwrap();
        let labels = Target::Classes(Tensor::from_slice(&[0i64, 1]));
        let (master, working) = (model.parameters().master().copy(), model.parameters().standing().copy());

        let options = StepOptions::new(3);
        let outcome = train_step(&mut model, &mut optimizer, &images, &labels, &Loss::default(), options).unwrap();
        let perturbed = outcome.perturbed_loss.unwrap();
        assert!(outcome.finite && outcome.reported.loss.is_finite() && perturbed.is_finite(), "{name}: {outcome:?}");
        assert_ne!(perturbed, outcome.reported.loss, "{name}: the second pass was at w");
        assert_eq!(*model.parameters().master(), master, "{name}: weights moved");
        assert_eq!(*model.parameters().standing(), working, "{name}: weights stayed perturbed");
    }
}
