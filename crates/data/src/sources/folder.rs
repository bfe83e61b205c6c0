//! A folder of images, one subfolder a class, as ImageNet is kept.
//! Only names are read at the start: 100,000 images cost some megabytes and less than a second.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use super::synsets;
use crate::dataset::Dataset;
use crate::encoded::{EncodedImages, EncodedOptions};
use crate::error::{Error, Result};

const EXTENSIONS: [&str; 4] = ["jpeg", "jpg", "png", "webp"];
/// Larger files are no photographs; they are refused before they fill the memory.
const MAX_FILE: u64 = 1 << 30;

/// The image files of a folder.
#[derive(Debug)]
struct ImageFolder {
    /// The folder of each class.
    classes: Vec<PathBuf>,
    /// Class, and path within it.
    files: Vec<(u32, Box<Path>)>,
}

impl ImageFolder {
    fn path(&self, index: usize) -> PathBuf {
        let (class, file) = &self.files[index];
        self.classes[*class as usize].join(file)
    }
}

impl EncodedImages for ImageFolder {
    fn len(&self) -> usize {
        self.files.len()
    }

    fn name(&self, index: usize) -> String {
        self.path(index).display().to_string()
    }

    fn read(&self, index: usize, bytes: &mut Vec<u8>) -> Result<()> {
        let path = self.path(index);
        bytes.clear();
        let failed = |source| Error::Path { path: path.clone(), source };
        // Before it is opened: opening a pipe would wait for a writer.
        let metadata = fs::metadata(&path).map_err(failed)?;
        if !metadata.is_file() || metadata.len() > MAX_FILE {
            let found = if metadata.is_file() { "a file of more than 1 GiB" } else { "no plain file" };
            return Err(Error::Image { image: path.display().to_string(), message: found.to_owned() });
        }
        bytes.reserve_exact(metadata.len() as usize);
        File::open(&path).and_then(|file| file.take(MAX_FILE).read_to_end(bytes)).map(drop).map_err(failed)
    }
}

/// Images below `dir`, whose subfolders are the classes in the order of their names, those of hidden subfolders aside.
/// Files that are not called .jpg, .jpeg, .png or .webp are passed over; the contents decide how an image is decoded.
/// Synsets (`n01440764`) get readable class names. Links are followed, each folder of a class is visited once.
///
/// Errors: `ERR_FLATMIN_PATH` when a folder cannot be read, `ERR_FLATMIN_DATA` when there are no classes, or one without
/// images.
pub fn image_folder(dir: impl AsRef<Path>, options: EncodedOptions) -> Result<Dataset> {
    let dir = dir.as_ref();
    let Entries { files: loose, folders } = entries(dir)?;
    let mut classes: Vec<PathBuf> = folders.into_iter().filter(|folder| !is_hidden(folder)).collect();
    classes.sort_unstable();
    if classes.is_empty() {
        return Err(no_classes(dir, loose.len()));
    }
    let (mut files, mut labels, mut empty) = (Vec::new(), Vec::new(), Vec::new());
    for (label, class) in classes.iter().enumerate() {
        let found = images_below(class)?;
        if found.is_empty() {
            empty.push(class.display().to_string());
        }
        labels.extend(std::iter::repeat_n(label as u32, found.len()));
        files.extend(found.into_iter().map(|file| (label as u32, file)));
    }
    if !empty.is_empty() {
        let shown = empty.iter().take(5).map(String::as_str).collect::<Vec<_>>().join(", ");
        let message = format!("{} class folders hold no image ({shown}); {EXPECTED}", empty.len());
        return Err(Error::Data(message));
    }
    let class_names = options.class_names.or_else(|| Some(class_names(dir, &classes)));
    let name = if options.name.is_empty() { "imagefolder".to_owned() } else { options.name };
    let images = ImageFolder { classes, files };
    Dataset::from_encoded(images, labels, EncodedOptions { name, class_names, ..options })
}

const EXPECTED: &str = "expected one subfolder a class with .jpg, .jpeg, .png or .webp files";

fn no_classes(dir: &Path, loose: usize) -> Error {
    let dir = dir.display();
    let message = match loose {
        0 => format!("{dir} has no subfolders; {EXPECTED}"),
        // ImageNet's validation images come like this.
        _ => format!(
            "{dir} holds {loose} images but no subfolders; {EXPECTED}: move each image into the folder of its class"
        ),
    };
    Error::Data(message)
}

fn class_names(dir: &Path, classes: &[PathBuf]) -> Vec<String> {
    let names = classes.iter().filter_map(|class| class.file_name());
    let folders: Vec<String> = names.map(|name| name.to_string_lossy().into_owned()).collect();
    synsets::names(dir, &folders).unwrap_or(folders)
}

/// Paths of the images below a class folder, relative to it and sorted.
fn images_below(class: &Path) -> Result<Vec<Box<Path>>> {
    let mut images: Vec<Box<Path>> = Vec::new();
    let mut visited = HashSet::new();
    let mut waiting = vec![class.to_path_buf()];
    while let Some(folder) = waiting.pop() {
        // Links may lead in circles, or twice to the same place.
        let real = fs::canonicalize(&folder).map_err(|source| Error::Path { path: folder.clone(), source })?;
        if !visited.insert(real) {
            continue;
        }
        let Entries { files, folders } = entries(&folder)?;
        images.extend(files.iter().map(|file| file.strip_prefix(class).unwrap_or(file).into()));
        waiting.extend(folders);
    }
    images.sort_unstable();
    Ok(images)
}

fn is_hidden(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."))
}

/// What lies in a folder, other files aside.
struct Entries {
    /// By their names, images; nothing is asked of the file itself, so a hundred thousand cost little.
    files: Vec<PathBuf>,
    folders: Vec<PathBuf>,
}

fn entries(dir: &Path) -> Result<Entries> {
    let failed = |source| Error::Path { path: dir.to_path_buf(), source };
    let mut entries = Entries { files: Vec::new(), folders: Vec::new() };
    for entry in fs::read_dir(dir).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let (kind, path) = (entry.file_type().map_err(failed)?, entry.path());
        if kind.is_dir() {
            entries.folders.push(path);
        } else if has_image_name(&path) {
            entries.files.push(path);
        } else if kind.is_symlink() && path.is_dir() {
            entries.folders.push(path);
        }
    }
    Ok(entries)
}

fn has_image_name(path: &Path) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str());
    extension.is_some_and(|extension| EXTENSIONS.iter().any(|known| extension.eq_ignore_ascii_case(known)))
}
