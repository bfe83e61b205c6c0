//! The errors of measures.

/// Anything that can go wrong when a model is measured.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{option} is {found}; expected {expected}")]
    Option { option: String, found: String, expected: String },
    #[error("{what} is not finite; {hint}")]
    NonFinite { what: String, hint: &'static str },
    #[error("the model is at perturbed weights; finish the step with backward and descentStep first")]
    Perturbed,
    #[error("the measurement was stopped")]
    Stopped,
    #[error(transparent)]
    Train(#[from] flatmin_train::Error),
}

/// Errors of the crates below, all of which training knows.
macro_rules! through_train {
    ($($error:ty),* $(,)?) => {$(
        impl From<$error> for Error {
            fn from(error: $error) -> Self {
                Self::Train(error.into())
            }
        }
    )*};
}

through_train!(flatmin_nn::Error, flatmin_optim::Error, flatmin_torch_ext::Error, tch::TchError);

impl Error {
    /// The code that users see. A measurement that was stopped has none of its own: whoever stopped it knows why.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Option { .. } => "ERR_FLATMIN_OPTION",
            Self::NonFinite { .. } => "ERR_FLATMIN_NON_FINITE",
            Self::Perturbed => "ERR_FLATMIN_STEP_ORDER",
            Self::Stopped => "ERR_FLATMIN_INTERNAL",
            Self::Train(error) => error.code(),
        }
    }

    pub fn option(option: impl Into<String>, found: impl ToString, expected: impl Into<String>) -> Self {
        Self::Option { option: option.into(), found: found.to_string(), expected: expected.into() }
    }
}

pub type Result<T, E = Error> = std::result::Result<T, E>;
