//! The one error type of this crate. Each variant names what was found, what was expected and how
//! to put it right, and has a code that stays the same across versions.

use std::io;
use std::path::PathBuf;

pub type Result<T> = std::result::Result<T, Error>;

/// Why data could not be read, built or loaded.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An option out of its range.
    #[error("{option} is {found}; expected {expected}")]
    Option { option: &'static str, found: String, expected: String },
    /// Arrays whose lengths or shapes do not fit together.
    #[error("{what}: got {found}; expected {expected}")]
    Shape { what: &'static str, found: String, expected: String },
    /// A file or folder that is missing or cannot be read.
    #[error("cannot read {}: {source}. Check that the path exists and may be read", path.display())]
    Path { path: PathBuf, source: io::Error },
    /// A file or folder that cannot be written.
    #[error("cannot write {}: {source}. Check the folder, its permissions and the space on the disk", path.display())]
    Write { path: PathBuf, source: io::Error },
    /// A data set whose files were not found.
    #[error(
        "{set} was not found. Searched: {}. Missing: {}. {fix}",
        searched.iter().map(|p| p.display().to_string()).collect::<Vec<_>>().join(", "),
        missing.join(", ")
    )]
    MissingSet { set: &'static str, searched: Vec<PathBuf>, missing: Vec<String>, fix: String },
    /// A file that is there but is not what it should be.
    #[error("{file} is damaged: {found}; expected {expected}. {fix}")]
    Format { file: String, found: String, expected: String, fix: String },
    /// An image that no decoder could read.
    #[error("{image} cannot be decoded: {message}. Readable are PNG, JPEG and WebP images")]
    Image { image: String, message: String },
    /// Values that make no data set: labels out of range, pixels that are no numbers, no images.
    #[error("{0}")]
    Data(String),
    /// Work that was stopped because its caller asked for it.
    #[error("stopped before the end")]
    Stopped,
    /// A loader thread that could not be started.
    #[error("a loader thread could not be started: {0}. Use fewer loader threads")]
    Thread(io::Error),
    /// A loader thread that ended before its work was done: a fault of this library.
    #[error("a loader thread ended before batch {0} was ready: this is a fault of flatmin")]
    Worker(usize),
}

impl Error {
    /// The stable code of this error, `ERR_FLATMIN_...`.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Option { .. } => "ERR_FLATMIN_OPTION",
            Self::Shape { .. } => "ERR_FLATMIN_SHAPE",
            Self::Path { .. } | Self::Write { .. } | Self::MissingSet { .. } => "ERR_FLATMIN_PATH",
            Self::Format { .. } | Self::Image { .. } => "ERR_FLATMIN_FORMAT",
            Self::Data(_) | Self::Stopped => "ERR_FLATMIN_DATA",
            Self::Thread(_) | Self::Worker(_) => "ERR_FLATMIN_INTERNAL",
        }
    }

    pub(crate) fn option(option: &'static str, found: impl ToString, expected: impl Into<String>) -> Self {
        Self::Option { option, found: found.to_string(), expected: expected.into() }
    }
}
