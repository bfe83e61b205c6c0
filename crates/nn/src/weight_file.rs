//! Models as safetensors files: tensors with PyTorch's names, and the spec (with class names, input size and
//! normalisation) as metadata. Files appear whole or not at all: temporary name, sync, rename.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use safetensors::SafeTensors;
use safetensors::tensor::{Dtype as FileDtype, TensorView};
use tch::{Kind, Tensor};

use crate::dtype::Dtype;
use crate::error::{Error, Result};
use crate::model::Model;
use crate::spec::ModelSpec;
use crate::state_dict::LoadReport;

/// The metadata key under which a file carries the JSON of its model's spec.
pub const SPEC_KEY: &str = "flatmin";

impl Model {
    /// Writes weights, statistics and spec. A file that is already there is replaced at the end, in one step.
    ///
    /// # Errors
    /// `ERR_FLATMIN_PATH`; an old file is then as it was.
    pub fn save(&self, path: &Path) -> Result<()> {
        let tensors = self.state_dict()?;
        let payloads = tensors.iter().map(|(_, tensor)| payload(tensor)).collect::<Result<Vec<_>>>()?;
        let unwritable = |error: safetensors::SafeTensorError| Error::format(path, error.to_string());
        let mut views = Vec::with_capacity(tensors.len());
        for ((name, tensor), bytes) in tensors.iter().zip(&payloads) {
            let shape = tensor.size().iter().map(|&size| size as usize).collect();
            let dtype =
                file_dtype(tensor.kind()).ok_or_else(|| Error::dtype(name, tensor.kind(), "a dtype of models"))?;
            views.push((name, TensorView::new(dtype, shape, bytes).map_err(unwritable)?));
        }
        let metadata = HashMap::from([(SPEC_KEY.to_owned(), self.spec().to_json()?)]);
        let bytes = safetensors::serialize(views, Some(metadata)).map_err(unwritable)?;
        write_whole(path, &bytes).map_err(|error| Error::io("write", path, error))
    }

    /// Reads a model that [`Self::save`] wrote. `dtype` is the file's unless given.
    ///
    /// # Errors
    /// `ERR_FLATMIN_PATH` if it cannot be read, `ERR_FLATMIN_FORMAT` if it is damaged or carries no spec.
    pub fn load(path: &Path, dtype: Option<Dtype>) -> Result<Self> {
        let contents = Contents::read(path)?;
        let Some(json) = contents.spec else {
            let reason = format!(
                "it holds weights without a model (no metadata '{SPEC_KEY}'); build the model first and load the weights into it"
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

    /// Reads the weights and statistics of any safetensors file with PyTorch's names, as [`Self::load_state_dict`]; the
    /// model keeps its spec, class names and normalisation.
    ///
    /// # Errors
    /// If the file cannot be read, is damaged or does not fit; the model is then untouched.
    pub fn load_weights(&mut self, path: &Path, strict: bool) -> Result<LoadReport> {
        self.load_state_dict(Contents::read(path)?.tensors, strict)
    }
}

/// What a file holds.
struct Contents {
    tensors: Vec<(String, Tensor)>,
    spec: Option<String>,
}

impl Contents {
    fn read(path: &Path) -> Result<Self> {
        let bytes = fs::read(path).map_err(|error| Error::io("read", path, error))?;
        let damaged = |error: safetensors::SafeTensorError| {
            let reason = format!("it has {} bytes that are no whole safetensors file ({error})", bytes.len());
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
fn payload(tensor: &Tensor) -> Result<Vec<u8>> {
    let mut bytes = vec![0; tensor.numel() * tensor.kind().elt_size_in_bytes()];
    tensor.f_copy_data_u8(&mut bytes, tensor.numel())?;
    Ok(bytes)
}

fn write_whole(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let folder = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut builder = tempfile::Builder::new();
    // A temporary file is for its owner alone unless told otherwise; a saved model is an ordinary file.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let mut file = builder.prefix(".flatmin-").tempfile_in(folder)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    // The rename is safe from a power cut once the folder is on disk; some file systems cannot sync folders.
    let _ = File::open(folder).and_then(|folder| folder.sync_all());
    Ok(())
}
