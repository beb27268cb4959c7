//! The MCP handler of a tenant behind a trait object, so that the rest of this folder does not depend on its type. The
//! program serves its tools; `tests/conformance` serves the fixtures of the conformance suite. Knows nothing about
//! messages.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use http_body_util::Full;
use http_body_util::combinators::BoxBody;
use rmcp::ServerHandler;
use rmcp::service::serve_server_with_ct;
use rmcp::transport::streamable_http_server::{StreamableHttpServerConfig, StreamableHttpService};
use tokio_util::sync::CancellationToken;

use super::sessions::Sessions;
use super::sse_channel::SseChannel;
use crate::account::Account;
use crate::mcp::catalogue::Catalogue;
use crate::mcp::registry::index::ToolIndex;
use crate::mcp::registry::selection::Selection;
use crate::mcp::server::{Server, ServerOptions};

/// What the handler of a tenant needs.
pub struct HandlerContext {
    /// The tools that the tenant may use.
    pub selection: Arc<Selection>,
    pub account: Arc<Account>,
    pub options: ServerOptions,
}

pub trait HandlerFactory: Send + Sync {
    /// The tools that a caller can be granted or can ask for.
    fn tools(&self) -> &ToolIndex;

    /// Creates the handler of one tenant.
    fn create_handler(self: Arc<Self>, context: HandlerContext) -> Box<dyn McpHandler>;
}

impl HandlerFactory for Catalogue {
    fn tools(&self) -> &ToolIndex {
        self.index()
    }

    fn create_handler(self: Arc<Self>, context: HandlerContext) -> Box<dyn McpHandler> {
        let HandlerContext { selection, account, options } = context;
        Box::new(Server::new(self, selection, account).with_options(options))
    }
}

/// An MCP server that is cloned for each session.
pub trait McpHandler: Send + Sync {
    /// Serves one session of the HTTP+SSE transport until it ends or `end` is cancelled.
    fn serve_session(&self, channel: SseChannel, end: CancellationToken) -> BoxFuture<'static, ()>;

    /// Serves streamable HTTP with these sessions.
    fn streamable_http(
        &self,
        sessions: Arc<Sessions>,
        config: StreamableHttpServerConfig,
    ) -> Box<dyn DynStreamableHttp>;
}

impl<H: ServerHandler + Clone> McpHandler for H {
    fn serve_session(&self, channel: SseChannel, end: CancellationToken) -> BoxFuture<'static, ()> {
        let handler = self.clone();
        let session = async {
            match serve_server_with_ct(handler, channel, end).await {
                Ok(session) => {
                    if let Err(error) = session.waiting().await {
                        tracing::debug!(%error, "an HTTP+SSE session failed");
                    }
                }
                Err(error) => tracing::debug!(%error, "an HTTP+SSE session was not initialized"),
            }
        };
        session.boxed()
    }

    fn streamable_http(
        &self,
        sessions: Arc<Sessions>,
        config: StreamableHttpServerConfig,
    ) -> Box<dyn DynStreamableHttp> {
        let handler = self.clone();
        Box::new(StreamableHttpService::new(move || Ok(handler.clone()), sessions, config))
    }
}

/// A response of rmcp.
pub type McpResponse = http::Response<BoxBody<Bytes, Infallible>>;

/// rmcp's streamable HTTP transport, without the type of its handler.
pub trait DynStreamableHttp: Send + Sync {
    /// Answers one request whose body has been read.
    fn handle_request(&self, request: http::Request<Full<Bytes>>) -> BoxFuture<'_, McpResponse>;
}

impl<H: ServerHandler> DynStreamableHttp for StreamableHttpService<H, Sessions> {
    fn handle_request(&self, request: http::Request<Full<Bytes>>) -> BoxFuture<'_, McpResponse> {
        self.handle(request).boxed()
    }
}
