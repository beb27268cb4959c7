//! The call card: a document that a client shows in the conversation (MCP App, extension `io.modelcontextprotocol/ui` of
//! 2026-01-26). It shows a call while it goes on, and asks the person for a yes where the client itself cannot.
//!
//! `call.html` is the whole document. It holds no data of an account, loads nothing, and learns everything from its host:
//! results of tools, and what the tools `follow_call` and `confirm_call` answer. This module knows neither of them.

use rmcp::model::{ClientCapabilities, JsonObject, MetaObject, Resource, Tool};
use serde_json::{Value, json};

use crate::mcp::registry::index::CardRole;

/// The name of the extension.
pub const EXTENSION: &str = "io.modelcontextprotocol/ui";
/// The address of the document. Clients cache by it, so a changed document that older servers cannot feed gets another.
pub const URI: &str = "ui://callingbox/call-1.html";
/// The addresses of all documents begin with this.
pub const SCHEME: &str = "ui://";
/// The media type by which clients recognize a document of the extension.
pub const MIME_TYPE: &str = "text/html;profile=mcp-app";

/// The key under `_meta` of a result that holds a question to the person: the order, what to show, and the token of a yes.
pub const CONFIRM_META: &str = "callingbox-mcp/confirm";
/// The key under `_meta` of a result that holds the record of a call, with what was extracted from it.
pub const CALL_META: &str = "callingbox-mcp/call";
/// The key under `_meta` of a result that holds a batch with its rows.
pub const BATCH_META: &str = "callingbox-mcp/batch";
/// The key under `_meta` of a result that holds spoken words.
pub const LINES_META: &str = "callingbox-mcp/lines";

/// The document. It is the same for everyone.
pub const DOCUMENT: &str = include_str!("call.html");

/// The old name of `ui.resourceUri`, which some hosts read alone.
const FLAT_KEY: &str = "ui/resourceUri";

/// The settings of the extension in the capabilities of either side.
#[must_use]
pub fn extension_settings() -> JsonObject {
    JsonObject::from_iter([("mimeTypes".to_owned(), json!([MIME_TYPE]))])
}

/// Whether a client can show the card.
#[must_use]
pub fn is_supported(client: &ClientCapabilities) -> bool {
    let settings = client.extensions.as_ref().and_then(|extensions| extensions.get(EXTENSION));
    let types = settings.and_then(|settings| settings.get("mimeTypes")).and_then(Value::as_array);
    types.is_some_and(|types| types.iter().any(|mime| mime == MIME_TYPE))
}

/// What the definition of a tool says about the card.
#[must_use]
pub fn tool_meta(role: CardRole) -> Option<MetaObject> {
    let meta = match role {
        CardRole::Unrelated => return None,
        CardRole::ShowsResult => json!({
            "ui": { "resourceUri": URI, "visibility": ["model"] },
            FLAT_KEY: URI,
        }),
        CardRole::AppOnly { .. } => json!({ "ui": { "visibility": ["app"] } }),
    };
    meta.as_object().cloned().map(MetaObject)
}

/// Whether clients keep a tool from the model.
#[must_use]
pub fn is_app_only(tool: &Tool) -> bool {
    let visibility = tool.meta.as_ref().and_then(|meta| meta.get("ui")?.get("visibility"));
    visibility == Some(&json!(["app"]))
}

/// What a client must know before it shows the document: it needs nothing from outside.
#[must_use]
pub fn document_meta() -> MetaObject {
    let ui = json!({ "csp": {}, "prefersBorder": true });
    MetaObject(JsonObject::from_iter([("ui".to_owned(), ui)]))
}

/// The document's line in a list of resources.
#[must_use]
pub fn list_document() -> Resource {
    let mut resource = Resource::new(URI, "call-card")
        .with_title("Call card")
        .with_description("Shows a call live, and asks the user to confirm an order.")
        .with_mime_type(MIME_TYPE);
    resource.meta = Some(document_meta());
    resource
}
