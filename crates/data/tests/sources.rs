//! Published sets and archives, read from files that their usual writers made (`fixtures/make_fixtures.py`) or that are
//! written here byte by byte.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use flatmin_data::{ArrayOptions, Dataset, NpzOptions, Split, SvhnSplit, cifar10, fashion_mnist, mnist, npz, svhn};
use tempfile::TempDir;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

/// The pixels of the fixtures, image by image.
fn formula(count: usize) -> Vec<u8> {
    (0..count).map(|i| ((7 * i + 3) % 251) as u8).collect()
}

/// All pixels of a set, as bytes.
fn bytes(set: &Dataset) -> Vec<u8> {
    let pixels = (0..set.len()).flat_map(|index| set.pixels(index).unwrap());
    pixels.map(|value| (value * 255.0).round() as u8).collect()
}

fn idx(kind: u8, sizes: &[u32], values: &[u8]) -> Vec<u8> {
    let sizes = sizes.iter().flat_map(|size| size.to_be_bytes());
    [0, 0, 8, kind].into_iter().chain(sizes).chain(values.iter().copied()).collect()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Two training images, gzipped, and one test image, plain.
fn make_mnist(folder: &Path) {
    fs::create_dir_all(folder).unwrap();
    let images = formula(2 * 784);
    fs::write(folder.join("train-images-idx3-ubyte.gz"), gzip(&idx(3, &[2, 28, 28], &images))).unwrap();
    fs::write(folder.join("train-labels-idx1-ubyte.gz"), gzip(&idx(1, &[2], &[9, 4]))).unwrap();
    fs::write(folder.join("t10k-images-idx3-ubyte"), idx(3, &[1, 28, 28], &images[..784])).unwrap();
    fs::write(folder.join("t10k-labels-idx1-ubyte"), idx(1, &[1], &[7])).unwrap();
}

#[test]
fn mnist_is_read_gzipped_or_not_where_torchvision_keeps_it_too() {
    let dir = TempDir::new().unwrap();
    make_mnist(&dir.path().join("MNIST/raw"));
    let train = mnist(dir.path(), Split::Train).unwrap();
    assert_eq!((train.name(), train.labels(), bytes(&train)), ("mnist", &[9, 4][..], formula(2 * 784)));
    let test = fashion_mnist(dir.path().join("MNIST/raw"), Split::Test).unwrap();
    assert_eq!((test.labels(), test.class_names()[7].as_str()), (&[7][..], "Sneaker"));
    assert_eq!(test.normalization().mean, [0.2860]);
}

#[test]
fn damaged_idx_files_are_named() {
    let check = |file: &str, contents: Vec<u8>, part: &str| {
        let dir = TempDir::new().unwrap();
        make_mnist(dir.path());
        fs::write(dir.path().join(file), contents).unwrap();
        let error = mnist(dir.path(), Split::Train).unwrap_err();
        assert_eq!(error.code(), "ERR_FLATMIN_FORMAT");
        assert!(error.to_string().contains(file) && error.to_string().contains(part), "{error}");
    };
    let (images, labels) = ("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz");
    let whole = gzip(&idx(3, &[2, 28, 28], &formula(2 * 784)));
    check(images, whole[..whole.len() / 2].to_vec(), "");
    check(images, vec![], "too early");
    check(images, gzip(&idx(3, &[2, 27, 28], &formula(2 * 27 * 28))), "[2, 27, 28]");
    check(labels, gzip(&idx(1, &[3], &[0, 1, 2])), "[3]");
    check(labels, idx(1, &[2], &[0, 1]), "gzip");
    let dir = TempDir::new().unwrap();
    make_mnist(dir.path());
    fs::write(dir.path().join(labels), gzip(&idx(1, &[2], &[0, 10]))).unwrap();
    assert!(mnist(dir.path(), Split::Train).unwrap_err().to_string().contains("label 1 is 10"));
}

#[test]
fn a_missing_set_says_how_to_get_it() {
    let dir = TempDir::new().unwrap();
    let error = mnist(dir.path(), Split::Train).unwrap_err();
    assert_eq!(error.code(), "ERR_FLATMIN_PATH");
    assert!(error.to_string().contains("data download mnist"), "{error}");
    let error = svhn(dir.path(), SvhnSplit::Extra).unwrap_err();
    assert!(error.to_string().contains("Missing: extra_32x32.mat"), "{error}");
}

#[test]
fn svhn_is_turned_row_by_row_and_its_ten_is_the_digit_zero() {
    let dir = TempDir::new().unwrap();
    fs::copy(fixture("svhn.mat"), dir.path().join("train_32x32.mat")).unwrap();
    fs::copy(fixture("svhn-plain.mat"), dir.path().join("test_32x32.mat")).unwrap();
    let train = svhn(dir.path(), SvhnSplit::Train).unwrap();
    assert_eq!((train.labels(), bytes(&train)), (&[1, 0, 9][..], formula(3 * 3072)));
    let test = svhn(dir.path(), SvhnSplit::Test).unwrap();
    assert_eq!((test.labels(), bytes(&test)), (&[1][..], formula(3072)));
}

#[test]
fn other_mat_files_are_refused_with_a_reason() {
    let dir = TempDir::new().unwrap();
    let message = |contents: Vec<u8>| {
        fs::write(dir.path().join("train_32x32.mat"), contents).unwrap();
        let error = svhn(dir.path(), SvhnSplit::Train).unwrap_err();
        assert_eq!(error.code(), "ERR_FLATMIN_FORMAT");
        error.to_string()
    };
    let whole = fs::read(fixture("svhn.mat")).unwrap();
    assert!(message(whole[..128].to_vec()).contains("without X or y"));
    let version = |bytes: [u8; 4]| [&whole[..124], &bytes, &whole[128..]].concat();
    assert!(message(version([0, 2, b'I', b'M'])).contains("version 7.3"));
    assert!(message(version([1, 0, b'M', b'I'])).contains("little-endian"));
    message(whole[..whole.len() - 10].to_vec());
}

#[test]
fn npz_archives_are_read_whatever_their_axis_order_and_types() {
    let set = npz(fixture("colour.npz"), NpzOptions::default()).unwrap();
    assert_eq!((set.name(), set.labels(), bytes(&set)), ("colour", &[2, 0, 1][..], formula(180)));
    let kinds = |images: &str, channels_first| {
        let [images, labels] = [images, "column"].map(str::to_owned);
        npz(fixture("kinds.npz"), NpzOptions { images, labels, channels_first, array: ArrayOptions::default() })
    };
    assert_eq!(bytes(&kinds("planar", true).unwrap()), formula(180));
    assert_eq!(bytes(&kinds("fortran", false).unwrap()), formula(180));
    let grey = kinds("floats", false).unwrap();
    assert_eq!((grey.shape().channels, grey.labels(), bytes(&grey)), (1, &[2, 0, 1][..], formula(60)));

    let message = |images: &str| kinds(images, false).unwrap_err().to_string();
    assert!(message("words").contains("an array of whole or real numbers"));
    assert!(message("pictures").contains("planar") && message("pictures").contains("one called pictures"));
    assert!(message("column").contains("[3, 1]"));
}

/// A batch as Python 2 pickled the official ones: `cPickle.dump(dict, file, protocol=2)`.
fn python_2_batch(key: &[u8], labels: &[u8], planes: &[u8]) -> Vec<u8> {
    let text = |text: &[u8]| [&[b'U', text.len() as u8], text].concat();
    let list: Vec<u8> = labels.iter().flat_map(|&label| [b'K', label]).collect();
    let length = (planes.len() as u32).to_le_bytes();
    [
        b"\x80\x02}q\x01(".to_vec(),
        [&text(key)[..], b"q\x02]q\x03(", &list, b"e"].concat(),
        [&text(b"data")[..], b"q\x04cnumpy.core.multiarray\n_reconstruct\nq\x05cnumpy\nndarray\nq\x06K\x00\x85"]
            .concat(),
        [&text(b"b")[..], b"\x87Rq\x07(K\x01K", &[labels.len() as u8], b"M\x00\x0c\x86cnumpy\ndtype\nq\x08"].concat(),
        [&text(b"u1")[..], b"K\x00K\x01\x87Rq\x09(K\x03", &text(b"|"), b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"]
            .concat(),
        [&b"\x89T"[..], &length, planes, b"tbu."].concat(),
    ]
    .concat()
}

fn python_2_names() -> Vec<u8> {
    let names: Vec<u8> = (0..10).flat_map(|k| [&b"U\x05name"[..], &[b'0' + k]].concat()).collect();
    [&b"\x80\x02}q\x01U\x0blabel_namesq\x02]q\x03("[..], &names, b"es."].concat()
}

/// `[2, 3072]`, planar.
fn planes() -> Vec<u8> {
    let pixels = formula(2 * 3072);
    let images = pixels.chunks_exact(3072);
    images.flat_map(|image| (0..3072).map(|i| image[i % 1024 * 3 + i / 1024]).collect::<Vec<u8>>()).collect()
}

#[test]
fn the_python_version_of_cifar_is_found_by_itself() {
    let dir = TempDir::new().unwrap();
    let folder = dir.path().join("cifar-10-batches-py");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("batches.meta"), python_2_names()).unwrap();
    for k in 1..=5 {
        fs::write(folder.join(format!("data_batch_{k}")), python_2_batch(b"labels", &[k, 0], &planes())).unwrap();
    }
    fs::copy(fixture("cifar-protocol-4.pickle"), folder.join("test_batch")).unwrap();
    for dir in [dir.path(), folder.as_path()] {
        let train = cifar10(dir, Split::Train).unwrap();
        assert_eq!(train.labels(), [1, 0, 2, 0, 3, 0, 4, 0, 5, 0]);
        assert_eq!(bytes(&train.take(2).unwrap()), formula(2 * 3072));
        assert_eq!(train.class_names()[9], "name9");
        let test = cifar10(dir, Split::Test).unwrap();
        assert_eq!((test.labels(), bytes(&test)), (&[3, 8][..], formula(2 * 3072)));
    }
    let message = |contents: Vec<u8>| {
        fs::write(folder.join("test_batch"), contents).unwrap();
        let error = cifar10(dir.path(), Split::Test).unwrap_err();
        assert_eq!(error.code(), "ERR_FLATMIN_FORMAT");
        error.to_string()
    };
    assert!(message(python_2_batch(b"labels", &[1, 10], &planes())).contains("record 1 has label 10"));
    assert!(message(python_2_batch(b"labels", &[1], &planes())).contains("without data"));
    assert!(message(python_2_batch(b"tags", &[1, 2], &planes())).contains("without labels"));
    assert!(message(b"\x80\x02cos\nsystem\n.".to_vec()).contains("calls os.system"));
}
