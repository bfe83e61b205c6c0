//! CIFAR folders: small made-up ones, damaged ones, and the real one where there is one.

use std::fs;
use std::path::Path;

use flatmin_data::{Dataset, Split, cifar10, cifar100};
use tempfile::TempDir;

const NAMES10: &str = "airplane\nautomobile\nbird\ncat\ndeer\ndog\nfrog\nhorse\nship\ntruck\n\n";

/// A record whose red, green and blue planes begin with `first`, `first + 1`, `first + 2`.
fn record(head: &[u8], first: u8) -> Vec<u8> {
    let mut record = head.to_vec();
    for channel in 0..3 {
        record.extend((0..1024).map(|i| if i == 0 { first + channel } else { (i % 7) as u8 }));
    }
    record
}

/// CIFAR-10 with 2, 1, 1, 1, 1 training images and one test image.
fn make10(folder: &Path) {
    fs::create_dir_all(folder).unwrap();
    fs::write(folder.join("batches.meta.txt"), NAMES10).unwrap();
    for k in 1..=5u8 {
        let mut bytes = record(&[k], 10 * k);
        if k == 1 {
            bytes.extend(record(&[9], 200));
        }
        fs::write(folder.join(format!("data_batch_{k}.bin")), bytes).unwrap();
    }
    fs::write(folder.join("test_batch.bin"), record(&[3], 100)).unwrap();
}

fn make100(folder: &Path, heads: &[[u8; 2]]) {
    fs::create_dir_all(folder).unwrap();
    let names: Vec<String> = (0..100).map(|k| format!("fine{k}")).collect();
    fs::write(folder.join("fine_label_names.txt"), names.join("\n")).unwrap();
    let bytes: Vec<u8> = heads.iter().flat_map(|head| record(head, 50)).collect();
    fs::write(folder.join("train.bin"), bytes).unwrap();
}

/// The first pixel of an image in bytes.
fn first_pixel(set: &Dataset, index: usize) -> Vec<u32> {
    let pixels = set.pixels(index).unwrap();
    pixels[..3].iter().map(|v| (v * 255.0).round() as u32).collect()
}

#[test]
fn cifar10_is_read_file_after_file_into_channels_last() {
    let parent = TempDir::new().unwrap();
    let folder = parent.path().join("cifar-10-batches-bin");
    make10(&folder);
    for dir in [parent.path(), folder.as_path()] {
        let train = cifar10(dir, Split::Train).unwrap();
        assert_eq!(train.labels(), [1, 9, 2, 3, 4, 5]);
        assert_eq!(first_pixel(&train, 0), [10, 11, 12]);
        assert_eq!(first_pixel(&train, 1), [200, 201, 202]);
        assert_eq!(first_pixel(&train, 5), [50, 51, 52]);
        assert_eq!(train.pixels(2).unwrap()[3..6], [1.0 / 255.0; 3]);
        assert_eq!((train.num_classes(), train.class_names()[9].as_str()), (10, "truck"));
        assert_eq!(train.normalization().std, [0.2470, 0.2435, 0.2616]);
        let test = cifar10(dir, Split::Test).unwrap();
        assert_eq!((test.labels(), first_pixel(&test, 0)), (&[3][..], vec![100, 101, 102]));
    }
}

#[test]
fn cifar100_has_its_fine_labels() {
    let dir = TempDir::new().unwrap();
    make100(dir.path(), &[[19, 99], [0, 1]]);
    let train = cifar100(dir.path(), Split::Train).unwrap();
    assert_eq!(train.labels(), [99, 1]);
    assert_eq!((train.name(), train.class_names()[99].as_str()), ("cifar100", "fine99"));
    assert_eq!(first_pixel(&train, 1), [50, 51, 52]);
}

#[test]
fn files_longer_than_one_chunk_are_read_whole() {
    let dir = TempDir::new().unwrap();
    let heads: Vec<[u8; 2]> = (0..1100u32).map(|i| [0, (i % 100) as u8]).collect();
    make100(dir.path(), &heads);
    let train = cifar100(dir.path(), Split::Train).unwrap();
    assert_eq!(train.len(), 1100);
    assert!(train.labels().iter().enumerate().all(|(i, &label)| label as usize == i % 100));
    assert_eq!(first_pixel(&train, 1099), [50, 51, 52]);
}

#[test]
fn a_missing_set_says_what_was_searched_and_how_to_get_it() {
    let dir = TempDir::new().unwrap();
    let message = |dir: &Path| {
        let error = cifar10(dir, Split::Train).unwrap_err();
        assert_eq!(error.code(), "ERR_FLATMIN_PATH");
        error.to_string()
    };
    let text = message(dir.path());
    for part in [
        dir.path().to_str().unwrap(),
        "cifar-10-batches-bin",
        "data_batch_5.bin",
        "batches.meta.txt",
        "cifar-10-binary.tar.gz",
    ] {
        assert!(text.contains(part), "{part} is not in: {text}");
    }
    fs::write(dir.path().join("cifar-10-binary.tar.gz"), "").unwrap();
    assert!(message(dir.path()).contains("tar -xzf"));

    // A folder that is named after a version is expected to hold that one.
    let python = dir.path().join("cifar-10-batches-py");
    fs::create_dir(&python).unwrap();
    assert!(message(&python).contains("data_batch_1, "));

    // Only what is missing is named.
    make10(dir.path());
    fs::remove_file(dir.path().join("data_batch_3.bin")).unwrap();
    let text = message(dir.path());
    assert!(text.contains("Missing: data_batch_3.bin."), "{text}");
    assert!(cifar10(dir.path(), Split::Test).is_ok());
}

#[test]
fn damaged_files_are_named() {
    let damage = |file: &str, bytes: Vec<u8>, part: &str| {
        let dir = TempDir::new().unwrap();
        make10(dir.path());
        fs::write(dir.path().join(file), bytes).unwrap();
        let error = cifar10(dir.path(), Split::Train).unwrap_err();
        assert_eq!(error.code(), "ERR_FLATMIN_FORMAT", "{error}");
        let text = error.to_string();
        assert!(text.contains(file) && text.contains(part), "{text}");
        assert!(text.contains("again"), "{text}");
    };
    damage("data_batch_2.bin", vec![], "0 bytes");
    damage("data_batch_2.bin", vec![0; 3072], "a multiple of 3073");
    damage("data_batch_4.bin", [record(&[1], 0), record(&[10], 0)].concat(), "record 1 has label 10");
    damage("batches.meta.txt", b"cat\ndog\n".to_vec(), "2 class names");
}

#[test]
fn both_label_bytes_of_cifar100_are_checked() {
    for (head, part) in [([20, 0], "label 20"), ([0, 100], "label 100")] {
        let dir = TempDir::new().unwrap();
        make100(dir.path(), &[[0, 0], head]);
        let error = cifar100(dir.path(), Split::Train).unwrap_err();
        assert_eq!(error.code(), "ERR_FLATMIN_FORMAT");
        assert!(error.to_string().contains(part), "{error}");
    }
}

#[test]
fn a_folder_in_place_of_a_file_is_an_error() {
    let dir = TempDir::new().unwrap();
    make10(dir.path());
    let file = dir.path().join("test_batch.bin");
    fs::remove_file(&file).unwrap();
    fs::create_dir(&file).unwrap();
    assert!(cifar10(dir.path(), Split::Test).is_err());
}

#[test]
fn the_real_set_has_the_statistics_it_is_normalised_with() {
    let Ok(dir) = std::env::var("FLATMIN_TEST_CIFAR10") else {
        eprintln!("skipped: FLATMIN_TEST_CIFAR10 names no CIFAR-10 folder");
        return;
    };
    let train = cifar10(&dir, Split::Train).unwrap();
    let test = cifar10(&dir, Split::Test).unwrap();
    assert!(train.len() > 49_000 && test.len() > 9_900);
    assert!(train.describe().classes.iter().all(|c| (4_800..=5_000).contains(&c.count)));
    let sample: Vec<f32> = (0..2_000).flat_map(|i| train.pixels(i * 24).unwrap()).collect();
    let recommended = train.normalization();
    for (c, (&mean, &std)) in recommended.mean.iter().zip(&recommended.std).enumerate() {
        let channel: Vec<f64> = sample.iter().skip(c).step_by(3).map(|&v| f64::from(v)).collect();
        let average = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
        let measured = average(&channel);
        let squares: Vec<f64> = channel.iter().map(|v| (v - measured).powi(2)).collect();
        assert!((measured - f64::from(mean)).abs() < 0.01, "mean {measured}");
        assert!((average(&squares).sqrt() - f64::from(std)).abs() < 0.01, "deviation of channel {c}");
    }
}
