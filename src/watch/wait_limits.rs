//! How long a tool waits for a call to end: the section `[wait]` of the configuration.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How long a tool waits for a call to end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct WaitLimits {
    /// Seconds to wait if the caller names none. Keep it below 60: Claude Desktop gives up then.
    pub default_seconds: u64,
    /// The most seconds that a caller may ask for without following progress.
    pub max_seconds: u64,
}

impl Default for WaitLimits {
    fn default() -> Self {
        Self { default_seconds: 45, max_seconds: 300 }
    }
}
