//! The groups of tools, and what is said of a name that does not exist. Knows no tool.

use std::fmt;
use std::str::FromStr;

use clap::ValueEnum;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The groups in which tools are switched on and off.
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
    /// Placing calls and reading their results.
    Calls,
    /// The agents that speak.
    Agents,
    /// Phone numbers.
    Numbers,
    /// Webhook endpoints and deliveries; off unless asked for.
    Webhooks,
    /// What only the simulator can do; there only with it.
    Sandbox,
}

impl Toolset {
    /// All of them, in the order of the catalogue.
    pub const ALL: [Self; 5] =
        [Self::Calls, Self::Agents, Self::Numbers, Self::Webhooks, Self::Sandbox];
}

impl fmt::Display for Toolset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Calls => "calls",
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
            .find(|set| set.to_string() == name)
            .ok_or_else(|| UnknownName::new("toolset", name, Self::ALL.iter().map(Self::to_string)))
    }
}

/// A name that does not exist.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no {what} `{name}`{}; the valid names are: {valid}", .nearest.as_ref().map(|n| format!(" (did you mean `{n}`?)")).unwrap_or_default())]
pub struct UnknownName {
    what: &'static str,
    name: String,
    nearest: Option<String>,
    valid: String,
}

impl UnknownName {
    /// Of what has one of the `valid` names, and not this one.
    pub fn new(what: &'static str, name: &str, valid: impl Iterator<Item = String>) -> Self {
        let valid = valid.collect::<Vec<_>>();
        Self {
            what,
            name: name.to_owned(),
            nearest: nearest(name, valid.iter()).cloned(),
            valid: valid.join(", "),
        }
    }
}

/// The one of these names that is most like `name`, if any is.
pub fn nearest<T: AsRef<str>>(name: &str, names: impl Iterator<Item = T>) -> Option<T> {
    names
        .map(|known| (strsim::jaro_winkler(name, known.as_ref()), known))
        .filter(|(likeness, _)| *likeness > 0.8)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, known)| known)
}
