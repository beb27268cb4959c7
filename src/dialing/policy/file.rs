//! The policy as a TOML file: reading it, with errors that name the line and the nearest valid name,
//! and the commented file to start from.

use super::Policy;
use crate::suggest::correct_unknown_name;
use crate::toml_error::error_line;

/// Why a policy file cannot be read. Until it can, nothing is dialed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the calling rules cannot be read, line {line}: {message}{}", hint(.nearest))]
pub struct PolicyError {
    /// Where, counted from 1.
    pub line: usize,
    /// What is wrong.
    pub message: String,
    /// The valid name that was meant by the unknown one, if it is near.
    pub nearest: Option<String>,
}

fn hint(nearest: &Option<String>) -> String {
    nearest.as_ref().map(|name| format!(". Did you mean `{name}`?")).unwrap_or_default()
}

impl Policy {
    /// Reads a policy. What the text leaves out is as shipped; what it does not know it refuses.
    ///
    /// # Errors
    /// [`PolicyError`] with the line.
    pub fn from_toml(text: &str) -> Result<Self, PolicyError> {
        toml::from_str(text).map_err(|error: toml::de::Error| {
            let line = error_line(text, &error);
            let message = error.message().trim().replace('\n', " ");
            PolicyError {
                line,
                nearest: correct_unknown_name(&message).map(str::to_owned),
                message,
            }
        })
    }
}

/// The file that `policy init` writes: every key, as shipped, with what it means.
#[must_use]
pub const fn starter_file() -> &'static str {
    include_str!("starter.toml")
}
