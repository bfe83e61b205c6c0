//! State dicts of PyTorch: read in every form that `torch.save` writes, refused where they hold anything else, and written so
//! that they come back. The fixtures are made by `__test__/fixtures/make_weights.py`.

mod common;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use common::{scramble, small};
use flatmin_nn::{Dtype, Error, LoadOptions, LoadReport, Mismatch, Model};
use tch::{Kind, Tensor};
use zip::write::SimpleFileOptions;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../__test__/fixtures").join(name)
}

type State = Vec<(String, Tensor)>;

/// What all fixtures hold.
fn expected() -> State {
    let mut net = small(Dtype::Float32, 1);
    net.load_weights(&fixture("small.safetensors"), true).unwrap();
    net.state_dict().unwrap()
}

fn assert_equal(found: &State, expected: &State) {
    for ((name, value), (other, wanted)) in found.iter().zip(expected) {
        assert_eq!(name, other);
        assert!(value.equal(wanted), "{name}: {value} {wanted}");
    }
}

fn options(strict: bool) -> LoadOptions {
    LoadOptions { strict, ..LoadOptions::default() }
}

fn key(key: &str) -> LoadOptions {
    LoadOptions { key: Some(key.into()), ..LoadOptions::default() }
}

/// The error of a file that must not be read; the model is as it was.
fn refusal_with(path: &Path, options: &LoadOptions) -> Error {
    let mut net = small(Dtype::Float32, 2);
    let before = net.state_dict().unwrap();
    let error = net.load_weights_with(path, options).unwrap_err();
    assert_equal(&net.state_dict().unwrap(), &before);
    error
}

fn refusal(path: &Path) -> Error {
    refusal_with(path, &options(true))
}

fn expect(error: &Error, code: &str, parts: &[&str]) {
    let message = error.to_string();
    assert_eq!(error.code(), code, "{message}");
    for part in parts {
        assert!(message.contains(part), "'{message}' lacks '{part}'");
    }
}

#[test]
fn every_form_of_a_state_dict_is_read() {
    let forms = ["small.pt", "small-legacy.pt", "shared.pt", "shared-legacy.pt", "parameters.pt", "checkpoint.pt"];
    for name in forms {
        let mut net = small(Dtype::Float32, 1);
        assert_eq!(net.load_weights(&fixture(name), true).unwrap(), LoadReport::default(), "{name}");
        assert_equal(&net.state_dict().unwrap(), &expected());
    }
}

#[test]
fn dtypes_are_cast() {
    let mut net = small(Dtype::Float64, 1);
    net.load_weights(&fixture("dtypes.pt"), true).unwrap();
    let kinds = [("conv.weight", Kind::Half), ("fc.weight", Kind::BFloat16)];
    for ((name, value), (_, exact)) in net.state_dict().unwrap().iter().zip(expected()) {
        let stored = kinds.iter().find(|(key, _)| key == name).map_or(exact.kind(), |(_, kind)| *kind);
        assert!(value.equal(&exact.to_kind(stored).to_kind(value.kind())), "{name}");
    }
}

#[test]
fn a_key_chooses_among_several() {
    expect(&refusal(&fixture("two.pt")), "ERR_FLATMIN_OPTION", &["key", "student, teacher"]);
    let mut net = small(Dtype::Float32, 1);
    net.load_weights_with(&fixture("two.pt"), &key("student")).unwrap();
    assert_equal(&net.state_dict().unwrap(), &expected());
    let error = refusal_with(&fixture("two.pt"), &key("pupil"));
    expect(&error, "ERR_FLATMIN_OPTION", &["'pupil'", "student, teacher"]);
    expect(&refusal_with(&fixture("small.pt"), &key("model")), "ERR_FLATMIN_OPTION", &["a state dict itself"]);
    expect(
        &refusal_with(&fixture("checkpoint.pt"), &key("optimizer")),
        "ERR_FLATMIN_OPTION",
        &["a dict", "state_dict"],
    );
    expect(&refusal_with(&fixture("small.safetensors"), &key("model")), "ERR_FLATMIN_OPTION", &["safetensors"]);
}

#[test]
fn foreign_classes_are_refused_by_name_and_nothing_runs() {
    for name in ["command.pt", "command-legacy.pt"] {
        expect(&refusal(&fixture(name)), "ERR_FLATMIN_FORMAT", &[name, "'posix.system'", "nothing was executed"]);
    }
    assert!(!Path::new("executed-by-a-pickle").exists());
    let module = "'torch.nn.modules.container.Sequential'";
    expect(&refusal(&fixture("whole-module.pt")), "ERR_FLATMIN_FORMAT", &[module, "state_dict()"]);
    expect(&refusal(&fixture("small-script.pt")), "ERR_FLATMIN_FORMAT", &["fromTorchScript"]);
}

/// An archive as PyTorch makes it, with a pickle and storages of the test's choice.
fn archive(pickle: &[u8], storages: &[&[u8]]) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    let mut zip = zip::ZipWriter::new(file.reopen().unwrap());
    let options = SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    zip.start_file("archive/data.pkl", options).unwrap();
    zip.write_all(pickle).unwrap();
    for (index, storage) in storages.iter().enumerate() {
        zip.start_file(format!("archive/data/{index}"), options).unwrap();
        zip.write_all(storage).unwrap();
    }
    zip.finish().unwrap();
    file
}

/// {'fc.bias': a tensor of storage 0 with `len` numbers}, with offset, size and stride as pickle code.
fn bias(class: &str, len: u8, layout: &[u8]) -> Vec<u8> {
    let start = format!(
        "\u{0}}}X\u{7}\u{0}\u{0}\u{0}fc.biasctorch._utils\n_rebuild_tensor_v2\n((X\u{7}\u{0}\u{0}\u{0}storagectorch\n{class}\n"
    );
    let mut code = vec![0x80, 2];
    code.extend(&start.as_bytes()[1..]);
    code.extend(b"X\x01\x00\x00\x000X\x03\x00\x00\x00cpuK");
    code.push(len);
    code.extend(b"tQ");
    code.extend(layout);
    code.extend(b"\x89}tRs.");
    code
}

#[test]
fn tensors_stay_within_their_storage() {
    let two = [0; 8];
    let fits = archive(&bias("FloatStorage", 2, b"K\x00K\x02\x85K\x01\x85"), &[&two]);
    let report = small(Dtype::Float32, 1).load_weights(fits.path(), false).unwrap();
    assert!(!report.missing.contains(&"fc.bias".into()) && report.mismatched.is_empty());
    let outside: [&[u8]; 6] = [
        b"K\x01K\x02\x85K\x01\x85",
        b"K\x00K\x02\x85K\x02\x85",
        b"K\x00K\x03\x85K\x01\x85",
        b"K\x00K\x02\x85K\x01K\x01\x86",
        b"J\xff\xff\xff\xffK\x02\x85K\x01\x85",
        b"K\x00\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f\x85\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f\x85",
    ];
    for layout in outside {
        let file = archive(&bias("FloatStorage", 2, layout), &[&two]);
        expect(&refusal(file.path()), "ERR_FLATMIN_FORMAT", &["leaves its storage of 2 numbers"]);
    }
    let promised = archive(&bias("FloatStorage", 200, b"K\x00K\x02\x85K\x01\x85"), &[&two]);
    expect(&refusal(promised.path()), "ERR_FLATMIN_FORMAT", &["'fc.bias'", "8 bytes", "200 numbers"]);
    expect(
        &refusal(archive(&bias("FloatStorage", 2, b"K\x00K\x02\x85K\x01\x85"), &[]).path()),
        "ERR_FLATMIN_FORMAT",
        &["lacks the entry"],
    );
    let quantized = archive(&bias("QInt8Storage", 8, b"K\x00K\x02\x85K\x01\x85"), &[&two]);
    expect(&refusal(quantized.path()), "ERR_FLATMIN_FORMAT", &["'torch.QInt8Storage'"]);
}

/// A tensor may claim to be huge by a stride of 0: it is compared by its shape, never copied.
#[test]
fn a_tensor_larger_than_memory_is_a_wrong_shape() {
    let layout = b"K\x00\x8a\x07\x00\x00\x00\x00\x00\x00\x40\x85K\x00\x85";
    let file = archive(&bias("FloatStorage", 2, layout), &[&[0; 8]]);
    let mut net = small(Dtype::Float32, 1);
    let report = net.load_weights(file.path(), false).unwrap();
    let mismatch = Mismatch { name: "fc.bias".into(), found: vec![1 << 54], expected: vec![2] };
    assert_eq!(report.mismatched, [mismatch]);
    expect(&refusal(file.path()), "ERR_FLATMIN_SHAPE", &["'fc.bias'", "[18014398509481984]", "[2]"]);
}

#[test]
fn pickles_that_are_none_are_refused() {
    let cases: [(&[u8], &str); 9] = [
        (b"", "cut off"),
        (b"\x80\x02", "cut off"),
        (b"\x80\x09N.", "protocol 9"),
        (b"\x80\x02.", "malformed"),
        (b"\x80\x02N.", "it holds None"),
        (b"\x80\x02h\x07.", "malformed"),
        (b"\x80\x02)u.", "malformed"),
        (b"\x80\x02X\xff\xff\xff\xffabc", "cut off"),
        (b"cos\nsystem\n(S'true'\ntR.", "'os.system'"),
    ];
    for (pickle, reason) in cases {
        expect(&refusal(archive(pickle, &[]).path()), "ERR_FLATMIN_FORMAT", &[reason]);
    }
    let deep = [&b"\x80\x02"[..], &[b']'; 100_000], &[b'a'; 99_999], b"."].concat();
    expect(&refusal(archive(&deep, &[]).path()), "ERR_FLATMIN_FORMAT", &["it holds a list"]);
}

#[test]
fn truncated_and_damaged_files_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("damaged.pt");
    for name in ["small.pt", "small-legacy.pt"] {
        let whole = fs::read(fixture(name)).unwrap();
        for cut in [0, 3, 20, 100, whole.len() / 2, whole.len() - 1] {
            fs::write(&path, &whole[..cut]).unwrap();
            expect(&refusal(&path), "ERR_FLATMIN_FORMAT", &["damaged.pt"]);
        }
    }
    // One bit of the first storage: the archive's checksum tells.
    let mut flipped = fs::read(fixture("small.pt")).unwrap();
    let values = expected()[0].1.contiguous();
    let mut first = vec![0; 16];
    values.copy_data_u8(&mut first, 4);
    let place = flipped.windows(16).position(|window| window == first).unwrap();
    flipped[place] ^= 1;
    fs::write(&path, &flipped).unwrap();
    expect(&refusal(&path), "ERR_FLATMIN_FORMAT", &["'conv.weight'"]);
}

#[test]
fn compressed_and_foreign_archives_are_refused() {
    let entry = |name: &str, flag: u16| {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut zip = zip::ZipWriter::new(file.reopen().unwrap());
        let options = SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
        zip.start_file(name, options).unwrap();
        zip.write_all(b"\x80\x02}.").unwrap();
        zip.finish().unwrap();
        // The method is the same two bytes in the entry's header and in the directory.
        let mut bytes = fs::read(file.path()).unwrap();
        let directory = bytes.windows(4).position(|window| window == b"PK\x01\x02").unwrap();
        bytes[8..10].copy_from_slice(&flag.to_le_bytes());
        bytes[directory + 10..directory + 12].copy_from_slice(&flag.to_le_bytes());
        fs::write(file.path(), bytes).unwrap();
        refusal(file.path())
    };
    expect(&entry("notes.txt", 0), "ERR_FLATMIN_FORMAT", &["data.pkl"]);
    expect(&entry("archive/data.pkl", 8), "ERR_FLATMIN_FORMAT", &[]);
    expect(&entry("archive/data.pkl", 0), "ERR_FLATMIN_FORMAT", &["a dict of tensors"]);
}

#[test]
fn saved_state_dicts_come_back_bit_for_bit_with_their_spec() {
    let folder = tempfile::tempdir().unwrap();
    for dtype in [Dtype::Float32, Dtype::Float64] {
        let path = folder.path().join(format!("{}.PTH", dtype.name()));
        let mut net = small(dtype, 5);
        scramble(&mut net);
        net.set_class_names(Some(vec!["cat".into(), "dog".into()])).unwrap();
        net.save(&path).unwrap();
        assert_eq!(Model::spec_in(&path).unwrap().as_ref(), Some(net.spec()));
        let back = Model::load(&path, None).unwrap();
        assert_eq!((back.spec(), back.dtype()), (net.spec(), dtype));
        assert_equal(&back.state_dict().unwrap(), &net.state_dict().unwrap());
    }
    for name in ["small.pt", "small-legacy.pt", "small.safetensors"] {
        assert_eq!(Model::spec_in(&fixture(name)).unwrap(), None);
    }
    expect(
        &Model::load(&fixture("small.pt"), None).map(drop).unwrap_err(),
        "ERR_FLATMIN_FORMAT",
        &["build the model first"],
    );
}

#[test]
fn a_partial_load_reports_shapes_that_differ() {
    let mut net = small(Dtype::Float32, 2);
    let mut state = expected();
    state[6].1 = Tensor::zeros([5, 16], (Kind::Float, tch::Device::Cpu));
    let before = net.state_dict().unwrap();
    let report = net.load_state_dict(state, false).unwrap();
    let mismatch = Mismatch { name: "fc.weight".into(), found: vec![5, 16], expected: vec![2, 16] };
    assert_eq!(report, LoadReport { mismatched: vec![mismatch], ..LoadReport::default() });
    assert!(net.state_dict().unwrap()[6].1.equal(&before[6].1));
    assert!(net.state_dict().unwrap()[7].1.equal(&expected()[7].1));
}

#[test]
fn weights_of_another_model_are_refused_even_if_not_strict() {
    let state = vec![("encoder.weight".to_owned(), Tensor::zeros([2], (Kind::Float, tch::Device::Cpu)))];
    let error = small(Dtype::Float32, 2).load_state_dict(state, false).unwrap_err();
    expect(&error, "ERR_FLATMIN_OPTION", &["'encoder.weight'", "'conv.weight'"]);
}
