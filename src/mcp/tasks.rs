//! Tasks (extension `io.modelcontextprotocol/tasks`, SEP-2663): a call or a batch in progress as a task.
//!
//! A task's id consists of the id of the call or batch and a tag that binds it to the account. Nothing is stored: any process with
//! the account's key can answer for a task, even after a restart, because all data comes from the API.

use std::time::Duration;

use jiff::Timestamp;
use rmcp::model::{
    CreateTaskResult, DetailedTask, ErrorData, GetTaskResult, Task, TaskPayload, TaskStatus,
};
use serde::Serialize;
use serde_json::Value;
use subtle::ConstantTimeEq;
use tokio_util::sync::CancellationToken;

use crate::account::Account;
use crate::batch::report::load_report;
use crate::batch::{self, BatchError};
use crate::dialing::ledger::BatchId;
use crate::mcp::registry::available::AvailableTools;
use crate::mcp::registry::name::ToolName;
use crate::mcp::registry::surface::DataSurface;
use crate::mcp::reply::answer;
use crate::mcp::reply::answer::Reply;
use crate::mcp::reply::error::ToolError;
use crate::mcp::reply::text;
use crate::mcp::task_subject::TaskSubject;
use crate::mcp::tools::calls::{RowSelection, batch_reply};
use crate::mcp::waiting::{self, ObservedCall};
use callingbox::{Call, CallId};

/// Separates the call's id from the tag.
const SEPARATOR: char = '~';
/// The length of the tag in hexadecimal digits: 64 bits.
const TAG: usize = 16;
/// The poll interval during the first minutes of a call.
const POLL_MS: u64 = 3_000;
/// The poll interval of a long call.
const SLOW_POLL_MS: u64 = 10_000;
/// How late a client's next poll may be and still find the call followed.
const LATE: Duration = Duration::from_secs(2);

fn account_tag(account: &Account, id: &str) -> Result<String, ToolError> {
    let tag = account.dialer()?.key().tag(&["task", id]);
    Ok(tag.chars().take(TAG).collect())
}

/// The call or batch of a task, if the task belongs to this account and the caller may see it.
fn authorize_task(
    account: &Account,
    tools: &AvailableTools,
    task: &str,
) -> Result<TaskSubject, ErrorData> {
    let unknown = || ErrorData::invalid_params("there is no such task", None);
    let (id, given) = task.rsplit_once(SEPARATOR).ok_or_else(unknown)?;
    let subject = match BatchId::parse(id) {
        Ok(batch) => TaskSubject::Batch(batch),
        Err(_) => TaskSubject::Call(CallId::new(id)),
    };
    DataSurface::from_task(&subject)
        .require(tools, "the task")
        .map_err(|text| ErrorData::invalid_params(text, None))?;
    let right = account_tag(account, id).map_err(|error| answer::protocol_error(error, tools))?;
    if bool::from(right.as_bytes().ct_eq(given.as_bytes())) { Ok(subject) } else { Err(unknown()) }
}

/// The task for a call or a batch in progress. Its status message is the text of the answer that it replaces.
///
/// # Errors
/// No key is set; then there is no call either.
pub fn create_task(
    account: &Account,
    subject: &TaskSubject,
    text: String,
) -> Result<CreateTaskResult, ToolError> {
    let id = subject.as_str();
    let id = format!("{id}{SEPARATOR}{}", account_tag(account, id)?);
    let now = Timestamp::now().to_string();
    let task = Task::new(id, TaskStatus::Working, now.clone(), now)
        .with_status_message(text)
        .with_poll_interval_ms(POLL_MS);
    Ok(CreateTaskResult::new(task))
}

/// `tasks/get`: the last known state of the call or batch; when it is over, the result of `get_call_result` or `get_batch`
/// for this caller.
///
/// # Errors
/// There is no such task, the caller may not see its call, or the API cannot be read.
pub async fn get_task(
    account: &Account,
    tools: &AvailableTools,
    draining: &CancellationToken,
    task: &str,
) -> Result<GetTaskResult, ErrorData> {
    let id = match authorize_task(account, tools, task)? {
        TaskSubject::Call(id) => id,
        TaskSubject::Batch(id) => return get_batch_task(account, tools, task, &id).await,
    };
    let kept = |call: &Call| Duration::from_millis(poll_interval_ms(call, Timestamp::now())) + LATE;
    let observed = waiting::poll_once(account, draining, &id, kept).await;
    let observed =
        observed.map_err(|error| answer::protocol_error(error.with_call_id(id), tools))?;
    let record = build_task(task, &observed);
    waiting::record_call_end(account, &observed.call).await;
    let report = observed.into_report(account, tools).await;
    if !report.is_final() {
        return Ok(GetTaskResult::new(DetailedTask::new(record, TaskPayload::Working)));
    }
    complete_task(record, report.into_reply(), tools)
}

/// The state of a batch as a task. One that is paused or interrupted needs a person, and is shown as it is.
async fn get_batch_task(
    account: &Account,
    tools: &AvailableTools,
    task: &str,
    id: &BatchId,
) -> Result<GetTaskResult, ErrorData> {
    let report = load_report(account, id)
        .await
        .map_err(|error| answer::protocol_error(error.into(), tools))?;
    let reply = batch_reply(tools, &report, RowSelection::All, 0);
    let created = report.record.created_at.to_string();
    let updated = report.record.ended_at.unwrap_or(report.now).to_string();
    let record = Task::new(task, TaskStatus::Working, created, updated)
        .with_status_message(text::mark_simulated(reply.simulated, &reply.data.note))
        .with_poll_interval_ms(POLL_MS);
    if !report.is_settled() {
        return Ok(GetTaskResult::new(DetailedTask::new(record, TaskPayload::Working)));
    }
    complete_task(record, reply, tools)
}

/// A task with its result.
fn complete_task<T: Serialize>(
    record: Task,
    reply: Reply<T>,
    tools: &AvailableTools,
) -> Result<GetTaskResult, ErrorData> {
    let result =
        answer::render_reply(reply).map_err(|error| answer::protocol_error(error, tools))?;
    match serde_json::to_value(result) {
        Ok(Value::Object(result)) => {
            Ok(GetTaskResult::new(DetailedTask::new(record, TaskPayload::Completed { result })))
        }
        _ => Err(ErrorData::internal_error("the result could not be written", None)),
    }
}

/// When the client should poll again.
fn poll_interval_ms(call: &Call, now: Timestamp) -> u64 {
    let begun = call.created_at.as_ref().and_then(|created| created.instant());
    let age = begun.map_or(0, |begun| now.duration_since(begun).as_secs());
    if age > 300 { SLOW_POLL_MS } else { POLL_MS }
}

/// Builds the task's record from the call.
fn build_task(task: &str, observed: &ObservedCall) -> Task {
    let call = &observed.call;
    let text = |time: &Option<callingbox::Timestamp>| {
        time.as_ref().map_or_else(|| Timestamp::UNIX_EPOCH.to_string(), ToString::to_string)
    };
    let mut message = format!("call_id: {}. The call is {}.", call.id, call.status);
    if let Some(trouble) = &observed.trouble {
        message.push_str(&text::last_known_note(&trouble.kind().to_string()));
    }
    let message = text::mark_simulated(text::is_simulated(&call.extra), &message);
    Task::new(task, TaskStatus::Working, text(&call.created_at), text(&call.updated_at))
        .with_status_message(message)
        .with_poll_interval_ms(poll_interval_ms(call, Timestamp::now()))
}

/// `tasks/cancel`: cancels a batch. A call cannot be canceled, because the API cannot hang up.
///
/// # Errors
/// The task is unknown, the caller may not see it, or it is a call.
pub async fn cancel_task(
    account: &Account,
    tools: &AvailableTools,
    task: &str,
) -> Result<(), ErrorData> {
    match authorize_task(account, tools, task)? {
        TaskSubject::Batch(id) if tools.contains(ToolName::CANCEL_BATCH) => {
            match batch::cancel(account, &id).await {
                Ok(_) | Err(BatchError::WrongState { .. }) => Ok(()),
                Err(error) => Err(answer::protocol_error(error.into(), tools)),
            }
        }
        TaskSubject::Batch(id) => Err(ErrorData::invalid_request(
            format!("batch {id} was not canceled: cancel_batch is not offered here"),
            None,
        )),
        TaskSubject::Call(call) => Err(ErrorData::invalid_request(
            format!(
                "call {call} was not ended: CallingBox cannot hang up a call on request. Unless the call is over, it continues to its own end; tasks/get returns its state."
            ),
            None,
        )),
    }
}

/// `tasks/update`: always an error, because a task never asks for input.
///
/// # Errors
/// Always: the task is unknown, the caller may not see it, or it needs no input.
pub fn update_task(account: &Account, tools: &AvailableTools, task: &str) -> Result<(), ErrorData> {
    authorize_task(account, tools, task)?;
    Err(ErrorData::invalid_params(
        "this task needs no input: a call is confirmed before it becomes a task",
        None,
    ))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_call_that_goes_on_is_asked_about_less_often() {
        let now = "2026-11-22T08:00:00Z".parse().unwrap();
        for (created_at, expected) in [
            (json!("2026-11-22T08:00:00Z"), 3_000),
            (json!("2026-11-22T07:55:00Z"), 3_000),
            (json!("2026-11-22T07:54:59Z"), 10_000),
            // The API's clock may be ahead, and the field may not be a time.
            (json!("2026-11-22T09:00:00Z"), 3_000),
            (json!("just now"), 3_000),
            (Value::Null, 3_000),
        ] {
            let call = serde_json::from_value(json!({"id": "c", "created_at": created_at}));
            assert_eq!(poll_interval_ms(&call.unwrap(), now), expected, "{created_at}");
        }
    }
}
