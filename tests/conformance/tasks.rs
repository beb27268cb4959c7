//! Tools that run as tasks (SEP-2663) of rmcp's task manager.

use std::time::Duration;

use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, ClientCapabilities, ContentBlock,
    CreateTaskResult, ErrorData, InputRequiredResult,
};
use rmcp::task_manager::{TaskContext, TaskExit, TaskManager, TaskOptions};
use serde_json::{Value, json};

use super::fixtures::text_result;
use super::rounds;

/// The tools and the tasks that they started.
#[derive(Default)]
pub(crate) struct Tasks {
    manager: TaskManager,
}

/// The tools, each with whether it requires a task.
const TOOLS: [(&str, bool); 7] = [
    ("greet", false),
    ("slow_compute", false),
    ("failing_job", true),
    ("protocol_error_job", false),
    ("confirm_delete", true),
    ("multi_input", true),
    ("test_tool_with_task", true),
];

type Ended = Result<CallToolResult, TaskExit>;

async fn compute(seconds: f64) -> CallToolResult {
    tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
    text_result(format!("computed for {seconds} s"))
}

fn internal_error() -> ErrorData {
    ErrorData::internal_error("this job fails by design", None)
}

async fn ask(
    context: &TaskContext,
    name: &str,
    field: &str,
    kind: &str,
) -> Result<Value, TaskExit> {
    let answer = context.request_input(name, rounds::form(field, kind)).await?;
    Ok(answer.get("content").and_then(|content| content.get(field)).cloned().unwrap_or_default())
}

impl Tasks {
    /// Whether there is a tool of this name.
    pub(crate) fn has(name: &str) -> bool {
        TOOLS.iter().any(|(known, _)| *known == name)
    }

    /// The names and input schemas of the tools.
    pub(crate) fn tools() -> impl Iterator<Item = (&'static str, Value)> {
        let properties = |name| match name {
            "greet" => json!({ "name": { "type": "string" } }),
            "slow_compute" => {
                json!({ "seconds": { "type": "number" }, "label": { "type": "string" } })
            }
            "confirm_delete" => json!({ "filename": { "type": "string" } }),
            _ => json!({}),
        };
        TOOLS.into_iter().map(move |(name, _)| {
            (name, json!({ "type": "object", "properties": properties(name) }))
        })
    }

    /// The manager of the tasks.
    pub(crate) fn manager(&self) -> &TaskManager {
        &self.manager
    }

    fn start_task<F>(
        &self,
        work: impl FnOnce(TaskContext) -> F + Send + 'static,
    ) -> CallToolResponse
    where
        F: Future<Output = Ended> + Send + 'static,
    {
        let task = self.manager.spawn(TaskOptions::default(), |context| Box::pin(work(context)));
        CreateTaskResult::new(task).into()
    }

    /// Calls a tool.
    pub(crate) async fn call(
        &self,
        request: &CallToolRequestParams,
        client: Option<&ClientCapabilities>,
    ) -> Result<CallToolResponse, ErrorData> {
        let as_task = client.is_some_and(ClientCapabilities::supports_tasks);
        let name = request.name.as_ref();
        if !as_task && TOOLS.contains(&(name, true)) {
            let wanted = ClientCapabilities::builder().enable_tasks().build();
            return Err(ErrorData::missing_required_client_capability(wanted));
        }
        let argument = |name: &str| request.arguments.as_ref().and_then(|given| given.get(name));
        Ok(match name {
            "greet" => {
                let name = argument("name").and_then(Value::as_str).unwrap_or("you");
                text_result(format!("Hello, {name}!")).into()
            }
            "slow_compute" => {
                let seconds = argument("seconds").and_then(Value::as_f64).unwrap_or(1.0);
                if !as_task {
                    return Ok(compute(seconds).await.into());
                }
                self.start_task(async move |context| {
                    tokio::select! {
                        () = context.cancelled() => Err(TaskExit::Cancelled),
                        computed = compute(seconds) => Ok(computed),
                    }
                })
            }
            "failing_job" => self.start_task(async |_| {
                tokio::time::sleep(Duration::from_secs(1)).await;
                Ok(CallToolResult::error(vec![ContentBlock::text("this job fails by design")]))
            }),
            "protocol_error_job" if as_task => self.start_task(async |_| {
                tokio::time::sleep(Duration::from_millis(200)).await;
                Err(TaskExit::Error(internal_error()))
            }),
            "protocol_error_job" => return Err(internal_error()),
            "confirm_delete" => self.start_task(async |context| {
                let confirmed = ask(&context, "confirm", "confirm", "boolean").await?;
                Ok(text_result(format!("confirmed: {confirmed}")))
            }),
            "multi_input" => self.start_task(async |context| {
                let (a, b) = tokio::join!(
                    ask(&context, "input-a", "value", "string"),
                    ask(&context, "input-b", "value", "string"),
                );
                Ok(text_result(format!("{} and {}", a?, b?)))
            }),
            _ => {
                let answers = request.input_responses.as_ref();
                let Some(name) = rounds::form_value(answers, "user_name", "name") else {
                    let asked =
                        rounds::input_requests([("user_name", rounds::form("name", "string"))]);
                    return Ok(InputRequiredResult::from_input_requests(asked).into());
                };
                self.start_task(async move |_| {
                    tokio::time::sleep(Duration::from_millis(200)).await;
                    Ok(text_result(format!("Hello, {name}!")))
                })
            }
        })
    }
}
