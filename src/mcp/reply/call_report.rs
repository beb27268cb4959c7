//! The report on a call, for models and programs.
//!
//! The API's `status` is kept beside the outcome. The result is checked against the agent's `returns` at the start of
//! the call; values of another type are named in `result_problems` and passed on unchanged.

use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::dialing::call_outcome::CallOutcome;
use crate::mcp::registry::available::AvailableTools;
use crate::mcp::registry::name::ToolName;
use crate::mcp::reply::next_step::{NextStep, with_steps};
use crate::mcp::reply::text::{self, UntrustedFence};
use crate::watch::CallProgress;
use callingbox::E164;
use callingbox::MilliCents;
use callingbox::{self, AgentId, Call, CallDirection, CallId, Error, ResultStatus};

/// A call in short.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct CallSummary {
    call_id: CallId,
    status: String,
    /// The schema of a whole report lists the values.
    #[schemars(with = "String")]
    outcome: CallOutcome,
    #[serde(skip_serializing_if = "Option::is_none")]
    direction: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    to_number: Option<E164>,
    #[serde(skip_serializing_if = "Option::is_none")]
    from_number: Option<E164>,
    #[serde(skip_serializing_if = "Option::is_none")]
    agent_id: Option<AgentId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    created_at: Option<callingbox::Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    duration_seconds: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    billing_amount_milli_cents: Option<MilliCents>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    simulated: bool,
}

impl CallSummary {
    /// The summary of a call.
    #[must_use]
    pub fn from_call(call: Call) -> Self {
        Self {
            outcome: CallOutcome::from_call(&call),
            simulated: text::is_simulated(&call.extra),
            call_id: call.id,
            status: call.status.to_string(),
            direction: call.direction.map(|direction| direction.to_string()),
            to_number: call.to_number,
            from_number: call.from_number,
            agent_id: call.agent_id,
            created_at: call.created_at,
            duration_seconds: call.duration_seconds,
            billing_amount_milli_cents: call.billing_amount_milli_cents,
        }
    }

    #[must_use]
    pub fn is_simulated(&self) -> bool {
        self.simulated
    }

    /// One line: time, direction, numbers, outcome, id.
    #[must_use]
    pub fn summary_line(&self) -> String {
        let when =
            self.created_at.as_ref().map_or("at an unknown time", callingbox::Timestamp::as_str);
        let direction = self.direction.as_deref().unwrap_or("call");
        let from = self.from_number.as_ref().map_or("?", E164::as_str);
        let to = self.to_number.as_ref().map_or("?", E164::as_str);
        let mut line = format!(
            "{when} {direction} {from} to {to}: {}, call_id {}",
            self.outcome.as_str(),
            self.call_id
        );
        if let Some(seconds) = self.duration_seconds {
            // Writing to a String cannot fail.
            let _ = write!(line, ", {seconds} s");
        }
        line
    }
}

/// The report on one call.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct CallReport {
    call_id: CallId,
    outcome: CallOutcome,
    status: String,
    /// Extracted from the conversation: untrusted data.
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<Map<String, Value>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    result_status: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    result_error: Option<String>,
    /// Fields that are missing or not of the type that the agent's `returns` names.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    result_problems: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    direction: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    to_number: Option<E164>,
    #[serde(skip_serializing_if = "Option::is_none")]
    from_number: Option<E164>,
    #[serde(skip_serializing_if = "Option::is_none")]
    agent_id: Option<AgentId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    answered_by: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    created_at: Option<callingbox::Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ended_at: Option<callingbox::Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    duration_seconds: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    billing_amount_milli_cents: Option<MilliCents>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    simulated: bool,
    /// Why the API could not be read since.
    #[serde(skip_serializing_if = "Option::is_none")]
    trouble: Option<String>,
    /// What is known beyond the fields, and what to do next.
    note: String,
    #[serde(skip)]
    is_final: bool,
}

impl CallReport {
    /// The report on a call as it is now, with the next steps that its reader can take.
    #[must_use]
    pub fn new(call: Call, tools: &AvailableTools) -> Self {
        let outcome = CallOutcome::from_call(&call);
        let finished = CallProgress::from_call(&call, Duration::ZERO, Timestamp::now())
            == CallProgress::Finished;
        let result_problems = find_result_problems(&call);
        let error = [&call.error_code, &call.error_message, &call.hangup_cause]
            .into_iter()
            .filter_map(|part| part.as_deref())
            .collect::<Vec<_>>()
            .join("; ");
        let (note, steps) = build_note(&call, outcome, finished);
        let note = with_steps(&note, &steps, tools);
        Self {
            outcome,
            simulated: text::is_simulated(&call.extra),
            call_id: call.id,
            status: call.status.to_string(),
            result: match call.result {
                Some(Value::Object(result)) => Some(result),
                _ => None,
            },
            result_status: call.result_status.map(|status| status.to_string()),
            result_error: call.result_error,
            result_problems,
            direction: call.direction.map(|direction| direction.to_string()),
            to_number: call.to_number,
            from_number: call.from_number,
            agent_id: call.agent_id,
            answered_by: call.answered_by,
            created_at: call.created_at,
            ended_at: call.ended_at,
            duration_seconds: call.duration_seconds,
            billing_amount_milli_cents: call.billing_amount_milli_cents,
            error: (outcome == CallOutcome::Failed && !error.is_empty()).then_some(error),
            trouble: None,
            note,
            is_final: finished,
        }
    }

    /// Sets the error that prevented a newer state.
    #[must_use]
    pub fn with_trouble(mut self, trouble: Option<Arc<Error>>) -> Self {
        self.trouble = trouble.map(|error| error.kind().to_string());
        self
    }

    #[must_use]
    pub fn is_simulated(&self) -> bool {
        self.simulated
    }

    /// Whether the report will not change any more.
    #[must_use]
    pub fn is_final(&self) -> bool {
        self.is_final
    }

    /// The report as text, with the words from the call inside the fence.
    #[must_use]
    pub fn text(&self, fence: &UntrustedFence) -> String {
        // The capacity of most reports.
        let mut text = String::with_capacity(1024);
        let _ = write!(text, "outcome: {}. call_id: {}.", self.outcome.as_str(), self.call_id);
        if self.from_number.is_some() || self.to_number.is_some() {
            let number = |number: &Option<E164>| match number {
                Some(number) => number.as_str().to_owned(),
                None => "an unknown number".to_owned(),
            };
            let direction = self.direction.as_deref().unwrap_or("unknown");
            let (from, to) = (number(&self.from_number), number(&self.to_number));
            let _ = write!(text, " Direction: {direction}, from {from} to {to}.");
        }
        if let Some(seconds) = self.duration_seconds {
            let _ = write!(text, " Length: {seconds} s.");
        }
        if let Some(amount) = self.billing_amount_milli_cents {
            let _ = write!(text, " Cost: {amount}.");
        }
        if let Some(error) = &self.error {
            let _ = write!(text, " Error: {}.", text::one_line(error, MAX_ERROR_CHARS));
        }
        let _ = write!(text, " {}", self.note);
        if let Some(trouble) = &self.trouble {
            text.push_str(&text::last_known_note(trouble));
        }
        if let Some(error) = &self.result_error {
            let _ = write!(text, " Result error: {}.", fence.wrap_line(error, MAX_ERROR_CHARS));
        }
        if !self.result_problems.is_empty() {
            let _ = write!(text, " Result problems: {}.", self.result_problems.join("; "));
        }
        if let Some(result) = &self.result {
            // A JSON map can always be serialized.
            let result = serde_json::to_string(result).unwrap_or_default();
            let _ = write!(
                text,
                "\nResult, extracted from the conversation:\n{}",
                fence.wrap_block(&result)
            );
        }
        text
    }
}

/// The maximum length of an error, in characters.
const MAX_ERROR_CHARS: usize = 300;

/// The maximum length of a result that is not an object, in characters.
const LONGEST: usize = 2_000;

/// The differences between the result and the agent's `returns` at the start of the call.
fn find_result_problems(call: &Call) -> Vec<String> {
    let mut problems = Vec::new();
    let result = match &call.result {
        Some(Value::Object(result)) => Some(result),
        Some(other) => {
            problems.push(format!(
                "the result is {} and not an object; untrusted data from the call: {}",
                json_type_name(other),
                UntrustedFence::new().wrap_line(&other.to_string(), LONGEST)
            ));
            None
        }
        None => None,
    };
    let completed = call.result_status == Some(ResultStatus::Completed);
    if let (Some(returns), true) = (&call.returns, completed) {
        if result.is_none() && !returns.is_empty() && problems.is_empty() {
            problems.push("extraction completed without a result".to_owned());
        }
        for (name, wanted) in returns {
            let Some(result) = &result else { break };
            let wanted = wanted.as_str().unwrap_or("?");
            match (wanted, result.get(name)) {
                (_, None) => problems.push(format!("`{name}` is missing")),
                (_, Some(Value::Null))
                | ("boolean", Some(Value::Bool(_)))
                | ("string", Some(Value::String(_)))
                | ("number", Some(Value::Number(_))) => {}
                (_, Some(value)) => {
                    problems.push(format!(
                        "`{name}` should be a {wanted} and is {}",
                        json_type_name(value)
                    ));
                }
            }
        }
    }
    problems
}

fn json_type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// What the fields do not contain, and the next steps.
fn build_note(call: &Call, outcome: CallOutcome, finished: bool) -> (String, Vec<NextStep>) {
    let fields_wanted = call.returns.as_ref().is_some_and(|returns| !returns.is_empty());
    let all_null = || {
        call.result
            .as_ref()
            .and_then(Value::as_object)
            .is_some_and(|result| !result.is_empty() && result.values().all(Value::is_null))
    };
    let wait = |hint| NextStep::tool(ToolName::GET_CALL_RESULT, hint);
    let words = NextStep::tool(ToolName::GET_CALL_TRANSCRIPT, "returns what was said");
    let (text, step) = match outcome {
        CallOutcome::InProgress => {
            let status = match call.status.as_str() {
                "" => "at an unknown stage",
                status => status,
            };
            let warning = match call.direction {
                Some(CallDirection::Inbound) => "",
                _ => " Do not place it again.",
            };
            let step = wait("with this call_id waits for its end");
            return (format!("The call is {status}.{warning}"), vec![step]);
        }
        CallOutcome::Completed if !finished => (
            "The conversation is over and its result is still being extracted.",
            Some(wait("returns it when it is ready")),
        ),
        CallOutcome::Completed if call.result_status == Some(ResultStatus::Failed) => {
            ("The conversation took place, but the result could not be extracted.", Some(words))
        }
        CallOutcome::Completed if !fields_wanted => {
            ("The conversation took place. The agent extracts no result fields.", Some(words))
        }
        CallOutcome::Completed if all_null() => (
            "A conversation took place, but none of the fields was discussed: it may have been the wrong person.",
            Some(words),
        ),
        CallOutcome::Completed
            if call.result.as_ref().is_some_and(|result| !result.is_object()) =>
        {
            (
                "The conversation took place, but the result does not have the requested fields: result_problems contains what arrived.",
                Some(words),
            )
        }
        CallOutcome::Completed => {
            ("The conversation took place. Fields that were not discussed are null.", None)
        }
        CallOutcome::Voicemail => (
            "An answering machine answered; nobody spoke with the agent, and nothing was charged.",
            Some(NextStep::tool(
                ToolName::GET_CALL_TRANSCRIPT,
                "returns the message, if the agent left one",
            )),
        ),
        CallOutcome::NoAnswer => ("It rang and nobody answered; nothing was charged.", None),
        CallOutcome::Busy => ("The line was busy; nothing was charged.", None),
        CallOutcome::Canceled => ("The call was canceled before it was connected.", None),
        CallOutcome::Failed => ("The call failed; there was no conversation.", None),
        CallOutcome::Unknown => ("", None),
    };
    (text.to_owned(), step.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::account::Environment;

    fn report(value: Value) -> CallReport {
        let tools = [ToolName::GET_CALL_RESULT, ToolName::GET_CALL_TRANSCRIPT];
        CallReport::new(call(value), &AvailableTools::only(&tools, Environment::Live))
    }

    fn call(value: Value) -> Call {
        let mut all = json!({"id": "c1"});
        all.as_object_mut().unwrap().extend(value.as_object().unwrap().clone());
        serde_json::from_value(all).unwrap()
    }

    #[test]
    fn every_status_has_its_outcome() {
        for (value, outcome, finished) in [
            (json!({}), CallOutcome::InProgress, false),
            (json!({"status": "queued"}), CallOutcome::InProgress, false),
            (json!({"status": "ringing"}), CallOutcome::InProgress, false),
            (json!({"status": "parked"}), CallOutcome::InProgress, false),
            (json!({"status": "no_answer"}), CallOutcome::NoAnswer, true),
            (
                json!({"status": "no_answer", "answered_by": "machine"}),
                CallOutcome::Voicemail,
                true,
            ),
            (json!({"status": "busy"}), CallOutcome::Busy, true),
            (json!({"status": "canceled"}), CallOutcome::Canceled, true),
            (json!({"status": "failed"}), CallOutcome::Failed, true),
            (json!({"status": "completed"}), CallOutcome::Completed, true),
            (
                json!({"status": "completed", "returns": {"a": "string"}, "result_status": "pending"}),
                CallOutcome::Completed,
                false,
            ),
            (
                json!({"status": "no_answer", "returns": {"a": "string"}, "result_status": "pending"}),
                CallOutcome::NoAnswer,
                true,
            ),
        ] {
            let report = report(value.clone());
            assert_eq!((report.outcome, report.is_final()), (outcome, finished), "{value}");
        }
    }

    #[test]
    fn a_result_that_does_not_fit_is_named_and_passed_through() {
        let report = report(json!({
            "status": "completed",
            "result_status": "completed",
            "returns": {"ok": "boolean", "count": "number", "name": "string", "gone": "string", "nil": "number"},
            "result": {"ok": "yes", "count": 3, "name": 7, "nil": null},
        }));
        assert_eq!(
            report.result_problems,
            [
                "`ok` should be a boolean and is a string",
                "`name` should be a string and is a number",
                "`gone` is missing"
            ]
        );
        assert_eq!(report.result.unwrap().get("ok"), Some(&json!("yes")));
    }

    #[test]
    fn a_result_that_is_no_object_is_told_inside_a_fence() {
        let record = |result: Value| {
            report(json!({
                "status": "completed", "result_status": "completed",
                "returns": {"ok": "boolean"}, "result": result,
            }))
        };
        let report = record(json!([1, "two\nthree"]));
        let [problem] = &report.result_problems[..] else { panic!("{report:?}") };
        let told = "the result is a list and not an object; untrusted data from the call: <<<";
        let (marker, value) = problem.strip_prefix(told).unwrap().split_once(' ').unwrap();
        assert_eq!(value, format!(r#"[1,"two\nthree"] {marker}>>>"#));
        assert!(report.text(&UntrustedFence::new()).contains(problem), "{report:?}");
        assert!(report.note.contains("result_problems"), "{report:?}");
        let long = record(json!("x".repeat(100_000)));
        assert!(long.result_problems[0].chars().count() < 2_200);
    }

    #[test]
    fn notes_tell_the_cases_apart() {
        let returns = json!({"ok": "boolean"});
        let cases = [
            json!({"status": "completed", "returns": returns, "result_status": "completed", "result": {"ok": true}}),
            json!({"status": "completed", "returns": returns, "result_status": "completed", "result": {"ok": null}}),
            json!({"status": "completed", "returns": returns, "result_status": "completed", "result": [true]}),
            json!({"status": "completed", "returns": returns, "result_status": "failed"}),
            json!({"status": "completed"}),
            json!({"status": "no_answer", "answered_by": "machine"}),
            json!({"status": "no_answer"}),
            json!({"status": "failed"}),
        ];
        let mut notes: Vec<String> = cases.iter().map(|value| report(value.clone()).note).collect();
        let count = notes.len();
        notes.sort();
        notes.dedup();
        assert_eq!(notes.len(), count, "{notes:?}");
    }
}
