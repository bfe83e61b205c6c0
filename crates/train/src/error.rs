//! The errors of training: each names what was found, what was expected and how to mend it.

use std::path::{Path, PathBuf};

/// Anything that can go wrong between starting a run and its end.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{option} is {found}; expected {expected}")]
    Option { option: String, found: String, expected: String },
    #[error("{what} has shape {found:?}; expected {expected}")]
    Shape { what: String, found: Vec<i64>, expected: String },
    #[error("{what} has dtype {found}; expected {expected}")]
    Dtype { what: String, found: String, expected: String },
    #[error("{what}: {found}; expected {expected}")]
    Data { what: String, found: String, expected: String },
    #[error("the {what} is busy; {hint}")]
    Busy { what: &'static str, hint: &'static str },
    #[error("cannot {action} {}: {source}", path.display())]
    Io { action: &'static str, path: PathBuf, source: std::io::Error },
    #[error("the checkpoint {} cannot be used: {reason}", path.display())]
    Checkpoint { path: PathBuf, reason: String },
    #[error(
        "training diverged: {found} had a non-finite loss or gradient; lower the learning rate or rho, or lengthen the \
         warm-up"
    )]
    NonFinite { found: String },
    #[error("internal error: {0}")]
    Internal(String),
    #[error(transparent)]
    Dataset(#[from] flatmin_data::Error),
    #[error(transparent)]
    Model(#[from] flatmin_nn::Error),
    #[error(transparent)]
    Optimizer(#[from] flatmin_optim::Error),
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
            Self::Data { .. } => "ERR_FLATMIN_DATA",
            Self::Busy { .. } => "ERR_FLATMIN_BUSY",
            Self::Io { .. } => "ERR_FLATMIN_PATH",
            Self::Checkpoint { .. } => "ERR_FLATMIN_CHECKPOINT",
            Self::NonFinite { .. } => "ERR_FLATMIN_NON_FINITE",
            Self::Internal(_) => "ERR_FLATMIN_INTERNAL",
            Self::Dataset(error) => error.code(),
            Self::Model(error) => error.code(),
            Self::Optimizer(error) => error.code(),
            Self::Torch(error) => error.code(),
        }
    }

    pub fn option(option: impl Into<String>, found: impl ToString, expected: impl Into<String>) -> Self {
        Self::Option { option: option.into(), found: found.to_string(), expected: expected.into() }
    }

    pub fn shape(what: impl Into<String>, found: &[i64], expected: impl Into<String>) -> Self {
        Self::Shape { what: what.into(), found: found.to_vec(), expected: expected.into() }
    }

    pub fn data(what: impl Into<String>, found: impl ToString, expected: impl Into<String>) -> Self {
        Self::Data { what: what.into(), found: found.to_string(), expected: expected.into() }
    }

    pub fn io(action: &'static str, path: &Path, source: std::io::Error) -> Self {
        Self::Io { action, path: path.to_path_buf(), source }
    }

    pub fn checkpoint(path: &Path, reason: impl Into<String>) -> Self {
        Self::Checkpoint { path: path.to_path_buf(), reason: reason.into() }
    }
}

pub type Result<T, E = Error> = std::result::Result<T, E>;
