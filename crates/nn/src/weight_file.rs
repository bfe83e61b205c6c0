//! Models as files: safetensors, with the spec (class names, input size and normalisation included) as metadata, or
//! PyTorch's `.pt`. Files appear whole or not at all: temporary name, sync, rename.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::Path;

use safetensors::SafeTensors;
use safetensors::tensor::{Dtype as FileDtype, TensorView};
use tch::{Kind, Tensor};

use crate::dtype::Dtype;
use crate::error::{Error, Result};
use crate::load_options::LoadOptions;
use crate::model::Model;
use crate::spec::ModelSpec;
use crate::state_dict::LoadReport;
use crate::torch_file::{self, TorchFile};

/// The metadata key under which a file carries the JSON of its model's spec.
pub const SPEC_KEY: &str = "flatmin";

impl Model {
    /// Writes weights, statistics and spec: a state dict for `torch.load` if the name ends with `.pt` or `.pth`, else
    /// safetensors. A TorchScript model becomes TorchScript again under `.pt`, and weights without a spec under other
    /// names. A file that is already there is replaced at the end, in one step.
    ///
    /// # Errors
    /// `ERR_FLATMIN_PATH`; an old file is then as it was.
    pub fn save(&self, path: &Path) -> Result<()> {
        let tensors = self.state_dict()?;
        let spec = self.script().is_none().then(|| self.spec().to_json()).transpose()?;
        let written = match self.script().filter(|_| is_torch_name(path)) {
            Some(script) => {
                let bytes = payload(&script.bytes(self.parameters(), self.buffers())?)?;
                write_whole(path, |file| file.write_all(&bytes))
            }
            None if is_torch_name(path) => {
                write_whole(path, |file| torch_file::write(file, &tensors, spec.as_deref(), payload))
            }
            None => {
                let bytes = safetensors(path, &tensors, spec)?;
                write_whole(path, |file| file.write_all(&bytes))
            }
        };
        written.map_err(|error| Error::io("write", path, error))
    }

    /// Reads a model that [`Self::save`] wrote. `dtype` is the file's unless given.
    ///
    /// # Errors
    /// `ERR_FLATMIN_PATH` if it cannot be read, `ERR_FLATMIN_FORMAT` if it is damaged or carries no spec.
    pub fn load(path: &Path, dtype: Option<Dtype>) -> Result<Self> {
        let contents = Contents::read(path, None)?;
        let Some(json) = contents.spec else {
            let reason = format!(
                "it holds weights without a model (no '{SPEC_KEY}' metadata); build the model first and load the weights into it"
            );
            return Err(Error::format(path, reason));
        };
        let spec = ModelSpec::from_json(&json).map_err(|error| Error::format(path, error.to_string()))?;
        let double = contents.tensors.iter().any(|(_, tensor)| tensor.kind() == Kind::Double);
        let stored = if double { Dtype::Float64 } else { Dtype::Float32 };
        let mut model = Self::without_values(spec, dtype.unwrap_or(stored))?;
        model.load_state_dict(contents.tensors, true)?;
        Ok(model)
    }

    /// The spec in a file that [`Self::save`] wrote, without its weights; None in files of other programs.
    ///
    /// # Errors
    /// `ERR_FLATMIN_PATH` or `ERR_FLATMIN_FORMAT`.
    pub fn spec_in(path: &Path) -> Result<Option<ModelSpec>> {
        let json = if is_torch_file(path)? { TorchFile::spec(path)? } else { Contents::read(path, None)?.spec };
        json.map(|json| ModelSpec::from_json(&json)).transpose().map_err(|error| Error::format(path, error.to_string()))
    }

    /// As [`Self::load_weights_with`], with all other options at their defaults.
    ///
    /// # Errors
    /// As there.
    pub fn load_weights(&mut self, path: &Path, strict: bool) -> Result<LoadReport> {
        self.load_weights_with(path, &LoadOptions { strict, ..LoadOptions::default() })
    }

    /// Reads the weights and statistics of any safetensors file, or any state dict of `torch.save`, as
    /// [`Self::load_state_dict_with`]; the model keeps its spec, class names and normalisation.
    ///
    /// # Errors
    /// If the file cannot be read, is damaged or does not fit; the model is then untouched.
    pub fn load_weights_with(&mut self, path: &Path, options: &LoadOptions) -> Result<LoadReport> {
        self.load_state_dict_with(Contents::read(path, options.key.as_deref())?.tensors, options)
    }
}

/// What a file holds.
struct Contents {
    tensors: Vec<(String, Tensor)>,
    spec: Option<String>,
}

impl Contents {
    fn read(path: &Path, key: Option<&str>) -> Result<Self> {
        if is_torch_file(path)? {
            let TorchFile { tensors, spec } = TorchFile::read(path, key)?;
            return Ok(Self { tensors, spec });
        }
        if let Some(key) = key {
            return Err(Error::option("key", format!("'{key}'"), "none: a safetensors file has one state dict"));
        }
        let bytes = fs::read(path).map_err(|error| Error::io("read", path, error))?;
        let damaged = |error: safetensors::SafeTensorError| {
            let reason = format!(
                "it has {} bytes that are neither a whole safetensors file ({error}) nor one of torch.save",
                bytes.len()
            );
            Error::format(path, reason)
        };
        let (_, metadata) = SafeTensors::read_metadata(&bytes).map_err(damaged)?;
        let spec = metadata.metadata().as_ref().and_then(|entries| entries.get(SPEC_KEY)).cloned();
        let file = SafeTensors::deserialize(&bytes).map_err(damaged)?;
        let mut tensors = file.tensors();
        tensors.sort_by(|a, b| a.0.cmp(&b.0));
        let tensors = tensors.into_iter().map(|(name, view)| Ok((name.clone(), tensor_of(&name, &view)?)));
        Ok(Self { tensors: tensors.collect::<Result<_>>()?, spec })
    }
}

/// By content: weights travel under many names.
fn is_torch_file(path: &Path) -> Result<bool> {
    let mut head = Vec::new();
    let read = File::open(path).and_then(|file| file.take(16).read_to_end(&mut head));
    read.map_err(|error| Error::io("read", path, error))?;
    Ok(torch_file::is_torch_file(&head))
}

fn is_torch_name(path: &Path) -> bool {
    path.extension().is_some_and(|extension| ["pt", "pth"].iter().any(|known| extension.eq_ignore_ascii_case(known)))
}

fn safetensors(path: &Path, tensors: &[(String, Tensor)], spec: Option<String>) -> Result<Vec<u8>> {
    let payloads = tensors.iter().map(|(_, tensor)| Ok(payload(tensor)?)).collect::<Result<Vec<_>>>()?;
    let unwritable = |error: safetensors::SafeTensorError| Error::format(path, error.to_string());
    let mut views = Vec::with_capacity(tensors.len());
    for ((name, tensor), bytes) in tensors.iter().zip(&payloads) {
        let shape = tensor.size().iter().map(|&size| size as usize).collect();
        let dtype = file_dtype(tensor.kind()).ok_or_else(|| Error::dtype(name, tensor.kind(), "a dtype of models"))?;
        views.push((name, TensorView::new(dtype, shape, bytes).map_err(unwritable)?));
    }
    let metadata = spec.map(|spec| HashMap::from([(SPEC_KEY.to_owned(), spec)]));
    safetensors::serialize(views, metadata).map_err(unwritable)
}

fn tensor_of(name: &str, view: &TensorView) -> Result<Tensor> {
    let kind = match view.dtype() {
        FileDtype::F64 => Kind::Double,
        FileDtype::F32 => Kind::Float,
        FileDtype::F16 => Kind::Half,
        FileDtype::BF16 => Kind::BFloat16,
        FileDtype::I64 => Kind::Int64,
        FileDtype::I32 => Kind::Int,
        other => {
            return Err(Error::dtype(
                format!("'{name}'"),
                other,
                "float16, bfloat16, float32, float64, int32 or int64",
            ));
        }
    };
    let shape: Vec<i64> = view.shape().iter().map(|&size| size as i64).collect();
    Ok(Tensor::f_from_data_size(view.data(), &shape, kind)?)
}

fn file_dtype(kind: Kind) -> Option<FileDtype> {
    match kind {
        Kind::Float => Some(FileDtype::F32),
        Kind::Double => Some(FileDtype::F64),
        Kind::Int64 => Some(FileDtype::I64),
        _ => None,
    }
}

/// The bytes of a contiguous tensor.
pub(crate) fn payload(tensor: &Tensor) -> Result<Vec<u8>, tch::TchError> {
    let mut bytes = vec![0; tensor.numel() * tensor.kind().elt_size_in_bytes()];
    tensor.f_copy_data_u8(&mut bytes, tensor.numel())?;
    Ok(bytes)
}

pub(crate) fn write_whole(path: &Path, write: impl FnOnce(&mut File) -> std::io::Result<()>) -> std::io::Result<()> {
    let folder = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut builder = tempfile::Builder::new();
    // A temporary file is for its owner alone unless told otherwise; a saved model is an ordinary file.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let mut file = builder.prefix(".flatmin-").tempfile_in(folder)?;
    write(file.as_file_mut())?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    // The rename is safe from a power cut once the folder is on disk; some file systems cannot sync folders.
    let _ = File::open(folder).and_then(|folder| folder.sync_all());
    Ok(())
}
