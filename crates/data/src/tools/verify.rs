//! Checks packed shards: that they are all there, that their bytes are those that were written, that every image decodes.

use std::fs::File;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::manifest::{MANIFEST, Manifest, Shard};
use super::{Messages, Watch, advance, atomic, decode};
use crate::encoded::EncodedOptions;
use crate::error::{Error, Result};
use crate::ordered::Ordered;
use crate::sources::{index_path, samples, scan, webdataset};

/// What was found in a folder of shards.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Verification {
    /// Shards that were looked at.
    pub shards: usize,
    /// Images that decoded.
    pub images: usize,
    pub fault_count: usize,
    /// What is wrong; the first 1,000.
    pub faults: Vec<String>,
}

/// Checks the shards of `dir` by its `shards.json`; what is wrong with them is counted and no error.
///
/// Errors: `ERR_FLATMIN_PATH` when there is no manifest, `ERR_FLATMIN_FORMAT` when it is damaged.
pub fn verify(dir: &Path, threads: usize, watch: Watch<'_>) -> Result<Verification> {
    let manifest = Manifest::read(dir)?.ok_or_else(|| {
        let source = std::io::Error::new(
            std::io::ErrorKind::NotFound,
            "no manifest: these are no shards of 'flatmin data pack'",
        );
        Error::Path { path: dir.join(MANIFEST), source }
    })?;
    let mut faults = Messages::default();
    if !manifest.complete() {
        let Manifest { shards, total_shards, .. } = &manifest;
        faults.add(format!("{} of {total_shards} shards are packed; run the same 'data pack' again", shards.len()));
    }
    let total = manifest.shards.len();
    let (dir, shards) = (dir.to_path_buf(), manifest.shards);
    let make = move |number: usize| check(&dir, &shards[number]);
    let mut checks = Ordered::shared(0..total, threads.max(1), threads.max(1), make)?;
    let mut images = 0;
    for number in 0..total {
        let found = checks.receive()?;
        images += found.images;
        found.faults.into_iter().for_each(|fault| faults.add(fault));
        advance(watch, number + 1, total)?;
    }
    Ok(Verification { shards: total, images, fault_count: faults.count, faults: faults.kept })
}

#[derive(Default)]
struct Check {
    images: usize,
    faults: Vec<String>,
}

fn check(dir: &Path, shard: &Shard) -> Check {
    let mut check = Check::default();
    let path = dir.join(&shard.file);
    if let Err(fault) = check_sum(&path, shard) {
        check.faults.push(fault);
        return check;
    }
    if let Err(error) = decode_all(path.clone(), &mut check) {
        check.faults.push(error.to_string());
    }
    if scan(&path).ok() != samples(&path).ok() {
        check.faults.push(format!("{} does not belong to its shard", index_path(&path).display()));
    }
    if check.images + check.faults.len() < shard.samples {
        check.faults.push(format!("{} holds {} images; expected {}", shard.file, check.images, shard.samples));
    }
    check
}

fn check_sum(path: &Path, shard: &Shard) -> std::result::Result<(), String> {
    let found = File::open(path).and_then(atomic::sum).map_err(|error| format!("{}: {error}", path.display()))?;
    match found == (shard.bytes, shard.sha256.clone()) {
        true => Ok(()),
        false => Err(format!(
            "{}: {} bytes with SHA-256 {}; expected {} bytes with {}",
            path.display(),
            found.0,
            found.1,
            shard.bytes,
            shard.sha256
        )),
    }
}

fn decode_all(path: PathBuf, check: &mut Check) -> Result<()> {
    let set = webdataset(vec![path], EncodedOptions::default())?;
    let mut bytes = Vec::new();
    for index in 0..set.len() {
        let name = set.image_name(index)?.unwrap_or_default();
        let decoded = set.read_encoded(index, &mut bytes).and_then(|()| decode(&bytes, &name));
        match decoded {
            Ok(_) => check.images += 1,
            Err(error) => check.faults.push(error.to_string()),
        }
    }
    Ok(())
}
