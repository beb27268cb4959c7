//! Webhook endpoints: subscriptions of an address to the organization's call events.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uuid::Uuid;

use super::answer::{Answer, Refusal, Reply};
use super::clock::Moment;
use super::deliveries::{EVENT_TYPES, EventType};
use super::fields::{self, Fields};
use super::request::Request;
use super::webhook_url;
use super::world::{Org, Scope};

/// More endpoints than this are refused.
const MAX_ENDPOINTS: usize = 1_000;
/// Exhausted deliveries in a row that switch an endpoint off.
const TOO_MANY_FAILURES: u32 = 10;

/// A subscription.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Endpoint {
    pub(super) id: Uuid,
    pub(super) url: String,
    pub(super) secret: String,
    description: Option<String>,
    /// The words as given; `*` stands for all.
    enabled_events: Vec<String>,
    disabled: Option<Disabled>,
    consecutive_failures: u32,
    created_at: Moment,
    updated_at: Moment,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Disabled {
    at: Moment,
    by_failures: bool,
}

impl Endpoint {
    /// Whether an event goes to this endpoint now.
    pub(super) fn wants(&self, event: EventType) -> bool {
        self.is_enabled()
            && self.enabled_events.iter().any(|word| word == "*" || word == event.word())
    }

    pub(super) fn is_enabled(&self) -> bool {
        self.disabled.is_none()
    }

    /// A delivery got through.
    pub(super) fn succeeded(&mut self) {
        self.consecutive_failures = 0;
    }

    /// A delivery is exhausted; after ten in a row the endpoint is switched off.
    pub(super) fn failed(&mut self, at: Moment) {
        self.consecutive_failures += 1;
        if self.consecutive_failures >= TOO_MANY_FAILURES && self.disabled.is_none() {
            self.disabled = Some(Disabled { at, by_failures: true });
            self.updated_at = at;
        }
    }

    fn show(&self, org: Uuid) -> Value {
        let reason =
            |disabled: Disabled| if disabled.by_failures { "too_many_failures" } else { "manual" };
        json!({
            "id": self.id,
            "org_id": org,
            "url": self.url,
            "description": self.description,
            "enabled_events": self.enabled_events,
            "status": if self.is_enabled() { "enabled" } else { "disabled" },
            "disabled_reason": self.disabled.map(reason),
            "disabled_at": self.disabled.map(|disabled| disabled.at.text()),
            "consecutive_failures": self.consecutive_failures,
            "created_at": self.created_at.text(),
            "updated_at": self.updated_at.text(),
            "simulated": true,
        })
    }

    fn show_with_secret(&self, org: Uuid) -> Value {
        let mut shown = self.show(org);
        if let Some(map) = shown.as_object_mut() {
            map.insert("signing_secret".to_owned(), json!(self.secret));
        }
        shown
    }
}

impl Org {
    pub(super) fn endpoint_mut(&mut self, id: Uuid) -> Option<&mut Endpoint> {
        self.endpoints.iter_mut().find(|endpoint| endpoint.id == id)
    }

    fn endpoint_of(&mut self, text: &str) -> Result<&mut Endpoint, Refusal> {
        fields::id(text)
            .and_then(|id| self.endpoint_mut(id))
            .ok_or_else(|| Refusal::not_found("webhook endpoint", text))
    }
}

/// POST /v1/webhook_endpoints
pub(super) fn create(scope: &mut Scope<'_>, request: Request) -> Answer {
    request.query.end()?;
    let mut fields = Fields::parse(&request.body)?;
    let url = fields.required_text("url")?;
    webhook_url::check("url", &url, scope.settings.allow_private_webhooks)?;
    let description = fields.clearable("description")?.flatten();
    let enabled_events = events(&mut fields)?.unwrap_or_else(|| vec!["*".to_owned()]);
    fields.end()?;
    if scope.org.endpoints.len() >= MAX_ENDPOINTS {
        let text = format!("an organization has at most {MAX_ENDPOINTS} webhook endpoints here");
        return Err(Refusal::bad(text));
    }
    let endpoint = Endpoint {
        id: scope.org.next_id(scope.settings.seed),
        url,
        secret: scope.org.next_secret(scope.settings.seed),
        description,
        enabled_events,
        disabled: None,
        consecutive_failures: 0,
        created_at: scope.now,
        updated_at: scope.now,
    };
    let shown = endpoint.show_with_secret(scope.org.id);
    scope.org.endpoints.push(endpoint);
    Ok(Reply::created(shown))
}

/// GET /v1/webhook_endpoints
pub(super) fn list(scope: &mut Scope<'_>, request: Request) -> Answer {
    request.query.end()?;
    let org = &*scope.org;
    let shown: Vec<Value> = org.endpoints.iter().rev().map(|found| found.show(org.id)).collect();
    Ok(Reply::ok(json!({"data": shown})))
}

/// GET /v1/webhook_endpoints/{id}
pub(super) fn get(scope: &mut Scope<'_>, request: Request) -> Answer {
    let org = scope.org.id;
    let endpoint = scope.org.endpoint_of(request.id())?;
    request.query.end()?;
    Ok(Reply::ok(endpoint.show(org)))
}

/// PATCH /v1/webhook_endpoints/{id}
pub(super) fn update(scope: &mut Scope<'_>, request: Request) -> Answer {
    let org = scope.org.id;
    let endpoint = scope.org.endpoint_of(request.id())?;
    request.query.end()?;
    let mut fields = Fields::parse(&request.body)?;
    let url = fields.text("url")?;
    if let Some(url) = &url {
        webhook_url::check("url", url, scope.settings.allow_private_webhooks)?;
    }
    let description = fields.clearable("description")?;
    let enabled_events = events(&mut fields)?;
    let enabled = fields.word("status", &[("enabled", true), ("disabled", false)])?;
    fields.end()?;
    if let Some(url) = url {
        endpoint.url = url;
    }
    if let Some(description) = description {
        endpoint.description = description;
    }
    if let Some(enabled_events) = enabled_events {
        endpoint.enabled_events = enabled_events;
    }
    match enabled {
        Some(true) => {
            endpoint.disabled = None;
            endpoint.consecutive_failures = 0;
        }
        Some(false) => {
            endpoint.disabled.get_or_insert(Disabled { at: scope.now, by_failures: false });
        }
        None => {}
    }
    endpoint.updated_at = scope.now;
    Ok(Reply::ok(endpoint.show(org)))
}

/// DELETE /v1/webhook_endpoints/{id}
pub(super) fn delete(scope: &mut Scope<'_>, request: Request) -> Answer {
    let id = scope.org.endpoint_of(request.id())?.id;
    request.query.end()?;
    scope.org.endpoints.retain(|endpoint| endpoint.id != id);
    Ok(Reply::ok(json!({"id": id, "deleted": true, "simulated": true})))
}

/// POST /v1/webhook_endpoints/{id}/rotate_secret
pub(super) fn rotate_secret(scope: &mut Scope<'_>, request: Request) -> Answer {
    let org = scope.org.id;
    scope.org.endpoint_of(request.id())?;
    let secret = scope.org.next_secret(scope.settings.seed);
    let endpoint = scope.org.endpoint_of(request.id())?;
    request.query.end()?;
    endpoint.secret = secret;
    endpoint.updated_at = scope.now;
    Ok(Reply::ok(endpoint.show_with_secret(org)))
}

/// The subscribed events; each must be known, and each is kept once.
fn events(fields: &mut Fields) -> Result<Option<Vec<String>>, Refusal> {
    let Some(words) = fields.texts("enabled_events")? else { return Ok(None) };
    let mut kept: Vec<String> = Vec::new();
    for word in words {
        if word != "*" {
            fields::choose("enabled_events", &word, EVENT_TYPES)?;
        }
        if !kept.contains(&word) {
            kept.push(word);
        }
    }
    Ok(Some(kept))
}
