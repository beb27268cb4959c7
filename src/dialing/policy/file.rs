//! The policy as a TOML file: reading it, with errors that name the line and the nearest valid name,
//! and the commented file to start from.

use super::Policy;
use crate::dialing::destination::canonical_form;
use crate::suggest::correct_unknown_name;
use crate::toml_error::error_line;

/// Why the calling rules cannot be read. Nothing is dialed until they can.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the calling rules cannot be read, line {line}: {message}{}", format_hint(.nearest))]
pub struct PolicyError {
    pub line: usize,
    pub message: String,
    /// The valid name that is closest to an unknown one.
    pub nearest: Option<String>,
}

fn format_hint(nearest: &Option<String>) -> String {
    nearest.as_ref().map(|name| format!(". Did you mean `{name}`?")).unwrap_or_default()
}

impl Policy {
    /// Reads a policy. A key that the text omits has its default. Numbers lose their national prefixes.
    ///
    /// # Errors
    /// The text is not TOML, or has an unknown key or an invalid value.
    pub fn from_toml(text: &str) -> Result<Self, PolicyError> {
        let mut policy: Self = toml::from_str(text).map_err(|error: toml::de::Error| {
            let line = error_line(text, &error);
            let message = error.message().trim().replace('\n', " ");
            PolicyError {
                line,
                nearest: correct_unknown_name(&message).map(str::to_owned),
                message,
            }
        })?;
        // A call is placed only in this form, so no other would ever match.
        for number in policy.rules.iter_mut().flat_map(|rule| &mut rule.to) {
            *number = canonical_form(number);
        }
        Ok(policy)
    }
}

/// The file that `policy init` writes: every key with its default and an explanation.
#[must_use]
pub const fn starter_file() -> &'static str {
    include_str!("starter.toml")
}
