//! `shards.json`: what lies in a folder of packed shards, with checksums. It is written anew after each shard, so a pack
//! that was interrupted goes on where it was.

use std::fs;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::atomic;
use super::pack::PackOptions;
use crate::error::{Error, Result};

/// Name of the manifest in its folder.
pub const MANIFEST: &str = "shards.json";
const FORMAT: &str = "flatmin-shards-1";

/// One finished shard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shard {
    /// Name of the file in the folder of the manifest.
    pub file: String,
    pub samples: usize,
    pub bytes: u64,
    /// Of the file, 64 hexadecimal digits.
    pub sha256: String,
}

/// Contents of a folder of shards.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    format: String,
    /// Name of the set that was packed.
    pub name: String,
    /// SHA-256 sum of the names and labels of its images.
    pub(crate) source: String,
    pub options: PackOptions,
    /// Images of the set.
    pub images: usize,
    /// Shards that the whole set makes.
    pub total_shards: usize,
    /// Finished ones.
    pub shards: Vec<Shard>,
    /// Images that could not be decoded and were left out, each with what was wrong.
    pub left_out: Vec<String>,
}

impl Manifest {
    pub(crate) fn new(name: &str, source: String, options: PackOptions, images: usize) -> Self {
        let total_shards = images.div_ceil(options.samples_per_shard);
        let [format, name] = [FORMAT, name].map(str::to_owned);
        Self { format, name, source, options, images, total_shards, shards: Vec::new(), left_out: Vec::new() }
    }

    /// Whether it is of the same images and options as `new`, which has no shards yet.
    pub(crate) fn continues(&self, new: &Self) -> bool {
        Self { shards: Vec::new(), left_out: Vec::new(), ..self.clone() } == *new
    }

    /// Whether all shards are there.
    pub fn complete(&self) -> bool {
        self.shards.len() == self.total_shards
    }

    /// The manifest of a folder; `None` when it has none.
    pub(crate) fn read(dir: &Path) -> Result<Option<Self>> {
        let path = dir.join(MANIFEST);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(Error::Path { path, source }),
        };
        let damaged = |found: String| Error::Format {
            file: path.display().to_string(),
            found,
            expected: format!("the manifest that 'flatmin data pack' writes ({FORMAT})"),
            fix: "Pack again into an empty folder".to_owned(),
        };
        let manifest: Self = serde_json::from_slice(&bytes).map_err(|error| damaged(error.to_string()))?;
        let plain = |shard: &Shard| Path::new(&shard.file).file_name().is_some_and(|name| name == shard.file.as_str());
        if manifest.format != FORMAT || manifest.options.samples_per_shard == 0 || !manifest.shards.iter().all(plain) {
            return Err(damaged(format!("format {:?}", manifest.format)));
        }
        Ok(Some(manifest))
    }

    pub(crate) fn write(&self, dir: &Path) -> Result<()> {
        let path = dir.join(MANIFEST);
        let text = serde_json::to_vec_pretty(self);
        let text = text.map_err(|error| atomic::cannot_write(&path, io::Error::other(error)))?;
        atomic::write(&path, &text)
    }
}
