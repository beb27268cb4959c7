//! The last snapshots of calls that finished just now, so that those who come late ask the API
//! nothing. Bounded in time and number.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::follower::Snapshot;
use callingbox::CallId;

/// How long a finished call is kept.
pub(super) const KEPT_FOR: Duration = Duration::from_secs(60);

/// How many are kept; the oldest goes first.
pub(super) const KEPT: usize = 256;

#[derive(Default)]
pub(super) struct Recent {
    finished: HashMap<CallId, (Instant, Arc<Snapshot>)>,
}

impl Recent {
    pub(super) fn keep(&mut self, id: CallId, snapshot: Arc<Snapshot>, now: Instant) {
        self.finished.insert(id, (now + KEPT_FOR, snapshot));
        if self.finished.len() > KEPT {
            let oldest = self.finished.iter().min_by_key(|(_, (end, _))| *end);
            if let Some(oldest) = oldest.map(|(id, _)| id.clone()) {
                self.finished.remove(&oldest);
            }
        }
    }

    pub(super) fn get(&self, id: &CallId, now: Instant) -> Option<Arc<Snapshot>> {
        let (end, snapshot) = self.finished.get(id)?;
        (*end > now).then(|| snapshot.clone())
    }

    /// Forgets what is too old, and says when there will be more to forget.
    pub(super) fn forget(&mut self, now: Instant) -> Option<Instant> {
        self.finished.retain(|_, (end, _)| *end > now);
        self.finished.values().map(|(end, _)| *end).min()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.finished.is_empty()
    }
}
