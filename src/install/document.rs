//! Why a client's file cannot be edited, whatever its format.

/// Why a text cannot be edited.
#[derive(Debug)]
pub(super) enum EditError {
    /// It is not of its format.
    Syntax(String),
    /// It is, but not of the shape a configuration has.
    Shape(String),
}
