//! The text of a client's configuration file, which is edited without changing anything else in it. Knows no client.

use serde_json::{Map, Value};

#[derive(Debug)]
pub(super) enum EditError {
    /// The text is not valid in its format.
    Syntax(String),
    /// The text is valid, but does not have the structure of a configuration.
    Structure(String),
}

pub(super) trait ConfigDocument {
    /// The value at these keys.
    fn get(&self, path: &[&str]) -> Option<Value>;

    /// Applies a merge patch (RFC 7396) at these keys, and creates missing objects.
    fn merge(&mut self, path: &[&str], patch: &Map<String, Value>) -> Result<(), EditError>;

    /// Removes the value at these keys, if it exists.
    fn remove(&mut self, path: &[&str]) -> Result<(), EditError>;

    /// Adds an element to the array `inputs`, unless it has one with the same `id`. Only JSON clients have inputs.
    fn add_input(&mut self, _input: &Value) -> Result<(), EditError> {
        Ok(())
    }

    /// Removes the element of `inputs` with the same `id`, if it exists.
    fn remove_input(&mut self, _input: &Value) {}

    fn to_text(&self) -> String;

    /// The text with every comment, and every string that `is_shown` does not allow, replaced by `…`.
    fn into_masked_text(self: Box<Self>, is_shown: &dyn Fn(&str) -> bool) -> String;
}
