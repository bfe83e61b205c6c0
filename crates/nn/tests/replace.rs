//! Replacing a layer: everything else keeps its values, and what cannot stand there is refused.

mod common;

use common::{model, scramble, small};
use flatmin_nn::spec::Layer;
use flatmin_nn::zoo::{self, ZooOptions};
use flatmin_nn::{Dtype, Model};
use serde_json::{Value, json};

fn layer(value: Value) -> Layer {
    serde_json::from_value(value).unwrap()
}

#[test]
fn a_new_head_keeps_the_rest() {
    let mut net = small(Dtype::Float32, 1);
    scramble(&mut net);
    net.set_class_names(Some(vec!["cat".into(), "dog".into()])).unwrap();
    net.freeze(&["conv.*"]).unwrap();
    let head = layer(json!({ "type": "linear", "outFeatures": 5 }));
    let tuned = net.with_layer("fc", &head, 7).unwrap();
    assert_eq!((tuned.spec().num_classes, &tuned.spec().class_names), (5, &None));
    assert_eq!(tuned.frozen(), Vec::<String>::new());
    let (before, after) = (net.state_dict().unwrap(), tuned.state_dict().unwrap());
    for ((name, value), (other, kept)) in before.iter().zip(&after) {
        assert_eq!(name, other);
        assert_eq!(value.size() == kept.size() && value.equal(kept), !name.starts_with("fc."), "{name}");
    }
    assert_eq!(after[6].1.size(), [5, 16]);
    let again = net.with_layer("fc", &head, 7).unwrap();
    assert!(again.state_dict().unwrap()[6].1.equal(&after[6].1));
    let same_size = net.with_layer("fc", &layer(json!({ "type": "linear", "outFeatures": 2 })), 7).unwrap();
    assert!(!same_size.state_dict().unwrap()[6].1.equal(&before[6].1));
    assert_eq!(same_size.spec().class_names, net.spec().class_names);
}

#[test]
fn a_head_may_be_several_layers() {
    let net = Model::new(zoo::spec("resnet20", &ZooOptions::default()).unwrap(), Dtype::Float32, 0).unwrap();
    let head = layer(json!({ "type": "sequential", "layers": [
        { "type": "linear", "outFeatures": 32 }, { "type": "relu" }, { "type": "linear", "outFeatures": 7 },
    ] }));
    let name = net.state_dict().unwrap().last().unwrap().0.split('.').next().unwrap().to_owned();
    let tuned = net.with_layer(&name, &head, 0).unwrap();
    assert_eq!(tuned.spec().num_classes, 7);
    assert_eq!(tuned.state_dict().unwrap().last().unwrap().0, format!("{name}.2.bias"));
}

#[test]
fn inner_layers_are_found_by_their_dotted_names() {
    let net = model(
        [3, 8, 8],
        3,
        json!([
            { "type": "residual", "name": "block", "layers": [
                { "type": "conv2d", "name": "conv", "outChannels": 3, "kernelSize": 3, "padding": 1 },
            ], "shortcut": { "layers": [{ "type": "conv2d", "outChannels": 3, "kernelSize": 1 }] } },
            { "type": "globalAvgPool2d" }, { "type": "flatten" },
        ]),
    );
    let wide = layer(json!({ "type": "conv2d", "outChannels": 3, "kernelSize": 5, "padding": 2 }));
    let size = |net: &Model, name: &str| {
        net.state_dict().unwrap().into_iter().find(|(other, _)| other == name).unwrap().1.size()
    };
    assert_eq!(size(&net.with_layer("block.conv", &wide, 0).unwrap(), "block.conv.weight"), [3, 3, 5, 5]);
    assert_eq!(size(&net.with_layer("block.shortcut.0", &wide, 0).unwrap(), "block.shortcut.0.weight"), [3, 3, 5, 5]);
}

#[test]
fn what_does_not_fit_is_refused() {
    let net = small(Dtype::Float32, 1);
    let refuse = |name: &str, value: Value| net.with_layer(name, &layer(value), 0).map(drop).unwrap_err();
    let error = refuse("head", json!({ "type": "relu" }));
    assert_eq!(error.code(), "ERR_FLATMIN_NAME");
    assert!(error.to_string().contains("conv, bn, 2, 3, fc"), "{error}");
    let error = refuse("conv", json!({ "type": "conv2d", "outChannels": 6, "kernelSize": 3 }));
    assert_eq!(error.code(), "ERR_FLATMIN_SHAPE");
    assert!(error.to_string().contains("'bn.weight'"), "{error}");
    assert_eq!(refuse("conv", json!({ "type": "linear", "outFeatures": 6 })).code(), "ERR_FLATMIN_SHAPE");
    assert_eq!(refuse("fc.weight", json!({ "type": "relu" })).code(), "ERR_FLATMIN_NAME");
}
