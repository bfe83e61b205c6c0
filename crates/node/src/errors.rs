//! How errors cross the boundary: as the JSON `{"code", "message"}` in the reason of a napi error, read in one place in
//! TypeScript.

use std::fmt::Display;

/// An error with one of the `ERR_FLATMIN_...` codes.
pub trait Coded: Display {
    fn code(&self) -> &'static str;
}

macro_rules! coded {
    ($($error:ty),* $(,)?) => {$(
        impl Coded for $error {
            fn code(&self) -> &'static str {
                <$error>::code(self)
            }
        }
    )*};
}

coded!(
    flatmin_analysis::Error,
    flatmin_data::Error,
    flatmin_nn::Error,
    flatmin_optim::Error,
    flatmin_torch_ext::Error,
    flatmin_train::Error
);

impl Coded for tch::TchError {
    fn code(&self) -> &'static str {
        "ERR_FLATMIN_TORCH"
    }
}

/// The error that JavaScript gets.
pub fn failure(code: &str, message: impl Display) -> napi::Error {
    napi::Error::from_reason(serde_json::json!({ "code": code, "message": message.to_string() }).to_string())
}

/// An option that is not as it should be.
pub fn wrong_option(option: &str, found: impl Display, expected: &str) -> napi::Error {
    failure("ERR_FLATMIN_OPTION", format!("{option} is {found}; expected {expected}"))
}

/// Turns the errors of the crates into those of the boundary.
pub trait OrThrow<T> {
    fn or_throw(self) -> napi::Result<T>;
}

impl<T, E: Coded> OrThrow<T> for Result<T, E> {
    fn or_throw(self) -> napi::Result<T> {
        self.map_err(|error| failure(error.code(), &error))
    }
}
