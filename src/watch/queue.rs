//! Which call is to be looked at when: a queue with at most one time for each call.

use std::collections::{BTreeSet, HashMap};

use tokio::time::Instant;

use callingbox::CallId;

#[derive(Default)]
pub(super) struct Queue {
    order: BTreeSet<(Instant, CallId)>,
    times: HashMap<CallId, Instant>,
}

impl Queue {
    /// Puts the call at this time and no other.
    pub(super) fn set(&mut self, id: &CallId, at: Instant) {
        self.remove(id);
        self.times.insert(id.clone(), at);
        self.order.insert((at, id.clone()));
    }

    pub(super) fn remove(&mut self, id: &CallId) {
        if let Some((id, at)) = self.times.remove_entry(id) {
            self.order.remove(&(at, id));
        }
    }

    pub(super) fn at(&self, id: &CallId) -> Option<Instant> {
        self.times.get(id).copied()
    }

    /// The earliest time in the queue.
    pub(super) fn first(&self) -> Option<Instant> {
        self.order.first().map(|(at, _)| *at)
    }

    /// The calls up to a time, that included, earliest first.
    pub(super) fn until(&self, end: Instant) -> impl Iterator<Item = &CallId> {
        self.order.iter().take_while(move |(at, _)| *at <= end).map(|(_, id)| id)
    }
}
