//! The compiled network computes what its layers say: against the same formulas written out with plain tensors,
//! gradients included, which shows that no operation overwrote what a backward pass needs.

mod common;

use common::{IGNORE, STAGE, close, copy_of, gradient_of, images, model, perturb, scramble, spec};
use flatmin_nn::{Dtype, Model, Pass, Statistics};
use serde_json::json;
use tch::{Kind, Tensor};

const NONE: Option<&Tensor> = None;

fn conv(x: &Tensor, w: &Tensor, stride: i64) -> Tensor {
    x.conv2d(w, NONE, [stride, stride], [1, 1], [1, 1], 1)
}

fn norm(x: &Tensor, gamma: &Tensor, beta: &Tensor) -> Tensor {
    x.batch_norm(Some(gamma), Some(beta), NONE, NONE, true, 0.1, 1e-5, true)
}

/// Two residual blocks, the second with option A: every way a batch norm can end.
fn residual_layers() -> serde_json::Value {
    let conv = |name: &str, channels: i64, stride: i64| {
        json!({ "type": "conv2d", "name": name, "outChannels": channels, "kernelSize": 3, "stride": stride,
                "padding": 1, "bias": false })
    };
    let norm = |name: &str| json!({ "type": "batchNorm2d", "name": name });
    json!([
        conv("conv", 4, 1), norm("bn"), { "type": "relu" },
        { "type": "residual", "name": "a", "layers": [conv("conv", 4, 1), norm("bn")] },
        { "type": "residual", "name": "b", "layers": [conv("conv", 7, 2), norm("bn")],
          "shortcut": "optionA", "activation": "none" },
        { "type": "relu" },
        { "type": "globalAvgPool2d" }, { "type": "flatten" },
        { "type": "linear", "name": "fc", "outFeatures": 3 },
    ])
}

#[test]
fn residual_net_equals_its_formula_with_gradients() {
    let mut net = model([2, 7, 6], 3, residual_layers());
    scramble(&mut net);
    let x = images(&net, 4);
    let names = ["conv.weight", "bn.weight", "bn.bias", "a.conv.weight", "a.bn.weight", "a.bn.bias", "b.conv.weight"]
        .into_iter()
        .chain(["b.bn.weight", "b.bn.bias", "fc.weight", "fc.bias"]);
    let parameters: Vec<(&str, Tensor)> = names.map(|name| (name, copy_of(&net, name))).collect();
    let p = |name: &str| &parameters.iter().find(|(key, _)| *key == name).unwrap().1;

    let stem = norm(&conv(&x, p("conv.weight"), 1), p("bn.weight"), p("bn.bias")).relu();
    let a = (norm(&conv(&stem, p("a.conv.weight"), 1), p("a.bn.weight"), p("a.bn.bias")) + &stem).relu();
    let thinned = a.slice(2, None, None, 2).slice(3, None, None, 2);
    let padded =
        Tensor::cat(&[&thinned.narrow(1, 0, 1) * 0.0, thinned.shallow_clone(), thinned.narrow(1, 0, 2) * 0.0], 1);
    let b = (norm(&conv(&a, p("b.conv.weight"), 2), p("b.bn.weight"), p("b.bn.bias")) + padded).relu();
    let expected = b.mean_dim(&[2i64, 3][..], false, Kind::Double).linear(p("fc.weight"), Some(p("fc.bias")));

    let logits = net.forward(&x, IGNORE).unwrap();
    close(&logits, &expected, 1e-12);
    logits.square().sum(Kind::Double).backward();
    expected.square().sum(Kind::Double).backward();
    for (name, parameter) in &parameters {
        let scale = f64::try_from(parameter.grad().abs().max()).unwrap();
        close(&gradient_of(&net, name), &parameter.grad(), 1e-12 * scale.max(1.0));
    }
}

/// A ReLU may run in place only where nobody else needs its input: after another ReLU, at the start of a branch and on
/// the images it may not.
#[test]
fn in_place_operations_spare_what_others_need() {
    let net = model(
        [2, 4, 4],
        2,
        json!([
            { "type": "relu" },
            { "type": "conv2d", "name": "conv", "outChannels": 2, "kernelSize": 1 },
            { "type": "residual", "layers": [{ "type": "relu" }], "activation": "none" },
            { "type": "relu" }, { "type": "relu" },
            { "type": "residual", "layers": [{ "type": "relu" }, { "type": "avgPool2d", "kernelSize": 1 }] },
            { "type": "residual", "layers": [], "shortcut": { "layers": [{ "type": "relu" }] } },
            { "type": "maxPool2d", "kernelSize": 2 }, { "type": "relu" },
            { "type": "flatten" }, { "type": "relu" },
            { "type": "linear", "name": "fc", "outFeatures": 2 },
        ]),
    );
    let x = images(&net, 3);
    let before = x.copy();
    let (w, b, fc, offset) = (
        copy_of(&net, "conv.weight"),
        copy_of(&net, "conv.bias"),
        copy_of(&net, "fc.weight"),
        copy_of(&net, "fc.bias"),
    );
    let convolved = x.relu().conv2d(&w, Some(&b), [1, 1], [0, 0], [1, 1], 1);
    let first = (convolved.relu() + convolved).relu().relu();
    let second = (first.relu() + &first).relu();
    let third = (second.relu() + second).relu();
    let pooled = third.max_pool2d([2, 2], [2, 2], [0, 0], [1, 1], false).relu();
    let expected = pooled.flatten(1, -1).relu().linear(&fc, Some(&offset));

    let logits = net.forward(&x, IGNORE).unwrap();
    assert_eq!(x, before);
    close(&logits, &expected, 1e-13);
    logits.square().sum(Kind::Double).backward();
    expected.square().sum(Kind::Double).backward();
    close(&gradient_of(&net, "conv.weight"), &w.grad(), 1e-12);
    close(&gradient_of(&net, "fc.weight"), &fc.grad(), 1e-12);
}

#[test]
fn options_of_convolution_and_pooling_reach_torch() {
    let net = model(
        [4, 9, 8],
        6,
        json!([
            { "type": "conv2d", "name": "conv", "outChannels": 6, "kernelSize": 3, "stride": 2, "padding": 2, "groups": 2 },
            { "type": "avgPool2d", "kernelSize": 3, "stride": 1, "padding": 1 },
            { "type": "maxPool2d", "kernelSize": 2, "padding": 1 },
            { "type": "globalAvgPool2d" }, { "type": "flatten" },
        ]),
    );
    let x = images(&net, 2);
    let convolved =
        x.conv2d(&copy_of(&net, "conv.weight"), Some(&copy_of(&net, "conv.bias")), [2, 2], [2, 2], [1, 1], 2);
    let averaged = convolved.avg_pool2d([3, 3], [1, 1], [1, 1], false, true, None);
    let expected =
        averaged.max_pool2d([2, 2], [2, 2], [1, 1], [1, 1], false).mean_dim(&[2i64, 3][..], false, Kind::Double);
    close(&net.forward(&x, Pass::Eval).unwrap(), &expected, 1e-13);
    let shapes: Vec<_> = net.summary().layers.into_iter().map(|row| row.output_shape).collect();
    assert_eq!(shapes, [vec![6, 6, 5], vec![6, 6, 5], vec![6, 4, 3], vec![6, 1, 1], vec![6]]);
}

#[test]
fn memory_layout_of_the_images_does_not_matter() {
    let net = model([2, 7, 6], 3, residual_layers());
    let x = images(&net, 4);
    let channels_last = x.permute([0, 2, 3, 1]).contiguous().permute([0, 3, 1, 2]);
    close(&net.forward(&x, Pass::Eval).unwrap(), &net.forward(&channels_last, Pass::Eval).unwrap(), 1e-14);
}

#[test]
fn float32_and_float64_start_alike() {
    let spec = spec([2, 7, 6], 3, residual_layers());
    let single = Model::new(spec.clone(), Dtype::Float32, 9).unwrap();
    let double = Model::new(spec, Dtype::Float64, 9).unwrap();
    let cast = |model: &Model| model.state_dict().unwrap().into_iter().map(|(_, value)| value.to_kind(Kind::Double));
    assert!(cast(&single).eq(cast(&double)));
    close(
        &single.forward(&images(&single, 4), Pass::Eval).unwrap().to_kind(Kind::Double),
        &double.forward(&images(&double, 4), Pass::Eval).unwrap(),
        1e-5,
    );
}

#[test]
fn statistics_are_staged() {
    let layers = json!([
        { "type": "batchNorm2d", "name": "bn", "momentum": 0.3 },
        { "type": "globalAvgPool2d" }, { "type": "flatten" },
    ]);
    let mut net = model([2, 3, 3], 2, layers);
    let (x, y) = (images(&net, 4), images(&net, 2) * 3.0 + 1.0);
    let evaluate = |net: &Model| net.forward(&x, Pass::Eval).unwrap();
    let untouched = evaluate(&net);

    let _ = net.forward(&x, STAGE).unwrap();
    assert_eq!(evaluate(&net), untouched);
    net.discard_statistics();
    net.commit_statistics();
    assert_eq!(evaluate(&net), untouched);
    let _ = net.forward(&x, IGNORE).unwrap();
    net.commit_statistics();
    assert_eq!(evaluate(&net), untouched);

    // Two micro-batches in one step, as torch's own batch norm sees them one after the other.
    let (mean, variance) =
        (Tensor::zeros([2], (Kind::Double, x.device())), Tensor::ones([2], (Kind::Double, x.device())));
    for batch in [&x, &y] {
        let _ = net.forward(batch, STAGE).unwrap();
        let _ = batch.batch_norm(NONE, NONE, Some(&mean), Some(&variance), true, 0.3, 1e-5, true);
    }
    assert_eq!(evaluate(&net), untouched);
    net.commit_statistics();
    close(&net.buffers().committed(0).mean, &mean, 1e-15);
    close(&net.buffers().committed(0).variance, &variance, 1e-15);
    assert_eq!(net.buffers().batches_tracked(0), 2);
    let normalized = x.batch_norm(NONE, NONE, Some(&mean), Some(&variance), false, 0.3, 1e-5, true);
    close(&evaluate(&net), &normalized.mean_dim(&[2i64, 3][..], false, Kind::Double), 1e-15);
}

#[test]
fn statistics_policy_does_not_change_the_output() {
    let net = model([2, 7, 6], 3, residual_layers());
    let x = images(&net, 4);
    assert_eq!(net.forward(&x, STAGE).unwrap(), net.forward(&x, IGNORE).unwrap());
}

fn dropout_mask(net: &Model, x: &Tensor, mask_seed: u64) -> Tensor {
    net.forward(x, Pass::Train { statistics: Statistics::Stage, mask_seed }).unwrap()
}

#[test]
fn dropout_masks_follow_their_seed() {
    let layers = json!([{ "type": "flatten" }, { "type": "dropout", "p": 0.25 }]);
    let net = model([1, 40, 50], 2000, layers);
    let ones = Tensor::ones([5, 1, 40, 50], (Kind::Double, tch::Device::Cpu));
    let first = dropout_mask(&net, &ones, 7);
    assert_eq!(first, dropout_mask(&net, &ones, 7));
    assert_ne!(first, dropout_mask(&net, &ones, 8));
    assert_ne!(first, dropout_mask(&net, &ones, 7 + (1 << 32)));
    assert_eq!(net.forward(&ones, Pass::Eval).unwrap(), ones.flatten(1, -1));
    let kept = first.gt(0.0);
    close(&first, &(kept.to_kind(Kind::Double) / 0.75), 1e-15);
    let share = f64::try_from(kept.to_kind(Kind::Double).mean(Kind::Double)).unwrap();
    assert!((share - 0.75).abs() < 0.02, "{share}");
}

#[test]
fn dropout_layers_have_masks_of_their_own() {
    let dropped = |layers: serde_json::Value| {
        let net = model([1, 20, 20], 400, layers);
        let ones = Tensor::ones([1, 1, 20, 20], (Kind::Double, tch::Device::Cpu));
        dropout_mask(&net, &ones, 3).gt(0.0)
    };
    let once = dropped(json!([{ "type": "flatten" }, { "type": "dropout" }]));
    let twice = dropped(json!([{ "type": "flatten" }, { "type": "dropout" }, { "type": "dropout" }]));
    assert_ne!(once, twice);
    assert_eq!(once.logical_and(&twice), twice);
}

#[test]
fn the_perturbed_pass_reads_the_working_arena() {
    let mut net = model(
        [1, 1, 1],
        1,
        json!([{ "type": "flatten" }, { "type": "linear", "name": "fc", "outFeatures": 1, "bias": false }]),
    );
    let x = Tensor::ones([1, 1, 1, 1], (Kind::Double, tch::Device::Cpu));
    let clean = net.forward(&x, Pass::Eval).unwrap();
    perturb(&net);
    close(&net.forward(&x, Pass::Eval).unwrap(), &(&clean + 1.0), 1e-15);
    net.parameters_mut().sync_working().unwrap();
    assert_eq!(net.forward(&x, Pass::Eval).unwrap(), clean);
}

#[test]
fn a_model_moves_between_threads() {
    let net = model([1, 2, 2], 4, json!([{ "type": "flatten" }]));
    let x = images(&net, 1);
    let there = std::thread::spawn(move || net.forward(&x, Pass::Eval).unwrap().size()).join().unwrap();
    assert_eq!(there, [1, 4]);
}

#[test]
fn fused_layers_and_their_composite_twins_agree_and_only_the_twins_differentiate_twice() {
    let run = |fused: bool| {
        let mut net = model([2, 7, 6], 3, residual_layers());
        scramble(&mut net);
        net.set_fused(fused);
        let x = images(&net, 4);
        let logits = net.forward(&x, STAGE).unwrap();
        net.commit_statistics();
        let loss = logits.square().sum(Kind::Double);
        let leaves = net.parameters().leaves();
        let twice = Tensor::f_run_backward(&[&loss], leaves, true, true).map(|_| ());
        loss.backward();
        let gradients: Vec<Tensor> = leaves.iter().map(Tensor::grad).collect();
        (gradients, net.state_dict().unwrap(), twice)
    };
    let (fused, composite) = (run(true), run(false));
    for (a, b) in fused.0.iter().zip(&composite.0) {
        close(a, b, 1e-10);
    }
    for ((name, a), (_, b)) in fused.1.iter().zip(&composite.1) {
        assert!((a - b).abs().max().double_value(&[]) < 1e-12, "{name}");
    }
    assert!(fused.2.unwrap_err().to_string().contains("second derivative"));
    composite.2.unwrap();
}

#[test]
fn averaged_statistics_are_the_mean_over_passes_whatever_the_momentum_and_what_was_there() {
    for relu in [true, false] {
        let norm = json!({ "type": "batchNorm2d", "name": "bn", "momentum": 0.0 });
        let after = if relu { json!({ "type": "relu" }) } else { json!({ "type": "flatten" }) };
        let mut net = model([2, 3, 4], 24, json!([norm, after, { "type": "flatten" }]));
        scramble(&mut net);
        let before = net.buffers().batches_tracked(0);
        let batches = [images(&net, 3), images(&net, 7) * 2.0 + 1.0, images(&net, 2) - 4.0];
        for x in &batches {
            let _ = net.forward(x, Pass::Train { statistics: Statistics::Average, mask_seed: 0 }).unwrap();
        }
        net.commit_statistics();
        let mean_of =
            |of: &dyn Fn(&Tensor) -> Tensor| Tensor::stack(&batches.each_ref().map(of), 0).mean_dim(0, false, None);
        let axes = [0i64, 2, 3];
        let found = net.buffers().committed(0);
        close(&found.mean, &mean_of(&|x| x.mean_dim(&axes[..], false, Kind::Double)), 1e-12);
        close(&found.variance, &mean_of(&|x| x.var_dim(&axes[..], true, false)), 1e-12);
        assert_eq!(net.buffers().batches_tracked(0), before + 3);
    }
}
