//! `/sandbox/faults`, and how a fault changes the reply to a request.

use std::time::Duration;

use http::StatusCode;
use serde_json::{Value, json};

use super::fields::InputFields;
use super::reply::{ApiError, DeliveryMode, HandlerResult, Reply};
use super::request::ApiRequest;
use crate::model::{Fault, FaultKind, Organization};
use crate::store::OrgContext;

const MAX_FAULTS: usize = 100;
const MAX_DELAY_MILLIS: u64 = 600_000;

impl Fault {
    /// Replaces the true reply by the one that the client gets.
    pub(crate) fn apply(&self, reply: Reply) -> Reply {
        let mode = match &self.kind {
            FaultKind::Status { .. } => return self.reply_without_effect().unwrap_or(reply),
            FaultKind::Delay(delay) => DeliveryMode::Late(*delay),
            FaultKind::Reset => DeliveryMode::Reset,
            FaultKind::Truncate => DeliveryMode::Truncated,
            FaultKind::SlowBody(delay) => DeliveryMode::Slow(*delay),
        };
        Reply { mode, ..reply }
    }

    /// The reply when the request does not take effect; `None` when the fault needs the true reply.
    pub(crate) fn reply_without_effect(&self) -> Option<Reply> {
        match &self.kind {
            FaultKind::Status { status, body, retry_after } => {
                let text = status.canonical_reason().unwrap_or("fault").to_ascii_lowercase();
                let body = body.clone();
                let body = body.unwrap_or_else(|| json!({"error": text, "simulated": true}));
                Some(Reply { retry_after: *retry_after, ..Reply::new(*status, body) })
            }
            FaultKind::Reset => Some(Reply { mode: DeliveryMode::Reset, ..Reply::ok(Value::Null) }),
            FaultKind::Delay(_) | FaultKind::Truncate | FaultKind::SlowBody(_) => None,
        }
    }
}

/// GET /sandbox/faults
pub(crate) fn list_faults(context: &mut OrgContext<'_>, _: ApiRequest) -> HandlerResult {
    Ok(Reply::ok(faults_to_json(context.org)))
}

/// DELETE /sandbox/faults
pub(crate) fn clear_faults(context: &mut OrgContext<'_>, _: ApiRequest) -> HandlerResult {
    context.org.faults.clear();
    Ok(Reply::ok(faults_to_json(context.org)))
}

/// POST /sandbox/faults
pub(crate) fn add_fault(context: &mut OrgContext<'_>, request: ApiRequest) -> HandlerResult {
    let fault = parse_fault(&request.body)?;
    if context.org.faults.len() >= MAX_FAULTS {
        return Err(ApiError::bad_request(format!("at most {MAX_FAULTS} faults can wait")));
    }
    context.org.faults.push(fault);
    Ok(Reply::created(faults_to_json(context.org)))
}

fn faults_to_json(org: &Organization) -> Value {
    json!({"data": org.faults.iter().map(Fault::to_json).collect::<Vec<_>>()})
}

fn parse_fault(body: &[u8]) -> Result<Fault, ApiError> {
    let mut fields = InputFields::from_body(body)?;
    let method = fields.take_text("method")?.map(|method| method.to_ascii_uppercase());
    let path = fields.take_required_text("path")?;
    let kind = fields.take_required_text("kind")?;
    let is_before = fields.take_word("when", &[("before", true), ("after", false)])?;
    let status = fields.take_integer("status", 200..=599)?;
    let delay = fields.take_integer("delay_ms", 0..=MAX_DELAY_MILLIS)?;
    let delay = delay.map(Duration::from_millis);
    let retry_after = fields.take_integer("retry_after", 0..=86_400)?;
    let body = fields.take_value("body");
    let remaining = fields.take_integer("times", 1..=1_000_000)?.unwrap_or(1);
    fields.reject_unknown()?;
    if !path.starts_with("/v1/") || path.len() > 512 {
        let message = "path must begin with /v1/; a * at its end stands for any rest";
        return Err(ApiError::bad_request(message));
    }
    let needs =
        |field: &str| ApiError::bad_request(format!("a fault of kind {kind} needs {field}"));
    let has_delay = delay.is_some();
    let has_answer = status.is_some() || retry_after.is_some() || body.is_some();
    let (kind, has_foreign_field) = match kind.as_str() {
        "status" => {
            let status = status.and_then(|status| u16::try_from(status).ok());
            let status = status.and_then(|status| StatusCode::from_u16(status).ok());
            let status = status.ok_or_else(|| needs("status"))?;
            (FaultKind::Status { status, body, retry_after }, has_delay)
        }
        "delay" => (FaultKind::Delay(delay.ok_or_else(|| needs("delay_ms"))?), has_answer),
        "reset" => (FaultKind::Reset, has_answer || has_delay),
        "truncate" => (FaultKind::Truncate, has_answer || has_delay),
        "slow_body" => (FaultKind::SlowBody(delay.ok_or_else(|| needs("delay_ms"))?), has_answer),
        _ => {
            let message = "kind must be one of status, delay, reset, truncate, slow_body";
            return Err(ApiError::bad_request(message));
        }
    };
    if has_foreign_field {
        return Err(ApiError::bad_request(
            "status, retry_after and body belong to kind status, delay_ms to delay and slow_body",
        ));
    }
    let needs_true_reply = matches!(kind, FaultKind::Truncate | FaultKind::SlowBody(_));
    if needs_true_reply && is_before == Some(true) {
        return Err(ApiError::bad_request(
            "truncate and slow_body need the true answer: when must be after",
        ));
    }
    let is_before_effect = is_before.unwrap_or(!needs_true_reply);
    Ok(Fault { method, path, is_before_effect, kind, remaining })
}
