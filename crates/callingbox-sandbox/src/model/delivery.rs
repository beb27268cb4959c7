//! Webhook deliveries: one for each event and destination, attempted up to eight times. Knows neither how an attempt is
//! made nor when the engine makes it.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uuid::Uuid;

use super::agenda::AgendaKey;
use super::records::Record;
use crate::clock::Moment;
use crate::seed::SeededRng;

/// Seconds from one attempt to the next, before the second to the eighth.
const RETRY_DELAYS: [i64; 7] = [60, 300, 1_800, 7_200, 18_000, 36_000, 86_400];

/// The version of the event format.
const API_VERSION: &str = "2026-04";

/// What happened to a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum EventType {
    Queued,
    Ringing,
    Answered,
    Completed,
    Failed,
    NoAnswer,
    Busy,
    Canceled,
}

impl EventType {
    /// The event types as the API writes them.
    pub(crate) const WORDS: &[(&str, Self)] = &[
        ("call.queued", Self::Queued),
        ("call.ringing", Self::Ringing),
        ("call.answered", Self::Answered),
        ("call.completed", Self::Completed),
        ("call.failed", Self::Failed),
        ("call.no_answer", Self::NoAnswer),
        ("call.busy", Self::Busy),
        ("call.canceled", Self::Canceled),
    ];

    pub(crate) fn as_str(self) -> &'static str {
        Self::WORDS.iter().find(|(_, event)| *event == self).map_or("", |(word, _)| word)
    }

    pub(crate) fn is_terminal(self) -> bool {
        !matches!(self, Self::Queued | Self::Ringing | Self::Answered)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum DeliveryStatus {
    Pending,
    Delivered,
    Exhausted,
}

impl DeliveryStatus {
    pub(crate) const WORDS: &[(&str, Self)] = &[
        ("pending", Self::Pending),
        ("delivered", Self::Delivered),
        ("exhausted", Self::Exhausted),
    ];
}

/// The outcome of an attempt: the HTTP status, or why there is none.
pub(crate) type DeliveryOutcome = Result<u16, String>;

/// One event for one destination.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Delivery {
    pub(crate) id: Uuid,
    /// `None` for the call's own `webhook_url`.
    pub(crate) endpoint_id: Option<Uuid>,
    pub(crate) call_id: Uuid,
    pub(crate) event: EventType,
    pub(crate) url: String,
    pub(crate) status: DeliveryStatus,
    attempts: u32,
    manual_retries: u32,
    /// Whether a client requested the next attempt, which then does not count among the eight.
    is_manual: bool,
    next_attempt_at: Moment,
    pub(crate) last_error: Option<String>,
    last_response_status: Option<u16>,
    delivered_at: Option<Moment>,
    created_at: Moment,
    updated_at: Moment,
    pub(crate) body: String,
    #[serde(skip)]
    pub(crate) agenda_key: Option<AgendaKey>,
}

impl Record for Delivery {
    fn id(&self) -> Uuid {
        self.id
    }
}

impl Delivery {
    /// A delivery of an event whose first attempt is due now. `call` is the call as the event shows it.
    pub(crate) fn new(
        id: Uuid,
        call_id: Uuid,
        call: &Value,
        event: EventType,
        (endpoint_id, url): (Option<Uuid>, String),
        now: Moment,
    ) -> Self {
        let body = json!({
            "id": id,
            "type": event.as_str(),
            "created": now.as_unix_seconds(),
            "api_version": API_VERSION,
            "data": {"call": call},
            "simulated": true,
        });
        Self {
            id,
            endpoint_id,
            call_id,
            event,
            url,
            status: DeliveryStatus::Pending,
            attempts: 0,
            manual_retries: 0,
            is_manual: false,
            next_attempt_at: now,
            last_error: None,
            last_response_status: None,
            delivered_at: None,
            created_at: now,
            updated_at: now,
            body: body.to_string(),
            agenda_key: None,
        }
    }

    /// When the next attempt is due, if there is one.
    pub(crate) fn next_attempt_at(&self) -> Option<Moment> {
        (self.status == DeliveryStatus::Pending).then_some(self.next_attempt_at)
    }

    /// Makes the delivery due now, whatever became of its earlier attempts.
    pub(crate) fn request_retry(&mut self, now: Moment) {
        self.status = DeliveryStatus::Pending;
        self.is_manual = true;
        self.manual_retries += 1;
        self.next_attempt_at = now;
        self.updated_at = now;
    }

    /// Ends the delivery without another attempt.
    pub(crate) fn give_up(&mut self, reason: &str, now: Moment) {
        self.status = DeliveryStatus::Exhausted;
        self.last_error = Some(reason.to_owned());
        self.updated_at = now;
    }

    /// Records an attempt and plans the next one. Returns whether it was one of the eight automatic attempts.
    pub(crate) fn record_attempt(
        &mut self,
        outcome: DeliveryOutcome,
        seed: u64,
        now: Moment,
    ) -> bool {
        let is_automatic = !std::mem::take(&mut self.is_manual);
        self.attempts += u32::from(is_automatic);
        self.updated_at = now;
        self.last_response_status = outcome.as_ref().ok().copied();
        let is_delivered = matches!(outcome, Ok(200..=299));
        self.last_error = match outcome {
            Ok(_) if is_delivered => None,
            Ok(status) => Some(format!("HTTP {status}")),
            Err(reason) => Some(reason),
        };
        if is_delivered {
            self.status = DeliveryStatus::Delivered;
            self.delivered_at.get_or_insert(now);
        } else if let Some(delay) = self.retry_delay_millis(seed) {
            self.next_attempt_at = now.plus_millis(delay);
        } else {
            self.status = DeliveryStatus::Exhausted;
        }
        is_automatic
    }

    /// Milliseconds until the next automatic attempt, varied by up to a fifth in either direction as the seed decides;
    /// `None` after the eighth.
    fn retry_delay_millis(&self, seed: u64) -> Option<i64> {
        let base = match usize::try_from(self.attempts).ok()? {
            0 => 0,
            attempts => *RETRY_DELAYS.get(attempts - 1)? * 1_000,
        };
        let parts: [&[u8]; 3] = [b"jitter", self.id.as_bytes(), &self.attempts.to_be_bytes()];
        let random = SeededRng::new(seed, &parts).next_below(401);
        let per_mille = i64::try_from(random).unwrap_or(200) - 200;
        Some(base + base * per_mille / 1_000)
    }

    pub(crate) fn to_json(&self, org: Uuid) -> Value {
        json!({
            "id": self.id,
            "org_id": org,
            "endpoint_id": self.endpoint_id,
            "call_id": self.call_id,
            "event_type": self.event.as_str(),
            "url": self.url,
            "status": self.status,
            "attempt_count": self.attempts,
            "manual_retry_count": self.manual_retries,
            "next_attempt_at": self.next_attempt_at.to_iso8601(),
            "last_error": self.last_error,
            "last_response_status": self.last_response_status,
            "delivered_at": self.delivered_at.map(Moment::to_iso8601),
            "created_at": self.created_at.to_iso8601(),
            "updated_at": self.updated_at.to_iso8601(),
            "simulated": true,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_delay_is_within_a_fifth_of_the_documented_one() {
        let destination = (None, String::new());
        let epoch = jiff::Timestamp::UNIX_EPOCH.into();
        let id = Uuid::nil();
        let mut delivery =
            Delivery::new(id, id, &Value::Null, EventType::Queued, destination, epoch);
        let mut delays_by_base = std::collections::HashSet::new();
        for (attempts, seconds) in (1..).zip([60, 300, 1_800, 7_200, 18_000, 36_000, 86_400]) {
            delivery.attempts = attempts;
            for seed in 0..50 {
                let delay = delivery.retry_delay_millis(seed).unwrap();
                let range = seconds * 800..=seconds * 1_200;
                assert!(range.contains(&delay), "{attempts} {delay}");
                assert_eq!(delivery.retry_delay_millis(seed), Some(delay));
                delays_by_base.insert(delay / seconds);
            }
        }
        assert!(delays_by_base.len() > 100, "the delays hardly differ");
        delivery.attempts = 8;
        assert_eq!(delivery.retry_delay_millis(0), None);
    }
}
