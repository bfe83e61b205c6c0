//! Option objects from JavaScript into Rust's config structs, and results back.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Number, Value};

use crate::errors::failure;

/// The largest integer that a JavaScript number holds exactly.
const MAX_SAFE_INTEGER: f64 = 9_007_199_254_740_991.0;

/// Reads an option object.
///
/// # Errors
/// `ERR_FLATMIN_OPTION` names the field that is unknown, missing or of a wrong type.
pub fn options<T: DeserializeOwned>(what: &str, value: Value) -> napi::Result<T> {
    serde_json::from_value(with_integers(value))
        .map_err(|error| failure("ERR_FLATMIN_OPTION", format!("{what}: {error}")))
}

/// As [`options`], for an argument that may be left out.
pub fn options_or_default<T: DeserializeOwned + Default>(what: &str, value: Option<Value>) -> napi::Result<T> {
    value.map_or_else(|| Ok(T::default()), |value| options(what, value))
}

/// A result as JavaScript gets it. Numbers that are not finite become null.
pub fn to_json<T: Serialize>(value: &T) -> napi::Result<Value> {
    serde_json::to_value(value).map_err(|error| failure("ERR_FLATMIN_INTERNAL", error))
}

/// JavaScript has one number type: whole numbers above 32 bits arrive as floats, and seeds and counts must not.
fn with_integers(value: Value) -> Value {
    match value {
        Value::Number(number) => Value::Number(integer(&number).unwrap_or(number)),
        Value::Array(items) => items.into_iter().map(with_integers).collect(),
        Value::Object(fields) => fields.into_iter().map(|(name, field)| (name, with_integers(field))).collect(),
        other => other,
    }
}

fn integer(number: &Number) -> Option<Number> {
    let value = number.as_f64().filter(|value| value.fract() == 0.0 && value.abs() <= MAX_SAFE_INTEGER)?;
    if value < 0.0 { Some(Number::from(value as i64)) } else { Some(Number::from(value as u64)) }
}
