//! Ranges that many options share.

use crate::error::{Error, Result};

pub(crate) fn finite(option: &str, value: f64) -> Result<f64> {
    if value.is_finite() {
        return Ok(value);
    }
    Err(Error::Option { option: option.into(), found: value.to_string(), expected: "a finite number".into() })
}

pub(crate) fn at_least_zero(option: &str, value: f64) -> Result<f64> {
    if value.is_finite() && value >= 0.0 {
        return Ok(value);
    }
    Err(Error::Option {
        option: option.into(),
        found: value.to_string(),
        expected: "a finite number of at least 0".into(),
    })
}

/// A share or probability, 0 excluded.
pub(crate) fn share(option: &str, value: f64) -> Result<f64> {
    if value > 0.0 && value <= 1.0 {
        return Ok(value);
    }
    Err(Error::Option { option: option.into(), found: value.to_string(), expected: "above 0 and at most 1".into() })
}

/// A count of at least 1.
pub(crate) fn positive(option: &str, value: u64) -> Result<u64> {
    if value > 0 {
        return Ok(value);
    }
    Err(Error::Option { option: option.into(), found: value.to_string(), expected: "a whole number, 1 or more".into() })
}
