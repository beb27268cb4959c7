//! Environment variables, read in one way: what is empty is not set, as env files and the forms of
//! clients leave it, and what cannot be read is an error. Guessing could ring a telephone.

use std::ffi::OsStr;

/// A variable whose value is not text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}: its value is not UTF-8; set it anew, or unset it")]
pub struct NotText(pub String);

/// The value of a variable; none where it is not set or empty.
///
/// # Errors
/// The value is not UTF-8.
pub fn variable(name: &str) -> Result<Option<String>, NotText> {
    match std::env::var_os(name) {
        Some(value) if !is_empty(&value) => {
            value.into_string().map(Some).map_err(|_| NotText(name.to_owned()))
        }
        _ => Ok(None),
    }
}

/// Whether a variable with this value counts as not set.
#[must_use]
pub fn is_empty(value: &OsStr) -> bool {
    value.to_str().is_some_and(|text| text.trim().is_empty())
}
