//! Everything the simulator remembers: organizations, the clock, the agenda of what falls due, and
//! the webhook attempts that wait to be made. One lock guards it; no method here waits.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::agents::Agent;
use super::answer::Refusal;
use super::billing;
use super::calls::Call;
use super::clock::{Clock, Moment};
use super::deliveries::Delivery;
use super::endpoints::Endpoint;
use super::faults::Fault;
use super::numbers::Number;
use super::records::Records;
use super::scenario_file::FileScenario;
use super::seed;
use crate::money::MilliCents;

/// More organizations than this are refused with 503.
const MAX_ORGANIZATIONS: usize = 1_000;

/// What holds for the life of the process.
#[derive(Debug)]
pub(super) struct Settings {
    pub(super) seed: u64,
    pub(super) allow_private_webhooks: bool,
    pub(super) late_answer: Duration,
    pub(super) scenarios: Vec<Arc<FileScenario>>,
}

/// What one key can see.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Org {
    pub(super) id: Uuid,
    /// Which life of the organization this is. Random: what began anew is not what was before it, though
    /// the seed gives both the same ids.
    #[serde(default = "Uuid::new_v4")]
    pub(super) incarnation: Uuid,
    pub(super) balance: MilliCents,
    pub(super) held: MilliCents,
    pub(super) agents: Records<Agent>,
    pub(super) numbers: Records<Number>,
    pub(super) calls: Records<Call>,
    pub(super) endpoints: Vec<Endpoint>,
    pub(super) deliveries: Records<Delivery>,
    /// Signs what goes to a `webhook_url`.
    pub(super) signing_secret: String,
    /// Destinations whose one-time refusal (0114, 0115) has been given.
    pub(super) refused_once: HashSet<String>,
    /// Bytes of text that calls keep.
    pub(super) call_bytes: usize,
    /// Ids given out so far.
    made: u64,
    #[serde(skip)]
    pub(super) faults: Vec<Fault>,
    #[serde(skip)]
    pub(super) requests: BTreeMap<(&'static str, &'static str), u64>,
}

impl Org {
    fn new(seed: u64, id: Uuid) -> Self {
        Self {
            id,
            incarnation: Uuid::new_v4(),
            balance: billing::WELCOME,
            held: MilliCents::ZERO,
            agents: Records::default(),
            numbers: Records::default(),
            calls: Records::default(),
            endpoints: Vec::new(),
            deliveries: Records::default(),
            signing_secret: seed::signing_secret(seed, &[b"default secret", id.as_bytes()]),
            refused_once: HashSet::new(),
            call_bytes: 0,
            made: 0,
            faults: Vec::new(),
            requests: BTreeMap::new(),
        }
    }

    /// Credit that no call holds.
    pub(super) fn available(&self) -> MilliCents {
        MilliCents(self.balance.0.saturating_sub(self.held.0))
    }

    /// Takes what a call cost off the balance and gives its hold back.
    pub(super) fn settle(&mut self, charge: MilliCents) {
        self.held = MilliCents(self.held.0.saturating_sub(billing::HOLD.0));
        self.balance = MilliCents(self.balance.0.saturating_sub(charge.0));
    }

    /// The next id of this organization.
    pub(super) fn next_id(&mut self, seed: u64) -> Uuid {
        let number = self.next_number();
        seed::uuid(seed, &[b"record", self.id.as_bytes(), &number])
    }

    /// The next signing secret of this organization.
    pub(super) fn next_secret(&mut self, seed: u64) -> String {
        let number = self.next_number();
        seed::signing_secret(seed, &[b"secret", self.id.as_bytes(), &number])
    }

    fn next_number(&mut self) -> [u8; 8] {
        self.made += 1;
        self.made.to_be_bytes()
    }
}

/// What falls due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Due {
    /// A call takes its next step.
    Call(Uuid),
    /// A delivery is to be attempted.
    Delivery(Uuid),
}

/// The place of an entry on the agenda.
pub(super) type Entry = (Moment, u64);

/// What falls due, in order. A call and a delivery have at most one entry each.
#[derive(Debug, Default)]
pub(super) struct Agenda {
    entries: BTreeMap<Entry, (Uuid, Due)>,
    made: u64,
}

impl Agenda {
    /// Puts something on the agenda, in place of its earlier entry.
    pub(super) fn plan(&mut self, entry: &mut Option<Entry>, at: Moment, org: Uuid, due: Due) {
        self.forget(entry);
        self.made += 1;
        self.entries.insert((at, self.made), (org, due));
        *entry = Some((at, self.made));
    }

    /// Takes something off the agenda.
    pub(super) fn forget(&mut self, entry: &mut Option<Entry>) {
        if let Some(entry) = entry.take() {
            self.entries.remove(&entry);
        }
    }

    fn next(&self) -> Option<Moment> {
        self.entries.keys().next().map(|(at, _)| *at)
    }

    fn take_until(&mut self, now: Moment) -> Option<(Moment, Uuid, Due)> {
        let first = self.entries.first_entry().filter(|entry| entry.key().0 <= now)?;
        let ((at, _), (org, due)) = first.remove_entry();
        Some((at, org, due))
    }
}

/// A webhook attempt that waits to be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ready {
    pub(super) org: Uuid,
    pub(super) delivery: Uuid,
    /// When it fell due; the outcome is booked at this time.
    pub(super) at: Moment,
}

/// What an endpoint works with: one organization and what all share.
pub(super) struct Scope<'a> {
    pub(super) org: &'a mut Org,
    pub(super) agenda: &'a mut Agenda,
    /// Numbers that some organization owns.
    pub(super) sold: &'a mut HashSet<String>,
    pub(super) settings: &'a Settings,
    pub(super) now: Moment,
}

/// All of it.
#[derive(Debug)]
pub(super) struct World {
    pub(super) settings: Settings,
    pub(super) clock: Clock,
    pub(super) orgs: HashMap<Uuid, Org>,
    pub(super) agenda: Agenda,
    /// The attempts that can be made, by address and in order.
    pub(super) ready: BTreeMap<String, VecDeque<Ready>>,
    pub(super) in_flight: usize,
    /// Whether anything changed since the state was last saved.
    pub(super) changed: bool,
    sold: HashSet<String>,
}

impl World {
    pub(super) fn new(settings: Settings, clock: Clock) -> Self {
        Self {
            settings,
            clock,
            orgs: HashMap::new(),
            agenda: Agenda::default(),
            ready: BTreeMap::new(),
            in_flight: 0,
            changed: false,
            sold: HashSet::new(),
        }
    }

    /// Takes over an organization from a state file and puts what it waits for on the agenda.
    pub(super) fn adopt(&mut self, mut org: Org) {
        for number in org.numbers.iter() {
            self.sold.insert(number.e164.clone());
        }
        for call in org.calls.iter_mut() {
            if let Some(at) = call.next_step() {
                self.agenda.plan(&mut call.entry, at, org.id, Due::Call(call.id));
            }
        }
        for delivery in org.deliveries.iter_mut() {
            if let Some(at) = delivery.next_attempt() {
                self.agenda.plan(&mut delivery.entry, at, org.id, Due::Delivery(delivery.id));
            }
        }
        self.orgs.insert(org.id, org);
    }

    /// The organization of a key; made when the key is new. The key itself is not kept.
    ///
    /// # Errors
    /// 401 when the key does not begin with `sk_`, 503 when there are too many organizations.
    pub(super) fn org_of_key(&mut self, key: &str) -> Result<Uuid, Refusal> {
        if !key.starts_with("sk_") || key.len() > 512 {
            return Err(unauthorized());
        }
        let id = seed::uuid(self.settings.seed, &[b"organization", key.as_bytes()]);
        if !self.orgs.contains_key(&id) {
            if self.orgs.len() >= MAX_ORGANIZATIONS {
                return Err(Refusal::new(
                    StatusCode::SERVICE_UNAVAILABLE,
                    format!("this simulator keeps at most {MAX_ORGANIZATIONS} organizations"),
                ));
            }
            self.orgs.insert(id, Org::new(self.settings.seed, id));
        }
        Ok(id)
    }

    /// What an endpoint works with.
    pub(super) fn scope(&mut self, org: Uuid, now: Moment) -> Option<Scope<'_>> {
        Some(Scope {
            org: self.orgs.get_mut(&org)?,
            agenda: &mut self.agenda,
            sold: &mut self.sold,
            settings: &self.settings,
            now,
        })
    }

    /// Does all that has fallen due: calls take their steps, attempts become ready.
    pub(super) fn catch_up(&mut self) -> Moment {
        let now = self.clock.now();
        while let Some((at, org, due)) = self.agenda.take_until(now) {
            match due {
                Due::Delivery(delivery) => {
                    let found = self.orgs.get(&org).and_then(|org| org.deliveries.get(delivery));
                    if let Some(url) = found.map(|delivery| delivery.url.clone()) {
                        let ready = Ready { org, delivery, at };
                        self.ready.entry(url).or_default().push_back(ready);
                    }
                }
                Due::Call(call) => {
                    self.changed = true;
                    if let Some(mut scope) = self.scope(org, at) {
                        super::calls::step(&mut scope, call);
                    }
                }
            }
        }
        now
    }

    /// When something falls due next.
    pub(super) fn next_due(&self) -> Option<Moment> {
        self.agenda.next()
    }

    /// Whether every attempt that has fallen due has been made.
    pub(super) fn is_quiet(&self) -> bool {
        let now = self.clock.now();
        self.ready.is_empty() && self.in_flight == 0 && self.next_due().is_none_or(|at| at > now)
    }

    /// Makes an organization new again; its numbers go back on sale.
    pub(super) fn reset(&mut self, org: Uuid) {
        if let Some(old) = self.orgs.insert(org, Org::new(self.settings.seed, org)) {
            for number in old.numbers.iter() {
                self.sold.remove(&number.e164);
            }
        }
        self.ready.retain(|_, queue| {
            queue.retain(|ready| ready.org != org);
            !queue.is_empty()
        });
        self.agenda.entries.retain(|_, (owner, _)| *owner != org);
        self.changed = true;
    }
}

/// 401, the same for a missing and a bad key.
pub(super) fn unauthorized() -> Refusal {
    Refusal::new(
        StatusCode::UNAUTHORIZED,
        "missing or invalid API key; send Authorization: Bearer sk_… (the simulator takes any sk_ key)",
    )
}
