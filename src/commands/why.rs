//! Why something failed, in one line for a person.

/// The error and its causes, each reason once: what an error says of itself often repeats its cause.
#[must_use]
pub fn why(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain() {
        let cause = cause.to_string();
        if text.contains(&cause) {
            continue;
        }
        if !text.is_empty() {
            text.push_str(": ");
        }
        text.push_str(&cause);
    }
    text
}
