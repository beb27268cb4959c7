//! The rules by which a process dials, which its operator may change while it runs: every account of
//! the process looks here, each time anew.

use std::sync::{Arc, PoisonError, RwLock};

use super::dispatch::Rules;

/// Rules that may change. Clones are the same rules.
#[derive(Debug, Clone)]
pub struct LiveRules(Arc<RwLock<Arc<Rules>>>);

impl LiveRules {
    /// The rules at this moment. Whoever decides something takes them once and keeps to them.
    #[must_use]
    pub fn get(&self) -> Arc<Rules> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// From now on, these.
    pub fn set(&self, rules: Rules) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(rules);
    }
}

impl From<Rules> for LiveRules {
    fn from(rules: Rules) -> Self {
        Self(Arc::new(RwLock::new(Arc::new(rules))))
    }
}
