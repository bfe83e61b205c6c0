//! State dicts as PyTorch's `torch.save` writes them (`.pt`, `.pth`). They are pickles, a language whose programs can call
//! anything; this reader knows tensors and containers, calls nothing, and refuses every other class by its name.

mod legacy;
mod objects;
mod pickle;
mod select;
mod write;
mod zip;

use std::collections::HashMap;
use std::fs::File;
use std::path::Path;

use tch::Tensor;

use objects::{Storage, TensorView};
pub(crate) use write::write;

use crate::error::{Error, Result};

/// Why a file cannot be used, in words that follow its name.
type Reason = String;

/// Where the bytes of storages come from.
trait Storages {
    /// The values of one storage, 1-D.
    fn read(&mut self, storage: &Storage) -> std::result::Result<Tensor, Reason>;
}

/// What a file holds.
pub(crate) struct TorchFile {
    /// Views of the storages; nothing is copied, however large a stride pretends a tensor to be.
    pub tensors: Vec<(String, Tensor)>,
    /// The JSON of the model's spec, in files that this crate wrote.
    pub spec: Option<String>,
}

impl TorchFile {
    /// Reads the state dict of a file, the one under `key` if the file holds several.
    ///
    /// # Errors
    /// `ERR_FLATMIN_PATH` or `ERR_FLATMIN_FORMAT`; `ERR_FLATMIN_OPTION` for a key that does not fit.
    pub fn read(path: &Path, key: Option<&str>) -> Result<Self> {
        let format = |reason: Reason| Error::format(path, reason);
        let file = File::open(path).map_err(|error| Error::io("read", path, error))?;
        let (objects, mut storages, spec): (_, Box<dyn Storages>, _) = if is_zip(&file).map_err(format)? {
            let archive = zip::Archive::open(file).map_err(format)?;
            let (objects, archive, spec) = archive.objects().map_err(format)?;
            (objects, Box::new(archive), spec)
        } else {
            let (objects, storages) = legacy::open(file).map_err(format)?;
            (objects, Box::new(storages), None)
        };
        let mut cache = HashMap::new();
        let mut tensors = Vec::new();
        for (name, view) in select::state_dict(&objects, path, key)? {
            let tensor = tensor_of(view, storages.as_mut(), &mut cache);
            tensors.push((name.to_owned(), tensor.map_err(|reason| format(format!("'{name}': {reason}")))?));
        }
        Ok(Self { tensors, spec })
    }

    /// The spec in a file that this crate wrote, without reading tensors.
    pub fn spec(path: &Path) -> Result<Option<String>> {
        let format = |reason: Reason| Error::format(path, reason);
        let file = File::open(path).map_err(|error| Error::io("read", path, error))?;
        match is_zip(&file).map_err(format)? {
            true => zip::Archive::open(file).and_then(|mut archive| archive.spec()).map_err(format),
            false => Ok(None),
        }
    }
}

/// Whether the first bytes are those of an archive, or of a pickle of the format before PyTorch 1.6.
pub(crate) fn is_torch_file(head: &[u8]) -> bool {
    head.starts_with(zip::MAGIC) || legacy::is_magic(head)
}

fn is_zip(mut file: &File) -> std::result::Result<bool, Reason> {
    use std::io::{Read, Seek};
    let mut head = Vec::new();
    let read = file.take(4).read_to_end(&mut head).and_then(|_| file.rewind());
    read.map_err(|error| format!("it cannot be read ({error})"))?;
    Ok(head.starts_with(zip::MAGIC))
}

/// A view of its storage, which is read once however many tensors share it.
fn tensor_of(
    view: &TensorView,
    storages: &mut dyn Storages,
    cache: &mut HashMap<String, Tensor>,
) -> std::result::Result<Tensor, Reason> {
    let storage = &view.storage;
    if !cache.contains_key(&storage.key) {
        cache.insert(storage.key.clone(), storages.read(storage)?);
    }
    let values = &cache[&storage.key];
    if values.kind() != storage.kind || values.numel() as u64 != storage.len {
        return Err(format!("storage '{}' is shared by tensors that disagree about it", storage.key));
    }
    values.f_as_strided(&view.shape, &view.strides, view.offset).map_err(|error| error.to_string())
}
