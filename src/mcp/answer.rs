//! The one place that makes a result of the protocol of what a tool answered, or of its failure:
//! structured content for programs, a text beside it that says the same to whoever has only the text.

use rmcp::model::{CallToolResult, ContentBlock, MetaObject};
use serde::Serialize;
use serde_json::Value;

use super::error::ToolError;
use super::present::Reply;

/// The key under `_meta` of a failed result where programs find class, effect and retry.
pub const ERROR_META: &str = "callingbox-mcp/error";

/// Shapes a reply.
///
/// # Errors
/// The data could not be written as JSON: a defect, but the text still reaches the model.
pub fn reply<T: Serialize>(reply: Reply<T>) -> Result<CallToolResult, ToolError> {
    let data = serde_json::to_value(reply.data).map_err(|error| {
        ToolError::internal(format!(
            "the answer could not be written: {error}. It was: {}",
            reply.text
        ))
    })?;
    let mut result = CallToolResult::success(vec![ContentBlock::text(reply.text)]);
    result.structured_content = Some(data);
    Ok(result)
}

/// Shapes a failure. It carries no structured content, because clients hold that against the
/// output schema; programs find the same facts under [`ERROR_META`].
#[must_use]
pub fn failure(error: &ToolError) -> CallToolResult {
    let mut result = CallToolResult::error(vec![ContentBlock::text(error.to_string())]);
    let mut meta = MetaObject::default();
    meta.insert(ERROR_META.to_owned(), serde_json::to_value(error).unwrap_or(Value::Null));
    result.meta = Some(meta);
    result
}
