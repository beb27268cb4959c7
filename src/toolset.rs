//! The groups of tools that flags, the configuration and tokens name. Knows no tool.

use std::fmt;
use std::str::FromStr;

use clap::ValueEnum;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::suggest::UnknownName;

/// A group of tools that is switched on or off as a whole.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    JsonSchema,
    ValueEnum,
)]
#[serde(rename_all = "lowercase")]
pub enum Toolset {
    /// Place calls and read their results.
    Calls,
    /// The environment, the rules and what is used of the limits.
    Account,
    /// Manage the AI agents that speak on calls.
    Agents,
    /// Search for, buy and list phone numbers.
    Numbers,
    /// Manage webhook endpoints and deliveries; off by default.
    Webhooks,
    /// Control the simulator; only available with the sandbox.
    Sandbox,
}

impl Toolset {
    /// All toolsets, in the order of the catalogue.
    pub const ALL: [Self; 6] =
        [Self::Calls, Self::Account, Self::Agents, Self::Numbers, Self::Webhooks, Self::Sandbox];
}

impl fmt::Display for Toolset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Calls => "calls",
            Self::Account => "account",
            Self::Agents => "agents",
            Self::Numbers => "numbers",
            Self::Webhooks => "webhooks",
            Self::Sandbox => "sandbox",
        })
    }
}

impl FromStr for Toolset {
    type Err = UnknownName;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|toolset| toolset.to_string() == name)
            .ok_or_else(|| UnknownName::new("toolset", name, Self::ALL.iter().map(Self::to_string)))
    }
}
