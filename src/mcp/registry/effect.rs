//! What calling a tool does to the world. Knows no tool.

use serde::Serialize;

/// What calling a tool does to the world.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ToolEffect {
    /// Changes nothing.
    Reads,
    /// Changes records of the account.
    Writes {
        /// Something is lost by it.
        destructive: bool,
        /// Doing it twice is the same as doing it once.
        idempotent: bool,
    },
    /// Spends credit.
    CostsMoney,
    /// Rings a real telephone, and spends credit.
    RingsPhone,
}

impl ToolEffect {
    /// Whether the tool only reads.
    #[must_use]
    pub const fn is_read_only(self) -> bool {
        matches!(self, Self::Reads)
    }
}
