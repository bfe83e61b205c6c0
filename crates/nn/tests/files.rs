//! State dicts and safetensors files: everything comes back bit for bit, and what does not fit changes nothing.

mod common;

use std::fs;
use std::path::Path;

use common::{STAGE, images, model, perturb, scramble, small};
use flatmin_nn::zoo::{self, ZooOptions};
use flatmin_nn::{Dtype, LoadReport, Model, Normalization, Pass};
use serde_json::json;
use tch::{Device, Kind, Tensor};

/// Equal in value, kind and shape.
fn assert_same(found: &[(String, Tensor)], expected: &[(String, Tensor)]) {
    assert_eq!(found.len(), expected.len());
    for ((name, value), (other, wanted)) in found.iter().zip(expected) {
        assert_eq!(name, other);
        assert_eq!((value.kind(), value.size()), (wanted.kind(), wanted.size()), "{name}");
        assert!(value.equal(wanted), "{name}");
    }
}

fn tensor(shape: &[i64], kind: Kind) -> Tensor {
    Tensor::full(shape, 0.5, (Kind::Double, Device::Cpu)).to_kind(kind)
}

#[test]
fn names_order_and_layout_are_pytorchs() {
    let net = small(Dtype::Float32, 0);
    let state = net.state_dict().unwrap();
    let names: Vec<&str> = state.iter().map(|(name, _)| name.as_str()).collect();
    let bn = ["bn.weight", "bn.bias", "bn.running_mean", "bn.running_var", "bn.num_batches_tracked"];
    assert_eq!(names, [&["conv.weight"], &bn[..], &["fc.weight", "fc.bias"]].concat());
    assert_eq!(state[0].1.size(), [4, 2, 3, 3]);
    assert_eq!(state[0].1.stride(), [18, 9, 3, 1]);
    assert_eq!((state[5].1.kind(), state[5].1.size()), (Kind::Int64, vec![]));
}

#[test]
fn a_state_dict_is_a_copy_at_w() {
    let mut net = small(Dtype::Float64, 0);
    let state = net.state_dict().unwrap();
    let weight = state[0].1.copy();
    perturb(&net);
    let _ = net.forward(&images(&net, 4), STAGE).unwrap();
    assert_same(&net.state_dict().unwrap(), &state);
    scramble(&mut net);
    assert_eq!(state[0].1, weight);
}

#[test]
fn files_come_back_bit_for_bit() {
    let folder = tempfile::tempdir().unwrap();
    for dtype in [Dtype::Float32, Dtype::Float64] {
        let path = folder.path().join(format!("{}.safetensors", dtype.name()));
        let mut net = small(dtype, 5);
        scramble(&mut net);
        net.set_class_names(Some(vec!["cat".into(), "dog".into()])).unwrap();
        net.set_normalization(Some(Normalization { mean: vec![0.1, 0.2], std: vec![0.3, 1.0 / 3.0] })).unwrap();
        net.save(&path).unwrap();

        let back = Model::load(&path, None).unwrap();
        assert_eq!((back.spec(), back.dtype()), (net.spec(), dtype));
        assert_same(&back.state_dict().unwrap(), &net.state_dict().unwrap());
        let x = images(&net, 3);
        assert_eq!(back.forward(&x, Pass::Eval).unwrap(), net.forward(&x, Pass::Eval).unwrap());

        let mut other = small(dtype, 6);
        assert_eq!(other.load_weights(&path, true).unwrap(), LoadReport::default());
        assert_same(&other.state_dict().unwrap(), &net.state_dict().unwrap());

        let first = fs::read(&path).unwrap();
        back.save(&path).unwrap();
        assert_eq!(fs::read(&path).unwrap(), first, "the same model gives the same bytes");
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2, "no temporary file stays");
}

#[test]
fn every_float_kind_is_cast() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weights.safetensors");
    for kind in [Kind::Half, Kind::BFloat16, Kind::Float, Kind::Double] {
        for dtype in [Dtype::Float32, Dtype::Float64] {
            let mut net = small(dtype, 0);
            let values = [("fc.weight", tensor(&[2, 16], kind)), ("bn.running_var", tensor(&[4], kind))];
            Tensor::write_safetensors(&values, &path).unwrap();
            let report = net.load_weights(&path, false).unwrap();
            assert_eq!(report.missing, ["conv.weight", "bn.weight", "bn.bias", "bn.running_mean", "fc.bias"]);
            for (name, value) in net.state_dict().unwrap() {
                if name == "fc.weight" || name == "bn.running_var" {
                    assert_eq!(
                        (value.kind(), f64::try_from(value.sum(Kind::Double)).unwrap()),
                        (dtype.kind(), 0.5 * value.numel() as f64)
                    );
                }
            }
        }
    }
    let net = small(Dtype::Float32, 5);
    net.save(&path).unwrap();
    let double = Model::load(&path, Some(Dtype::Float64)).unwrap();
    assert_eq!(double.dtype(), Dtype::Float64);
    assert!(double.state_dict().unwrap()[0].1.equal(&net.state_dict().unwrap()[0].1.to_kind(Kind::Double)));
}

#[test]
fn prefix_of_data_parallel_is_dropped() {
    let source = small(Dtype::Float32, 1);
    let mut net = small(Dtype::Float32, 2);
    let prefixed = source.state_dict().unwrap().into_iter().map(|(name, value)| (format!("module.{name}"), value));
    net.load_state_dict(prefixed.collect::<Vec<_>>(), true).unwrap();
    assert_same(&net.state_dict().unwrap(), &source.state_dict().unwrap());
}

/// Each case is a change to a full state dict that must be refused as a whole.
#[test]
fn a_state_dict_that_does_not_fit_changes_nothing() {
    type Edit = fn(&mut Vec<(String, Tensor)>);
    let cases: [(Edit, &str, &str); 6] = [
        (|state| state[7].1 = tensor(&[3], Kind::Float), "ERR_FLATMIN_SHAPE", "fc.bias"),
        (|state| state[3].1 = tensor(&[1, 4], Kind::Float), "ERR_FLATMIN_SHAPE", "bn.running_mean"),
        (|state| state[7].1 = tensor(&[2], Kind::Int64), "ERR_FLATMIN_DTYPE", "fc.bias"),
        (|state| state[5].1 = tensor(&[], Kind::Float), "ERR_FLATMIN_DTYPE", "num_batches_tracked"),
        (|state| drop(state.remove(1)), "ERR_FLATMIN_NAME", "bn.weight"),
        (|state| state.push(("fc2.bias".into(), tensor(&[2], Kind::Float))), "ERR_FLATMIN_NAME", "fc2.bias"),
    ];
    let source = small(Dtype::Float32, 1);
    for (edit, code, named) in cases {
        let mut net = small(Dtype::Float32, 2);
        let before = net.state_dict().unwrap();
        let mut state = source.state_dict().unwrap();
        edit(&mut state);
        let error = net.load_state_dict(state, true).unwrap_err();
        assert_eq!(error.code(), code, "{error}");
        assert!(error.to_string().contains(named), "{error}");
        assert_same(&net.state_dict().unwrap(), &before);
        assert!(!net.parameters().is_perturbed().unwrap());
    }
}

#[test]
fn differences_are_reported_when_not_strict() {
    let mut net = small(Dtype::Float32, 2);
    let mut state = small(Dtype::Float32, 1).state_dict().unwrap();
    drop(state.remove(0));
    state.push(("extra".into(), tensor(&[1], Kind::Float)));
    let report = net.load_state_dict(state, false).unwrap();
    assert_eq!(
        report,
        LoadReport { missing: vec!["conv.weight".into()], unexpected: vec!["extra".into()], mismatched: vec![] }
    );
}

#[test]
fn loading_forgets_staged_statistics() {
    let mut net = small(Dtype::Float32, 2);
    let _ = net.forward(&images(&net, 4), STAGE).unwrap();
    let state = small(Dtype::Float32, 1).state_dict().unwrap();
    net.load_state_dict(small(Dtype::Float32, 1).state_dict().unwrap(), true).unwrap();
    net.commit_statistics();
    assert_same(&net.state_dict().unwrap(), &state);
}

#[test]
fn damaged_files_change_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weights.safetensors");
    small(Dtype::Float32, 1).save(&path).unwrap();
    let whole = fs::read(&path).unwrap();
    let mut long_header = whole.clone();
    long_header[..8].copy_from_slice(&u64::MAX.to_le_bytes());
    let mut bad_json = whole.clone();
    bad_json[9] = b'!';
    let contents =
        [vec![], whole[..5].to_vec(), whole[..60].to_vec(), whole[..whole.len() - 1].to_vec(), long_header, bad_json];
    for content in contents {
        fs::write(&path, &content).unwrap();
        let mut net = small(Dtype::Float32, 2);
        let before = net.state_dict().unwrap();
        let error = net.load_weights(&path, true).unwrap_err();
        assert_eq!(error.code(), "ERR_FLATMIN_FORMAT", "{error}");
        assert!(error.to_string().contains("weights.safetensors"), "{error}");
        assert_same(&net.state_dict().unwrap(), &before);
        assert!(Model::load(&path, None).is_err());
    }
}

#[test]
fn unreadable_and_foreign_files_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let error = |path: &Path| Model::load(path, None).map(|_| ()).unwrap_err();
    let absent = error(&folder.path().join("absent.safetensors"));
    assert_eq!(absent.code(), "ERR_FLATMIN_PATH");
    assert!(absent.to_string().contains("absent.safetensors"));
    assert_eq!(error(folder.path()).code(), "ERR_FLATMIN_PATH");
    let bare = folder.path().join("bare.safetensors");
    Tensor::write_safetensors(&[("fc.bias", tensor(&[2], Kind::Float))], &bare).unwrap();
    assert_eq!(error(&bare).code(), "ERR_FLATMIN_FORMAT");
    assert!(error(&bare).to_string().contains("build the model first"));
    let integers = folder.path().join("integers.safetensors");
    Tensor::write_safetensors(&[("fc.bias", tensor(&[2], Kind::Uint8))], &integers).unwrap();
    assert_eq!(small(Dtype::Float32, 0).load_weights(&integers, false).unwrap_err().code(), "ERR_FLATMIN_DTYPE");
}

#[test]
fn a_failed_save_keeps_the_old_file() {
    let folder = tempfile::tempdir().unwrap();
    let taken = folder.path().join("taken");
    fs::create_dir(&taken).unwrap();
    fs::write(taken.join("inside"), "kept").unwrap();
    let net = model([1, 1, 1], 1, json!([{ "type": "flatten" }]));
    assert_eq!(net.save(&taken).unwrap_err().code(), "ERR_FLATMIN_PATH");
    assert_eq!(fs::read(taken.join("inside")).unwrap(), b"kept");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    assert_eq!(net.save(&folder.path().join("no/such/folder/net")).unwrap_err().code(), "ERR_FLATMIN_PATH");
}

#[cfg(unix)]
#[test]
fn a_saved_model_has_the_rights_of_an_ordinary_file() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let (ordinary, saved) = (folder.path().join("ordinary"), folder.path().join("saved"));
    fs::write(&ordinary, "").unwrap();
    small(Dtype::Float32, 0).save(&saved).unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode();
    assert_eq!(mode(&saved), mode(&ordinary));
}

/// Weights that PyTorch trained and safetensors wrote.
#[test]
fn pretrained_resnet20_loads() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/weights/resnet20-cifar10.safetensors");
    if !path.exists() {
        eprintln!("skipped pretrained_resnet20_loads: no {}", path.display());
        return;
    }
    let spec = zoo::spec("resnet20", &ZooOptions::default()).unwrap();
    let mut net = Model::new(spec, Dtype::Float32, 0).unwrap();
    assert_eq!(net.load_weights(&path, true).unwrap(), LoadReport::default());
    for (name, value) in Tensor::read_safetensors(&path).unwrap() {
        let (_, own) = net.state_dict().unwrap().into_iter().find(|(key, _)| *key == name).unwrap();
        assert!(own.equal(&value), "{name}");
    }
    assert_eq!(net.forward(&images(&net, 2), Pass::Eval).unwrap().size(), [2, 10]);
}
