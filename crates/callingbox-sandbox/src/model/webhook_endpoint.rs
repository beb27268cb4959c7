//! Webhook endpoints: addresses that subscribe to the organization's call events.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uuid::Uuid;

use super::delivery::EventType;
use crate::clock::Moment;

/// This many exhausted deliveries in a row disable an endpoint.
const MAX_CONSECUTIVE_FAILURES: u32 = 10;

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct WebhookEndpoint {
    pub(crate) id: Uuid,
    pub(crate) url: String,
    pub(crate) secret: String,
    pub(crate) description: Option<String>,
    /// The words as the client gave them; `*` subscribes to all events.
    pub(crate) enabled_events: Vec<String>,
    disabled: Option<Deactivation>,
    consecutive_failures: u32,
    created_at: Moment,
    pub(crate) updated_at: Moment,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Deactivation {
    at: Moment,
    by_failures: bool,
}

impl WebhookEndpoint {
    pub(crate) fn new(
        id: Uuid,
        url: String,
        secret: String,
        description: Option<String>,
        enabled_events: Vec<String>,
        now: Moment,
    ) -> Self {
        Self {
            id,
            url,
            secret,
            description,
            enabled_events,
            disabled: None,
            consecutive_failures: 0,
            created_at: now,
            updated_at: now,
        }
    }

    pub(crate) fn is_enabled(&self) -> bool {
        self.disabled.is_none()
    }

    /// Whether it is enabled and subscribes to an event.
    pub(crate) fn accepts_event(&self, event: EventType) -> bool {
        self.is_enabled()
            && self.enabled_events.iter().any(|word| word == "*" || word == event.as_str())
    }

    pub(crate) fn enable(&mut self) {
        self.disabled = None;
        self.consecutive_failures = 0;
    }

    pub(crate) fn disable(&mut self, now: Moment) {
        self.disabled.get_or_insert(Deactivation { at: now, by_failures: false });
    }

    pub(crate) fn record_success(&mut self) {
        self.consecutive_failures = 0;
    }

    /// Counts an exhausted delivery and, after ten in a row, disables the endpoint.
    pub(crate) fn record_failure(&mut self, now: Moment) {
        self.consecutive_failures += 1;
        if self.consecutive_failures >= MAX_CONSECUTIVE_FAILURES && self.disabled.is_none() {
            self.disabled = Some(Deactivation { at: now, by_failures: true });
            self.updated_at = now;
        }
    }

    pub(crate) fn to_json(&self, org: Uuid) -> Value {
        let reason = |disabled: Deactivation| match disabled.by_failures {
            true => "too_many_failures",
            false => "manual",
        };
        json!({
            "id": self.id,
            "org_id": org,
            "url": self.url,
            "description": self.description,
            "enabled_events": self.enabled_events,
            "status": if self.is_enabled() { "enabled" } else { "disabled" },
            "disabled_reason": self.disabled.map(reason),
            "disabled_at": self.disabled.map(|disabled| disabled.at.to_iso8601()),
            "consecutive_failures": self.consecutive_failures,
            "created_at": self.created_at.to_iso8601(),
            "updated_at": self.updated_at.to_iso8601(),
            "simulated": true,
        })
    }

    /// The endpoint with its secret, as creation and rotation show it.
    pub(crate) fn to_json_with_secret(&self, org: Uuid) -> Value {
        let mut shown = self.to_json(org);
        if let Some(map) = shown.as_object_mut() {
            map.insert("signing_secret".to_owned(), json!(self.secret));
        }
        shown
    }
}
