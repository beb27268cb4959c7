//! What a tool receives besides its arguments: the account, the caller and the client. This module does not know any
//! tool.

use std::sync::Arc;

use rmcp::model::RequestId;
use tokio_util::sync::CancellationToken;

use crate::account::Account;
use crate::dialing::caller::CallerName;
use crate::mcp::registry::available::AvailableTools;
use crate::mcp::request::peer::McpPeer;
use crate::mcp::request::progress::ProgressNotifier;
use crate::telemetry::traces::TraceContext;

/// The context of one tool call.
pub struct ToolContext {
    /// The account of the call.
    pub account: Arc<Account>,
    /// The tools that its caller can use.
    pub tools: AvailableTools,
    /// Cancelled when the client cancels the request or disconnects.
    pub cancel: CancellationToken,
    /// Cancelled when the account is no longer served: a token was revoked, or the server ended.
    pub ended: CancellationToken,
    /// Cancelled when the server shuts down: waits then return the state known so far.
    pub draining: CancellationToken,
    /// Sends progress, if the client asked for it.
    pub progress: ProgressNotifier,
    /// The trace that the request is part of.
    pub trace_context: TraceContext,
    /// The client, its capabilities, and the way to ask its human.
    pub client: McpPeer,
    /// The request's id, as the client chose it.
    pub request_id: RequestId,
    /// A short name of the caller, where the transport has many.
    pub tenant: Option<Arc<str>>,
    /// The caller, as receipts, limits and rules name it.
    pub caller: CallerName,
    /// Whether the arguments are logged too.
    pub log_arguments: bool,
}

impl ToolContext {
    /// Waits until the answer is no longer wanted or no longer permitted.
    pub async fn cancelled(&self) {
        tokio::select! {
            () = self.cancel.cancelled() => {}
            () = self.ended.cancelled() => {}
        }
    }
}
