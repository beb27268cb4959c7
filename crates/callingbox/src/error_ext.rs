//! What a failure began with. Knows nothing of what failed.

use std::error::Error;

/// The words of the first cause. Of a failed request it is what a person can act on ("Connection refused"): the
/// errors around it say that a request was sent, and where to.
pub fn innermost(error: &(dyn Error + 'static)) -> String {
    match error.source() {
        Some(source) => innermost(source),
        None => error.to_string(),
    }
}
