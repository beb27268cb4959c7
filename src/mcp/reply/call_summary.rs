//! A call in short: a row of a list.

use std::fmt::Write;

use schemars::JsonSchema;
use serde::Serialize;
use serde_with::skip_serializing_none;

use crate::dialing::call_outcome::CallOutcome;
use crate::mcp::reply::call_report::CallLength;
use crate::mcp::reply::text;
use callingbox::{AgentId, Call, CallId, E164, MilliCents};

/// The maximum length of the reason for a failure, in characters.
const MAX_REASON_CHARS: usize = 120;

/// A call in short.
#[skip_serializing_none]
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct CallSummary {
    call_id: CallId,
    /// The schema of a whole report lists the values.
    #[schemars(with = "String")]
    outcome: CallOutcome,
    #[schemars(skip)]
    direction: Option<String>,
    to_number: Option<E164>,
    #[schemars(skip)]
    from_number: Option<E164>,
    /// The name in the call's metadata.
    #[schemars(skip)]
    name: Option<String>,
    agent_id: Option<AgentId>,
    created_at: Option<String>,
    #[schemars(skip)]
    rang_seconds: Option<u64>,
    connected_seconds: Option<u64>,
    billing_amount_milli_cents: Option<MilliCents>,
    /// Why it failed.
    #[schemars(skip)]
    error: Option<String>,
}

impl From<Call> for CallSummary {
    fn from(call: Call) -> Self {
        let outcome = CallOutcome::from_call(&call);
        let length = CallLength::new(&call, None);
        let name = call.metadata.as_ref().and_then(|data| data.get("name")?.as_str());
        let error = call.error_message.or(call.hangup_cause).or(call.error_code);
        Self {
            outcome,
            name: name.map(|name| text::one_line(name, 100)),
            call_id: call.id,
            direction: call.direction.map(|direction| direction.to_string()),
            to_number: call.to_number,
            from_number: call.from_number,
            agent_id: call.agent_id,
            created_at: call.created_at.as_ref().map(text::format_time),
            rang_seconds: length.rang,
            connected_seconds: length.connected,
            billing_amount_milli_cents: call.billing_amount_milli_cents,
            error: error
                .filter(|_| outcome == CallOutcome::Failed)
                .map(|error| text::one_line(&error, MAX_REASON_CHARS)),
        }
    }
}

impl CallSummary {
    /// What was charged, if that is known.
    #[must_use]
    pub fn cost(&self) -> Option<MilliCents> {
        self.billing_amount_milli_cents
    }

    /// One line: time, direction, numbers, outcome, id.
    #[must_use]
    pub fn summary_line(&self) -> String {
        let when = self.created_at.as_deref().unwrap_or("at an unknown time");
        let direction = self.direction.as_deref().unwrap_or("call");
        let number = |number: &Option<E164>| number.as_ref().map_or("?", E164::as_str).to_owned();
        let (mut from, mut to) = (number(&self.from_number), number(&self.to_number));
        if let Some(name) = &self.name {
            let other_party = if direction == "inbound" { &mut from } else { &mut to };
            *other_party = format!("{name} {other_party}");
        }
        let mut line = format!(
            "{when} {direction} {from} to {to}: {}, call_id {}",
            self.outcome.as_str(),
            self.call_id
        );
        // Writing to a String cannot fail.
        let length = match (self.connected_seconds, self.rang_seconds) {
            (Some(connected), _) => Some(("spoke", connected)),
            (None, rang) => rang.map(|rang| ("rang", rang)),
        };
        if let Some((what, seconds)) = length {
            let _ = write!(line, ", {what} {}", text::format_seconds(seconds));
        }
        if let Some(cost) = self.cost().filter(|cost| *cost > MilliCents::ZERO) {
            let _ = write!(line, ", {cost}");
        }
        if let Some(error) = &self.error {
            let _ = write!(line, ", reason: {error}");
        }
        line
    }
}
