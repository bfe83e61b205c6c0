//! The errors of models: each names what was found, what was expected and how to mend it.

use std::path::{Path, PathBuf};

use tch::Device;

use crate::engine::device_name;

/// Anything that can go wrong when a model is built, run, saved or loaded.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{option} is {found}; expected {expected}")]
    Option { option: String, found: String, expected: String },
    #[error("{what} has shape {found:?}; expected {expected}")]
    Shape { what: String, found: Vec<i64>, expected: String },
    #[error("{what} has dtype {found}; expected {expected}")]
    Dtype { what: String, found: String, expected: String },
    #[error("{what} is on {found}; expected {expected}")]
    Device { what: String, found: String, expected: String },
    #[error("there is no {what} named '{found}'; {expected}")]
    Name { what: String, found: String, expected: String },
    #[error("cannot {action} {}: {source}", path.display())]
    Io { action: &'static str, path: PathBuf, source: std::io::Error },
    #[error("{} is not usable: {reason}", path.display())]
    Format { path: PathBuf, reason: String },
    #[error(transparent)]
    Torch(#[from] flatmin_torch_ext::Error),
}

impl From<tch::TchError> for Error {
    fn from(error: tch::TchError) -> Self {
        Self::Torch(error.into())
    }
}

impl Error {
    /// The code that users see.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Option { .. } => "ERR_FLATMIN_OPTION",
            Self::Shape { .. } => "ERR_FLATMIN_SHAPE",
            Self::Dtype { .. } => "ERR_FLATMIN_DTYPE",
            Self::Device { .. } => "ERR_FLATMIN_DEVICE",
            Self::Name { .. } => "ERR_FLATMIN_NAME",
            Self::Io { .. } => "ERR_FLATMIN_PATH",
            Self::Format { .. } => "ERR_FLATMIN_FORMAT",
            Self::Torch(error) => error.code(),
        }
    }

    pub fn option(option: impl Into<String>, found: impl ToString, expected: impl Into<String>) -> Self {
        Self::Option { option: option.into(), found: found.to_string(), expected: expected.into() }
    }

    pub fn shape(what: impl Into<String>, found: &[i64], expected: impl Into<String>) -> Self {
        Self::Shape { what: what.into(), found: found.to_vec(), expected: expected.into() }
    }

    pub fn dtype(what: impl Into<String>, found: impl std::fmt::Debug, expected: impl Into<String>) -> Self {
        Self::Dtype { what: what.into(), found: format!("{found:?}"), expected: expected.into() }
    }

    pub fn device(what: impl Into<String>, found: Device, expected: impl Into<String>) -> Self {
        Self::Device { what: what.into(), found: device_name(found), expected: expected.into() }
    }

    pub fn io(action: &'static str, path: &Path, source: std::io::Error) -> Self {
        Self::Io { action, path: path.to_path_buf(), source }
    }

    pub fn format(path: &Path, reason: impl Into<String>) -> Self {
        Self::Format { path: path.to_path_buf(), reason: reason.into() }
    }
}

pub type Result<T, E = Error> = std::result::Result<T, E>;
