//! What a person types to run this program, which may not be on their path. Knows no command of the program, and not where
//! the program is.

use std::sync::OnceLock;

static OWN_COMMAND: OnceLock<String> = OnceLock::new();

/// Sets what [`own_command`] returns from now on. Only the first call counts.
pub fn set_own_command(command: String) {
    OWN_COMMAND.get_or_init(|| command);
}

/// The words that run this program, for texts that ask a person to do so; `callingbox-mcp` unless others were set.
#[must_use]
pub fn own_command() -> &'static str {
    OWN_COMMAND.get().map_or(env!("CARGO_PKG_NAME"), String::as_str)
}
