//! The fixtures of the official conformance suite, on the HTTP wiring of the program: only the handler
//! is another one. A test's tool, started by `run.sh` beside it; never part of what is shipped.

#![expect(clippy::expect_used, clippy::print_stdout, reason = "a test may panic and print")]
#![expect(deprecated, reason = "the suite still wants what SEP-2577 will remove")]

mod fixtures;
mod rounds;
mod tasks;

use std::sync::Arc;

use axum::Router;
use callingbox_mcp::account::Account;
use callingbox_mcp::dialing::Environment;
use callingbox_mcp::dialing::dispatch::LedgerPlace;
use callingbox_mcp::http::auth::Authenticator;
use callingbox_mcp::http::handler::{HandlerContext, HandlerFactory, McpHandler};
use callingbox_mcp::http::health::Health;
use callingbox_mcp::http::{Service, Settings};
use callingbox_mcp::mcp::catalogue::Catalogue;
use callingbox_mcp::mcp::registry::index::Index;
use callingbox_mcp::watch::WaitLimits;
use tokio::net::TcpListener;

use self::fixtures::Fixtures;

struct Mounted {
    fixtures: Fixtures,
    /// Nobody asks for less than all of it here.
    catalogue: Catalogue,
}

impl HandlerFactory for Mounted {
    fn tools(&self) -> &Index {
        self.catalogue.index()
    }

    fn create_handler(self: Arc<Self>, _: HandlerContext) -> Box<dyn McpHandler> {
        Box::new(self.fixtures.clone())
    }
}

#[tokio::main]
async fn main() {
    let nobody = Arc::new(Account::live(None, WaitLimits::default()));
    let health = Health::new(None, LedgerPlace::Nowhere, Environment::Sandbox);
    let service = Service::new(
        Settings::default(),
        Arc::new(Mounted { fixtures: Fixtures::new(), catalogue: Catalogue::new() }),
        Arc::default(),
        Authenticator::Anonymous(nobody),
        health,
    );
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    println!("listening on http://{}/mcp", listener.local_addr().expect("its address"));
    let routes = service.routes(Router::new());
    service.serve((listener, routes), None, std::future::pending()).await;
}
