//! The one error of this crate: libtorch or the CUDA library refused an operation.

use std::ffi::{CStr, c_char};
use std::path::PathBuf;

use crate::ffi;

/// What libtorch answered, through tch, the shim or the CUDA library.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("libtorch: {0}")]
    Torch(#[from] tch::TchError),
    #[error("libtorch: {0}")]
    Shim(String),
    /// A call into the CUDA library failed: no driver, no memory, a launch that CUDA refused.
    #[error("CUDA: {0}")]
    Cuda(String),
    #[error("{}: {problem}", path.display())]
    Library { path: PathBuf, problem: String },
    #[error("{what}: found {found}, expected {expected}")]
    Argument { what: &'static str, found: String, expected: String },
}

impl Error {
    /// The code that users see.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Torch(_) | Self::Shim(_) | Self::Argument { .. } => "ERR_FLATMIN_TORCH",
            Self::Cuda(_) | Self::Library { .. } => "ERR_FLATMIN_DEVICE",
        }
    }
}

pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Takes over an error text that the shim returned; null means success.
pub(crate) fn check(error: *mut c_char) -> Result<()> {
    if error.is_null() {
        return Ok(());
    }
    // SAFETY: the shim hands over a NUL-terminated string made by strdup, freed here exactly once.
    let text = unsafe { CStr::from_ptr(error) }.to_string_lossy().into_owned();
    unsafe { ffi::flatmin_free_error(error) };
    Err(Error::Shim(text))
}
