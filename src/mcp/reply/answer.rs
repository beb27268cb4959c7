//! The one place that makes a result of the protocol of what a tool answered, or of its failure:
//! structured content for programs, a text beside it that says the same to whoever has only the text.

use rmcp::model::{CallToolResult, ContentBlock, ErrorData, MetaObject};
use serde::Serialize;
use serde_json::Value;

use crate::mcp::reply::text;
use callingbox::CallId;

use crate::mcp::registry::available::AvailableTools;
use crate::mcp::reply::error::{ErrorReport, ToolError};

/// What a tool answers: the data, and the text that says the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply<T> {
    /// Fits the tool's output schema.
    pub data: T,
    /// For whoever reads only text; complete, with every id.
    pub text: String,
    /// Whether it comes from the simulator.
    pub simulated: bool,
    /// The call whose end is still to come: a client that knows tasks gets one for it.
    pub followed: Option<CallId>,
}

impl<T> Reply<T> {
    /// A reply of data and its text.
    #[must_use]
    pub fn new(data: T, text: impl Into<String>) -> Self {
        Self { data, text: text.into(), simulated: false, followed: None }
    }

    /// Says whether the records that it shows are of the simulator.
    #[must_use]
    pub fn with_simulated(mut self, simulated: bool) -> Self {
        self.simulated = simulated;
        self
    }

    /// The whole text, which says of a simulated answer that it is one.
    #[must_use]
    pub fn full_text(&self) -> String {
        text::mark_simulated(self.simulated, &self.text)
    }

    /// Says that the end of this call is still to come.
    #[must_use]
    pub fn followed_by(mut self, call: CallId) -> Self {
        self.followed = Some(call);
        self
    }
}

/// The key under `_meta` of a failed result where programs find class, effect and retry.
pub const ERROR_META: &str = "callingbox-mcp/error";

/// Shapes a reply.
///
/// # Errors
/// The data could not be written as JSON: a defect, but the text still reaches the model.
pub fn render_reply<T: Serialize>(reply: Reply<T>) -> Result<CallToolResult, ToolError> {
    let text = reply.full_text();
    let data = serde_json::to_value(reply.data).map_err(|error| {
        ToolError::internal(format!("the answer could not be written: {error}. It was: {text}"))
    })?;
    let mut result = CallToolResult::success(vec![ContentBlock::text(text)]);
    result.structured_content = Some(data);
    Ok(result)
}

/// Shapes a failure. It carries no structured content, because clients hold that against the
/// output schema; programs find the same facts under [`ERROR_META`].
#[must_use]
pub fn render_error(error: &ErrorReport) -> CallToolResult {
    let mut result = CallToolResult::error(vec![ContentBlock::text(error.to_string())]);
    let mut meta = MetaObject::default();
    meta.insert(ERROR_META.to_owned(), serde_json::to_value(error).unwrap_or(Value::Null));
    result.meta = Some(meta);
    result
}

/// The same failure where the protocol has no place for more than a text.
#[must_use]
pub fn protocol_error(error: ToolError, tools: &AvailableTools) -> ErrorData {
    ErrorData::internal_error(error.report(tools).to_string(), None)
}
