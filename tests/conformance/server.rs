//! Serves the fixtures of the official conformance suite with the program's own HTTP layer; only the MCP handler differs.
//! `run.sh` starts it. It is not part of a release.

#![expect(clippy::expect_used, clippy::print_stdout, reason = "a test program may panic and print")]
#![expect(deprecated, reason = "the suite still tests what SEP-2577 will remove")]

mod fixtures;
mod rounds;
mod tasks;

use std::sync::Arc;

use axum::Router;
use callingbox_mcp::account::Account;
use callingbox_mcp::dialing::Environment;
use callingbox_mcp::dialing::ledger::LedgerLocation;
use callingbox_mcp::http::auth::Authenticator;
use callingbox_mcp::http::handler::{HandlerContext, HandlerFactory, McpHandler};
use callingbox_mcp::http::health::Health;
use callingbox_mcp::http::server::{HttpServer, HttpSettings};
use callingbox_mcp::mcp::catalogue::Catalogue;
use callingbox_mcp::mcp::registry::index::ToolIndex;
use callingbox_mcp::watch::WaitLimits;
use tokio::net::TcpListener;

use self::fixtures::Fixtures;

struct FixtureFactory {
    fixtures: Fixtures,
    /// Only needed to parse the headers that filter tools; the suite sends none.
    catalogue: Catalogue,
}

impl HandlerFactory for FixtureFactory {
    fn tools(&self) -> &ToolIndex {
        self.catalogue.index()
    }

    fn create_handler(self: Arc<Self>, _: HandlerContext) -> Box<dyn McpHandler> {
        Box::new(self.fixtures.clone())
    }
}

#[tokio::main]
async fn main() {
    let account = Arc::new(Account::without_key(WaitLimits::default()));
    let health = Health::new(None, LedgerLocation::Unavailable, Environment::Sandbox);
    let service = HttpServer::new(
        HttpSettings::default(),
        Arc::new(FixtureFactory { fixtures: Fixtures::new(), catalogue: Catalogue::new() }),
        Arc::default(),
        Authenticator::Anonymous(account),
        health,
    );
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    println!("listening on http://{}/mcp", listener.local_addr().expect("its address"));
    let routes = service.routes(Router::new());
    service.serve((listener, routes), None, std::future::pending()).await;
}
