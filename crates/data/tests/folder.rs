//! Image folders: classes from folders, images decoded when they are needed, faults by name.

use std::fs;
use std::path::Path;

use flatmin_data::{BadImages, Dataset, EncodedOptions, Frame, Loader, LoaderOptions, Transform, image_folder};
use image::{Rgb, RgbImage};

/// A picture of one colour, a little larger than the frames below.
fn picture(path: &Path, red: u8) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    RgbImage::from_pixel(12, 10, Rgb([red, 0, 0])).save(path).unwrap();
}

fn options() -> EncodedOptions {
    EncodedOptions { frame: Frame { height: 8, width: 8, resize: 9 }, ..EncodedOptions::default() }
}

fn sample(dir: &Path) -> Dataset {
    picture(&dir.join("b/deep/two.PNG"), 200);
    picture(&dir.join("b/one.png"), 100);
    picture(&dir.join("a/zero.png"), 50);
    fs::write(dir.join("a/notes.txt"), "not an image").unwrap();
    fs::write(dir.join("readme.png"), "in no class").unwrap();
    image_folder(dir, options()).unwrap()
}

#[test]
fn subfolders_are_classes_and_images_come_in_the_order_of_their_paths() {
    let dir = tempfile::tempdir().unwrap();
    let set = sample(dir.path());
    assert_eq!(set.class_names(), ["a", "b"]);
    assert_eq!(set.labels(), [0, 1, 1]);
    assert_eq!(set.describe().dtype, "encoded");
    let red = |index| (set.pixels(index).unwrap()[0] * 255.0).round();
    assert_eq!([red(0), red(1), red(2)], [50.0, 200.0, 100.0]);
    assert!(set.image_name(1).unwrap().unwrap().ends_with("b/deep/two.PNG"));
    let shape = set.with_frame(Frame::square(4)).unwrap().shape();
    assert_eq!((shape.height, shape.width, shape.channels), (4, 4, 3));
}

#[test]
fn batches_have_the_frame_of_the_set() {
    let dir = tempfile::tempdir().unwrap();
    let set = sample(dir.path());
    let transform = Transform::plain(flatmin_data::Normalization::identity(3));
    let loader = Loader::new(set, LoaderOptions { batch_size: 2, ..LoaderOptions::new(transform) }).unwrap();
    let batches: Vec<_> = loader.epoch(0, 0).map(Result::unwrap).collect();
    assert_eq!(batches.iter().map(|batch| batch.images.len()).collect::<Vec<_>>(), [2 * 192, 192]);
    assert_eq!(batches[1].labels, [1]);
}

#[test]
fn what_is_no_folder_of_images_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let code = |path: &Path, options| image_folder(path, options).unwrap_err().code();
    assert_eq!(code(&dir.path().join("missing"), options()), "ERR_FLATMIN_PATH");
    assert_eq!(code(dir.path(), options()), "ERR_FLATMIN_DATA");
    let set = sample(dir.path());
    let named = EncodedOptions { class_names: Some(vec!["only one".to_owned()]), ..options() };
    assert_eq!(code(dir.path(), named), "ERR_FLATMIN_DATA");
    let narrow = Frame { height: 8, width: 8, resize: 7 };
    assert_eq!(set.with_frame(narrow).unwrap_err().code(), "ERR_FLATMIN_OPTION");
    assert_eq!(flatmin_data::digits().unwrap().with_frame(narrow).unwrap_err().code(), "ERR_FLATMIN_OPTION");
}

#[test]
fn a_damaged_image_is_an_error_that_names_it() {
    let dir = tempfile::tempdir().unwrap();
    sample(dir.path());
    fs::write(dir.path().join("a/broken.jpg"), "no picture").unwrap();
    let set = image_folder(dir.path(), EncodedOptions { bad_images: BadImages::Error, ..options() }).unwrap();
    let error = set.pixels(0).unwrap_err();
    assert_eq!(error.code(), "ERR_FLATMIN_FORMAT");
    assert!(error.to_string().contains("a/broken.jpg"), "{error}");
}
