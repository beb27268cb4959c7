//! The one place through which every tool call passes: which tool, is it offered, do the arguments
//! fit, a deadline, cancellation, a panic, one line of log. Whatever a tool does, its caller is
//! answered.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Instant;

use futures::FutureExt;
use rmcp::ErrorData;
use rmcp::model::{CallToolRequestParams, CallToolResponse};
use tokio_util::sync::CancellationToken;

use super::catalogue::{Catalogue, Entry, Selection, Stop};
use super::client::Client;
use super::error::{Class, Done, Retry, ToolError};
use super::present;
use super::progress::Progress;
use crate::account::Account;
use crate::telemetry::metrics;

/// What a running tool is handed.
pub struct ToolContext {
    /// Whose account it is.
    pub account: Arc<Account>,
    /// Canceled when the client takes the request back or is gone.
    pub cancel: CancellationToken,
    /// Where to say how it goes, if the client wants to know.
    pub progress: Progress,
    /// What the client can do, and the way to ask its human.
    pub client: Client,
}

/// Runs one tool call.
///
/// # Errors
/// A protocol error only for a tool that does not exist; everything a model could act on is a
/// result with `isError`.
pub async fn call(
    catalogue: &Catalogue,
    selection: &Selection,
    request: CallToolRequestParams,
    cx: &ToolContext,
) -> Result<CallToolResponse, ErrorData> {
    let Some(entry) = catalogue.get(&request.name) else {
        let hint = catalogue
            .nearest(&request.name)
            .map(|name| format!("; did you mean `{name}`?"))
            .unwrap_or_default();
        let name = present::one_line(&request.name, 80);
        return Err(ErrorData::invalid_params(format!("there is no tool `{name}`{hint}"), None));
    };
    let started = Instant::now();
    let outcome = match selection.withheld(entry) {
        Some(reason) => Err(Stop::Failed(ToolError::new(
            Class::SwitchedOff,
            format!("the tool `{}` is not offered here: {reason}", entry.name),
        ))),
        None => run(entry, request, cx).await,
    };
    let (label, response) = match outcome {
        Ok(result) => ("ok", result.into()),
        Err(Stop::NeedsInput(input)) => ("needs_input", CallToolResponse::InputRequired(*input)),
        Err(Stop::Failed(error)) => (error.class().as_str(), present::failure(&error).into()),
    };
    let took = started.elapsed();
    metrics::tool_call(entry.name, label, took);
    tracing::info!(
        tool = entry.name,
        outcome = label,
        milliseconds = u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
        "tool call"
    );
    Ok(response)
}

async fn run(
    entry: &Entry,
    request: CallToolRequestParams,
    cx: &ToolContext,
) -> Result<rmcp::model::CallToolResult, Stop> {
    let ready = entry.prepare(request.arguments.unwrap_or_default(), cx)?;
    let changes = !entry.kind.is_read_only();
    let uncertain = |class, message: String| {
        let error = ToolError::new(class, message);
        if changes {
            error.done(Done::Unknown).retry(Retry::No).next(
                "read what is there (list_calls, list_agents or list_numbers) before anything else.",
            )
        } else {
            error.retry(Retry::Later)
        }
    };
    let work = AssertUnwindSafe(ready.work).catch_unwind();
    tokio::select! {
        biased;
        () = cx.cancel.cancelled() => {
            Err(uncertain(Class::Canceled, format!("{} was canceled by the client", entry.name)).into())
        }
        finished = tokio::time::timeout(ready.deadline, work) => match finished {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_panic)) => {
                tracing::error!(tool = entry.name, "a tool panicked");
                Err(uncertain(Class::Internal, format!("{} failed by a defect of this server", entry.name)).into())
            }
            Err(_elapsed) => Err(uncertain(
                Class::TimedOut,
                format!("{} took longer than {} s", entry.name, ready.deadline.as_secs()),
            )
            .into()),
        },
    }
}
