//! The settings by which a process dials. The operator may change them while it runs, so every account reads them here
//! for each order.

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use parking_lot::RwLock;

use super::confirm::ConfirmMode;
use super::policy::Policy;
use super::webhook_hosts::WebhookHosts;

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
    /// How long an identical order is answered with the first one.
    pub repeat_window: SignedDuration,
    /// How long the server waits for the user's answer to a question.
    pub thinking_time: Duration,
    /// Where events and data of calls may be sent.
    pub webhook_hosts: WebhookHosts,
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
