//! Everything that the simulator remembers: organizations, the clock, the agenda, and the webhook attempts that are
//! due. Knows nothing of locks, HTTP or what happens when an item of the agenda is due.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use crate::clock::{Clock, Moment};
use crate::model::{Agenda, AgendaItem, MilliCents, Organization};
use crate::scenario::FileScenario;
use crate::seed::derive_uuid;

/// More organizations than these are rejected.
pub(crate) const MAX_ORGANIZATIONS: usize = 1_000;
const MAX_KEY_LENGTH: usize = 512;

/// What does not change while the simulator runs.
#[derive(Debug)]
pub(crate) struct SimulatorSettings {
    pub(crate) seed: u64,
    /// The credit of a new organization.
    pub(crate) credit: MilliCents,
    pub(crate) allow_private_webhooks: bool,
    /// Real time for which the destination 555 0113 withholds its answer.
    pub(crate) late_answer: Duration,
    pub(crate) scenarios: Vec<Arc<FileScenario>>,
}

/// A webhook attempt that is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DueAttempt {
    pub(crate) org: Uuid,
    pub(crate) delivery: Uuid,
    /// When it was due; the outcome is recorded at this time.
    pub(crate) due_at: Moment,
}

/// One organization, and what all organizations share.
pub(crate) struct OrgContext<'a> {
    pub(crate) org: &'a mut Organization,
    pub(crate) agenda: &'a mut Agenda,
    /// Numbers that an organization owns.
    pub(crate) sold_numbers: &'a mut HashSet<String>,
    pub(crate) settings: &'a SimulatorSettings,
    pub(crate) now: Moment,
}

impl OrgContext<'_> {
    pub(crate) fn next_id(&mut self) -> Uuid {
        self.org.next_id(self.settings.seed)
    }

    pub(crate) fn next_secret(&mut self) -> String {
        self.org.next_secret(self.settings.seed)
    }
}

/// Why a key gives access to no organization.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum KeyError {
    Invalid,
    TooManyOrganizations,
}

#[derive(Debug)]
pub(crate) struct SimulatorState {
    pub(crate) settings: SimulatorSettings,
    pub(crate) clock: Clock,
    pub(crate) organizations: HashMap<Uuid, Organization>,
    pub(crate) agenda: Agenda,
    /// Attempts that are due, by address and in order.
    pub(crate) due_attempts: BTreeMap<String, VecDeque<DueAttempt>>,
    pub(crate) attempts_in_flight: usize,
    /// Whether the state has changed since it was last saved.
    pub(crate) has_changed: bool,
    sold_numbers: HashSet<String>,
}

impl SimulatorState {
    pub(crate) fn new(settings: SimulatorSettings, clock: Clock) -> Self {
        Self {
            settings,
            clock,
            organizations: HashMap::new(),
            agenda: Agenda::default(),
            due_attempts: BTreeMap::new(),
            attempts_in_flight: 0,
            has_changed: false,
            sold_numbers: HashSet::new(),
        }
    }

    /// Adds an organization from a state file and schedules its calls and deliveries.
    pub(crate) fn restore_organization(&mut self, mut org: Organization) {
        for number in org.numbers.iter() {
            self.sold_numbers.insert(number.e164.clone());
        }
        for call in org.calls.iter_mut() {
            if let Some(due_at) = call.next_step_at() {
                let item = AgendaItem::Call(call.id);
                self.agenda.schedule(&mut call.agenda_key, due_at, org.id, item);
            }
        }
        for delivery in org.deliveries.iter_mut() {
            if let Some(due_at) = delivery.next_attempt_at() {
                let item = AgendaItem::Delivery(delivery.id);
                self.agenda.schedule(&mut delivery.agenda_key, due_at, org.id, item);
            }
        }
        self.organizations.insert(org.id, org);
    }

    /// The organization of a key, which is created if the key is new. The key itself is not stored.
    pub(crate) fn organization_for_key(&mut self, key: &str) -> Result<Uuid, KeyError> {
        if !key.starts_with("sk_") || key.len() > MAX_KEY_LENGTH {
            return Err(KeyError::Invalid);
        }
        let id = derive_uuid(self.settings.seed, &[b"organization", key.as_bytes()]);
        if !self.organizations.contains_key(&id) {
            if self.organizations.len() >= MAX_ORGANIZATIONS {
                return Err(KeyError::TooManyOrganizations);
            }
            let org = Organization::new(self.settings.seed, id, self.settings.credit);
            self.organizations.insert(id, org);
        }
        Ok(id)
    }

    pub(crate) fn org_context(&mut self, org: Uuid, now: Moment) -> Option<OrgContext<'_>> {
        Some(OrgContext {
            org: self.organizations.get_mut(&org)?,
            agenda: &mut self.agenda,
            sold_numbers: &mut self.sold_numbers,
            settings: &self.settings,
            now,
        })
    }

    /// Whether every attempt that is due has been made.
    pub(crate) fn is_idle(&self) -> bool {
        let now = self.clock.now();
        self.due_attempts.is_empty()
            && self.attempts_in_flight == 0
            && self.agenda.next_due_at().is_none_or(|due_at| due_at > now)
    }

    /// Replaces an organization by a new one; its numbers are for sale again.
    pub(crate) fn reset_organization(&mut self, org: Uuid) {
        let new = Organization::new(self.settings.seed, org, self.settings.credit);
        if let Some(old) = self.organizations.insert(org, new) {
            for number in old.numbers.iter() {
                self.sold_numbers.remove(&number.e164);
            }
        }
        self.due_attempts.retain(|_, queue| {
            queue.retain(|attempt| attempt.org != org);
            !queue.is_empty()
        });
        self.agenda.remove_organization(org);
        self.has_changed = true;
    }
}
