//! `follow_call`: what the call card shows of a call, answered as soon as something changes. Words and values from the
//! conversation are in `_meta` alone, because some hosts show the rest to the model.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::account::{Environment, Simulator};
use crate::dialing::call_outcome::CallOutcome;
use crate::dialing::ledger::{BatchId, BatchState};
use crate::mcp::call_details;
use crate::mcp::call_details::CallDetails;
use crate::mcp::card;
use crate::mcp::confirmation::card::{QuestionStanding, record_shown_question};
use crate::mcp::input::arguments::{BoundedInteger, Text};
use crate::mcp::reply::call_report::CallReport;
use crate::mcp::reply::error::{ErrorCode, ToolError};
use crate::mcp::reply::text;
use crate::mcp::tool::{
    Always, CardRole, Reply, Sentence, Tool, ToolContext, ToolEffect, ToolExit, ToolName,
    tool_metadata,
};
use crate::mcp::tools::calls::{GetCallResult, follow_batch};
use crate::mcp::tools::shared::wire_word;
use crate::mcp::waiting::{self, ObservedCall};
use crate::watch::{Snapshot, WatchStatus};
use callingbox::{Call, CallId, TranscriptSegment};

/// The longest wait, in seconds: some hosts cut a request off after 30.
const MAX_FOLLOW_SECONDS: u64 = 20;

/// The most lines in one answer. The card asks for the rest immediately.
const MAX_LINES: usize = 200;

pub(in crate::mcp::tools) struct FollowCall;

// The descriptions of arguments are comments here: only the card reads this tool.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::mcp::tools) struct FollowCallInput {
    #[schemars(with = "Option<String>")]
    call_id: Option<CallId>,
    // In place of a call: a batch.
    #[schemars(with = "Option<String>")]
    batch_id: Option<Text<1, 100>>,
    // In place of a call: the question that the card shows now.
    #[schemars(with = "Option<String>")]
    question_id: Option<Text<1, 100>>,
    // The last line that the card has.
    #[schemars(with = "Option<u64>")]
    after_sequence_no: Option<BoundedInteger<0, 999_999>>,
    // The `state` of the last answer.
    #[schemars(with = "Option<String>")]
    state: Option<Text<1, 200>>,
    wait_seconds: Option<BoundedInteger<0, MAX_FOLLOW_SECONDS>>,
}

impl FollowCallInput {
    fn wait(&self) -> Duration {
        Duration::from_secs(self.wait_seconds.map_or(0, BoundedInteger::get))
    }
}

#[derive(Serialize, JsonSchema)]
#[serde(untagged)]
pub(in crate::mcp::tools) enum FollowCallOutput {
    Call(FollowedCall),
    Batch(FollowedBatch),
    /// The state of a question.
    Question {
        question: QuestionStanding,
    },
}

/// The state of the call, without a word from the conversation.
#[derive(Serialize, JsonSchema)]
pub(in crate::mcp::tools) struct FollowedCall {
    call_id: CallId,
    outcome: CallOutcome,
    status: String,
    /// Whether nothing will change any more.
    r#final: bool,
    /// To be sent with the next request, which is then answered when it differs.
    state: String,
    /// The number of lines in this answer.
    lines: usize,
    has_more: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    simulated: bool,
}

/// The state of a batch, without its people.
#[derive(Serialize, JsonSchema)]
pub(in crate::mcp::tools) struct FollowedBatch {
    batch_id: String,
    batch_state: BatchState,
    r#final: bool,
    state: String,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    simulated: bool,
}

/// What the card shows apart from lines, in short, so that a request can say what it knows.
fn describe_state(snapshot: &Snapshot) -> String {
    let Some(call) = &snapshot.call else { return String::new() };
    let word =
        |part: Option<String>| part.map_or_else(String::new, |part| text::one_line(&part, 40));
    [
        word(Some(call.status.to_string())),
        word(call.result_status.as_ref().map(ToString::to_string)),
        word(call.billing_amount_milli_cents.map(|cost| cost.0.to_string())),
        word(snapshot.trouble.as_ref().map(|_| "trouble".to_owned())),
        word((snapshot.state == WatchStatus::Finished).then(|| "final".to_owned())),
    ]
    .join("/")
}

/// The lines after this number, in the order in which they were spoken.
fn lines_after(
    snapshot: &Snapshot,
    after: Option<u64>,
) -> impl Iterator<Item = &TranscriptSegment> {
    snapshot.segments.iter().filter(move |segment| waiting::is_after(segment, after))
}

fn show_line(line: &TranscriptSegment, call: &Call) -> Value {
    json!({
        "sequence_no": line.sequence_no,
        "speaker": text::speaker_name(line, call.direction.as_ref()),
        "text": text::escape_invisible(&line.text),
        "at": line.started_at.as_ref().map(text::format_time),
    })
}

/// The record of the call as the card shows it.
async fn show_call(
    cx: &ToolContext,
    observed: ObservedCall,
) -> Result<(Value, CallOutcome), ToolError> {
    let ObservedCall { call, trouble } = observed;
    let outcome = CallOutcome::from_call(&call);
    let details = CallDetails {
        agent: call_details::find_agent(&cx.account, &cx.tools, &call).await,
        now: match outcome {
            CallOutcome::InProgress => cx.account.now().await,
            _ => None,
        },
        ..CallDetails::default()
    };
    let task = call.instructions.clone();
    let report = CallReport::new(call, &details, &cx.tools).with_trouble(trouble);
    let shown = ShownCall {
        report,
        task,
        clock_rate: cx.account.simulator().map_or(1.0, Simulator::speed),
    };
    let shown =
        serde_json::to_value(shown).map_err(|error| ToolError::internal(error.to_string()))?;
    Ok((text::escape_data(shown), outcome))
}

/// The record of a call, and what only the card needs of it.
#[derive(Serialize)]
struct ShownCall {
    #[serde(flatten)]
    report: CallReport,
    #[serde(skip_serializing_if = "Option::is_none")]
    task: Option<String>,
    /// How fast the account's clock runs: a simulated one is not the card's.
    clock_rate: f64,
}

/// The same for a batch.
async fn follow_list(
    cx: &ToolContext,
    id: &str,
    known: Option<&str>,
    wait: Duration,
) -> Result<Reply<FollowCallOutput>, ToolError> {
    if !cx.tools.contains(ToolName::GET_BATCH) {
        let text = "the tool `get_batch` is not offered here";
        return Err(ToolError::new(ErrorCode::SwitchedOff, text));
    }
    let id = BatchId::parse(id)
        .map_err(|error| ToolError::invalid_argument(format!("`batch_id`: {error}")))?;
    let shown = follow_batch(cx, &id, known, wait).await?;
    let text = format!("card: the batch is {}.", shown.state.as_str());
    let output = FollowedBatch {
        batch_id: id.to_string(),
        batch_state: shown.state,
        r#final: shown.is_final,
        state: shown.version,
        simulated: cx.account.environment() == Environment::Sandbox,
    };
    Ok(Reply::new(FollowCallOutput::Batch(output), text).with_meta(card::BATCH_META, shown.data))
}

impl Tool for FollowCall {
    const NAME: ToolName = ToolName::FOLLOW_CALL;
    const TITLE: &'static str = "Follow";
    const DESCRIPTION: &'static [Sentence] =
        &[Always("For the call card alone: what changed since its last request.")];
    const EFFECT: ToolEffect = ToolEffect::Reads;
    const OPEN_WORLD: bool = true;
    const CARD: CardRole = CardRole::AppOnly { serves: &[tool_metadata::<GetCallResult>()] };
    type Input = FollowCallInput;
    type Output = FollowCallOutput;

    fn deadline(input: &Self::Input, _cx: &ToolContext) -> Duration {
        input.wait() + Duration::from_secs(25)
    }

    async fn run(input: Self::Input, cx: &ToolContext) -> Result<Reply<Self::Output>, ToolExit> {
        let wait = input.wait();
        let FollowCallInput {
            call_id,
            batch_id,
            question_id,
            after_sequence_no,
            state: known,
            wait_seconds: _,
        } = input;
        let known = known.as_ref().map(Text::as_str);
        let call_id = match (call_id, batch_id, question_id) {
            (Some(call_id), None, None) => call_id,
            (None, Some(batch), None) => {
                return Ok(follow_list(cx, batch.as_str(), known, wait).await?);
            }
            (None, None, Some(question)) => {
                let dialer = cx.account.dialer()?;
                let question = record_shown_question(dialer, question.as_str()).await?;
                let text = format!("card: the question is {}.", wire_word(&question));
                return Ok(Reply::new(FollowCallOutput::Question { question }, text));
            }
            _ => {
                let text = "name one of `call_id`, `batch_id` and `question_id`";
                return Err(ToolError::invalid_argument(text).into());
            }
        };
        let after = after_sequence_no.map(BoundedInteger::get);
        let changed = |snapshot: &Snapshot| {
            snapshot.call.is_some()
                && (known != Some(describe_state(snapshot).as_str())
                    || lines_after(snapshot, after).next().is_some())
        };
        let (observed, snapshot) = waiting::wait_for_change(cx, &call_id, wait, changed).await?;
        waiting::record_call_end(&cx.account, &observed.call).await;
        let mut lines = lines_after(&snapshot, after);
        let shown: Vec<Value> =
            lines.by_ref().take(MAX_LINES).map(|line| show_line(line, &observed.call)).collect();
        let has_more = lines.next().is_some();
        let simulated = text::is_simulated(&observed.call.extra);
        let status = observed.call.status.to_string();
        let (call, outcome) = show_call(cx, observed).await?;
        let is_final = snapshot.state == WatchStatus::Finished && !has_more;
        let text = format!("card: {} new lines; the call is {status}.", shown.len());
        let output = FollowedCall {
            call_id,
            outcome,
            status,
            r#final: is_final,
            state: describe_state(&snapshot),
            lines: shown.len(),
            has_more,
            simulated,
        };
        Ok(Reply::new(FollowCallOutput::Call(output), text)
            .with_simulated(simulated)
            .with_meta(card::CALL_META, call)
            .with_meta(card::LINES_META, shown.into()))
    }
}
