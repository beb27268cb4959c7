//! The agenda: the next steps of calls and deliveries, in order of time. Knows only the ids of calls and deliveries.

use std::collections::BTreeMap;

use uuid::Uuid;

use crate::clock::Moment;

/// The next step of a call or a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AgendaItem {
    /// A call takes its next step.
    Call(Uuid),
    /// A delivery is attempted.
    Delivery(Uuid),
}

/// The position of an entry on the agenda. A call and a delivery keep theirs, and have at most one each.
pub(crate) type AgendaKey = (Moment, u64);

#[derive(Debug, Default)]
pub(crate) struct Agenda {
    /// The items with the organizations that own them.
    entries: BTreeMap<AgendaKey, (Uuid, AgendaItem)>,
    last_number: u64,
}

impl Agenda {
    /// Schedules an item and replaces its earlier entry.
    pub(crate) fn schedule(
        &mut self,
        key: &mut Option<AgendaKey>,
        due_at: Moment,
        org: Uuid,
        item: AgendaItem,
    ) {
        self.cancel(key);
        self.last_number += 1;
        let new_key = (due_at, self.last_number);
        self.entries.insert(new_key, (org, item));
        *key = Some(new_key);
    }

    pub(crate) fn cancel(&mut self, key: &mut Option<AgendaKey>) {
        if let Some(key) = key.take() {
            self.entries.remove(&key);
        }
    }

    pub(crate) fn next_due_at(&self) -> Option<Moment> {
        self.entries.keys().next().map(|(due_at, _)| *due_at)
    }

    /// Removes the first entry that is due: the time for which it was scheduled, its organization and the item.
    pub(crate) fn pop_due(&mut self, now: Moment) -> Option<(Moment, Uuid, AgendaItem)> {
        let first = self.entries.first_entry().filter(|entry| entry.key().0 <= now)?;
        let ((due_at, _), (org, item)) = first.remove_entry();
        Some((due_at, org, item))
    }

    pub(crate) fn remove_organization(&mut self, org: Uuid) {
        self.entries.retain(|_, (owner, _)| *owner != org);
    }
}
