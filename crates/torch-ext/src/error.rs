//! The one error of this crate: libtorch refused an operation.

use std::ffi::{CStr, c_char};

use crate::ffi;

/// What libtorch answered, through tch or through the shim.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("libtorch: {0}")]
    Torch(#[from] tch::TchError),
    #[error("libtorch: {0}")]
    Shim(String),
}

impl Error {
    /// The code that users see.
    pub fn code(&self) -> &'static str {
        "ERR_FLATMIN_TORCH"
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
