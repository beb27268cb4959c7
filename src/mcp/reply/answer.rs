//! Converts a tool's reply or error to a result of the protocol: structured content for programs, and a text with the
//! same content.

use rmcp::model::{CallToolResult, ContentBlock, ErrorData, JsonObject, MetaObject};
use serde::Serialize;
use serde_json::Value;

use crate::mcp::reply::text;
use crate::mcp::task_subject::TaskSubject;

use crate::mcp::registry::available::AvailableTools;
use crate::mcp::reply::error::{ErrorReport, ToolError};

/// What a tool answers: the data, and the text that says the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply<T> {
    /// Fits the tool's output schema.
    pub data: T,
    /// The complete text, with every id, for clients that use only the text.
    pub text: String,
    /// Whether it comes from the simulator.
    pub simulated: bool,
    /// What is still in progress: a client that supports tasks gets a task for it.
    pub followed: Option<TaskSubject>,
    /// What only the client and the call card read, and no model.
    pub meta: JsonObject,
}

impl<T> Reply<T> {
    /// A reply of data and its text.
    #[must_use]
    pub fn new(data: T, text: impl Into<String>) -> Self {
        Self { data, text: text.into(), simulated: false, followed: None, meta: JsonObject::new() }
    }

    /// Sets whether the reply shows simulated records.
    #[must_use]
    pub fn with_simulated(mut self, simulated: bool) -> Self {
        self.simulated = simulated;
        self
    }

    /// Adds what only the client and the call card read.
    #[must_use]
    pub fn with_meta(mut self, key: &str, data: Value) -> Self {
        self.meta.insert(key.to_owned(), data);
        self
    }

    /// The text with the notice, if the answer is simulated.
    #[must_use]
    pub fn full_text(&self) -> String {
        text::mark_simulated(self.simulated, self.text.trim_end())
    }

    /// Sets the work that is still in progress.
    #[must_use]
    pub fn followed_by(mut self, subject: impl Into<TaskSubject>) -> Self {
        self.followed = Some(subject.into());
        self
    }
}

/// The key under `_meta` of a failed result where programs find class, effect and retry.
pub const ERROR_META: &str = "callingbox-mcp/error";

/// Shapes a reply.
///
/// # Errors
/// The data cannot be serialized. This is a defect; the error contains the text.
pub fn render_reply<T: Serialize>(reply: Reply<T>) -> Result<CallToolResult, ToolError> {
    let text = reply.full_text();
    let data = serde_json::to_value(reply.data).map_err(|error| {
        ToolError::internal(format!("the answer could not be written: {error}. It was: {text}"))
    })?;
    let mut result = CallToolResult::success(vec![ContentBlock::text(text)]);
    result.structured_content = Some(text::escape_data(data));
    if !reply.meta.is_empty() {
        result.meta = Some(MetaObject(reply.meta));
    }
    Ok(result)
}

/// Renders an error. It has no structured content, because clients validate that against the output schema; programs
/// find the same data under [`ERROR_META`].
#[must_use]
pub fn render_error(error: &ErrorReport) -> CallToolResult {
    let shown = text::escape_invisible(&error.to_string());
    let mut result = CallToolResult::error(vec![ContentBlock::text(shown)]);
    let mut meta = MetaObject::default();
    let data = serde_json::to_value(error).unwrap_or(Value::Null);
    meta.insert(ERROR_META.to_owned(), text::escape_data(data));
    result.meta = Some(meta);
    result
}

/// The error where the protocol has only a text for it.
#[must_use]
pub fn protocol_error(error: ToolError, tools: &AvailableTools) -> ErrorData {
    ErrorData::internal_error(error.report(tools).to_string(), None)
}
