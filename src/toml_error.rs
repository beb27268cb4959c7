//! Words an error in a TOML file on one line, with its line number and, for a misspelled name, the valid one.

use crate::suggest::correct_unknown_name;

/// The line of an error, counted from 1.
pub(crate) fn error_line(text: &str, error: &toml::de::Error) -> usize {
    let start = error.span().map_or(0, |span| span.start);
    1 + text.bytes().take(start).filter(|byte| *byte == b'\n').count()
}

pub(crate) fn describe_toml_error(text: &str, error: &toml::de::Error) -> String {
    let message = error.message().trim().replace('\n', " ");
    let hint =
        correct_unknown_name(error.message()).map(|name| format!(". {}", did_you_mean(name)));
    format!("line {}: {message}{}", error_line(text, error), hint.unwrap_or_default())
}

pub(crate) fn did_you_mean(name: &str) -> String {
    format!("Did you mean `{name}`?")
}
