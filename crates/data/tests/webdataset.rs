//! Shards and image folders where they lie: patterns, class names, damaged shards, links, pipes and deep folders.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use flatmin_data::{Dataset, EncodedOptions, Result, image_folder, shard_paths, webdataset};
use tempfile::TempDir;

fn shard(path: &Path, labels: &[u32]) {
    let mut builder = tar::Builder::new(fs::File::create(path).unwrap());
    for (number, label) in labels.iter().enumerate() {
        for (kind, bytes) in [("png", format!("image {number}")), ("cls", label.to_string())] {
            let mut header = tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            builder.append_data(&mut header, format!("{number}.{kind}"), bytes.as_bytes()).unwrap();
        }
    }
    builder.finish().unwrap();
}

fn open(pattern: &Path) -> Result<Dataset> {
    webdataset(shard_paths(pattern.to_str().unwrap())?, EncodedOptions::default())
}

#[test]
fn shards_are_found_by_folder_pattern_and_number() {
    let dir = TempDir::new().unwrap();
    for number in 0..3 {
        shard(&dir.path().join(format!("x-{number:03}.tar")), &[number, 4]);
    }
    for pattern in ["", "*.tar", "x-{000..002}.tar", "x-00[0-2].tar", "x-{000,001,002}.tar"] {
        let set = open(&dir.path().join(pattern)).unwrap();
        assert_eq!(set.labels(), [0, 4, 1, 4, 2, 4], "{pattern}");
        assert_eq!(set.num_classes(), 5);
        assert!(set.image_name(3).unwrap().unwrap().ends_with("x-001.tar/1.png"));
        let mut bytes = Vec::new();
        set.read_encoded(3, &mut bytes).unwrap();
        assert_eq!(bytes, b"image 1");
    }
    fs::write(dir.path().join("classes.txt"), "a\nb\nc\nd\ne\n").unwrap();
    assert_eq!(open(dir.path()).unwrap().class_names()[4], "e");
    assert_eq!(open(&dir.path().join("y-*.tar")).unwrap_err().code(), "ERR_FLATMIN_PATH");
    assert_eq!(open(&dir.path().join("x-{000..003}.tar")).unwrap_err().code(), "ERR_FLATMIN_PATH");
}

#[test]
fn damaged_and_empty_shards_are_named() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("x.tar");
    shard(&path, &[0, 1, 2]);
    let whole = fs::read(&path).unwrap();
    fs::write(&path, &whole[..whole.len() / 2 - 700]).unwrap();
    let error = open(&path).unwrap_err();
    assert!(error.code() == "ERR_FLATMIN_FORMAT" && error.to_string().contains("x.tar"), "{error}");
    fs::write(&path, "").unwrap();
    assert_eq!(open(&path).unwrap_err().code(), "ERR_FLATMIN_DATA");
    // A shard that shrinks after it was indexed.
    shard(&path, &[0, 1, 2]);
    let set = open(&path).unwrap();
    fs::write(&path, &whole[..600]).unwrap();
    assert_eq!(set.read_encoded(2, &mut Vec::new()).unwrap_err().code(), "ERR_FLATMIN_FORMAT");
}

#[test]
fn links_are_followed_and_circles_end() {
    let (dir, store) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    fs::write(store.path().join("photo.jpg"), "x").unwrap();
    let class = dir.path().join("cat");
    fs::create_dir(&class).unwrap();
    symlink(store.path().join("photo.jpg"), class.join("one.jpg")).unwrap();
    symlink(store.path(), class.join("more")).unwrap();
    symlink(&class, class.join("again")).unwrap();
    symlink(dir.path().join("nowhere"), class.join("lost.jpg")).unwrap();
    let set = image_folder(dir.path(), EncodedOptions::default()).unwrap();
    let names: Vec<PathBuf> = (0..set.len()).map(|index| set.image_name(index).unwrap().unwrap().into()).collect();
    assert_eq!(names, ["lost.jpg", "more/photo.jpg", "one.jpg"].map(|name| class.join(name)));
    assert_eq!(set.read_encoded(0, &mut Vec::new()).unwrap_err().code(), "ERR_FLATMIN_PATH");
}

#[test]
fn folders_and_pipes_called_like_images_do_no_harm() {
    let dir = TempDir::new().unwrap();
    let class = dir.path().join("cat");
    fs::create_dir_all(class.join("folder.jpg")).unwrap();
    fs::write(class.join("folder.jpg/inside.png"), "x").unwrap();
    symlink("/dev/zero", class.join("endless.jpg")).unwrap();
    let made = std::process::Command::new("mkfifo").arg(class.join("pipe.jpg")).status();
    let set = image_folder(dir.path(), EncodedOptions::default()).unwrap();
    assert_eq!(set.len(), if made.is_ok_and(|status| status.success()) { 3 } else { 2 });
    let refused = (0..set.len()).filter(|&index| set.read_encoded(index, &mut Vec::new()).is_err()).count();
    assert_eq!(refused, set.len() - 1);
}

#[test]
fn a_very_deep_folder_is_searched_to_its_end() {
    let dir = TempDir::new().unwrap();
    let mut deep = dir.path().join("cat");
    for _ in 0..400 {
        deep.push("d");
    }
    fs::create_dir_all(&deep).unwrap();
    fs::write(deep.join("photo.jpg"), "x").unwrap();
    assert_eq!(image_folder(dir.path(), EncodedOptions::default()).unwrap().len(), 1);
}

#[test]
fn classes_are_folders_with_images() {
    let dir = TempDir::new().unwrap();
    let message = || image_folder(dir.path(), EncodedOptions::default()).unwrap_err().to_string();
    fs::write(dir.path().join("ILSVRC2012_val_00000001.JPEG"), "x").unwrap();
    assert!(message().contains("1 images but no subfolders"), "{}", message());
    fs::create_dir_all(dir.path().join("cat")).unwrap();
    fs::create_dir_all(dir.path().join(".thumbnails")).unwrap();
    fs::write(dir.path().join(".thumbnails/x.jpg"), "x").unwrap();
    assert!(message().contains("1 class folders hold no image"), "{}", message());
    fs::write(dir.path().join("cat/x.jpg"), "x").unwrap();
    assert_eq!(image_folder(dir.path(), EncodedOptions::default()).unwrap().class_names(), ["cat"]);
}
