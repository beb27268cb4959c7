//! What a tool is handed besides its arguments: on whose behalf it runs, for whom, and how to speak with
//! them. Knows no tool.

use std::sync::Arc;

use rmcp::model::RequestId;
use tokio_util::sync::CancellationToken;

use crate::account::Account;
use crate::mcp::registry::available::AvailableTools;
use crate::mcp::request::peer::McpPeer;
use crate::mcp::request::progress::ProgressNotifier;
use crate::telemetry::traces::Origin;

/// What a running tool is handed.
pub struct ToolContext {
    /// Whose account it is.
    pub account: Arc<Account>,
    /// The tools that its caller can use.
    pub tools: AvailableTools,
    /// Canceled when the client takes the request back or is gone.
    pub cancel: CancellationToken,
    /// Canceled when the account is no longer served: a token was revoked, or the server ends.
    pub ended: CancellationToken,
    /// Canceled when the server is about to end: whoever waits now answers with what is known.
    pub draining: CancellationToken,
    /// Where to say how it goes, if the client wants to know.
    pub progress: ProgressNotifier,
    /// The trace that the request is part of.
    pub origin: Origin,
    /// What the client can do, and the way to ask its human.
    pub client: McpPeer,
    /// The request's id, as the client chose it.
    pub request_id: RequestId,
    /// A short name of the caller, where the transport has many.
    pub tenant: Option<Arc<str>>,
    /// Whether the arguments are logged too.
    pub log_arguments: bool,
}

impl ToolContext {
    /// Waits until nobody wants the answer, or nobody may have it.
    pub async fn cancelled(&self) {
        tokio::select! {
            () = self.cancel.cancelled() => {}
            () = self.ended.cancelled() => {}
        }
    }
}
