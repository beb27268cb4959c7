//! Faults on demand: what goes wrong with the next requests of an organization, before or after they take effect.
//! Knows nothing of how a fault changes an answer.

use std::time::Duration;

use http::StatusCode;
use serde_json::{Value, json};

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum FaultKind {
    /// Another answer replaces the true one.
    Status { status: StatusCode, body: Option<Value>, retry_after: Option<u64> },
    /// The request is held for this much real time.
    Delay(Duration),
    /// The connection is reset without an answer.
    Reset,
    /// Half of the true body is sent, and then the connection ends.
    Truncate,
    /// The true body is sent in small pieces over this much real time.
    SlowBody(Duration),
}

/// A fault that waits for its requests.
#[derive(Debug, Clone)]
pub(crate) struct Fault {
    /// `None` for any method.
    pub(crate) method: Option<String>,
    /// A path; a `*` at its end matches any rest.
    pub(crate) path: String,
    /// Whether it applies before the request takes effect: the request is then not carried out or, with a delay, not
    /// yet.
    pub(crate) is_before_effect: bool,
    pub(crate) kind: FaultKind,
    pub(crate) remaining: u64,
}

impl Fault {
    fn matches(&self, method: &str, path: &str) -> bool {
        self.method.as_deref().is_none_or(|wanted| wanted == method)
            && match self.path.strip_suffix('*') {
                Some(prefix) => path.starts_with(prefix),
                None => path == self.path,
            }
    }

    pub(crate) fn to_json(&self) -> Value {
        let mut shown = json!({
            "method": self.method,
            "path": self.path,
            "when": if self.is_before_effect { "before" } else { "after" },
            "times": self.remaining,
        });
        let details = match &self.kind {
            FaultKind::Status { status, body, retry_after } => json!({
                "kind": "status",
                "status": status.as_u16(),
                "body": body,
                "retry_after": retry_after,
            }),
            FaultKind::Delay(delay) => {
                json!({"kind": "delay", "delay_ms": delay.as_millis() as u64})
            }
            FaultKind::Reset => json!({"kind": "reset"}),
            FaultKind::Truncate => json!({"kind": "truncate"}),
            FaultKind::SlowBody(delay) => {
                json!({"kind": "slow_body", "delay_ms": delay.as_millis() as u64})
            }
        };
        if let (Some(shown), Value::Object(details)) = (shown.as_object_mut(), details) {
            shown.extend(details);
        }
        shown
    }
}

/// Takes the first fault that matches a request, and removes it once it has been applied as often as it should be.
pub(crate) fn take_fault(faults: &mut Vec<Fault>, method: &str, path: &str) -> Option<Fault> {
    let index = faults.iter().position(|fault| fault.matches(method, path))?;
    let fault = faults.get_mut(index)?;
    let applied = fault.clone();
    fault.remaining -= 1;
    if fault.remaining == 0 {
        faults.remove(index);
    }
    Some(applied)
}
