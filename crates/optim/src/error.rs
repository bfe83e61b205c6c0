//! The errors of optimizers and of a training step.

/// Anything that can go wrong when an optimizer is made or stepped.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{option} is {found}; expected {expected}")]
    Option { option: String, found: String, expected: String },
    #[error("{step} was called {found}; {expected}")]
    StepOrder { step: &'static str, found: &'static str, expected: &'static str },
    #[error("{what} has shape {found:?}; expected {expected}")]
    Shape { what: &'static str, found: Vec<i64>, expected: String },
    #[error("{what}: {reason}")]
    Data { what: &'static str, reason: String },
    #[error("optimizer state '{name}' {reason}; it belongs to another model or optimizer")]
    State { name: String, reason: String },
    #[error(transparent)]
    Model(#[from] flatmin_nn::Error),
}

impl From<flatmin_torch_ext::Error> for Error {
    fn from(error: flatmin_torch_ext::Error) -> Self {
        Self::Model(error.into())
    }
}

impl From<tch::TchError> for Error {
    fn from(error: tch::TchError) -> Self {
        Self::Model(error.into())
    }
}

impl Error {
    /// The code that users see.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Option { .. } => "ERR_FLATMIN_OPTION",
            Self::StepOrder { .. } => "ERR_FLATMIN_STEP_ORDER",
            Self::Shape { .. } => "ERR_FLATMIN_SHAPE",
            Self::Data { .. } => "ERR_FLATMIN_DATA",
            Self::State { .. } => "ERR_FLATMIN_CHECKPOINT",
            Self::Model(error) => error.code(),
        }
    }
}

pub type Result<T, E = Error> = std::result::Result<T, E>;
