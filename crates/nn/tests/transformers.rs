//! Layers of transformers and of the convolutional nets that learnt from them: against their formulas, in both directions,
//! and what stochastic depth draws.

mod common;

use common::{IGNORE, STAGE, close, expect_equal, images, model, scramble, spec};
use flatmin_nn::{Dtype, Model, ParamKind, Pass, Statistics};
use serde_json::{Value, json};
use tch::{Kind, Tensor};

fn layer_norm(x: &Tensor, gamma: &Tensor, beta: &Tensor) -> Tensor {
    let centred = x - x.mean_dim(&[-1i64][..], true, Kind::Double);
    let variance = centred.square().mean_dim(&[-1i64][..], true, Kind::Double);
    centred / (variance + 1e-5).sqrt() * gamma + beta
}

fn gelu(x: &Tensor) -> Tensor {
    x * ((x / 2f64.sqrt()).erf() + 1.0) * 0.5
}

fn tokens_of(image: &Tensor) -> Tensor {
    image.flatten(2, 3).transpose(1, 2)
}

/// Class token, positions, attention, a perceptron, the first token.
fn transformer(attention: Value) -> Value {
    json!([
        { "type": "toTokens" },
        { "type": "classToken", "name": "class" },
        { "type": "positionEmbedding", "name": "positions" },
        { "type": "sequential", "name": "block", "layers": [
            { "type": "residual", "name": "", "activation": "none", "layers": [
                { "type": "layerNorm", "name": "norm1" }, attention, { "type": "layerScale", "name": "scale" },
            ] },
            { "type": "residual", "name": "", "activation": "none", "layers": [
                { "type": "layerNorm", "name": "norm2" }, { "type": "linear", "name": "up", "outFeatures": 5 },
                { "type": "gelu" }, { "type": "linear", "name": "down", "outFeatures": 4 },
            ] },
        ] },
        { "type": "tokenPool" },
    ])
}

fn attention() -> Value {
    json!({ "type": "selfAttention", "name": "attn", "numHeads": 2 })
}

#[test]
fn a_transformer_block_equals_its_formula() {
    for fused in [true, false] {
        let mut net = model([4, 2, 3], 4, transformer(attention()));
        net.set_fused(fused);
        expect_equal(net, |x, p| {
            let class = p("class").expand([x.size()[0], 1, 4], false);
            let x = Tensor::cat(&[class, tokens_of(x)], 1) + p("positions");
            let norm = |x: &Tensor, name: &str| {
                layer_norm(x, &p(&format!("block.{name}.weight")), &p(&format!("block.{name}.bias")))
            };
            let linear = |x: &Tensor, name: &str| {
                x.matmul(&p(&format!("block.{name}.weight")).tr()) + p(&format!("block.{name}.bias"))
            };
            let qkv = linear(&norm(&x, "norm1"), "attn.qkv");
            // Heads of two features each, one after the other.
            let heads: Vec<Tensor> = (0..2)
                .map(|head| {
                    let part = |which: i64| qkv.narrow(2, 4 * which + 2 * head, 2);
                    let scores = part(0).matmul(&part(1).transpose(1, 2)) / 2f64.sqrt();
                    scores.softmax(-1, Kind::Double).matmul(&part(2))
                })
                .collect();
            let x = &x + linear(&Tensor::cat(&heads, 2), "attn.proj") * p("block.scale");
            let x = &x + linear(&gelu(&linear(&norm(&x, "norm2"), "up")), "down");
            x.select(1, 0)
        });
    }
}

#[test]
fn squeeze_and_excitation_equals_its_formula() {
    let fully_connected =
        |name: &str, channels: i64| json!({ "type": "conv2d", "name": name, "outChannels": channels, "kernelSize": 1 });
    let gate = json!({ "type": "gate", "name": "se", "layers": [
        { "type": "globalAvgPool2d" }, fully_connected("fc1", 2), { "type": "silu" }, fully_connected("fc2", 3),
        { "type": "sigmoid" },
    ] });
    let net = model([3, 4, 5], 3, json!([gate, { "type": "globalAvgPool2d" }, { "type": "flatten" }]));
    expect_equal(net, |x, p| {
        let linear = |x: &Tensor, name: &str| {
            x.matmul(&p(&format!("se.{name}.weight")).flatten(1, -1).tr()) + p(&format!("se.{name}.bias"))
        };
        let means = x.mean_dim(&[2i64, 3][..], false, Kind::Double);
        let squeezed = linear(&means, "fc1");
        let weights = linear(&(&squeezed * squeezed.sigmoid()), "fc2").sigmoid();
        means * weights
    });
}

#[test]
fn pixels_are_normalised_and_mixed_as_tokens_are() {
    let net = model(
        [3, 2, 5],
        3,
        json!([
            { "type": "layerNorm2d", "name": "norm" },
            { "type": "layerScale", "name": "scale", "init": 0.5 },
            { "type": "toTokens" }, { "type": "linear", "name": "fc", "outFeatures": 3 },
            { "type": "toImage", "height": 2 },
            { "type": "conv2d", "name": "conv", "outChannels": 3, "kernelSize": 2 },
            { "type": "globalAvgPool2d" }, { "type": "flatten" },
        ]),
    );
    assert_eq!(net.summary().layers[4].output_shape, [3, 2, 5]);
    expect_equal(net, |x, p| {
        let normalized = layer_norm(&x.permute([0, 2, 3, 1]), &p("norm.weight"), &p("norm.bias"));
        let mixed = (normalized * p("scale").flatten(0, -1)).matmul(&p("fc.weight").tr()) + p("fc.bias");
        let image = mixed.permute([0, 3, 1, 2]);
        let out = image.conv2d(&p("conv.weight"), Some(p("conv.bias")), [1, 1], [0, 0], [1, 1], 1);
        out.mean_dim(&[2i64, 3][..], false, Kind::Double)
    });
}

#[test]
fn activations_are_their_formulas() {
    type Formula = Box<dyn Fn(&Tensor) -> Tensor>;
    let cases: [(Value, Formula); 7] = [
        (json!({ "type": "silu" }), Box::new(|x| x * x.sigmoid())),
        (json!({ "type": "gelu" }), Box::new(gelu)),
        (
            json!({ "type": "gelu", "approximate": "tanh" }),
            Box::new(|x| {
                x * (((x + x.pow_tensor_scalar(3) * 0.044_715) * (2.0 / std::f64::consts::PI).sqrt()).tanh() + 1.0)
                    * 0.5
            }),
        ),
        (json!({ "type": "hardswish" }), Box::new(|x| x * (x + 3.0).clamp(0.0, 6.0) / 6.0)),
        (json!({ "type": "sigmoid" }), Box::new(|x| ((-x).exp() + 1.0).reciprocal())),
        (json!({ "type": "tanh" }), Box::new(|x| (x * 2.0).sigmoid() * 2.0 - 1.0)),
        (json!({ "type": "leakyRelu", "negativeSlope": 0.2 }), Box::new(|x| x.relu() - (-x).relu() * 0.2)),
    ];
    for (layer, formula) in cases {
        let net = model(
            [4, 1, 1],
            4,
            json!([
                { "type": "flatten" }, { "type": "linear", "name": "in", "outFeatures": 6 }, layer,
                { "type": "linear", "name": "out", "outFeatures": 4 },
            ]),
        );
        expect_equal(net, |x, p| {
            let hidden = formula(&(x.flatten(1, -1).matmul(&p("in.weight").tr()) + p("in.bias")));
            hidden.matmul(&p("out.weight").tr()) + p("out.bias")
        });
    }
}

#[test]
fn attention_can_be_differentiated_twice_without_its_fused_form() {
    let mut net = model([4, 2, 3], 4, transformer(attention()));
    net.set_fused(false);
    let x = images(&net, 2);
    let leaves = net.parameters().leaves();
    let loss = net.forward(&x, IGNORE).unwrap().square().sum(Kind::Double);
    let gradients = Tensor::run_backward(&[loss], leaves, true, true);
    let norm = gradients.iter().map(|gradient| gradient.square().sum(Kind::Double)).sum::<Tensor>();
    norm.backward();
    assert!(net.parameters().has_gradients().unwrap());
}

#[test]
fn float32_layers_and_their_composite_twins_agree() {
    let layers = json!([
        { "type": "toTokens" }, { "type": "classToken", "name": "class" },
        { "type": "residual", "name": "first", "activation": "none", "layers": [
            { "type": "layerNorm", "name": "norm" }, { "type": "selfAttention", "name": "attn", "numHeads": 2 },
        ] },
        { "type": "residual", "name": "second", "activation": "none", "layers": [
            { "type": "layerNorm", "name": "norm" }, { "type": "linear", "name": "up", "outFeatures": 160 },
            { "type": "gelu" }, { "type": "linear", "name": "down", "outFeatures": 72 },
        ] },
        { "type": "tokenPool", "pool": "mean" }, { "type": "linear", "name": "head", "outFeatures": 3 },
    ]);
    let mut net = Model::new(spec([72, 9, 8], 3, layers), Dtype::Float32, 1).unwrap();
    let x = images(&net, 5);
    let [fused, composite] = [true, false].map(|fused| {
        net.set_fused(fused);
        let logits = net.forward(&x, IGNORE).unwrap();
        let gradients =
            Tensor::run_backward(&[logits.square().sum(Kind::Float)], net.parameters().leaves(), false, false);
        std::iter::once(logits.detach()).chain(gradients).collect::<Vec<_>>()
    });
    for (index, (a, b)) in fused.iter().zip(&composite).enumerate() {
        let error = f64::try_from((a - b).norm() / b.norm()).unwrap();
        assert!(error < 1e-5, "{index}: {error}");
    }
}

/// The last block works for the class token alone; with a dropout that draws for all tokens it does not.
#[test]
fn what_nobody_reads_changes_nothing() {
    let block = |name: &str, dropout: f64| {
        json!({ "type": "residual", "name": name, "activation": "none", "layers": [
            { "type": "selfAttention", "name": "attn", "numHeads": 2, "dropout": dropout },
            { "type": "stochasticDepth", "p": 0.3 }, { "type": "gelu" },
        ] })
    };
    let net = |dropout: f64, last: Value, num_classes: i64| {
        let layers = json!([
            { "type": "toTokens" }, { "type": "classToken", "name": "class" }, block("one", 0.0), block("two", dropout), last,
        ]);
        let mut net = model([4, 2, 3], num_classes, layers);
        scramble(&mut net);
        net
    };
    for dropout in [0.0, 0.25] {
        let pooled = net(dropout, json!({ "type": "tokenPool" }), 4);
        let all = net(dropout, json!({ "type": "flatten" }), 28);
        let x = images(&pooled, 8);
        for pass in [Pass::Eval, STAGE] {
            let logits = pooled.forward(&x, pass).unwrap();
            close(&logits, &all.forward(&x, pass).unwrap().narrow(1, 0, 4), 1e-12);
        }
    }
}

fn training(mask_seed: u64) -> Pass {
    Pass::Train { statistics: Statistics::Ignore, mask_seed }
}

/// The factor that stochastic depth gives each of 2,000 images.
fn factors(mode: &str, mask_seed: u64) -> Vec<f64> {
    let layer = json!({ "type": "stochasticDepth", "p": 0.25, "mode": mode });
    let net = model([1, 2, 2], 4, json!([layer, { "type": "flatten" }]));
    let x = images(&net, 2000) + 2.0;
    let ratio = net.forward(&x, training(mask_seed)).unwrap() / x.flatten(1, -1);
    let first = ratio.narrow(1, 0, 1);
    close(&ratio, &first.expand_as(&ratio), 1e-12);
    assert_eq!(net.forward(&x, Pass::Eval).unwrap(), x.flatten(1, -1));
    Vec::try_from(first.reshape([2000]).contiguous()).unwrap()
}

#[test]
fn stochastic_depth_drops_images_by_the_mask_seed_alone() {
    let drawn = factors("row", 1);
    let kept = drawn.iter().filter(|factor| (**factor - 4.0 / 3.0).abs() < 1e-12).count();
    assert_eq!(kept + drawn.iter().filter(|factor| **factor == 0.0).count(), 2000);
    assert!((1400..1600).contains(&kept), "{kept}");
    assert_eq!(drawn, factors("row", 1));
    assert_ne!(drawn, factors("row", 2));
    let together: Vec<f64> = (0..40)
        .map(|seed| factors("batch", seed))
        .map(|all| {
            assert!(all.iter().all(|factor| (factor - all[0]).abs() < 1e-12));
            all[0]
        })
        .collect();
    assert!(together.contains(&0.0) && together.iter().any(|factor| *factor > 1.0));
}

#[test]
fn layers_that_draw_have_draws_of_their_own_and_attention_drops_too() {
    let drop = json!({ "type": "stochasticDepth", "p": 0.5 });
    let net = model([1, 1, 1], 2, json!([{ "type": "concat", "branches": [[drop], [drop]] }, { "type": "flatten" }]));
    let y = net.forward(&images(&net, 64), STAGE).unwrap();
    assert_ne!(y.select(1, 0), y.select(1, 1));

    let dropping = json!({ "type": "selfAttention", "name": "attn", "numHeads": 2, "dropout": 0.5 });
    let mut net = model([4, 2, 3], 4, transformer(dropping));
    common::scramble(&mut net);
    let x = images(&net, 3);
    let logits = |pass| net.forward(&x, pass).unwrap();
    assert_eq!(logits(training(1)), logits(training(1)));
    assert_ne!(logits(training(1)), logits(training(2)));
    assert_ne!(logits(training(1)), logits(Pass::Eval));
}

#[test]
fn kinds_tell_what_multiplies_and_what_is_added() {
    let net = model([4, 2, 3], 4, transformer(attention()));
    let kind = |name: &str| {
        let parameters = net.parameters();
        parameters.segments()[parameters.position(name).unwrap()].kind
    };
    assert_eq!([kind("class"), kind("positions")], [ParamKind::Embedding; 2]);
    assert_eq!([kind("block.scale"), kind("block.norm1.weight")], [ParamKind::LayerScale, ParamKind::NormWeight]);
    assert!(ParamKind::LayerScale.is_weight() && !ParamKind::Embedding.is_weight());
    assert_eq!(kind("block.attn.qkv.weight"), ParamKind::LinearWeight);
}

#[test]
fn the_summary_counts_multiply_adds_and_what_stays_in_memory() {
    let net = model([4, 2, 3], 4, transformer(attention()));
    let summary = net.summary();
    let row = |name: &str| summary.layers.iter().find(|row| row.name == name).unwrap();
    // 7 tokens of 4 features: qkv, proj, scores and mixture.
    let attention = row("block.attn");
    assert_eq!(attention.macs, 7 * (4 * 12 + 4 * 4) + 2 * 7 * 7 * 4);
    assert_eq!(attention.kept, 7 * 4 * 5 + 7 * 2);
    assert_eq!(row("block.up").macs, 7 * 4 * 5);
    assert_eq!((row("0").kept, row("block.norm1").kept), (0, 7 * 4));
    assert_eq!(summary.macs, summary.layers.iter().map(|row| row.macs).sum::<i64>());
    assert_eq!(summary.activation_size, 8);
}

#[test]
fn bfloat16_is_near_float32() {
    // Batch norm over a few pixels magnifies what rounding does: PyTorch's autocast is off by 0.11 to 0.14 in the last case.
    for (name, tolerance) in [("vit_s_16", 0.03), ("convnext_tiny", 0.03), ("efficientnet_b0", 0.12)] {
        let options = serde_json::from_value(json!({ "numClasses": 10, "inputShape": [3, 64, 64] })).unwrap();
        let spec = flatmin_nn::zoo::spec(name, &options).unwrap();
        let [float, half] = [Dtype::Float32, Dtype::BFloat16].map(|dtype| Model::new(spec.clone(), dtype, 2).unwrap());
        let x = images(&float, 4);
        let [expected, found] = [&float, &half].map(|model| {
            let logits = model.forward(&x, training(3)).unwrap();
            logits.square().sum(Kind::Float).backward();
            logits.detach()
        });
        assert_eq!(found.kind(), Kind::Float, "{name}");
        let error = f64::try_from((&found - &expected).norm() / expected.norm()).unwrap();
        assert!(error < tolerance, "{name}: {error}");
        for (gradient, segment) in
            half.parameters().gradients().unwrap().tensors().iter().zip(half.parameters().segments())
        {
            let rounded = matches!(segment.kind, ParamKind::ConvWeight | ParamKind::LinearWeight);
            let expected = if rounded { Kind::BFloat16 } else { Kind::Float };
            assert_eq!(gradient.as_ref().unwrap().kind(), expected, "{name}: {}", segment.name);
        }
    }
}
