//! WebDataset shards: `.tar` files whose members `key.jpg` and `key.cls` (or `key.json`) are one sample. They are indexed
//! by their headers once, and then read by position, so any order costs the same as in a folder.

use std::fs::{self, File};
use std::io::{Read, Seek};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

use super::shard_index::{self, Indexed};
use crate::dataset::Dataset;
use crate::encoded::{EncodedImages, EncodedOptions};
use crate::error::{Error, Result};
use crate::formats::Fault;
use crate::ordered::Ordered;

/// One name a line, beside the shards.
pub(crate) const CLASS_FILE: &str = "classes.txt";
pub(crate) const FIX: &str = "Pack or download it again, or leave it out";

/// Where one image lies.
#[derive(Debug)]
struct Sample {
    shard: u32,
    bytes: u32,
    offset: u64,
    /// Name of the image's member.
    member: Box<str>,
}

#[derive(Debug)]
struct Shards {
    paths: Arc<[PathBuf]>,
    samples: Vec<Sample>,
}

impl EncodedImages for Shards {
    fn len(&self) -> usize {
        self.samples.len()
    }

    fn name(&self, index: usize) -> String {
        let Sample { shard, member, .. } = &self.samples[index];
        format!("{}/{member}", self.paths[*shard as usize].display())
    }

    fn read(&self, index: usize, bytes: &mut Vec<u8>) -> Result<()> {
        let Sample { shard, bytes: length, offset, .. } = self.samples[index];
        let path = &self.paths[shard as usize];
        bytes.clear();
        let read = File::open(path).and_then(|mut file| {
            file.seek(std::io::SeekFrom::Start(offset))?;
            file.take(u64::from(length)).read_to_end(bytes)
        });
        match read {
            Ok(count) if count == length as usize => Ok(()),
            Ok(_) => Err(Fault::from(std::io::Error::from(std::io::ErrorKind::UnexpectedEof)).at(path, FIX)),
            Err(source) => Err(Error::Path { path: path.clone(), source }),
        }
    }
}

/// A set from shards, in their order. Class names come from `classes.txt` beside the first shard where there is one.
///
/// Errors: `ERR_FLATMIN_PATH` when a shard cannot be read, `ERR_FLATMIN_FORMAT` when one is damaged or has a sample
/// without a label, `ERR_FLATMIN_DATA` when there are no images.
pub fn webdataset(paths: Vec<PathBuf>, options: EncodedOptions) -> Result<Dataset> {
    let paths: Arc<[PathBuf]> = paths.into();
    let (mut samples, mut labels) = (Vec::new(), Vec::new());
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let shared = Arc::clone(&paths);
    let make = move |shard: usize| shard_index::samples(&shared[shard]);
    let mut indexes = Ordered::shared(0..paths.len(), threads, threads, make)?;
    for shard in 0..paths.len() {
        for Indexed { offset, bytes, label, member } in indexes.receive()?? {
            labels.push(label);
            samples.push(Sample { shard: shard as u32, bytes, offset, member });
        }
    }
    if samples.is_empty() {
        let found =
            paths.first().map_or_else(|| "there are no shards".to_owned(), |path| format!("{} ...", path.display()));
        return Err(Error::Data(format!(
            "no image in the shards ({found}); expected members called key.jpg and key.cls"
        )));
    }
    let beside = paths.first().and_then(|path| path.parent()).map(|folder| folder.join(CLASS_FILE));
    let class_names = match (options.class_names, beside.filter(|file| file.exists())) {
        (None, Some(file)) => Some(read_class_names(&file)?),
        (given, _) => given,
    };
    let name = if options.name.is_empty() { "webdataset".to_owned() } else { options.name };
    Dataset::from_encoded(Shards { paths, samples }, labels, EncodedOptions { name, class_names, ..options })
}

fn read_class_names(file: &Path) -> Result<Vec<String>> {
    let text = fs::read_to_string(file).map_err(|source| Error::Path { path: file.to_path_buf(), source })?;
    Ok(text.lines().map(str::to_owned).collect())
}
