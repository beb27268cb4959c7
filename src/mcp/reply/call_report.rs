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
use serde_with::skip_serializing_none;

use crate::dialing::call_outcome::CallOutcome;
use crate::dialing::disclosure::SpokenDisclosure;
use crate::dialing::opt_outs::other_party;
use crate::dialing::order::{DISPATCH_KEY, call_price};
use crate::mcp::call_details::{CallDetails, OptOutEntry};
use crate::mcp::registry::available::AvailableTools;
use crate::mcp::registry::name::ToolName;
use crate::mcp::reply::answer::Reply;
use crate::mcp::reply::next_step::{NextStep, with_steps};
use crate::mcp::reply::text::{self, FencedContent, UntrustedFence};
use crate::own_command::own_command;
use crate::watch::CallProgress;
use callingbox::{
    AgentId, Call, CallDirection, CallId, E164, Error, MilliCents, OpenEnum, ResultStatus,
    TranscriptSegment, VoicemailAction,
};

/// How many lines of a conversation that goes on are shown.
const LAST_LINES: usize = 2;

/// The maximum length of an error, in characters.
const MAX_ERROR_CHARS: usize = 300;

/// The maximum length of the metadata in the text, in characters.
const MAX_METADATA_CHARS: usize = 500;

/// The report on one call.
#[skip_serializing_none]
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct CallReport {
    call_id: CallId,
    outcome: CallOutcome,
    status: String,
    /// Extracted from the conversation: untrusted data.
    result: Option<Map<String, Value>>,
    result_status: Option<String>,
    #[schemars(skip)]
    result_error: Option<String>,
    /// Fields that are missing or not of the type that the agent's `returns` names.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    result_problems: Vec<String>,
    /// The names of the fields that hold words of the other party.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    untrusted: Vec<&'static str>,
    #[schemars(skip)]
    direction: Option<String>,
    to_number: Option<E164>,
    #[schemars(skip)]
    from_number: Option<E164>,
    /// The name in the call's metadata.
    #[schemars(skip)]
    name: Option<String>,
    agent_id: Option<AgentId>,
    #[schemars(skip)]
    agent_name: Option<String>,
    #[schemars(skip)]
    answered_by: Option<String>,
    #[schemars(skip)]
    created_at: Option<String>,
    #[schemars(skip)]
    ended_at: Option<String>,
    /// How long it rang, in seconds.
    #[schemars(skip)]
    rang_seconds: Option<u64>,
    /// How long the line was connected, in seconds.
    connected_seconds: Option<u64>,
    /// Of a call that has not ended, what it costs so far.
    billing_amount_milli_cents: Option<MilliCents>,
    #[schemars(skip)]
    error: Option<String>,
    /// Untrusted speech inside a fence: the last lines of a conversation that goes on or of a person who asked not to be
    /// called again, or the message on a machine.
    #[schemars(skip)]
    words: Option<String>,
    /// Whether the agent said at the beginning that it is an AI, where the configuration demands it.
    #[schemars(skip)]
    disclosure: Option<SpokenDisclosure>,
    #[schemars(skip)]
    metadata: Option<Map<String, Value>>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    simulated: bool,
    /// Why the API could not be read since.
    #[schemars(skip)]
    trouble: Option<String>,
    /// What is known beyond the fields, and what to do next.
    note: String,
    #[serde(skip)]
    is_final: bool,
}

impl CallReport {
    /// The report on a call as it is now, with the next steps that its reader can take.
    #[must_use]
    pub fn new(call: Call, details: &CallDetails, tools: &AvailableTools) -> Self {
        let outcome = CallOutcome::from_call(&call);
        let is_final = CallProgress::from_call(&call, Duration::ZERO, Timestamp::now())
            == CallProgress::Finished;
        let error = [&call.error_code, &call.error_message, &call.hangup_cause]
            .into_iter()
            .filter_map(|part| part.as_deref())
            .collect::<Vec<_>>()
            .join("; ");
        let (mut note, mut steps) = build_note(&call, details, outcome, is_final);
        if let Some(entry) = &details.opt_out {
            let (opt_out, step) = describe_opt_out(&call, entry);
            note = format!("{opt_out} {note}");
            steps.extend(step);
        }
        if details.disclosure == Some(SpokenDisclosure::NotFound) {
            note.push_str(
                " The agent's first lines have no sentence that is known to say that an AI speaks. Tell the user.",
            );
        }
        let metadata = call.metadata.clone().map(without_dispatch_id);
        let length = CallLength::new(&call, details.now);
        let report = Self {
            outcome,
            result_problems: find_result_problems(&call),
            untrusted: Vec::new(),
            words: find_words(&call, details, outcome),
            note: with_steps(&note, &steps, tools),
            simulated: text::is_simulated(&call.extra),
            call_id: call.id,
            status: call.status.to_string(),
            result: match call.result {
                Some(Value::Object(result)) if call.result_status != Some(ResultStatus::Failed) => {
                    Some(result)
                }
                _ => None,
            },
            result_status: call.result_status.map(|status| status.to_string()),
            result_error: call.result_error,
            direction: call.direction.map(|direction| direction.to_string()),
            to_number: call.to_number,
            from_number: call.from_number,
            name: metadata.as_ref().and_then(|data| Some(data.get("name")?.as_str()?.to_owned())),
            agent_id: call.agent_id,
            agent_name: details.agent.as_ref().and_then(|agent| agent.name.clone()),
            answered_by: call.answered_by,
            created_at: call.created_at.as_ref().map(text::format_time),
            ended_at: call.ended_at.as_ref().map(text::format_time),
            rang_seconds: length.rang,
            connected_seconds: length.connected,
            billing_amount_milli_cents: call
                .billing_amount_milli_cents
                .or_else(|| details.now.and(length.connected).map(call_price)),
            error: (outcome == CallOutcome::Failed && !error.is_empty()).then_some(error),
            disclosure: details.disclosure,
            metadata: metadata.filter(|metadata| !metadata.is_empty()),
            trouble: None,
            is_final,
        };
        Self { untrusted: report.untrusted_fields(), ..report }
    }

    /// The names of the fields with words of the other party that this report has.
    fn untrusted_fields(&self) -> Vec<&'static str> {
        [
            ("result", self.result.is_some()),
            ("result_error", self.result_error.is_some()),
            ("result_problems", !self.result_problems.is_empty()),
            ("words", self.words.is_some()),
        ]
        .into_iter()
        .filter_map(|(name, is_there)| is_there.then_some(name))
        .collect()
    }

    /// Sets the error that prevented a newer state.
    #[must_use]
    pub fn with_trouble(mut self, trouble: Option<Arc<Error>>) -> Self {
        self.trouble = trouble.map(|error| error.kind().to_string());
        self
    }

    /// Whether the report will not change any more.
    #[must_use]
    pub fn is_final(&self) -> bool {
        self.is_final
    }

    /// The report as a reply.
    #[must_use]
    pub fn into_reply(self) -> Reply<Self> {
        let (text, simulated) = (self.text(), self.simulated);
        Reply::new(self, text).with_simulated(simulated)
    }

    /// The report as text, with the words from the call inside a fence.
    #[must_use]
    pub fn text(&self) -> String {
        let fence = UntrustedFence::new();
        // The capacity of most reports.
        let mut text = String::with_capacity(1024);
        // Writing to a String cannot fail.
        let _ = write!(
            text,
            "outcome: {}. call_id: {}.\n{}\n{}",
            self.outcome.as_str(),
            self.call_id,
            self.facts(),
            self.note
        );
        if let Some(trouble) = &self.trouble {
            text.push_str(&text::last_known_note(trouble));
        }
        if let Some(error) = &self.result_error {
            let _ = write!(text, " Result error: {}.", fence.wrap_line(error, MAX_ERROR_CHARS));
        }
        if !self.result_problems.is_empty() {
            let _ = write!(text, " Result problems: {}.", self.result_problems.join("; "));
        }
        if let Some(words) = &self.words {
            let _ = write!(text, "\n{words}");
        }
        if let Some(result) = &self.result {
            // A JSON map can always be serialized.
            let result = serde_json::to_string(result).unwrap_or_default();
            let _ = write!(text, "\n{}", fence.wrap_block(FencedContent::ExtractedValues, &result));
        }
        text
    }

    /// Who called whom and when, how long it took, and what it cost.
    fn facts(&self) -> String {
        let number = |number: &Option<E164>| {
            number.as_ref().map_or("an unknown number", E164::as_str).to_owned()
        };
        let (to, from) = (number(&self.to_number), number(&self.from_number));
        let name = self.name.as_deref().map(|name| text::one_line(name, 100) + ", ");
        let name = name.unwrap_or_default();
        let agent = match (&self.agent_name, &self.agent_id) {
            (Some(name), Some(id)) => format!(" Agent: {} ({id}).", text::one_line(name, 100)),
            (None, Some(id)) => format!(" Agent: {id}."),
            _ => String::new(),
        };
        let mut facts = match self.direction.as_deref() {
            Some("inbound") => format!("Inbound, from {name}{from} to {to}.{agent}"),
            _ => format!("To {name}{to}, from {from}.{agent}"),
        };
        if let Some(at) = &self.created_at {
            let _ = write!(facts, " Created {at}.");
        }
        facts.push_str(&self.length_and_cost());
        if let Some(error) = &self.error {
            let _ = write!(facts, " Error: {}.", text::one_line(error, MAX_ERROR_CHARS));
        }
        if let Some(metadata) = &self.metadata {
            let metadata = serde_json::to_string(metadata).unwrap_or_default();
            let _ = write!(facts, " Metadata: {}", text::one_line(&metadata, MAX_METADATA_CHARS));
        }
        facts
    }

    fn length_and_cost(&self) -> String {
        let so_far = if self.outcome == CallOutcome::InProgress { " so far" } else { "" };
        let verb = if self.outcome == CallOutcome::Voicemail { "connected" } else { "spoke" };
        let mut text = match (self.rang_seconds, self.connected_seconds) {
            (Some(rang), Some(spoke)) => format!(
                " Rang {}, {verb} {}{so_far}.",
                text::format_seconds(rang),
                text::format_seconds(spoke)
            ),
            (Some(rang), None) => format!(" Rang {}{so_far}.", text::format_seconds(rang)),
            (None, Some(spoke)) => {
                format!(" Connected {}{so_far}.", text::format_seconds(spoke))
            }
            (None, None) => String::new(),
        };
        match self.billing_amount_milli_cents {
            Some(MilliCents::ZERO) => text.push_str(" Nothing was charged."),
            Some(cost) if so_far.is_empty() => {
                let _ = write!(text, " Cost {cost}.");
            }
            Some(cost) => {
                let _ = write!(text, " About {cost}{so_far}.");
            }
            None => {}
        }
        text
    }
}

/// How long a call rang and was connected, in seconds: until its end, or until now.
#[derive(Debug, Clone, Copy)]
pub(super) struct CallLength {
    pub(super) rang: Option<u64>,
    pub(super) connected: Option<u64>,
}

impl CallLength {
    pub(super) fn new(call: &Call, now: Option<Timestamp>) -> Self {
        let instant = |time: &Option<callingbox::Timestamp>| time.as_ref()?.instant();
        let end = instant(&call.ended_at).or(now);
        let answered = instant(&call.answered_at);
        let between = |from: Option<Timestamp>, to: Option<Timestamp>| {
            u64::try_from(to?.duration_since(from?).as_secs()).ok()
        };
        Self {
            rang: between(instant(&call.started_at), answered.or(end)),
            connected: between(answered, end),
        }
    }
}

/// What became of a wish not to be called again, and how a person corrects a mistake.
fn describe_opt_out(call: &Call, entry: &OptOutEntry) -> (String, Option<NextStep>) {
    let masked = other_party(call).map_or_else(|| "the caller".to_owned(), E164::masked);
    let correct = format!(
        "Tell the user; if it is a mistake (\"not at work\" is not \"never\"), they can correct the list with `{} optout` in a terminal.",
        own_command()
    );
    let correct = NextStep::Person(correct.into());
    match entry {
        OptOutEntry::Listed(_) => (
            format!(
                "By the result field do_not_call, this person asked not to be called again: {masked} is on the do-not-call list, and calls to it are refused."
            ),
            Some(correct),
        ),
        OptOutEntry::Corrected => (
            format!(
                "The result field do_not_call says that this person asked not to be called again; the user has corrected that since, and {masked} may be called."
            ),
            None,
        ),
        OptOutEntry::Missing => (
            format!(
                "By the result field do_not_call, this person asked not to be called again, but {masked} is not on the do-not-call list yet."
            ),
            Some(NextStep::tool(ToolName::RECORD_OPT_OUT, "with this call_id puts it there")),
        ),
    }
}

/// The metadata without the id by which this server recognizes its calls.
fn without_dispatch_id(mut metadata: Map<String, Value>) -> Map<String, Value> {
    metadata.shift_remove(DISPATCH_KEY);
    metadata
}

/// The last lines of a conversation that goes on, or the message that the agent left on a machine, inside a fence.
fn find_words(call: &Call, details: &CallDetails, outcome: CallOutcome) -> Option<String> {
    let lines = details.lines.as_ref().filter(|lines| !lines.is_empty())?;
    let skipped = match outcome {
        _ if details.opt_out.is_some() => find_last_words(lines),
        CallOutcome::InProgress => lines.len().saturating_sub(LAST_LINES),
        CallOutcome::Voicemail => 0,
        _ => return None,
    };
    let lines: Vec<String> = lines
        .iter()
        .skip(skipped)
        .map(|line| text::format_utterance(line, call.direction.as_ref()))
        .collect();
    Some(UntrustedFence::new().wrap_block(FencedContent::Speech, &lines.join("\n")))
}

/// Where the last words of the other party begin, with which a person sees a mistake. The agent's answers are among them.
fn find_last_words(lines: &[TranscriptSegment]) -> usize {
    let of_person = |(_, line): &(usize, &TranscriptSegment)| line.role.as_deref() == Some("user");
    let last = lines.iter().enumerate().rev().filter(of_person).nth(LAST_LINES.saturating_sub(1));
    last.map_or(0, |(index, _)| index)
}

/// The maximum length of a result that is not an object, in characters.
const MAX_VALUE_CHARS: usize = 2_000;

/// The differences between the result and the agent's `returns` at the start of the call.
fn find_result_problems(call: &Call) -> Vec<String> {
    let mut problems = Vec::new();
    let result = match &call.result {
        Some(Value::Object(result)) => Some(result),
        Some(other) => {
            problems.push(format!(
                "the result is {} and not an object; untrusted data from the call: {}",
                json_type_name(other),
                UntrustedFence::new().wrap_line(&other.to_string(), MAX_VALUE_CHARS)
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
            let wanted = text::one_line(wanted.as_str().unwrap_or("?"), 40);
            let shown = text::one_line(name, 80);
            match (wanted.as_str(), result.get(name)) {
                (_, None) => problems.push(format!("`{shown}` is missing")),
                (_, Some(Value::Null))
                | ("boolean", Some(Value::Bool(_)))
                | ("string", Some(Value::String(_)))
                | ("number", Some(Value::Number(_))) => {}
                (_, Some(value)) => {
                    problems.push(format!(
                        "`{shown}` should be a {wanted} and is {}",
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
fn build_note(
    call: &Call,
    details: &CallDetails,
    outcome: CallOutcome,
    is_final: bool,
) -> (String, Vec<NextStep>) {
    let is_inbound = call.direction == Some(CallDirection::Inbound);
    let try_again = (!is_inbound).then(|| {
        NextStep::tool(
            ToolName::PLACE_CALL,
            "with the same arguments and allow_repeat: true tries again",
        )
    });
    let read_words = Some(NextStep::tool(ToolName::GET_CALL_TRANSCRIPT, "returns what was said"));
    let (text, step) = match outcome {
        CallOutcome::InProgress => {
            let status = match call.status.as_str() {
                "" => "at an unknown stage".to_owned(),
                _ => call.status.to_string(),
            };
            let warning = if is_inbound { "" } else { " Do not place it again." };
            let wait =
                NextStep::tool(ToolName::GET_CALL_RESULT, "with this call_id waits for its end");
            return (format!("The call is {status}.{warning}"), vec![wait]);
        }
        CallOutcome::Completed if !is_final => (
            "The conversation is over and its result is still being extracted.",
            Some(NextStep::tool(ToolName::GET_CALL_RESULT, "returns it when it is ready")),
        ),
        CallOutcome::Completed => {
            let spoke = match is_inbound {
                true => "The caller spoke with the agent",
                false => "Somebody answered and spoke",
            };
            let (text, step) = build_conversation_note(call, read_words);
            return (format!("{spoke}{text}"), step.into_iter().collect());
        }
        CallOutcome::Voicemail => {
            let hangs_up = details.agent.as_ref().is_some_and(|agent| {
                agent.voicemail_action != Some(OpenEnum::Known(VoicemailAction::LeaveMessage))
            });
            let text = match &details.lines {
                Some(lines) if !lines.is_empty() => {
                    "An answering machine answered. A message was left: its words follow."
                }
                None => "An answering machine answered.",
                Some(_) if hangs_up => {
                    "An answering machine answered. No message was left: the agent hangs up on machines (voicemail_action)."
                }
                Some(_) => "An answering machine answered. No message was left.",
            };
            (text, try_again)
        }
        CallOutcome::NoAnswer => ("It rang and nobody answered.", try_again),
        CallOutcome::Busy => ("The line was busy.", try_again),
        CallOutcome::Canceled => ("The call was canceled before it was connected.", None),
        CallOutcome::Failed => ("The call failed; there was no conversation.", try_again),
        CallOutcome::Unknown => ("", None),
    };
    (text.to_owned(), step.into_iter().collect())
}

/// The same for a conversation whose result is complete, as the rest of the sentence that says that it took place.
fn build_conversation_note(
    call: &Call,
    read_words: Option<NextStep>,
) -> (&'static str, Option<NextStep>) {
    if call.result_status == Some(ResultStatus::Failed) {
        return (". The result could not be extracted. Read the transcript.", read_words);
    }
    if call.returns.as_ref().is_none_or(Map::is_empty) {
        return (". This agent extracts no result fields.", read_words);
    }
    match &call.result {
        Some(Value::Object(result))
            if result.values().all(Value::is_null) && !result.is_empty() =>
        {
            (
                ", but none of the fields was talked about: it may have been the wrong person.",
                read_words,
            )
        }
        Some(Value::Object(result)) if result.values().any(Value::is_null) => (
            ". Whether the task succeeded is in the result. Fields that were not talked about are null.",
            None,
        ),
        Some(Value::Object(_)) | None => (". Whether the task succeeded is in the result.", None),
        Some(_) => (
            ", but the result does not have the requested fields: result_problems contains what arrived.",
            read_words,
        ),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::account::Environment;

    fn report(value: Value) -> CallReport {
        let tools = [ToolName::GET_CALL_RESULT, ToolName::GET_CALL_TRANSCRIPT];
        CallReport::new(
            call(value),
            &CallDetails::default(),
            &AvailableTools::only(&tools, Environment::Live),
        )
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
    fn a_result_that_is_no_object_is_named_inside_a_fence() {
        let record = |result: Value| {
            report(json!({
                "status": "completed", "result_status": "completed",
                "returns": {"ok": "boolean"}, "result": result,
            }))
        };
        let report = record(json!([1, "two\nthree"]));
        let [problem] = &report.result_problems[..] else { panic!("{report:?}") };
        let begins = "the result is a list and not an object; untrusted data from the call: <<<";
        let (marker, value) = problem.strip_prefix(begins).unwrap().split_once(' ').unwrap();
        assert_eq!(value, format!(r#"[1,"two\nthree"] {marker}>>>"#));
        assert!(report.text().contains(problem), "{report:?}");
        assert!(report.note.contains("result_problems"), "{report:?}");
        let long = record(json!("x".repeat(100_000)));
        assert!(long.result_problems[0].chars().count() < 2_200);
    }

    #[test]
    fn each_case_has_its_own_note() {
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
