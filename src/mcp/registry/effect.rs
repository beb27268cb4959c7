//! The effect of calling a tool. This module does not know any tool.

use serde::Serialize;

/// The effect of calling a tool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ToolEffect {
    /// Changes nothing.
    Reads,
    /// Changes records of the account.
    Writes {
        /// Whether data is lost.
        destructive: bool,
        /// Whether a second identical call changes nothing.
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
