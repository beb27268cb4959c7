//! The path of every tool call: it finds the tool, checks that it is offered and that the arguments are valid,
//! enforces the deadline, handles cancellation and panics, and writes one log line. Every call is answered, and an
//! error keeps the call_id of the request.

use std::panic::AssertUnwindSafe;
use std::time::{Duration, Instant};

use futures::FutureExt;
use rmcp::ErrorData;
use rmcp::model::{CallToolRequestParams, CallToolResponse};
use serde::Deserialize;
use tracing::Instrument as _;

use crate::mcp::catalogue::Catalogue;
use crate::mcp::registry::name::ToolName;
use crate::mcp::registry::selection::Selection;
use crate::mcp::registry::surface::DataSurface;
use crate::mcp::reply::answer;
use crate::mcp::reply::error::{ErrorCode, Retry, ToolError};
use crate::mcp::reply::next_step::NextStep;
use crate::mcp::reply::text;
use crate::mcp::request::context::ToolContext;
use crate::mcp::tasks;
use crate::mcp::tool::{ToolEntry, ToolExit, ToolOutcome};
use crate::telemetry::{arguments, metrics, traces};
use callingbox::{CallId, Effect};

/// The maximum length of a request id in the log, because the client chooses the id.
const MAX_REQUEST_ID_CHARS: usize = 64;

/// Runs one tool call.
///
/// # Errors
/// A protocol error only for a tool that does not exist; everything a model could act on is a
/// result with `isError`.
pub async fn call_tool(
    catalogue: &Catalogue,
    selection: &Selection,
    request: CallToolRequestParams,
    cx: &ToolContext,
) -> Result<CallToolResponse, ErrorData> {
    let Some(entry) = catalogue.get(&request.name) else {
        let hint = catalogue
            .index()
            .nearest(&request.name)
            .map(|name| format!("; did you mean `{name}`?"))
            .unwrap_or_default();
        let name = text::one_line(&request.name, 80);
        log_call(cx, &name, "unknown_tool", Duration::ZERO, None);
        return Err(ErrorData::invalid_params(format!("there is no tool `{name}`{hint}"), None));
    };
    let started = Instant::now();
    let about = request.arguments.as_ref().and_then(|given| given.get("call_id"));
    let about = about.and_then(|id| CallId::deserialize(id).ok());
    let span = traces::tool_call_span(&cx.trace_context, entry.meta.name, cx.tenant.as_deref());
    let logged =
        request.arguments.as_ref().filter(|_| cx.log_arguments).map(arguments::mask_arguments);
    let outcome = match selection.withheld_reason(&entry.meta) {
        Some(reason) => Err(ToolExit::Failed(ToolError::new(
            ErrorCode::SwitchedOff,
            format!("the tool `{}` is not offered here: {reason}", entry.meta.name),
        ))),
        None => run_tool(entry, request, cx).instrument(span.clone()).await,
    };
    let failed = matches!(outcome, Err(ToolExit::Failed(_)));
    let (label, response) = match outcome {
        // A task that the caller could not read would lose the answer.
        Ok(ToolOutcome { followed: Some((subject, text)), .. })
            if cx.client.supports_tasks()
                && DataSurface::from_task(&subject).is_visible(&cx.tools) =>
        {
            let task = tasks::create_task(&cx.account, &subject, text);
            let task = task.map_err(|error| answer::protocol_error(error, &cx.tools))?;
            ("task", CallToolResponse::Task(task))
        }
        Ok(finished) => ("ok", finished.result.into()),
        Err(ToolExit::NeedsInput(input)) => {
            ("needs_input", CallToolResponse::InputRequired(*input))
        }
        Err(ToolExit::Failed(error)) => {
            let error = match about {
                Some(call) => error.with_call_id(call),
                None => error,
            };
            (error.class().as_str(), answer::render_error(&error.report(&cx.tools)).into())
        }
    };
    let took = started.elapsed();
    metrics::tool_call(entry.meta.name, label, took);
    traces::record_outcome(&span, label, failed);
    log_call(cx, entry.meta.name, label, took, logged);
    Ok(response)
}

/// The log line of a call.
fn log_call(
    cx: &ToolContext,
    tool: &str,
    outcome: &str,
    took: Duration,
    arguments: Option<String>,
) {
    let id = cx.request_id.to_string();
    tracing::info!(
        tenant = cx.tenant.as_deref(),
        caller = &*arguments::mask_digits(cx.caller.as_str()),
        tool = &*arguments::mask_digits(tool),
        outcome,
        milliseconds = u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
        request_id = text::one_line(&arguments::mask_digits(&id), MAX_REQUEST_ID_CHARS),
        arguments,
        "tool call"
    );
}

/// The steps after a change whose effect is not known.
fn check_state() -> Vec<NextStep> {
    vec![
        NextStep::person("Check the present state first."),
        NextStep::tool(ToolName::LIST_CALLS, "shows the calls"),
        NextStep::tool(ToolName::LIST_AGENTS, "shows the agents"),
        NextStep::tool(ToolName::LIST_NUMBERS, "shows the numbers"),
    ]
}

async fn run_tool(
    entry: &ToolEntry,
    request: CallToolRequestParams,
    cx: &ToolContext,
) -> Result<ToolOutcome, ToolExit> {
    let ready = entry.prepare_call(request.arguments.unwrap_or_default(), cx)?;
    let changes = !entry.meta.effect.is_read_only();
    let uncertain = |class, message: String| {
        let error = ToolError::new(class, message);
        if changes {
            error.with_effect(Effect::Unknown).with_retry(Retry::No).with_next(check_state())
        } else {
            error.with_retry(Retry::Later)
        }
    };
    let work = AssertUnwindSafe(ready.work).catch_unwind();
    tokio::select! {
        biased;
        () = cx.cancelled() => {
            let (class, message) = match cx.draining.is_cancelled() {
                true => (ErrorCode::Unavailable, format!("this server ended before {} was done", entry.meta.name)),
                false => (
                    ErrorCode::Canceled,
                    format!(
                        "{} was cancelled by the client, or its session or token ended",
                        entry.meta.name
                    ),
                ),
            };
            Err(uncertain(class, message).into())
        }
        finished = tokio::time::timeout(ready.deadline, work) => match finished {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_panic)) => {
                tracing::error!(tool = entry.meta.name, "a tool panicked");
                Err(uncertain(ErrorCode::Internal, format!("{} failed because of a defect in this server", entry.meta.name)).into())
            }
            Err(_elapsed) => Err(uncertain(
                ErrorCode::TimedOut,
                format!("{} took longer than {} s", entry.meta.name, ready.deadline.as_secs()),
            )
            .into()),
        },
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use rmcp::model::CallToolResult;
    use rmcp::service::{PeerRequestOptions, RoleClient, RunningService, ServiceExt};
    use schemars::JsonSchema;
    use serde::{Deserialize, Serialize};
    use serde_json::{Value, json};

    use super::*;
    use crate::account::Account;
    use crate::mcp::registry::description::Sentence;
    use crate::mcp::registry::effect::ToolEffect;
    use crate::mcp::reply::answer::Reply;
    use crate::mcp::server::Server;
    use crate::mcp::tool::Tool;
    use crate::watch::WaitLimits;

    #[derive(Deserialize, JsonSchema)]
    #[serde(deny_unknown_fields)]
    struct Nothing {}

    #[derive(Serialize, JsonSchema)]
    struct TranscriptWait {
        said: String,
    }

    /// Declares a tool that ends as a test wants it to.
    macro_rules! tool {
        ($name:ident, $text:literal, $kind:expr, $seconds:literal, $run:expr) => {
            struct $name;

            impl Tool for $name {
                const NAME: ToolName = ToolName::of_test($text);
                const TITLE: &'static str = $text;
                const DESCRIPTION: &'static [Sentence] = &[Sentence::Always($text)];
                const EFFECT: ToolEffect = $kind;
                const OPEN_WORLD: bool = false;
                type Input = Nothing;
                type Output = TranscriptWait;

                fn deadline(_: &Nothing, _: &ToolContext) -> Duration {
                    Duration::from_secs($seconds)
                }

                async fn run(
                    _: Nothing,
                    _: &ToolContext,
                ) -> Result<Reply<TranscriptWait>, ToolExit> {
                    $run
                }
            }
        };
    }

    static DROPPED: AtomicUsize = AtomicUsize::new(0);

    /// Counts that the work it belongs to was given up.
    struct Work;

    impl Drop for Work {
        fn drop(&mut self) {
            DROPPED.fetch_add(1, Ordering::SeqCst);
        }
    }

    tool!(
        Fine,
        "fine",
        ToolEffect::Reads,
        5,
        Ok(Reply::new(TranscriptWait { said: "yes".into() }, "yes"))
    );
    tool!(PanicsReading, "panics_reading", ToolEffect::Reads, 5, panic!("a defect"));
    tool!(PanicsRinging, "panics_ringing", ToolEffect::RingsPhone, 5, panic!("a defect"));
    tool!(SlowReading, "slow_reading", ToolEffect::Reads, 7, std::future::pending().await);
    tool!(SlowRinging, "slow_ringing", ToolEffect::RingsPhone, 7, std::future::pending().await);
    tool!(Endless, "endless", ToolEffect::Reads, 3600, {
        let _work = Work;
        std::future::pending().await
    });

    /// A client of a server with these tools alone.
    async fn client() -> RunningService<RoleClient, ()> {
        let catalogue = Catalogue::from_entries(vec![
            ToolEntry::new::<Fine>(),
            ToolEntry::new::<PanicsReading>(),
            ToolEntry::new::<PanicsRinging>(),
            ToolEntry::new::<SlowReading>(),
            ToolEntry::new::<SlowRinging>(),
            ToolEntry::new::<Endless>(),
        ]);
        let account = Arc::new(Account::without_key(WaitLimits::default()));
        let server = Server::new(Arc::new(catalogue), Arc::new(Selection::default()), account);
        let (near, far) = tokio::io::duplex(64 * 1024);
        tokio::spawn(async move { server.serve(far).await.unwrap().waiting().await });
        ().serve(near).await.unwrap()
    }

    fn error(result: &CallToolResult) -> Value {
        assert_eq!(result.is_error, Some(true), "{result:?}");
        serde_json::to_value(result).unwrap()["_meta"][answer::ERROR_META].clone()
    }

    #[tokio::test]
    async fn a_tool_that_panics_is_answered_and_the_next_call_works() {
        let client = client().await;
        let look = "Check the present state first.";
        for (name, expected) in [
            (
                "panics_reading",
                json!({"class": "internal", "message": "panics_reading failed because of a defect in this server", "done": "nothing", "retry": "later"}),
            ),
            (
                "panics_ringing",
                json!({"class": "internal", "message": "panics_ringing failed because of a defect in this server", "done": "unknown", "retry": "no", "next": look}),
            ),
        ] {
            let answer = client.call_tool(CallToolRequestParams::new(name)).await.unwrap();
            assert_eq!(error(&answer), expected);
            let fine = client.call_tool(CallToolRequestParams::new("fine")).await.unwrap();
            assert_eq!(fine.structured_content, Some(json!({"said": "yes"})));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_tool_that_takes_too_long_is_answered_at_its_deadline() {
        let client = client().await;
        for (name, done, retry) in
            [("slow_reading", "nothing", "later"), ("slow_ringing", "unknown", "no")]
        {
            let begun = tokio::time::Instant::now();
            let answer = client.call_tool(CallToolRequestParams::new(name)).await.unwrap();
            assert_eq!(begun.elapsed().as_secs(), 7);
            let error = error(&answer);
            assert_eq!(error["message"], format!("{name} took longer than 7 s"));
            assert_eq!((&error["class"], &error["done"]), (&json!("timed_out"), &json!(done)));
            assert_eq!(error["retry"], retry);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_canceled_call_stops_its_work_long_before_its_deadline() {
        let client = client().await;
        let request = rmcp::model::CallToolRequest::new(CallToolRequestParams::new("endless"));
        let handle = client
            .send_cancellable_request(request.into(), PeerRequestOptions::no_options())
            .await
            .unwrap();
        let fine = client.call_tool(CallToolRequestParams::new("fine")).await.unwrap();
        assert_eq!((fine.is_error, DROPPED.load(Ordering::SeqCst)), (Some(false), 0));
        handle.cancel(None).await.unwrap();
        client.call_tool(CallToolRequestParams::new("fine")).await.unwrap();
        assert_eq!(DROPPED.load(Ordering::SeqCst), 1);
    }
}
