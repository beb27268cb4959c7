//! `/v1/webhook_endpoints`.

use serde_json::{Value, json};
use uuid::Uuid;

use super::fields::{InputFields, change, parse_id, parse_word};
use super::reply::{ApiError, HandlerResult, Reply};
use super::request::ApiRequest;
use crate::model::{EventType, Organization, WebhookEndpoint};
use crate::store::OrgContext;
use crate::webhook_url::check_webhook_url;

const MAX_ENDPOINTS: usize = 1_000;

/// GET /v1/webhook_endpoints
pub(crate) fn list_endpoints(context: &mut OrgContext<'_>, _: ApiRequest) -> HandlerResult {
    let org = &*context.org;
    let shown = org.endpoints.iter().rev().map(|endpoint| endpoint.to_json(org.id));
    Ok(Reply::ok(json!({"data": shown.collect::<Vec<Value>>()})))
}

/// POST /v1/webhook_endpoints
pub(crate) fn create_endpoint(context: &mut OrgContext<'_>, request: ApiRequest) -> HandlerResult {
    let mut fields = InputFields::from_body(&request.body)?;
    let url = parse_url(fields.take_required_text("url")?, context)?;
    let description = fields.take_nullable_text("description")?.flatten();
    let enabled_events = take_events(&mut fields)?.unwrap_or_else(|| vec!["*".to_owned()]);
    fields.reject_unknown()?;
    if context.org.endpoints.len() >= MAX_ENDPOINTS {
        let message = format!("an organization has at most {MAX_ENDPOINTS} webhook endpoints here");
        return Err(ApiError::bad_request(message));
    }
    let (id, secret) = (context.next_id(), context.next_secret());
    let endpoint = WebhookEndpoint::new(id, url, secret, description, enabled_events, context.now);
    let shown = endpoint.to_json_with_secret(context.org.id);
    context.org.endpoints.push(endpoint);
    Ok(Reply::created(shown))
}

/// GET /v1/webhook_endpoints/{id}
pub(crate) fn get_endpoint(context: &mut OrgContext<'_>, request: ApiRequest) -> HandlerResult {
    let endpoint = find_endpoint(context.org, request.id())?;
    Ok(Reply::ok(endpoint.to_json(context.org.id)))
}

/// PATCH /v1/webhook_endpoints/{id}
pub(crate) fn update_endpoint(context: &mut OrgContext<'_>, request: ApiRequest) -> HandlerResult {
    let id = find_endpoint(context.org, request.id())?.id;
    let mut fields = InputFields::from_body(&request.body)?;
    let url = fields.take_text("url")?.map(|url| parse_url(url, context)).transpose()?;
    let description = fields.take_nullable_text("description")?;
    let enabled_events = take_events(&mut fields)?;
    let enabled = fields.take_word("status", &[("enabled", true), ("disabled", false)])?;
    fields.reject_unknown()?;
    let (org, now) = (context.org.id, context.now);
    let endpoint = find_endpoint_mut(context.org, id)?;
    change(&mut endpoint.url, url);
    change(&mut endpoint.description, description);
    change(&mut endpoint.enabled_events, enabled_events);
    match enabled {
        Some(true) => endpoint.enable(),
        Some(false) => endpoint.disable(now),
        None => {}
    }
    endpoint.updated_at = now;
    Ok(Reply::ok(endpoint.to_json(org)))
}

/// DELETE /v1/webhook_endpoints/{id}
pub(crate) fn delete_endpoint(context: &mut OrgContext<'_>, request: ApiRequest) -> HandlerResult {
    let id = find_endpoint(context.org, request.id())?.id;
    context.org.endpoints.retain(|endpoint| endpoint.id != id);
    Ok(Reply::ok(json!({"id": id, "deleted": true, "simulated": true})))
}

/// POST /v1/webhook_endpoints/{id}/rotate_secret
pub(crate) fn rotate_secret(context: &mut OrgContext<'_>, request: ApiRequest) -> HandlerResult {
    let id = find_endpoint(context.org, request.id())?.id;
    let secret = context.next_secret();
    let (org, now) = (context.org.id, context.now);
    let endpoint = find_endpoint_mut(context.org, id)?;
    endpoint.secret = secret;
    endpoint.updated_at = now;
    Ok(Reply::ok(endpoint.to_json_with_secret(org)))
}

fn find_endpoint<'a>(org: &'a Organization, text: &str) -> Result<&'a WebhookEndpoint, ApiError> {
    parse_id(text)
        .and_then(|id| org.endpoint(id))
        .ok_or_else(|| ApiError::not_found("webhook endpoint", text))
}

fn find_endpoint_mut(org: &mut Organization, id: Uuid) -> Result<&mut WebhookEndpoint, ApiError> {
    org.endpoint_mut(id).ok_or_else(|| ApiError::not_found("webhook endpoint", &id.to_string()))
}

fn parse_url(url: String, context: &OrgContext<'_>) -> Result<String, ApiError> {
    check_webhook_url(&url, context.settings.allow_private_webhooks)
        .map_err(|expected| ApiError::invalid_value("url", &expected))?;
    Ok(url)
}

/// The subscribed events. Each must be known, and each is kept once.
fn take_events(fields: &mut InputFields) -> Result<Option<Vec<String>>, ApiError> {
    let Some(words) = fields.take_texts("enabled_events")? else { return Ok(None) };
    let mut events: Vec<String> = Vec::new();
    for word in words {
        if word != "*" {
            parse_word("enabled_events", &word, EventType::WORDS)?;
        }
        if !events.contains(&word) {
            events.push(word);
        }
    }
    Ok(Some(events))
}
