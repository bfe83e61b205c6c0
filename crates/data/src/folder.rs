//! A folder of images, one subfolder a class, as ImageNet is kept.
//! Only names are read at the start: 100,000 images cost some megabytes and a second.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::dataset::Dataset;
use crate::encoded::{EncodedImages, EncodedOptions};
use crate::error::{Error, Result};

/// Folders within folders that are searched; a loop of links ends here.
const MAX_DEPTH: usize = 32;
const EXTENSIONS: [&str; 4] = ["jpeg", "jpg", "png", "webp"];

/// The image files of a folder.
#[derive(Debug)]
struct ImageFolder {
    files: Vec<PathBuf>,
}

impl EncodedImages for ImageFolder {
    fn len(&self) -> usize {
        self.files.len()
    }

    fn name(&self, index: usize) -> String {
        self.files[index].display().to_string()
    }

    fn read(&self, index: usize, bytes: &mut Vec<u8>) -> Result<()> {
        let path = &self.files[index];
        bytes.clear();
        let read = fs::File::open(path).and_then(|mut file| file.read_to_end(bytes));
        read.map(drop).map_err(|source| Error::Path { path: path.clone(), source })
    }
}

/// Images below `dir`, whose subfolders are the classes in the order of their names. Files that are not called
/// .jpg, .jpeg, .png or .webp are passed over; the contents decide how an image is decoded.
///
/// Errors: `ERR_FLATMIN_PATH` when a folder cannot be read, `ERR_FLATMIN_DATA` when there are no classes or no images.
pub fn image_folder(dir: impl AsRef<Path>, options: EncodedOptions) -> Result<Dataset> {
    let dir = dir.as_ref();
    let mut classes = Vec::new();
    for entry in entries(dir)? {
        if entry.is_dir() {
            classes.push(entry);
        }
    }
    let (mut files, mut labels) = (Vec::new(), Vec::new());
    for (label, class) in classes.iter().enumerate() {
        collect(class, MAX_DEPTH, &mut files)?;
        labels.resize(files.len(), label as u32);
    }
    if files.is_empty() {
        return Err(Error::Data(format!(
            "{} has {} subfolders and no image in any; expected one subfolder a class with .jpg, .jpeg, .png or .webp files",
            dir.display(),
            classes.len()
        )));
    }
    let names = classes.iter().filter_map(|class| class.file_name());
    let class_names = options.class_names.or_else(|| Some(names.map(|name| name.to_string_lossy().into()).collect()));
    let name = if options.name.is_empty() { "imagefolder".to_owned() } else { options.name };
    Dataset::from_encoded(ImageFolder { files }, labels, EncodedOptions { name, class_names, ..options })
}

/// Paths in a folder, sorted.
fn entries(dir: &Path) -> Result<Vec<PathBuf>> {
    let failed = |source| Error::Path { path: dir.to_path_buf(), source };
    let mut paths = Vec::new();
    for entry in fs::read_dir(dir).map_err(failed)? {
        paths.push(entry.map_err(failed)?.path());
    }
    paths.sort_unstable();
    Ok(paths)
}

fn collect(dir: &Path, depth: usize, files: &mut Vec<PathBuf>) -> Result<()> {
    for path in entries(dir)? {
        let extension = path.extension().and_then(|extension| extension.to_str());
        if extension.is_some_and(|extension| EXTENSIONS.iter().any(|known| extension.eq_ignore_ascii_case(known))) {
            files.push(path);
        } else if depth > 0 && path.is_dir() {
            collect(&path, depth - 1, files)?;
        }
    }
    Ok(())
}
