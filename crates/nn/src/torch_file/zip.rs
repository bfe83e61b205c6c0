//! The format of PyTorch 1.6 and later: a zip archive with one pickle and one uncompressed entry a storage. Entries that
//! are compressed or overlap are refused, so memory is bounded by the size of the file.

use std::fs::File;
use std::io::{BufReader, Read};

use tch::Tensor;
use zip::{CompressionMethod, ZipArchive, result::ZipError};

use super::objects::Storage;
use super::pickle::{self, Objects, unreadable};
use super::{Reason, Storages};

pub(super) const MAGIC: &[u8] = b"PK\x03\x04";

/// The entry, beside PyTorch's own, that carries the JSON of a model's spec.
pub(super) const SPEC_ENTRY: &str = "flatmin.json";

const PICKLE_ENTRY: &str = "data.pkl";

pub(super) struct Archive {
    zip: ZipArchive<BufReader<File>>,
    /// The folder in the archive that holds everything, with its slash.
    root: String,
}

impl Archive {
    pub fn open(file: File) -> Result<Self, Reason> {
        let mut zip = ZipArchive::new(BufReader::new(file)).map_err(damaged)?;
        if zip.has_overlapping_entries().map_err(damaged)? {
            return Err("entries of its zip archive overlap: PyTorch writes no such files".into());
        }
        let names = zip.file_names().map(|name| name.map(Into::into)).collect::<Result<Vec<String>, _>>();
        let names = names.map_err(damaged)?;
        if names.iter().any(|name| name.ends_with("/constants.pkl")) {
            return Err("it is a TorchScript file: open it with Model.fromTorchScript".into());
        }
        let root = names.iter().find_map(|name| name.strip_suffix(PICKLE_ENTRY).filter(|root| root.ends_with('/')));
        let root = root.ok_or("it is a zip archive without a data.pkl: not PyTorch's")?.to_owned();
        let mut archive = Self { zip, root };
        if archive.has("byteorder") && archive.text("byteorder")? != "little" {
            return Err("it was written on a big-endian machine; load and save it on a little-endian one".into());
        }
        Ok(archive)
    }

    /// The pickle, the archive for its storages, and the spec if there is one.
    pub fn objects(mut self) -> Result<(Objects, Self, Option<String>), Reason> {
        let objects = pickle::read(&mut self.entry(PICKLE_ENTRY)?)?;
        let spec = self.spec()?;
        Ok((objects, self, spec))
    }

    pub fn spec(&mut self) -> Result<Option<String>, Reason> {
        self.has(SPEC_ENTRY).then(|| self.text(SPEC_ENTRY)).transpose()
    }

    fn has(&self, name: &str) -> bool {
        self.zip.index_for_name(&format!("{}{name}", self.root)).is_some()
    }

    fn text(&mut self, name: &str) -> Result<String, Reason> {
        let mut text = String::new();
        self.entry(name)?.read_to_string(&mut text).map_err(unreadable)?;
        Ok(text)
    }

    fn entry(&mut self, name: &str) -> Result<impl Read + '_, Reason> {
        let name = format!("{}{name}", self.root);
        let entry = self.zip.by_name(&name).map_err(|error| match error {
            ZipError::FileNotFound => format!("its zip archive lacks the entry '{name}'"),
            other => damaged(other),
        })?;
        if entry.compression() != CompressionMethod::Stored || entry.encrypted() {
            let method = entry.compression();
            return Err(format!("its entry '{name}' is compressed ({method}); PyTorch stores entries as they are"));
        }
        Ok(entry)
    }
}

impl Storages for Archive {
    fn read(&mut self, storage: &Storage) -> Result<Tensor, Reason> {
        let Storage { key, kind, len, .. } = storage;
        let mut bytes = Vec::new();
        self.entry(&format!("data/{key}"))?.read_to_end(&mut bytes).map_err(unreadable)?;
        if len.checked_mul(kind.elt_size_in_bytes() as u64) != Some(bytes.len() as u64) {
            let found = bytes.len();
            return Err(format!("storage '{key}' has {found} bytes; expected those of {len} numbers of {kind:?}"));
        }
        Tensor::f_from_data_size(&bytes, &[*len as i64], *kind).map_err(|error| error.to_string())
    }
}

fn damaged(error: ZipError) -> Reason {
    format!("its zip archive is damaged or cut off ({error})")
}
