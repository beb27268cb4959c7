//! What is added to errors of other libraries.

use std::error::Error;

/// The message of the first cause. For a failed request it is the part that a person can act on, such as "Connection
/// refused"; the errors around it only say that a request was sent.
#[must_use]
pub fn root_cause(error: &(dyn Error + 'static)) -> String {
    match error.source() {
        Some(source) => root_cause(source),
        None => error.to_string(),
    }
}
