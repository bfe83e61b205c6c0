//! Decoding and scaling against Pillow and torchvision.

use std::path::{Path, PathBuf};

use base64::prelude::{BASE64_STANDARD, Engine};
use flatmin_data::{EncodedOptions, Frame, ImageShape, ImageSource, decode_image, image_folder};
use serde_json::Value;

fn goldens() -> Value {
    serde_json::from_str(include_str!("goldens/augment.json")).unwrap()
}

fn bytes(value: &Value) -> Vec<u8> {
    BASE64_STANDARD.decode(value.as_str().unwrap()).unwrap()
}

/// Mean and greatest difference, of 255.
fn difference(pixels: &[f32], expected: &[u8]) -> (f64, f64) {
    assert_eq!(pixels.len(), expected.len());
    let apart = pixels.iter().zip(expected).map(|(a, b)| (f64::from(*a) * 255.0 - f64::from(*b)).abs());
    let (sum, most) = apart.fold((0.0, 0.0f64), |(sum, most), value| (sum + value, most.max(value)));
    (sum / pixels.len() as f64, most)
}

#[test]
fn files_of_all_kinds_are_read_as_pillow_reads_them() {
    for case in goldens()["encoded"].as_array().unwrap() {
        let name = case["name"].as_str().unwrap();
        let image = decode_image(ImageSource::Bytes(&bytes(&case["file"]))).unwrap();
        let shape = ImageShape { height: image.height(), width: image.width(), channels: 3 };
        let (mean, most) = difference(&image.resize(shape).unwrap(), &bytes(&case["pixels"]));
        // Progressive and CMYK files are read by a decoder whose upsampling of the chroma differs a little.
        let tolerance = match name {
            "jpeg progressive" | "jpeg cmyk" => 12.0,
            _ => 1e-3,
        };
        assert!(most <= tolerance && mean <= tolerance / 4.0, "{name}: {mean} on average, {most} at most");
    }
}

/// The folder of sample photographs, where there is one.
fn photos() -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/imagenet-sample");
    if !path.exists() {
        eprintln!("skipped: no shared data");
    }
    path.exists().then_some(path)
}

#[test]
fn resize_and_centre_crop_are_torchvisions() {
    let Some(photos) = photos() else { return };
    let set = image_folder(&photos, EncodedOptions::default()).unwrap();
    let goldens = goldens();
    let crops = goldens["crops"].as_array().unwrap();
    assert!(crops.len() >= 8);
    for case in crops {
        let photo = case["photo"].as_str().unwrap();
        let side = |name: &str| case[name].as_u64().unwrap() as usize;
        let frame = Frame { height: side("crop"), width: side("crop"), resize: side("resize") };
        let ends = |index: &usize| set.image_name(*index).unwrap().unwrap().ends_with(photo);
        let index = (0..set.len()).find(ends).unwrap();
        let pixels = set.with_frame(frame).unwrap().pixels(index).unwrap();
        let (mean, most) = difference(&pixels, &bytes(&case["pixels"]));
        assert!(mean <= 0.5 && most <= 3.0, "{photo} at {}: {mean} on average, {most} at most", side("crop"));
    }
}
