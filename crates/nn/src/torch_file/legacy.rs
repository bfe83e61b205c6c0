//! The format before PyTorch 1.6: five pickles in a row (a magic number, a version, the machine, the object, the keys of
//! its storages), then each storage as its length and its numbers.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};

use tch::Tensor;

use super::objects::{Storage, storages};
use super::pickle::{self, Objects, Value, cut_off, malformed, unreadable};
use super::{Reason, Storages};

const MAGIC_NUMBER: i128 = 0x1950_a86a_20f9_469c_fc6c;
const VERSION: i128 = 1001;

/// The beginning of the first pickle: the magic number.
const MAGIC: &[u8] = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.";

pub(super) fn is_magic(head: &[u8]) -> bool {
    head.starts_with(MAGIC)
}

/// The storages of a file.
pub(super) struct Legacy {
    file: BufReader<File>,
    places: HashMap<String, Place>,
}

/// Where a storage's numbers lie.
struct Place {
    start: u64,
    bytes: u64,
}

pub(super) fn open(file: File) -> Result<(Objects, Legacy), Reason> {
    let size = file.metadata().map_err(unreadable)?.len();
    let mut file = BufReader::new(file);
    let magic = pickle::read(&mut file)?;
    let version = pickle::read(&mut file)?;
    if *magic.root() != Value::Int(MAGIC_NUMBER) || *version.root() != Value::Int(VERSION) {
        return Err("it is a pickle, but none of torch.save".into());
    }
    let machine = pickle::read(&mut file)?;
    if machine.entry(machine.root(), "little_endian") == Some(&Value::Bool(false)) {
        return Err("it was written on a big-endian machine; load and save it on a little-endian one".into());
    }
    let objects = pickle::read(&mut file)?;
    let list = pickle::read(&mut file)?;
    let Value::List(items) = list.root() else { return Err(malformed()) };
    // The file tells numbers of elements; how wide they are is known from the pickle alone.
    let widths: HashMap<&str, u64> =
        storages(&objects).map(|storage| (storage.key.as_str(), storage.kind.elt_size_in_bytes() as u64)).collect();
    let mut places = HashMap::new();
    let mut position = file.stream_position().map_err(unreadable)?;
    for &item in items {
        let Value::Text(key) = list.get(item) else { return Err(malformed()) };
        let width = widths.get(key.as_str()).ok_or_else(malformed)?;
        let mut len = [0; 8];
        file.read_exact(&mut len).map_err(unreadable)?;
        let start = position + 8;
        let bytes = u64::from_le_bytes(len).checked_mul(*width).filter(|bytes| *bytes <= size.saturating_sub(start));
        let bytes = bytes.ok_or_else(cut_off)?;
        places.insert(key.clone(), Place { start, bytes });
        position = start + bytes;
        file.seek(SeekFrom::Start(position)).map_err(unreadable)?;
    }
    drop(widths);
    Ok((objects, Legacy { file, places }))
}

impl Storages for Legacy {
    fn read(&mut self, storage: &Storage) -> Result<Tensor, Reason> {
        let Storage { key, kind, len, .. } = storage;
        let &Place { start, bytes } = self.places.get(key).ok_or_else(|| format!("it lacks the storage '{key}'"))?;
        if len.checked_mul(kind.elt_size_in_bytes() as u64) != Some(bytes) {
            return Err(format!("storage '{key}' has {bytes} bytes; expected those of {len} numbers of {kind:?}"));
        }
        self.file.seek(SeekFrom::Start(start)).map_err(unreadable)?;
        // `open` found it within the file.
        let mut values = vec![0; bytes as usize];
        self.file.read_exact(&mut values).map_err(unreadable)?;
        Tensor::f_from_data_size(&values, &[*len as i64], *kind).map_err(|error| error.to_string())
    }
}
