//! Loaders of encoded images: the same batches whatever the threads, orientation, bad images by policy.

mod common;

use std::fs;
use std::path::Path;

use common::hash;
use flatmin_data::{
    BadImages, Batch, ColorJitter, Crop, Dataset, EncodedOptions, Format, Frame, ImageSource, Images, Loader,
    LoaderOptions, Normalization, Policy, RandomErasing, ResizedCrop, Transform, decode_image, image_folder,
};
use image::{ImageFormat, Rgb, RgbImage};

/// Pictures of different sizes and kinds in two classes.
fn folder(dir: &Path) {
    for k in 0..24u32 {
        let picture =
            RgbImage::from_fn(40 + k * 3, 70 - k, |x, y| Rgb([(x * 5 + k) as u8, (y * 7) as u8, (x * y) as u8]));
        let class = dir.join(if k % 3 == 0 { "a" } else { "b" });
        fs::create_dir_all(&class).unwrap();
        let extension = ["jpg", "png", "webp"][k as usize % 3 * usize::from(k > 15)];
        picture.save(class.join(format!("{k:02}.{extension}"))).unwrap();
    }
}

fn open(dir: &Path, bad_images: BadImages) -> Dataset {
    let frame = Frame { height: 24, width: 24, resize: 28 };
    image_folder(dir, EncodedOptions { frame, bad_images, ..EncodedOptions::default() }).unwrap()
}

fn everything() -> Transform {
    Transform {
        crop: Crop::Resized(ResizedCrop::default()),
        flip: true,
        color_jitter: Some(ColorJitter { brightness: 0.4, contrast: 0.4, saturation: 0.4, hue: 0.1 }),
        policy: Some(Policy::RandAugment { operations: 2, magnitude: 9 }),
        erasing: Some(RandomErasing::default()),
        cutout: Some(4),
        ..Transform::plain(Normalization::imagenet())
    }
}

fn loader(set: Dataset, threads: usize, transform: Transform) -> Loader {
    loader_of(set, threads, transform, Format::F32)
}

fn loader_of(set: Dataset, threads: usize, transform: Transform, format: Format) -> Loader {
    let options = LoaderOptions { format, ..LoaderOptions::new(transform) };
    let options = LoaderOptions { batch_size: 5, shuffle: true, seed: 3, threads, ..options };
    Loader::new(set, options).unwrap()
}

fn hashes(batches: impl Iterator<Item = flatmin_data::Result<Batch>>) -> Vec<u64> {
    batches.map(|batch| hash(&batch.unwrap())).collect()
}

#[test]
fn threads_and_resumption_change_no_byte() {
    let dir = tempfile::tempdir().unwrap();
    folder(dir.path());
    let set = open(dir.path(), BadImages::Error);
    for format in [Format::F32, Format::Bf16, Format::U8] {
        let loader = |threads| loader_of(set.clone(), threads, everything(), format);
        let expected = hashes(loader(0).epochs(2..4, 0));
        assert_eq!(expected.len(), 10);
        assert_ne!(expected[..5], expected[5..]);
        for threads in [1, 2, 7] {
            let loader = loader(threads);
            assert_eq!(hashes(loader.epochs(2..4, 0)), expected, "{format:?}, {threads} threads");
            assert_eq!(hashes(loader.epochs(2..4, 3)), expected[3..], "{format:?}, {threads} threads, resumed");
            assert_eq!(hashes(loader.epoch(3, 2)), expected[7..], "{format:?}, {threads} threads, second epoch");
        }
    }
}

#[test]
fn formats_show_the_same_pixels() {
    let dir = tempfile::tempdir().unwrap();
    folder(dir.path());
    let (set, Normalization { mean, std }) = (open(dir.path(), BadImages::Error), Normalization::imagenet());
    let whole = Transform { erasing: None, cutout: None, ..everything() };
    for transform in [everything(), whole, Transform::plain(Normalization::imagenet())] {
        let blanks = transform.cutout.is_some();
        let batches = |format| loader_of(set.clone(), 1, transform.clone(), format).epoch(0, 0).map(Result::unwrap);
        for ((single, half), byte) in batches(Format::F32).zip(batches(Format::Bf16)).zip(batches(Format::U8)) {
            let Images::F32(single) = single.images else { panic!("{:?}", single.images) };
            let rounded = single.iter().map(|&value| half::bf16::from_f32(value)).collect();
            assert_eq!(half.images, Images::Bf16(rounded));
            let Images::U8(bytes) = byte.images else { panic!("{:?}", byte.images) };
            for (at, (&value, byte)) in single.iter().zip(bytes).enumerate() {
                let normalised = (f32::from(byte) / 255.0 - mean[at % 3]) / std[at % 3];
                // A mean is no whole number of 255.
                let tolerance = if blanks && value == 0.0 { 0.5 / 255.0 / std[at % 3] + 1e-6 } else { 2e-6 };
                assert!((value - normalised).abs() <= tolerance, "{value} {normalised}");
            }
        }
    }
}

#[test]
fn an_orientation_turns_the_image_and_what_is_cropped_of_it() {
    // Left half dark, right half light.
    let picture = RgbImage::from_fn(32, 16, |x, _| Rgb([if x < 16 { 20 } else { 230 }; 3]));
    let mut jpeg = std::io::Cursor::new(Vec::new());
    picture.write_to(&mut jpeg, ImageFormat::Jpeg).unwrap();
    let jpeg = jpeg.into_inner();
    let corners = |orientation: u8| {
        let exif = [&b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0"[..], &[orientation], &[0; 7]].concat();
        let length = (exif.len() as u16 + 2).to_be_bytes();
        let bytes = [&jpeg[..2], &[0xFF, 0xE1], &length, &exif, &jpeg[2..]].concat();
        let image = decode_image(ImageSource::Bytes(&bytes)).unwrap();
        let (height, width) = (image.height(), image.width());
        let shape = flatmin_data::ImageShape { height, width, channels: 1 };
        let pixels = image.resize(shape).unwrap();
        let light = |y: usize, x: usize| pixels[y * width + x] > 0.5;
        (height, [light(0, 0), light(0, width - 1), light(height - 1, 0), light(height - 1, width - 1)])
    };
    let expected = [
        (1, 16, [false, true, false, true]),
        (2, 16, [true, false, true, false]),
        (3, 16, [true, false, true, false]),
        (4, 16, [false, true, false, true]),
        (5, 32, [false, false, true, true]),
        (6, 32, [false, false, true, true]),
        (7, 32, [true, true, false, false]),
        (8, 32, [true, true, false, false]),
    ];
    for (orientation, height, light) in expected {
        assert_eq!(corners(orientation), (height, light), "orientation {orientation}");
    }
}

/// Three images of 24 are broken: cut short, text, empty.
fn damage(dir: &Path) {
    let cut = fs::read(dir.join("a/00.jpg")).unwrap();
    fs::write(dir.join("a/00.jpg"), &cut[..cut.len() / 2]).unwrap();
    fs::write(dir.join("b/01.jpg"), "no image").unwrap();
    fs::write(dir.join("b/02.jpg"), "").unwrap();
}

#[test]
fn bad_images_end_the_run_or_are_skipped_or_replaced_and_counted() {
    let dir = tempfile::tempdir().unwrap();
    folder(dir.path());
    damage(dir.path());
    let plain = || Transform::plain(Normalization::imagenet());

    let mut batches = loader(open(dir.path(), BadImages::Error), 2, plain()).epoch(0, 0);
    let error = batches.find_map(Result::err).unwrap();
    assert_eq!(error.code(), "ERR_FLATMIN_FORMAT");
    assert!(batches.next().is_none());

    for (policy, images) in [(BadImages::Skip, 21), (BadImages::Replace, 24)] {
        let set = open(dir.path(), policy);
        let expected = hashes(loader(set.clone(), 0, plain()).epoch(0, 0));
        for threads in [1, 2] {
            let loader = loader(set.clone(), threads, plain());
            let batches: Vec<_> = loader.epochs(0..2, 0).map(Result::unwrap).collect();
            assert_eq!(batches.iter().map(|batch| batch.count).sum::<usize>(), 2 * images);
            assert!(batches.iter().all(|batch| batch.images.len() == batch.count * 24 * 24 * 3));
            assert_eq!(batches[..5].iter().map(hash).collect::<Vec<_>>(), expected);
        }
        let faults = set.faults();
        assert_eq!((faults.count, faults.messages.len()), (3, 3));
        for name in ["a/00.jpg", "b/01.jpg", "b/02.jpg"] {
            assert!(faults.messages.iter().any(|message| message.contains(name)), "{faults:?}");
        }
    }
}

#[test]
fn a_set_of_bad_images_alone_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("a")).unwrap();
    for k in 0..7 {
        fs::write(dir.path().join(format!("a/{k}.jpg")), "no image").unwrap();
    }
    for policy in [BadImages::Error, BadImages::Skip, BadImages::Replace] {
        let mut batches = loader(open(dir.path(), policy), 1, everything()).epoch(0, 0);
        assert_eq!(batches.next().unwrap().unwrap_err().code(), "ERR_FLATMIN_FORMAT");
    }
}

/// Numbers from a fixed seed, for damage.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % bound
    }
}

#[test]
fn damaged_files_never_panic() {
    let picture = RgbImage::from_fn(61, 47, |x, y| Rgb([(x * 5) as u8, (y * 7) as u8, (x * y) as u8]));
    let mut numbers = Numbers(1);
    for format in [ImageFormat::Jpeg, ImageFormat::Png, ImageFormat::WebP] {
        let mut whole = std::io::Cursor::new(Vec::new());
        picture.write_to(&mut whole, format).unwrap();
        let whole = whole.into_inner();
        for _ in 0..600 {
            let mut bytes = whole.clone();
            for _ in 0..1 + numbers.below(6) {
                let at = numbers.below(bytes.len());
                bytes[at] ^= 1 << numbers.below(8);
            }
            if numbers.below(3) == 0 {
                bytes.truncate(numbers.below(bytes.len()));
            }
            if let Ok(image) = decode_image(ImageSource::Bytes(&bytes)) {
                let shape = flatmin_data::ImageShape { height: 16, width: 16, channels: 3 };
                assert_eq!(image.resize(shape).unwrap().len(), 768);
            }
        }
    }
}
