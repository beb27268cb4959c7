//! Real telephones or the simulator: the one property that an account and its ledger never change.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Where calls go. An account and a ledger belong to one environment for their whole life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Environment {
    /// CallingBox itself: calls ring real phones.
    Live,
    /// The simulator.
    Sandbox,
}

impl Environment {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Sandbox => "sandbox",
        }
    }

    #[must_use]
    pub const fn is_sandbox(self) -> bool {
        matches!(self, Self::Sandbox)
    }

    /// The suffix that marks an order in a confirmation: empty, or ` (simulated)`.
    #[must_use]
    pub const fn order_suffix(self) -> &'static str {
        match self {
            Self::Live => "",
            Self::Sandbox => " (simulated)",
        }
    }
}

impl fmt::Display for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
