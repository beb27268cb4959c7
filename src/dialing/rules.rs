//! The settings by which a process dials. The operator may change them while it runs, so every account reads them here
//! for each order.

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use parking_lot::RwLock;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::confirm::ConfirmMode;
use super::disclosure::DisclosureRules;
use super::policy::Policy;
use super::webhook_hosts::WebhookHosts;

/// Whether an answer in the call card counts as the user's own answer. A client's name is its own claim: the table keeps the
/// model inside a known client from answering, and not a program that claims to be one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CardIsHuman {
    /// In clients that are known to keep from the model what only the card may know.
    KnownHosts,
    /// In every client that shows the card.
    Always,
    Never,
}

impl CardIsHuman {
    /// The names by which clients that keep `_meta` of results from the model introduce themselves: Claude (claude.ai and
    /// Claude Desktop) and ChatGPT. The handbook has the sources.
    pub const KNOWN_HOSTS: [&str; 2] = ["claude-ai", "openai-mcp"];

    /// Whether the answer counts in a client of this name.
    #[must_use]
    pub fn counts_for(self, client: Option<&str>) -> bool {
        match self {
            Self::KnownHosts => client.is_some_and(|name| Self::KNOWN_HOSTS.contains(&name)),
            Self::Always => true,
            Self::Never => false,
        }
    }
}

/// The settings by which an account dials.
#[derive(Debug, Clone)]
pub struct DialingRules {
    /// The calling rules.
    pub policy: Policy,
    /// When the user is asked to confirm.
    pub confirm: ConfirmMode,
    /// Only the user's own answer counts as a confirmation.
    pub require_human: bool,
    /// A new outbound agent reports whether the person asked not to be called again.
    pub ask_do_not_call: bool,
    /// Whether an answer in the call card counts as the user's own.
    pub card_is_human: CardIsHuman,
    /// How long an identical order is answered with the first one.
    pub repeat_window: SignedDuration,
    /// How long the server waits for the user's answer to a question.
    pub thinking_time: Duration,
    /// Where events and data of calls may be sent.
    pub webhook_hosts: WebhookHosts,
    /// What calls say about the AI that calls.
    pub disclosure: DisclosureRules,
    /// How long the people of a finished batch are kept.
    pub keep_people: SignedDuration,
}

impl DialingRules {
    /// When the people of a batch that ends now are erased, by the machine's clock.
    #[must_use]
    pub fn people_erased_at(&self, machine: Timestamp) -> Timestamp {
        machine.checked_add(self.keep_people).unwrap_or(Timestamp::MAX)
    }
}

/// Settings that may change. Clones share them.
#[derive(Debug, Clone)]
pub struct SharedRules(Arc<RwLock<Arc<DialingRules>>>);

impl SharedRules {
    /// The current settings. For one decision, read them once.
    #[must_use]
    pub fn get(&self) -> Arc<DialingRules> {
        Arc::clone(&self.0.read())
    }

    pub fn set(&self, rules: DialingRules) {
        *self.0.write() = Arc::new(rules);
    }
}

impl From<DialingRules> for SharedRules {
    fn from(rules: DialingRules) -> Self {
        Self(Arc::new(RwLock::new(Arc::new(rules))))
    }
}
