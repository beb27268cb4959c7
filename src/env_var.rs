//! Reads environment variables in one way: an empty variable counts as unset, because env files and clients'
//! forms leave empty ones, and one that is not UTF-8 is an error, because a guess could ring a telephone.

use std::ffi::OsStr;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}: its value is not UTF-8; set it to a valid value, or unset it")]
pub struct NotUtf8(pub String);

/// The value of a variable, or `None` if it is unset or empty.
///
/// # Errors
/// The value is not UTF-8.
pub fn read_env_var(name: &str) -> Result<Option<String>, NotUtf8> {
    match std::env::var_os(name) {
        Some(value) if !is_blank(&value) => {
            value.into_string().map(Some).map_err(|_| NotUtf8(name.to_owned()))
        }
        _ => Ok(None),
    }
}

/// Whether a variable with this value counts as unset.
#[must_use]
pub fn is_blank(value: &OsStr) -> bool {
    value.to_str().is_some_and(|text| text.trim().is_empty())
}
