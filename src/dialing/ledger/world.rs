//! Of which world a ledger is. Never mistake the simulator for the world.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Real telephones or the simulator. A ledger belongs to one of them for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum World {
    /// Calls that ring.
    Real,
    /// Calls of the sandbox.
    Sandbox,
}

impl World {
    /// `real` or `sandbox`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Real => "real",
            Self::Sandbox => "sandbox",
        }
    }

    /// What stands behind an order in a question to the human: nothing, or ` (simulated)`.
    #[must_use]
    pub const fn aside(self) -> &'static str {
        match self {
            Self::Real => "",
            Self::Sandbox => " (simulated)",
        }
    }
}

impl fmt::Display for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
