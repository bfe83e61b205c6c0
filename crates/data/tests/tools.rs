//! Packing, checking and looking: shards hold what the folder holds, faults are counted by name, an interrupted pack goes on.

use std::fs;
use std::ops::ControlFlow;
use std::path::Path;

use flatmin_data::{
    BadImages, ContactSheet, Dataset, EncodedOptions, Error, Frame, MANIFEST, Manifest, PackOptions, Progress,
    Transform, contact_sheet, image_folder, inspect, pack, shard_paths, verify, webdataset,
};
use image::{Rgb, RgbImage};
use tempfile::TempDir;

fn options() -> EncodedOptions {
    EncodedOptions { frame: Frame { height: 8, width: 8, resize: 8 }, ..EncodedOptions::default() }
}

/// Ten images of two classes and different sizes; image k is of one colour, red k.
fn folder(dir: &Path) -> Dataset {
    for k in 0..10u32 {
        let class = dir.join(if k % 2 == 0 { "n01440764" } else { "n01443537" });
        fs::create_dir_all(&class).unwrap();
        let picture = RgbImage::from_pixel(20 + 2 * k, 16, Rgb([10 * k as u8, 100, 0]));
        picture.save(class.join(format!("photo.{k}.png"))).unwrap();
    }
    image_folder(dir, options()).unwrap()
}

fn on(_: Progress) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

fn small() -> PackOptions {
    PackOptions { samples_per_shard: 4, ..PackOptions::default() }
}

fn open(dir: &Path) -> Dataset {
    webdataset(shard_paths(dir.to_str().unwrap()).unwrap(), options()).unwrap()
}

/// Encoded bytes and label of every image, sorted.
fn contents(set: &Dataset) -> Vec<(Vec<u8>, u32)> {
    let read = |index| {
        let mut bytes = Vec::new();
        set.read_encoded(index, &mut bytes).unwrap();
        (bytes, set.label(index).unwrap())
    };
    let mut all: Vec<_> = (0..set.len()).map(read).collect();
    all.sort();
    all
}

fn files(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = entries
        .map(|path| (path.file_name().unwrap().to_string_lossy().into_owned(), fs::read(path).unwrap()))
        .collect();
    files.sort();
    files
}

#[test]
fn shards_hold_what_the_folder_holds_and_pass_verification() {
    let (source, out) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let set = folder(source.path());
    let mut seen = Vec::new();
    let manifest = pack(&set, out.path(), small(), 3, &mut |progress| {
        seen.push(progress.done);
        ControlFlow::Continue(())
    })
    .unwrap();
    assert_eq!(seen, (1..=10).collect::<Vec<_>>());
    assert_eq!(manifest.shards.iter().map(|shard| shard.samples).collect::<Vec<_>>(), [4, 4, 2]);
    let packed = open(out.path());
    assert_eq!(contents(&packed), contents(&set));
    assert_eq!(packed.class_names(), ["tench", "goldfish"]);
    assert_eq!(packed.class_names(), set.class_names());
    assert!(packed.labels()[..5].contains(&1), "shards are shuffled: {:?}", packed.labels());
    let verified = verify(out.path(), 2, &mut on).unwrap();
    assert_eq!((verified.shards, verified.images, verified.faults), (3, 10, vec![]));
}

#[test]
fn any_number_of_threads_writes_the_same_bytes() {
    let source = TempDir::new().unwrap();
    let set = folder(source.path());
    let packed = [1, 2, 7].map(|threads| {
        let out = TempDir::new().unwrap();
        pack(&set, out.path(), small(), threads, &mut on).unwrap();
        files(out.path())
    });
    assert!(packed[0] == packed[1] && packed[0] == packed[2]);
}

#[test]
fn an_interrupted_pack_goes_on_and_ends_as_if_it_had_not_been() {
    let source = TempDir::new().unwrap();
    let set = folder(source.path());
    let whole = TempDir::new().unwrap();
    pack(&set, whole.path(), small(), 2, &mut on).unwrap();
    for stop_at in [1, 4, 6, 9] {
        let out = TempDir::new().unwrap();
        let stop = &mut |progress: Progress| {
            if progress.done == stop_at { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        assert!(matches!(pack(&set, out.path(), small(), 2, stop).unwrap_err(), Error::Stopped));
        if stop_at > 4 {
            let verified = verify(out.path(), 1, &mut on).unwrap();
            assert!(verified.faults[0].contains("of 3 shards are packed"), "{verified:?}");
        }
        // What a killed process would leave.
        fs::write(out.path().join(".flatmin-x.partial"), "half a shard").unwrap();
        pack(&set, out.path(), small(), 2, &mut on).unwrap();
        assert!(files(out.path()) == files(whole.path()), "stopped at {stop_at}");
    }
    // A complete one is left alone.
    let before = files(whole.path());
    pack(&set, whole.path(), small(), 2, &mut |_| panic!("nothing is left to do")).unwrap();
    assert!(files(whole.path()) == before);
}

#[test]
fn a_folder_with_another_pack_is_not_written_to() {
    let (source, out) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let set = folder(source.path());
    pack(&set, out.path(), small(), 1, &mut on).unwrap();
    let before = files(out.path());
    let other = PackOptions { seed: 1, ..small() };
    assert_eq!(pack(&set, out.path(), other, 1, &mut on).unwrap_err().code(), "ERR_FLATMIN_OPTION");
    fs::remove_file(source.path().join("n01440764/photo.0.png")).unwrap();
    let fewer = image_folder(source.path(), options()).unwrap();
    assert_eq!(pack(&fewer, out.path(), small(), 1, &mut on).unwrap_err().code(), "ERR_FLATMIN_OPTION");
    assert!(files(out.path()) == before);
    fs::write(out.path().join(MANIFEST), "{}").unwrap();
    assert_eq!(pack(&set, out.path(), small(), 1, &mut on).unwrap_err().code(), "ERR_FLATMIN_FORMAT");
}

#[test]
fn resized_images_are_jpeg_with_the_shorter_side_asked_for() {
    let (source, out) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let set = folder(source.path());
    pack(&set, out.path(), PackOptions { resize: Some(8), quality: 95, ..small() }, 2, &mut on).unwrap();
    let found = inspect(&open(out.path()), 2, &mut on).unwrap();
    assert_eq!(found.formats.into_iter().collect::<Vec<_>>(), [("jpeg".to_owned(), 10)]);
    let (height, width) = (found.height.unwrap(), found.width.unwrap());
    assert_eq!((height.min, height.max, width.min, width.max), (8, 8, 10, 19));
    // 16 is no larger than 16: the files are copied.
    let same = TempDir::new().unwrap();
    pack(&set, same.path(), PackOptions { resize: Some(16), ..small() }, 2, &mut on).unwrap();
    assert_eq!(contents(&open(same.path())), contents(&set));
}

#[test]
fn broken_images_are_an_error_or_are_left_out_by_name() {
    let (source, out) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    folder(source.path());
    fs::write(source.path().join("n01443537/broken.jpg"), "no image").unwrap();
    let set = image_folder(source.path(), options()).unwrap();
    let error = pack(&set, out.path(), small(), 2, &mut on).unwrap_err();
    assert!(error.code() == "ERR_FLATMIN_FORMAT" && error.to_string().contains("broken.jpg"), "{error}");
    let skip = PackOptions { bad_images: BadImages::Skip, ..small() };
    let out = TempDir::new().unwrap();
    let manifest: Manifest = pack(&set, out.path(), skip, 2, &mut on).unwrap();
    assert!(manifest.left_out.len() == 1 && manifest.left_out[0].contains("broken.jpg"), "{manifest:?}");
    assert_eq!(manifest.shards.iter().map(|shard| shard.samples).sum::<usize>(), 10);
    assert_eq!(verify(out.path(), 2, &mut on).unwrap().fault_count, 0);
    let found = inspect(&set, 2, &mut on).unwrap();
    assert_eq!((found.broken_count, found.description.count), (1, 11));
    assert!(found.broken[0].contains("broken.jpg"));
}

#[test]
fn verification_finds_each_kind_of_damage() {
    let source = TempDir::new().unwrap();
    let set = folder(source.path());
    let faults = |damage: &dyn Fn(&Path)| {
        let out = TempDir::new().unwrap();
        pack(&set, out.path(), small(), 1, &mut on).unwrap();
        damage(out.path());
        verify(out.path(), 2, &mut on).unwrap()
    };
    let flipped = faults(&|dir| {
        let shard = dir.join("shard-000001.tar");
        let mut bytes = fs::read(&shard).unwrap();
        bytes[700] ^= 1;
        fs::write(shard, bytes).unwrap();
    });
    assert!(flipped.fault_count == 1 && flipped.images == 6 && flipped.faults[0].contains("SHA-256"), "{flipped:?}");
    let index = faults(&|dir| {
        let index = dir.join("shard-000001.tar.json");
        let text = fs::read_to_string(&index).unwrap();
        fs::write(index, text.replace("\"label\":0", "\"label\":1")).unwrap();
    });
    assert!(index.fault_count == 1 && index.faults[0].contains("shard-000001.tar.json"), "{index:?}");
    let missing = faults(&|dir| fs::remove_file(dir.join("shard-000002.tar")).unwrap());
    assert!(missing.fault_count == 1 && missing.faults[0].contains("shard-000002.tar"), "{missing:?}");
    let nothing = TempDir::new().unwrap();
    assert_eq!(verify(nothing.path(), 1, &mut on).unwrap_err().code(), "ERR_FLATMIN_PATH");
}

#[test]
fn inspection_measures_what_evaluation_sees() {
    let source = TempDir::new().unwrap();
    let set = folder(source.path());
    let found = inspect(&set, 3, &mut on).unwrap();
    // Red is 0, 10, ..., 90, green 100, blue 0.
    let red: Vec<f64> = (0..10).map(|k| 10.0 * f64::from(k) / 255.0).collect();
    let mean = red.iter().sum::<f64>() / 10.0;
    let std = (red.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / 10.0).sqrt();
    assert!((f64::from(found.measured.mean[0]) - mean).abs() < 1e-5, "{found:?}");
    assert!((f64::from(found.measured.std[0]) - std).abs() < 1e-5, "{found:?}");
    assert!((found.measured.mean[1] - 100.0 / 255.0).abs() < 1e-5 && found.measured.mean[2] == 0.0);
    let width = found.width.unwrap();
    assert_eq!((width.min, width.median, width.max), (20, 30, 38));
    assert_eq!(found.description.classes.iter().map(|class| class.count).collect::<Vec<_>>(), [5, 5]);
    assert!(found.bytes > 0 && found.broken_count == 0);
    let memory = inspect(&flatmin_data::digits().unwrap(), 2, &mut on).unwrap();
    assert!((memory.measured.mean[0] - memory.description.normalization.mean[0]).abs() < 1e-5);
    assert_eq!((memory.bytes, memory.width), (0, None));
}

#[test]
fn inspection_decodes_what_evaluation_does_not_look_at() {
    let source = TempDir::new().unwrap();
    let class = source.path().join("class");
    fs::create_dir(&class).unwrap();
    let path = class.join("tall.jpg");
    RgbImage::from_fn(16, 400, |x, y| Rgb([(x * 15) as u8, (y * 7) as u8, (x ^ y) as u8])).save(&path).unwrap();
    let set = image_folder(source.path(), options()).unwrap();
    assert_eq!(inspect(&set, 1, &mut on).unwrap().broken_count, 0);
    let whole = fs::read(&path).unwrap();
    fs::write(&path, &whole[..whole.len() * 9 / 10]).unwrap();
    let found = inspect(&set, 1, &mut on).unwrap();
    assert!(found.broken_count == 1 && found.broken[0].contains("tall.jpg"), "{found:?}");
}

#[test]
fn wrong_options_are_named() {
    let (source, out) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let set = folder(source.path());
    for wrong in [
        PackOptions { samples_per_shard: 0, ..small() },
        PackOptions { resize: Some(0), ..small() },
        PackOptions { quality: 0, ..small() },
        PackOptions { prefix: "../x".to_owned(), ..small() },
        PackOptions { bad_images: BadImages::Replace, ..small() },
    ] {
        assert_eq!(pack(&set, out.path(), wrong, 1, &mut on).unwrap_err().code(), "ERR_FLATMIN_OPTION");
    }
    let digits = flatmin_data::digits().unwrap();
    assert_eq!(pack(&digits, out.path(), small(), 1, &mut on).unwrap_err().code(), "ERR_FLATMIN_OPTION");
    assert!(files(out.path()).is_empty());
}

#[test]
fn a_contact_sheet_shows_augmented_images_in_their_own_colours() {
    let (source, out) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let set = folder(source.path());
    let path = out.path().join("sheet.png");
    let sheet = ContactSheet { rows: 2, columns: 3, seed: 1, epoch: 0 };
    let transform = || Transform::plain(set.normalization().clone());
    let shown = contact_sheet(&set, transform(), sheet, &path).unwrap();
    assert_eq!((shown.rows, shown.columns, shown.labels.len()), (2, 3, 6));
    let picture = image::open(&path).unwrap().into_rgb8();
    // Images of 8 pixels are shown twelve times as large, two white pixels apart.
    assert_eq!(picture.dimensions(), (3 * 98 + 2, 2 * 98 + 2));
    assert_eq!(picture.get_pixel(0, 0), &Rgb([255, 255, 255]));
    for (x, y) in [(50, 50), (150, 50), (250, 150)] {
        let &Rgb([red, green, blue]) = picture.get_pixel(x, y);
        assert!(red % 10 == 0 && red <= 90 && green == 100 && blue == 0, "{red} {green} {blue}");
    }
    assert_eq!(contact_sheet(&set, transform(), sheet, &path).unwrap(), shown);
    let other = ContactSheet { rows: 0, ..sheet };
    assert_eq!(contact_sheet(&set, transform(), other, &path).unwrap_err().code(), "ERR_FLATMIN_OPTION");
    let nowhere = out.path().join("missing/sheet.png");
    assert_eq!(contact_sheet(&set, transform(), sheet, &nowhere).unwrap_err().code(), "ERR_FLATMIN_PATH");
}
