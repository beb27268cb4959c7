//! Webhook deliveries: one for each event and destination, tried up to eight times. This file
//! books what happened; `courier` makes the attempts.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uuid::Uuid;

use super::answer::{Answer, Refusal, Reply};
use super::clock::Moment;
use super::fields;
use super::records::Record;
use super::request::Request;
use super::seed::Dice;
use super::world::{Due, Entry, Org, Ready, Scope, World};

/// The deliveries that an organization keeps; beyond them the oldest is forgotten.
const MAX_DELIVERIES: usize = 10_000;

/// Seconds from one attempt to the next, before the second to the eighth.
const DELAYS: [i64; 7] = [60, 300, 1_800, 7_200, 18_000, 36_000, 86_400];

/// The form of the body.
const API_VERSION: &str = "2026-04";

/// What happened to a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum EventType {
    Queued,
    Ringing,
    Answered,
    Completed,
    Failed,
    NoAnswer,
    Busy,
    Canceled,
}

/// The event types as the API writes them.
pub(super) const EVENT_TYPES: &[(&str, EventType)] = &[
    ("call.queued", EventType::Queued),
    ("call.ringing", EventType::Ringing),
    ("call.answered", EventType::Answered),
    ("call.completed", EventType::Completed),
    ("call.failed", EventType::Failed),
    ("call.no_answer", EventType::NoAnswer),
    ("call.busy", EventType::Busy),
    ("call.canceled", EventType::Canceled),
];

impl EventType {
    pub(super) fn word(self) -> &'static str {
        EVENT_TYPES.iter().find(|(_, event)| *event == self).map_or("", |(word, _)| word)
    }

    fn is_terminal(self) -> bool {
        !matches!(self, Self::Queued | Self::Ringing | Self::Answered)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Status {
    Pending,
    Delivered,
    Exhausted,
}

const STATUSES: &[(&str, Status)] = &[
    ("pending", Status::Pending),
    ("delivered", Status::Delivered),
    ("exhausted", Status::Exhausted),
];

/// `webhook_status` of a call: how the last event fared on its way to the call's `webhook_url`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum HookStatus {
    #[default]
    Pending,
    Delivered,
    Failed,
}

/// What a call shows of the delivery of its last event.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct CallHook {
    pub(super) status: HookStatus,
    pub(super) error: Option<String>,
    pub(super) updated: Option<Moment>,
}

/// One event on its way to one address.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Delivery {
    pub(super) id: Uuid,
    endpoint_id: Option<Uuid>,
    call_id: Uuid,
    event: EventType,
    pub(super) url: String,
    status: Status,
    attempts: u32,
    manual_retries: u32,
    /// The next attempt was asked for, and does not count among the eight.
    manual: bool,
    next_attempt_at: Moment,
    last_error: Option<String>,
    last_response_status: Option<u16>,
    delivered_at: Option<Moment>,
    created_at: Moment,
    updated_at: Moment,
    body: String,
    #[serde(skip)]
    pub(super) entry: Option<Entry>,
}

impl Record for Delivery {
    fn id(&self) -> Uuid {
        self.id
    }
}

/// One HTTP request to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Attempt {
    pub(super) ready: Ready,
    pub(super) url: String,
    pub(super) secret: String,
    pub(super) event: EventType,
    pub(super) call_id: Uuid,
    pub(super) body: String,
}

/// What came of it: the HTTP status, or why there is none.
pub(super) type Outcome = Result<u16, String>;

impl Delivery {
    /// When the next attempt is due, if there is one.
    pub(super) fn next_attempt(&self) -> Option<Moment> {
        (self.status == Status::Pending).then_some(self.next_attempt_at)
    }

    fn show(&self, org: Uuid) -> Value {
        json!({
            "id": self.id,
            "org_id": org,
            "endpoint_id": self.endpoint_id,
            "call_id": self.call_id,
            "event_type": self.event.word(),
            "url": self.url,
            "status": self.status,
            "attempt_count": self.attempts,
            "manual_retry_count": self.manual_retries,
            "next_attempt_at": self.next_attempt_at.text(),
            "last_error": self.last_error,
            "last_response_status": self.last_response_status,
            "delivered_at": self.delivered_at.map(Moment::text),
            "created_at": self.created_at.text(),
            "updated_at": self.updated_at.text(),
            "simulated": true,
        })
    }
}

/// Makes a delivery for each destination that an event of a call has.
pub(super) fn announce(scope: &mut Scope<'_>, call: Uuid, event: EventType) {
    let Some(found) = scope.org.calls.get(call) else { return };
    let inline = found.webhook_url.clone().map(|url| (None, url));
    let endpoints = scope.org.endpoints.iter().filter(|endpoint| endpoint.wants(event));
    let endpoints = endpoints.map(|endpoint| (Some(endpoint.id), endpoint.url.clone()));
    let destinations: Vec<_> = inline.into_iter().chain(endpoints).collect();
    if destinations.is_empty() {
        return;
    }
    let shown = found.show(scope.settings.seed, scope.now);
    for (endpoint_id, url) in destinations {
        let id = scope.org.next_id(scope.settings.seed);
        let body = json!({
            "id": id,
            "type": event.word(),
            "created": scope.now.unix_seconds(),
            "api_version": API_VERSION,
            "data": {"call": &shown},
            "simulated": true,
        });
        let mut delivery = Delivery {
            id,
            endpoint_id,
            call_id: call,
            event,
            url,
            status: Status::Pending,
            attempts: 0,
            manual_retries: 0,
            manual: false,
            next_attempt_at: scope.now,
            last_error: None,
            last_response_status: None,
            delivered_at: None,
            created_at: scope.now,
            updated_at: scope.now,
            body: body.to_string(),
            entry: None,
        };
        scope.agenda.plan(&mut delivery.entry, scope.now, scope.org.id, Due::Delivery(id));
        scope.org.deliveries.push(delivery);
        if scope.org.deliveries.len() > MAX_DELIVERIES
            && let Some(mut oldest) = scope.org.deliveries.drop_oldest()
        {
            scope.agenda.forget(&mut oldest.entry);
        }
    }
}

/// The attempt to be made for an entry of the agenda; `None` when it is no longer wanted.
pub(super) fn prepare(world: &mut World, ready: Ready) -> Option<Attempt> {
    let org = world.orgs.get_mut(&ready.org)?;
    let delivery = org.deliveries.get(ready.delivery)?;
    if delivery.next_attempt() != Some(ready.at) {
        return None;
    }
    let secret = match delivery.endpoint_id {
        None => Ok(org.signing_secret.clone()),
        Some(id) => match org.endpoints.iter().find(|endpoint| endpoint.id == id) {
            None => Err("the endpoint was deleted"),
            Some(endpoint) if !endpoint.is_enabled() => Err("the endpoint is disabled"),
            Some(endpoint) => Ok(endpoint.secret.clone()),
        },
    };
    match secret {
        Ok(secret) => Some(Attempt {
            ready,
            url: delivery.url.clone(),
            secret,
            event: delivery.event,
            call_id: delivery.call_id,
            body: delivery.body.clone(),
        }),
        Err(reason) => {
            // Nobody listens there any more: the delivery ends without an attempt, and without
            // counting against the endpoint.
            world.changed = true;
            let delivery = org.deliveries.get_mut(ready.delivery)?;
            delivery.status = Status::Exhausted;
            delivery.last_error = Some(reason.to_owned());
            delivery.updated_at = ready.at;
            None
        }
    }
}

/// Books the outcome of an attempt and plans the next.
pub(super) fn book(world: &mut World, ready: Ready, outcome: Outcome) {
    let seed = world.settings.seed;
    let Some(scope) = world.scope(ready.org, ready.at) else { return };
    let Some(delivery) = scope.org.deliveries.get_mut(ready.delivery) else { return };
    if delivery.next_attempt() != Some(ready.at) {
        // A replay was asked for while this attempt was under way; its own outcome counts.
        return;
    }
    let delivered = matches!(outcome, Ok(200..=299));
    let manual = std::mem::take(&mut delivery.manual);
    if !manual {
        delivery.attempts += 1;
    }
    delivery.updated_at = ready.at;
    delivery.last_response_status = outcome.as_ref().ok().copied();
    delivery.last_error = match outcome {
        Ok(_) if delivered => None,
        Ok(status) => Some(format!("HTTP {status}")),
        Err(reason) => Some(reason),
    };
    if delivered {
        delivery.status = Status::Delivered;
        delivery.delivered_at.get_or_insert(ready.at);
    } else if let Some(delay) = delay(seed, delivery) {
        delivery.next_attempt_at = ready.at.after(delay);
        let due = Due::Delivery(delivery.id);
        scope.agenda.plan(&mut delivery.entry, delivery.next_attempt_at, ready.org, due);
    } else {
        delivery.status = Status::Exhausted;
    }
    let (status, endpoint) = (delivery.status, delivery.endpoint_id);
    let (call, event, error) = (delivery.call_id, delivery.event, delivery.last_error.clone());
    match endpoint.map(|id| scope.org.endpoint_mut(id)) {
        Some(Some(endpoint)) if status == Status::Delivered => endpoint.succeeded(),
        Some(Some(endpoint)) if status == Status::Exhausted && !manual => endpoint.failed(ready.at),
        Some(_) => {}
        None if event.is_terminal() => {
            if let Some(call) = scope.org.calls.get_mut(call) {
                call.hook = CallHook {
                    status: match status {
                        Status::Pending => HookStatus::Pending,
                        Status::Delivered => HookStatus::Delivered,
                        Status::Exhausted => HookStatus::Failed,
                    },
                    error,
                    updated: Some(ready.at),
                };
            }
        }
        None => {}
    }
    world.changed = true;
}

/// Milliseconds until the next automatic attempt, with up to a fifth more or less that follows
/// from the seed; `None` after the eighth.
fn delay(seed: u64, delivery: &Delivery) -> Option<i64> {
    let made = usize::try_from(delivery.attempts).ok()?;
    let base = match made {
        0 => 0,
        made => *DELAYS.get(made - 1)? * 1_000,
    };
    let mut dice =
        Dice::new(seed, &[b"jitter", delivery.id.as_bytes(), &delivery.attempts.to_be_bytes()]);
    let share = i64::try_from(dice.below(401)).unwrap_or(200) - 200;
    Some(base + base * share / 1_000)
}

impl Org {
    fn delivery(&self, text: &str) -> Result<&Delivery, Refusal> {
        fields::id(text)
            .and_then(|id| self.deliveries.get(id))
            .ok_or_else(|| Refusal::not_found("webhook delivery", text))
    }
}

/// GET /v1/webhook_deliveries
pub(super) fn list(scope: &mut Scope<'_>, mut request: Request) -> Answer {
    let endpoint = request.query.id("endpoint_id")?;
    let call = request.query.id("call_id")?;
    let status = request.query.word("status", STATUSES)?;
    let limit = request.query.limit(50, 200)?;
    request.query.end()?;
    let org = &*scope.org;
    let shown: Vec<Value> = org
        .deliveries
        .iter()
        .rev()
        .filter(|found| {
            (endpoint.is_none() || found.endpoint_id == endpoint)
                && call.is_none_or(|call| found.call_id == call)
                && status.is_none_or(|status| found.status == status)
        })
        .take(limit)
        .map(|found| found.show(org.id))
        .collect();
    Ok(Reply::ok(json!({"data": shown})))
}

/// GET /v1/webhook_deliveries/{id}
pub(super) fn get(scope: &mut Scope<'_>, request: Request) -> Answer {
    let delivery = scope.org.delivery(request.id())?;
    request.query.end()?;
    Ok(Reply::ok(delivery.show(scope.org.id)))
}

/// POST /v1/webhook_deliveries/{id}/redeliver
pub(super) fn redeliver(scope: &mut Scope<'_>, request: Request) -> Answer {
    let id = scope.org.delivery(request.id())?.id;
    request.query.end()?;
    let missing = || Refusal::not_found("webhook delivery", "");
    let delivery = scope.org.deliveries.get_mut(id).ok_or_else(missing)?;
    delivery.status = Status::Pending;
    delivery.manual = true;
    delivery.manual_retries += 1;
    delivery.next_attempt_at = scope.now;
    delivery.updated_at = scope.now;
    scope.agenda.plan(&mut delivery.entry, scope.now, scope.org.id, Due::Delivery(id));
    let shown = delivery.show(scope.org.id);
    Ok(Reply::ok(shown))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_delay_stays_within_a_fifth_of_the_documented_one() {
        let mut delivery = Delivery {
            id: Uuid::nil(),
            endpoint_id: None,
            call_id: Uuid::nil(),
            event: EventType::Queued,
            url: String::new(),
            status: Status::Pending,
            attempts: 0,
            manual_retries: 0,
            manual: false,
            next_attempt_at: jiff::Timestamp::UNIX_EPOCH.into(),
            last_error: None,
            last_response_status: None,
            delivered_at: None,
            created_at: jiff::Timestamp::UNIX_EPOCH.into(),
            updated_at: jiff::Timestamp::UNIX_EPOCH.into(),
            body: String::new(),
            entry: None,
        };
        let mut jitters = std::collections::HashSet::new();
        for (attempts, seconds) in (1..).zip([60, 300, 1_800, 7_200, 18_000, 36_000, 86_400]) {
            delivery.attempts = attempts;
            for seed in 0..50 {
                let planned = delay(seed, &delivery).unwrap();
                assert!(
                    (seconds * 800..=seconds * 1_200).contains(&planned),
                    "{attempts} {planned}"
                );
                assert_eq!(delay(seed, &delivery), Some(planned));
                jitters.insert(planned / seconds);
            }
        }
        assert!(jitters.len() > 100, "the delays hardly differ");
        delivery.attempts = 8;
        assert_eq!(delay(0, &delivery), None);
    }
}
