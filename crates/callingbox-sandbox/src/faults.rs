//! Faults on demand: what shall go wrong with the next requests of an organization, before or
//! after their work is done.

use std::time::Duration;

use http::StatusCode;
use serde_json::{Value, json};

use super::answer::{Answer, Manner, Refusal, Reply};
use super::fields::Fields;
use super::request::Request;
use super::world::{Org, Scope};

/// Faults that an organization can have waiting.
const MAX_FAULTS: usize = 100;
/// The longest delay, in milliseconds.
const MAX_DELAY: u64 = 600_000;

/// What goes wrong.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Kind {
    /// Another answer than the true one.
    Status { status: StatusCode, body: Option<Value>, retry_after: Option<u64> },
    /// A pause of real time.
    Delay(Duration),
    /// The connection is reset without an answer.
    Reset,
    /// Half of the true body, then the end of the connection.
    Truncate,
    /// The true body in small pieces over this much real time.
    SlowBody(Duration),
}

/// A fault that waits for its requests.
#[derive(Debug)]
pub(super) struct Fault {
    method: Option<String>,
    path: String,
    before: bool,
    kind: Kind,
    left: u64,
}

/// A fault that has met its request.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Strike {
    /// Whether nothing is done at all, or (for a delay) not yet.
    pub(super) before: bool,
    pub(super) kind: Kind,
}

impl Strike {
    /// What the client gets in place of the true answer.
    pub(super) fn bend(&self, truth: Reply) -> Reply {
        match &self.kind {
            Kind::Status { .. } => self.alone().unwrap_or(truth),
            Kind::Delay(delay) => Reply { manner: Manner::Late(*delay), ..truth },
            Kind::Reset => Reply { manner: Manner::Reset, ..truth },
            Kind::Truncate => Reply { manner: Manner::Truncated, ..truth },
            Kind::SlowBody(delay) => Reply { manner: Manner::Slow(*delay), ..truth },
        }
    }

    /// What the client gets when nothing is done.
    pub(super) fn alone(&self) -> Option<Reply> {
        match &self.kind {
            Kind::Status { status, body, retry_after } => {
                let text = status.canonical_reason().unwrap_or("fault").to_ascii_lowercase();
                let body =
                    body.clone().unwrap_or_else(|| json!({"error": text, "simulated": true}));
                Some(Reply { retry_after: *retry_after, ..Reply::new(*status, body) })
            }
            Kind::Reset => Some(Reply { manner: Manner::Reset, ..Reply::ok(Value::Null) }),
            Kind::Delay(_) | Kind::Truncate | Kind::SlowBody(_) => None,
        }
    }
}

impl Org {
    /// The first fault that waits for this request; it is used up once.
    pub(super) fn strike(&mut self, method: &str, path: &str) -> Option<Strike> {
        let at = self.faults.iter().position(|fault| fault.meets(method, path))?;
        let fault = self.faults.get_mut(at)?;
        let strike = Strike { before: fault.before, kind: fault.kind.clone() };
        fault.left -= 1;
        if fault.left == 0 {
            self.faults.remove(at);
        }
        Some(strike)
    }

    fn show_faults(&self) -> Value {
        json!({"data": self.faults.iter().map(Fault::show).collect::<Vec<_>>()})
    }
}

impl Fault {
    fn meets(&self, method: &str, path: &str) -> bool {
        self.method.as_deref().is_none_or(|wanted| wanted == method)
            && match self.path.strip_suffix('*') {
                Some(start) => path.starts_with(start),
                None => path == self.path,
            }
    }

    fn show(&self) -> Value {
        let mut shown = json!({
            "method": self.method,
            "path": self.path,
            "when": if self.before { "before" } else { "after" },
            "times": self.left,
        });
        let (kind, details) = match &self.kind {
            Kind::Status { status, body, retry_after } => (
                "status",
                json!({"status": status.as_u16(), "body": body, "retry_after": retry_after}),
            ),
            Kind::Delay(delay) => ("delay", json!({"delay_ms": delay.as_millis() as u64})),
            Kind::Reset => ("reset", json!({})),
            Kind::Truncate => ("truncate", json!({})),
            Kind::SlowBody(delay) => ("slow_body", json!({"delay_ms": delay.as_millis() as u64})),
        };
        if let (Some(shown), Value::Object(details)) = (shown.as_object_mut(), details) {
            shown.insert("kind".to_owned(), json!(kind));
            shown.extend(details);
        }
        shown
    }
}

/// GET /sandbox/faults
pub(super) fn list(scope: &mut Scope<'_>, request: Request) -> Answer {
    request.query.end()?;
    Ok(Reply::ok(scope.org.show_faults()))
}

/// DELETE /sandbox/faults
pub(super) fn clear(scope: &mut Scope<'_>, request: Request) -> Answer {
    request.query.end()?;
    scope.org.faults.clear();
    Ok(Reply::ok(scope.org.show_faults()))
}

/// POST /sandbox/faults
pub(super) fn add(scope: &mut Scope<'_>, request: Request) -> Answer {
    request.query.end()?;
    let mut fields = Fields::parse(&request.body)?;
    let method = fields.text("method")?.map(|method| method.to_ascii_uppercase());
    let path = fields.required_text("path")?;
    let kind = fields.required_text("kind")?;
    let before = fields.word("when", &[("before", true), ("after", false)])?;
    let status = fields.whole("status", 200..=599)?;
    let delay = fields.whole("delay_ms", 0..=MAX_DELAY)?.map(Duration::from_millis);
    let retry_after = fields.whole("retry_after", 0..=86_400)?;
    let body = fields.value("body");
    let left = fields.whole("times", 1..=1_000_000)?.unwrap_or(1);
    fields.end()?;
    let needs = |what: &str| Refusal::bad(format!("a fault of kind {kind} needs {what}"));
    if !path.starts_with("/v1/") || path.len() > 512 {
        return Err(Refusal::bad("path must begin with /v1/; a * at its end stands for any rest"));
    }
    let details = (status.is_some(), delay.is_some(), retry_after.is_some() || body.is_some());
    let (kind, fits) = match kind.as_str() {
        "status" => {
            let status = status.and_then(|status| u16::try_from(status).ok());
            let status = status.and_then(|status| StatusCode::from_u16(status).ok());
            let status = status.ok_or_else(|| needs("status"))?;
            (Kind::Status { status, body, retry_after }, !details.1)
        }
        "delay" => (Kind::Delay(delay.ok_or_else(|| needs("delay_ms"))?), !details.0 && !details.2),
        "reset" => (Kind::Reset, details == (false, false, false)),
        "truncate" => (Kind::Truncate, details == (false, false, false)),
        "slow_body" => {
            (Kind::SlowBody(delay.ok_or_else(|| needs("delay_ms"))?), !details.0 && !details.2)
        }
        _ => {
            let kinds = "kind must be one of status, delay, reset, truncate, slow_body";
            return Err(Refusal::bad(kinds));
        }
    };
    if !fits {
        return Err(Refusal::bad(
            "status, retry_after and body belong to kind status, delay_ms to delay and slow_body",
        ));
    }
    let bends_the_truth = matches!(kind, Kind::Truncate | Kind::SlowBody(_));
    if bends_the_truth && before == Some(true) {
        return Err(Refusal::bad(
            "truncate and slow_body need the true answer: when must be after",
        ));
    }
    if scope.org.faults.len() >= MAX_FAULTS {
        return Err(Refusal::bad(format!("at most {MAX_FAULTS} faults can wait")));
    }
    let before = before.unwrap_or(!bends_the_truth);
    scope.org.faults.push(Fault { method, path, before, kind, left });
    Ok(Reply::created(scope.org.show_faults()))
}
