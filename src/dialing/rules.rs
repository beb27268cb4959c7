//! The rules by which a process dials. Its operator may change them while it runs: every account of the
//! process looks here, each time anew.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use jiff::SignedDuration;

use super::confirm::ConfirmMode;
use super::policy::Policy;

/// How this account dials.
#[derive(Debug, Clone)]
pub struct DialingRules {
    /// Whom and when.
    pub policy: Policy,
    /// When a human is asked.
    pub confirm: ConfirmMode,
    /// Only a human's own answer counts.
    pub require_human: bool,
    /// How long the same order is answered with the first one.
    pub repeat_window: SignedDuration,
    /// How long a human may think about a question in which the client is waited for.
    pub thinking_time: Duration,
}

/// DialingRules that may change. Clones are the same rules.
#[derive(Debug, Clone)]
pub struct SharedRules(Arc<RwLock<Arc<DialingRules>>>);

impl SharedRules {
    /// The rules at this moment. Whoever decides something takes them once and keeps to them.
    #[must_use]
    pub fn get(&self) -> Arc<DialingRules> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// From now on, these.
    pub fn set(&self, rules: DialingRules) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(rules);
    }
}

impl From<DialingRules> for SharedRules {
    fn from(rules: DialingRules) -> Self {
        Self(Arc::new(RwLock::new(Arc::new(rules))))
    }
}
