//! Layers with several branches, and those that mix or scale them at random: against their formulas, in both directions.

mod common;

use common::{STAGE, close, expect_equal, images, model};
use flatmin_nn::{Dtype, Model, Pass, Statistics};
use serde_json::{Value, json};
use tch::{Device, Kind, Tensor};

const NONE: Option<&Tensor> = None;

fn conv(x: &Tensor, w: &Tensor, stride: i64) -> Tensor {
    let padding = w.size()[2] / 2;
    x.conv2d(w, NONE, [stride, stride], [padding, padding], [1, 1], 1)
}

fn norm_relu(x: &Tensor, gamma: &Tensor, beta: &Tensor) -> Tensor {
    x.batch_norm(Some(gamma), Some(beta), NONE, NONE, true, 0.1, 1e-5, true).relu()
}

fn conv_spec(name: &str, channels: i64, kernel: i64, stride: i64) -> Value {
    json!({ "type": "conv2d", "name": name, "outChannels": channels, "kernelSize": kernel, "stride": stride,
            "padding": kernel / 2, "bias": false })
}

fn pooled(x: &Tensor) -> Tensor {
    x.mean_dim(&[2i64, 3][..], false, Kind::Double)
}

#[test]
fn a_projection_reads_the_activation_that_it_shares_with_the_branch() {
    let activation = json!([{ "type": "batchNorm2d", "name": "bn" }, { "type": "relu" }]);
    let block = json!({ "type": "residual", "name": "a", "shared": activation, "layers": [conv_spec("conv", 5, 3, 2)],
        "shortcut": { "layers": [conv_spec("projection", 5, 1, 2)] }, "shortcutName": "", "activation": "none" });
    let plain = json!({ "type": "residual", "name": "b", "activation": "none",
        "layers": [{ "type": "batchNorm2d", "name": "bn" }, { "type": "relu" }, conv_spec("conv", 5, 3, 1)] });
    let net = model([3, 6, 5], 5, json!([block, plain, { "type": "globalAvgPool2d" }, { "type": "flatten" }]));
    expect_equal(net, |x, p| {
        let shared = norm_relu(x, &p("a.bn.weight"), &p("a.bn.bias"));
        let a = conv(&shared, &p("a.conv.weight"), 2) + conv(&shared, &p("a.projection.weight"), 2);
        let b = norm_relu(&a, &p("b.bn.weight"), &p("b.bn.bias"));
        pooled(&(conv(&b, &p("b.conv.weight"), 1) + a))
    });
}

#[test]
fn branches_are_joined_and_added() {
    let dense = json!({ "type": "concat", "name": "dense", "branches": [
        [], [{ "type": "batchNorm2d", "name": "bn" }, { "type": "relu6" }, conv_spec("conv", 2, 3, 1)],
    ] });
    let sum = json!({ "type": "sum", "branches": [
        [{ "type": "relu" }], [conv_spec("u", 5, 1, 1)], [conv_spec("v", 5, 3, 1), { "type": "relu6" }],
    ] });
    let net = model([3, 4, 5], 5, json!([dense, sum, { "type": "globalAvgPool2d" }, { "type": "flatten" }]));
    assert_eq!(net.summary().layers.iter().find(|row| row.name == "dense").unwrap().output_shape, [5, 4, 5]);
    expect_equal(net, |x, p| {
        let normalized = x.batch_norm(
            Some(p("dense.bn.weight")),
            Some(p("dense.bn.bias")),
            NONE.map(Tensor::shallow_clone),
            NONE.map(Tensor::shallow_clone),
            true,
            0.1,
            1e-5,
            true,
        );
        let dense = Tensor::cat(&[x.shallow_clone(), conv(&normalized.clamp(0.0, 6.0), &p("dense.conv.weight"), 1)], 1);
        pooled(&(dense.relu() + conv(&dense, &p("1.u.weight"), 1) + conv(&dense, &p("1.v.weight"), 1).clamp(0.0, 6.0)))
    });
}

#[test]
fn zeros_are_put_around_images_and_after_their_channels() {
    let pad = json!({ "type": "zeroPad", "left": 1, "right": -1, "top": 2, "bottom": -3, "channels": 2 });
    let net = model([2, 5, 4], 64, json!([pad, { "type": "flatten" }]));
    let x = images(&net, 3);
    let expected = Tensor::zeros([3, 4, 4, 4], (Kind::Double, Device::Cpu));
    expected.narrow(1, 0, 2).narrow(2, 2, 2).narrow(3, 1, 3).copy_(&x.narrow(2, 0, 2).narrow(3, 0, 3));
    assert_eq!(net.forward(&x, Pass::Eval).unwrap(), expected.flatten(1, -1));
}

/// What a net made of one random layer does to each of 2,000 images: the factor of its value and of its gradient.
fn factors(layer: &Value, mask_seed: u64) -> (Tensor, Tensor) {
    let net = model([1, 2, 2], 4, json!([layer, { "type": "flatten" }]));
    // Negative: a ReLU makes zeros of them.
    let x = (Tensor::rand([2000, 1, 2, 2], (Kind::Double, Device::Cpu)) - 2.0).set_requires_grad(true);
    let y = net.forward(&x, Pass::Train { statistics: Statistics::Stage, mask_seed }).unwrap();
    y.sum(Kind::Double).backward();
    let per_image = |values: Tensor| {
        let (values, first) = (values.reshape([2000, 4]), values.reshape([2000, 4]).narrow(1, 0, 1));
        close(&values, &first.expand_as(&values), 1e-12);
        first.reshape([2000])
    };
    (per_image(y.detach() / x.detach().flatten(1, -1)), per_image(x.grad()))
}

fn mean(values: &Tensor) -> f64 {
    f64::try_from(values.to_kind(Kind::Double).mean(Kind::Double)).unwrap()
}

fn evaluated(layer: &Value) -> f64 {
    let net = model([1, 1, 1], 1, json!([layer, { "type": "flatten" }]));
    let x = Tensor::full([1, 1, 1, 1], -1.0, (Kind::Double, Device::Cpu));
    -net.forward(&x, Pass::Eval).unwrap().double_value(&[0, 0])
}

/// 2,000 draws from U(low, high): the mean within 5 standard errors, both ends nearly reached.
fn expect_uniform(values: &Tensor, low: f64, high: f64) {
    let (least, most) = (values.min().double_value(&[]), values.max().double_value(&[]));
    let width = high - low;
    assert!(least >= low && least < low + 0.01 * width && most <= high && most > high - 0.01 * width, "{least} {most}");
    let error = (mean(values) - (low + high) / 2.0).abs();
    assert!(error < 5.0 * width / (12.0 * values.numel() as f64).sqrt(), "{error}");
}

fn correlation(a: &Tensor, b: &Tensor) -> f64 {
    Tensor::corrcoef(&Tensor::stack(&[a, b], 0)).double_value(&[0, 1])
}

#[test]
fn shake_shake_mixes_by_one_number_forward_and_another_backward() {
    let layer = json!({ "type": "shakeShake", "branches": [[], [{ "type": "relu" }]] });
    let (alpha, beta) = factors(&layer, 3);
    expect_uniform(&alpha, 0.0, 1.0);
    expect_uniform(&beta, 0.0, 1.0);
    assert!(correlation(&alpha, &beta).abs() < 0.1);
    assert_eq!(evaluated(&layer), 0.5);
    // The second branch gets the rest.
    let swapped = json!({ "type": "shakeShake", "branches": [[{ "type": "relu" }], []] });
    let (rest, backward_rest) = factors(&swapped, 3);
    close(&(rest + &alpha), &alpha.ones_like(), 1e-12);
    close(&(backward_rest + &beta), &beta.ones_like(), 1e-12);
}

#[test]
fn shake_drop_scales_by_its_equation() {
    let layer = json!({ "type": "shakeDrop", "p": 0.4 });
    let (forward, backward) = factors(&layer, 3);
    let kept = forward.eq(1.0);
    assert_eq!(kept, backward.eq(1.0));
    assert!((mean(&kept) - 0.6).abs() < 0.05, "{}", mean(&kept));
    let shaken = kept.logical_not();
    let (alpha, beta) = (forward.masked_select(&shaken), backward.masked_select(&shaken));
    expect_uniform(&alpha, -1.0, 1.0);
    expect_uniform(&beta, 0.0, 1.0);
    assert!(correlation(&alpha, &beta).abs() < 0.1);
    assert_eq!(evaluated(&layer), 0.6);
}

#[test]
fn draws_follow_the_mask_seed_and_the_layer() {
    let shake = json!({ "type": "shakeShake", "branches": [[], [{ "type": "relu" }]] });
    let drop = json!({ "type": "shakeDrop", "p": 0.5 });
    for layer in [&shake, &drop] {
        let (forward, backward) = factors(layer, 7);
        let (again, backward_again) = factors(layer, 7);
        close(&forward, &again, 1e-12);
        assert_eq!(backward, backward_again);
        let (other, backward_other) = factors(layer, 8);
        assert_ne!(forward, other);
        assert_ne!(backward, backward_other);
        let twice = json!({ "type": "sequential", "layers": [layer, layer] });
        let (second, _) = factors(&twice, 7);
        assert!((second - forward.square()).abs().max().double_value(&[]) > 0.1);
    }
}

/// Draws are the same in every dtype, so that only rounding tells them apart.
#[test]
fn random_layers_draw_alike_in_every_dtype() {
    let layers = json!([
        conv_spec("stem", 8, 3, 1),
        { "type": "residual", "activation": "none", "layers": [
            { "type": "shakeShake", "branches": [[conv_spec("a", 8, 3, 1)], [conv_spec("b", 8, 3, 1)]] },
            { "type": "shakeDrop" } ] },
        { "type": "concat", "branches": [[], [{ "type": "zeroPad", "channels": 3 }, conv_spec("c", 3, 1, 1)]] },
        { "type": "relu6" }, { "type": "globalAvgPool2d" }, { "type": "flatten" },
    ]);
    let logits = |dtype: Dtype| {
        let net = Model::new(common::spec([2, 6, 6], 11, layers.clone()), dtype, 3).unwrap();
        let logits = net.forward(&images(&net, 8), STAGE).unwrap();
        logits.sum(Kind::Double).backward();
        logits.detach().to_kind(Kind::Double)
    };
    let expected = logits(Dtype::Float64);
    let largest = expected.abs().max().double_value(&[]);
    close(&logits(Dtype::Float32), &expected, 1e-5 * largest);
    close(&logits(Dtype::BFloat16), &expected, 0.03 * largest);
}

#[test]
fn random_layers_do_not_touch_what_others_read() {
    let layers = json!([
        { "type": "conv2d", "name": "conv", "outChannels": 2, "kernelSize": 1 },
        { "type": "residual", "activation": "none", "layers": [{ "type": "shakeDrop" }] },
        { "type": "residual", "activation": "none", "layers": [
            { "type": "shakeShake", "branches": [[], [{ "type": "shakeDrop", "p": 1.0 }]] } ] },
        { "type": "relu" }, { "type": "globalAvgPool2d" }, { "type": "flatten" },
    ]);
    let net = model([2, 3, 3], 2, layers);
    let x = images(&net, 3);
    let before = x.copy();
    let run = || net.forward(&x, STAGE).unwrap();
    assert_eq!(run(), run());
    run().sum(Kind::Double).backward();
    assert_eq!(x, before);
}
