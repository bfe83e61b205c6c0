//! Whatever does not fit is refused with a message that names the layer, what was found and what it needs.

mod common;

use common::{IGNORE, model, spec};
use flatmin_nn::{Dtype, Error, Model, Normalization, Pass};
use serde_json::{Value, json};
use tch::{Device, Kind, Tensor};

fn refusal(layers: Value) -> Error {
    Model::new(spec([3, 8, 8], 10, layers), Dtype::Float32, 0).map(|_| ()).unwrap_err()
}

fn expect(layers: Value, code: &str, parts: &[&str]) {
    let error = refusal(layers);
    let message = error.to_string();
    assert_eq!(error.code(), code, "{message}");
    for part in parts {
        assert!(message.contains(part), "'{message}' lacks '{part}'");
    }
}

#[test]
fn shapes_that_do_not_fit_name_the_layer_and_its_input() {
    let shape = "ERR_FLATMIN_SHAPE";
    let deep = json!([{ "type": "sequential", "name": "body", "layers": [
        { "type": "relu" }, { "type": "conv2d", "name": "stem", "outChannels": 4, "kernelSize": 9 },
    ] }]);
    expect(deep, shape, &["body.stem", "conv2d", "[3, 8, 8]", "9 x 9"]);
    expect(json!([{ "type": "linear", "outFeatures": 10 }]), shape, &["'0' (linear)", "[3, 8, 8]", "flatten"]);
    let after_flatten = json!([{ "type": "flatten" }, { "type": "batchNorm2d" }]);
    expect(after_flatten, shape, &["'1' (batchNorm2d)", "[192]", "[channels, height, width]"]);
    let groups = json!([{ "type": "conv2d", "outChannels": 4, "kernelSize": 1, "groups": 2 }]);
    expect(groups, shape, &["'0' (conv2d)", "[3, 8, 8]", "groups"]);
    expect(json!([{ "type": "flatten" }]), shape, &["output of the model 'net'", "[192]", "[10]"]);
    expect(json!([]), shape, &["[3, 8, 8]", "[10]"]);
    let residual = |shortcut: Value| {
        json!([{ "type": "residual", "name": "block", "shortcut": shortcut,
                 "layers": [{ "type": "conv2d", "outChannels": 2, "kernelSize": 3, "padding": 1 }] }])
    };
    expect(residual(json!("identity")), shape, &["'block'", "[2, 8, 8]", "[3, 8, 8]", "shortcut"]);
    expect(residual(json!("optionA")), shape, &["'block'", "[3, 8, 8]", "[2, 8, 8]"]);
    let layers = json!({ "layers": [{ "type": "conv2d", "outChannels": 2, "kernelSize": 3 }] });
    expect(residual(layers), shape, &["'block'", "[2, 8, 8]", "[2, 6, 6]"]);
    let parallel = |kind: &str, layer: Value| json!([{ "type": kind, "name": "block", "branches": [[], [layer]] }]);
    let half = json!({ "type": "maxPool2d", "kernelSize": 2 });
    let more = json!({ "type": "conv2d", "outChannels": 4, "kernelSize": 1 });
    expect(parallel("concat", half), shape, &["branch 1 of 'block' (concat)", "[3, 4, 4]", "[3, 8, 8]"]);
    expect(parallel("sum", more.clone()), shape, &["branch 1 of 'block' (sum)", "[4, 8, 8]", "[3, 8, 8]"]);
    expect(parallel("shakeShake", more), shape, &["branch 1 of 'block' (shakeShake)", "[4, 8, 8]"]);
    expect(
        json!([{ "type": "selfAttention", "numHeads": 2 }]),
        shape,
        &["'0' (selfAttention)", "[3, 8, 8]", "toTokens"],
    );
    let tokens = |layer: Value| json!([{ "type": "toTokens" }, layer]);
    let heads = tokens(json!({ "type": "selfAttention", "numHeads": 2 }));
    expect(heads, shape, &["'1' (selfAttention)", "[64, 3]", "numHeads"]);
    expect(tokens(json!({ "type": "toImage", "height": 5 })), shape, &["'1' (toImage)", "[64, 3]", "5 x 12"]);
    expect(json!([{ "type": "layerNorm" }]), shape, &["'0' (layerNorm)", "[3, 8, 8]", "[tokens, features]"]);
    let gate =
        json!([{ "type": "gate", "name": "se", "layers": [{ "type": "conv2d", "outChannels": 2, "kernelSize": 1 }] }]);
    expect(gate, shape, &["'se' (gate)", "[2, 8, 8]", "[3, 8, 8]", "each channel"]);
    let cut = json!([{ "type": "zeroPad", "left": -4, "right": -4 }]);
    expect(cut, shape, &["'0' (zeroPad)", "[3, 8, 8]", "negative"]);
}

#[test]
fn impossible_settings_name_the_field_and_the_layer() {
    let option = "ERR_FLATMIN_OPTION";
    let conv = |field: &str, value: i64| {
        let mut layer = json!({ "type": "conv2d", "name": "stem", "outChannels": 4, "kernelSize": 3 });
        layer[field] = json!(value);
        json!([layer])
    };
    for (field, value) in [("outChannels", 0), ("kernelSize", 0), ("stride", 0), ("padding", -1), ("groups", 0)] {
        expect(conv(field, value), option, &[field, "'stem' (conv2d)", &value.to_string()]);
    }
    expect(conv("outChannels", i64::MAX), option, &["outChannels"]);
    expect(json!([{ "type": "dropout", "p": 1.0 }]), option, &["p of layer '0' (dropout)", "below 1"]);
    expect(json!([{ "type": "batchNorm2d", "momentum": 2 }]), option, &["momentum", "'0'"]);
    expect(json!([{ "type": "maxPool2d", "kernelSize": 2, "padding": 2 }]), option, &["padding", "half"]);
    expect(json!([{ "type": "relu", "name": "a.b" }]), option, &["a.b", "dots"]);
    expect(json!([{ "type": "relu", "name": "1" }, { "type": "flatten" }]), option, &["name of layer '1'", "taken"]);
    expect(json!([{ "type": "shakeDrop", "p": 1.5 }]), option, &["p of layer '0' (shakeDrop)", "from 0 to 1"]);
    expect(json!([{ "type": "zeroPad", "channels": -1 }]), option, &["channels", "'0' (zeroPad)"]);
    expect(json!([{ "type": "concat", "branches": [[]] }]), option, &["branches", "'0' (concat)", "at least two"]);
    expect(json!([{ "type": "shakeShake", "branches": [[], [], []] }]), option, &["branches", "a list of 3", "two"]);
    let same =
        json!([{ "type": "sum", "branches": [[{ "type": "relu", "name": "a" }], [{ "type": "relu", "name": "a" }]] }]);
    expect(same, option, &["name of layer '0.a'", "taken"]);
    let clash = json!([{ "type": "residual", "layers": [{ "type": "relu", "name": "shortcut" }],
                         "shortcut": { "layers": [{ "type": "relu" }] } }]);
    expect(clash, option, &["shortcut"]);
}

#[test]
fn absurd_sizes_are_refused_before_memory_is_asked_for() {
    let huge = json!([{ "type": "flatten" }, { "type": "linear", "name": "a", "outFeatures": 1 << 23 },
                      { "type": "linear", "name": "b", "outFeatures": 1 << 23 }]);
    expect(huge, "ERR_FLATMIN_SHAPE", &["'b'", "memory"]);
}

#[test]
fn images_that_do_not_fit_are_refused() {
    let net = model([3, 4, 4], 48, json!([{ "type": "flatten" }]));
    let refuse = |shape: &[i64], kind| net.forward(&Tensor::zeros(shape, (kind, Device::Cpu)), Pass::Eval).unwrap_err();
    for shape in [&[2, 3, 4, 5][..], &[3, 4, 4], &[2, 4, 4, 3], &[0, 3, 4, 4]] {
        let error = refuse(shape, Kind::Double);
        assert_eq!(error.code(), "ERR_FLATMIN_SHAPE");
        assert!(error.to_string().contains("[batch, 3, 4, 4]"), "{error}");
    }
    for kind in [Kind::Float, Kind::Uint8] {
        let error = refuse(&[2, 3, 4, 4], kind);
        assert_eq!(error.code(), "ERR_FLATMIN_DTYPE");
        assert!(error.to_string().contains("float64"), "{error}");
    }
}

/// torch answers with NaN statistics here, which would poison the model.
#[test]
fn batch_norm_refuses_a_single_value_in_training() {
    let layers = json!([{ "type": "globalAvgPool2d" }, { "type": "batchNorm2d", "name": "bn" }, { "type": "flatten" }]);
    let net = model([3, 4, 4], 3, layers);
    let one = common::images(&net, 1);
    let error = net.forward(&one, IGNORE).unwrap_err();
    assert_eq!(error.code(), "ERR_FLATMIN_SHAPE");
    assert!(error.to_string().contains("'bn'") && error.to_string().contains("larger batch"), "{error}");
    assert!(net.forward(&one, Pass::Eval).is_ok());
}

#[test]
fn descriptions_are_checked() {
    let mut net = model([1, 1, 2], 2, json!([{ "type": "flatten" }]));
    net.set_class_names(Some(vec!["cat".into(), "dog".into()])).unwrap();
    let normalization = Normalization { mean: vec![0.5], std: vec![0.25] };
    net.set_normalization(Some(normalization.clone())).unwrap();
    assert_eq!(net.set_class_names(Some(vec!["cat".into()])).unwrap_err().code(), "ERR_FLATMIN_OPTION");
    let flat = Normalization { mean: vec![0.5], std: vec![0.0] };
    assert_eq!(net.set_normalization(Some(flat)).unwrap_err().code(), "ERR_FLATMIN_OPTION");
    assert_eq!(net.spec().class_names.as_deref().unwrap(), ["cat", "dog"]);
    assert_eq!(net.spec().normalization, Some(normalization));
}
