//! Interest that outlasts its request. Whoever polls a call is gone between two polls, and the watch
//! would end and begin anew with each of them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::runtime::Handle;
use tokio::time::{Instant, sleep_until};

use super::follower::Follower;
use callingbox::CallId;

/// Until when each call is kept. One follower and one timer for each, however many poll it: there are
/// never more than live calls.
#[derive(Default)]
pub(super) struct Lingering {
    ends: Mutex<HashMap<CallId, Instant>>,
}

impl Lingering {
    /// Keeps the follower until then, or until the call is over. One is kept already: then that one, until
    /// the later of both.
    pub(super) fn keep(
        self: &Arc<Self>,
        runtime: &Handle,
        id: &CallId,
        mut follower: Follower,
        end: Instant,
    ) {
        let mut ends = self.ends();
        if let Some(known) = ends.get_mut(id) {
            *known = end.max(*known);
            return;
        }
        ends.insert(id.clone(), end);
        drop(ends);
        let (lingering, id) = (Arc::clone(self), id.clone());
        runtime.spawn(async move {
            while let Some(end) = lingering.end_of(&id) {
                tokio::select! {
                    () = sleep_until(end) => {}
                    changed = follower.changed() => if changed.is_none() {
                        lingering.ends().remove(&id);
                        return;
                    }
                }
            }
        });
    }

    /// Until when a call is kept; nothing, and forgotten, once that is past.
    fn end_of(&self, id: &CallId) -> Option<Instant> {
        let mut ends = self.ends();
        let end = ends.get(id).copied().filter(|end| *end > Instant::now());
        if end.is_none() {
            ends.remove(id);
        }
        end
    }

    fn ends(&self) -> MutexGuard<'_, HashMap<CallId, Instant>> {
        self.ends.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
