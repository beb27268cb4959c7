//! What is served to a tenant, with its type forgotten: the wiring of this folder is the same whatever
//! it carries. The program serves its catalogue; the conformance suite's fixtures stand on the same
//! wiring (`tests/conformance`). Knows nothing of messages.

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
use super::sse::Channel;
use crate::account::Account;
use crate::mcp::catalogue::Catalogue;
use crate::mcp::index::Index;
use crate::mcp::selection::Selection;
use crate::mcp::server::{Server, ServerOptions};

/// What the handler of a tenant is given.
pub struct Given {
    /// The tools that the tenant may use.
    pub selection: Arc<Selection>,
    /// On whose behalf it acts.
    pub account: Arc<Account>,
    /// How it goes about its work.
    pub options: ServerOptions,
}

/// Makes the handlers of tenants.
pub trait Handlers: Send + Sync {
    /// The tools that callers can be granted or ask for.
    fn tools(&self) -> &Index;

    /// The handler of one more tenant.
    fn make(self: Arc<Self>, given: Given) -> Box<dyn Handler>;
}

impl Handlers for Catalogue {
    fn tools(&self) -> &Index {
        self.index()
    }

    fn make(self: Arc<Self>, given: Given) -> Box<dyn Handler> {
        let Given { selection, account, options } = given;
        Box::new(Server::new(self, selection, account).with_options(options))
    }
}

/// An MCP server that can be copied for each session.
pub trait Handler: Send + Sync {
    /// Serves one session of the HTTP+SSE transport until it ends or is ended.
    fn session(&self, channel: Channel, end: CancellationToken) -> BoxFuture<'static, ()>;

    /// As streamable HTTP, with these sessions.
    fn streamable(
        &self,
        sessions: Arc<Sessions>,
        config: StreamableHttpServerConfig,
    ) -> Box<dyn Streamable>;
}

impl<H: ServerHandler + Clone> Handler for H {
    fn session(&self, channel: Channel, end: CancellationToken) -> BoxFuture<'static, ()> {
        let handler = self.clone();
        let session = async {
            match serve_server_with_ct(handler, channel, end).await {
                Ok(session) => {
                    if let Err(error) = session.waiting().await {
                        tracing::debug!(%error, "a session of the SSE transport ended badly");
                    }
                }
                Err(error) => {
                    tracing::debug!(%error, "a session of the SSE transport did not begin")
                }
            }
        };
        session.boxed()
    }

    fn streamable(
        &self,
        sessions: Arc<Sessions>,
        config: StreamableHttpServerConfig,
    ) -> Box<dyn Streamable> {
        let handler = self.clone();
        Box::new(StreamableHttpService::new(move || Ok(handler.clone()), sessions, config))
    }
}

/// The answers of rmcp.
pub type Answer = http::Response<BoxBody<Bytes, Infallible>>;

/// Streamable HTTP.
pub trait Streamable: Send + Sync {
    /// Answers one request whose body has been read.
    fn handle(&self, request: http::Request<Full<Bytes>>) -> BoxFuture<'_, Answer>;
}

impl<H: ServerHandler> Streamable for StreamableHttpService<H, Sessions> {
    fn handle(&self, request: http::Request<Full<Bytes>>) -> BoxFuture<'_, Answer> {
        self.handle(request).boxed()
    }
}
