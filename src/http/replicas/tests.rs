//! With a real Redis, which the test starts itself.

use http_body_util::{BodyExt, Full};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::config::Wait;
use crate::http::tenant::{Identity, Limits, Tenant};
use crate::mcp::catalogue::Catalogue;
use crate::state::testing::Server;

const HELLO: &str = r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"x","version":"0"}}}"#;
const PING: &str = r#"{"jsonrpc":"2.0","id":2,"method":"ping"}"#;

/// Status and session of the answer to a message.
async fn send(tenant: &Tenant, session: Option<&str>, message: &'static str) -> (u16, String) {
    let mut request = http::Request::post("/mcp")
        .header("host", "localhost")
        .header("content-type", "application/json")
        .header("accept", "application/json, text/event-stream");
    if let Some(session) = session {
        request = request.header("mcp-session-id", session);
    }
    let request = request.body(Full::new(Bytes::from(message))).unwrap();
    let response = tenant.streamable().handle(request).await;
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    response.into_body().collect().await.unwrap();
    let session = headers.get("mcp-session-id").map(|id| id.to_str().unwrap().to_owned());
    (status, session.unwrap_or_default())
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Redis server: set CALLINGBOX_TEST_REDIS_SERVER to the redis-server binary"]
async fn a_session_is_kept_while_a_request_of_it_is_open() {
    let server = Server::start().await;
    let shared = server.shared();
    let limits = Limits { session_idle: Duration::from_secs(1), ..Limits::default() };
    let tenants = Tenants::new(Arc::new(Catalogue::new()), limits, false, CancellationToken::new())
        .sharing(Some(shared.clone()));
    let tenants = Arc::new(tenants);
    let account = Arc::new(Account::real(None, Wait::default()));
    let tenant = tenants.enter(Identity::ANYONE, &account, &Arc::default()).unwrap();
    let news = News::new(None, Arc::clone(&tenants));
    let hearer = Hearer::new(shared.clone(), Arc::default(), Arc::clone(&tenants), news);
    let hearing = tokio::spawn(hearer.run());

    let (status, session) = send(&tenant, None, HELLO).await;
    assert_eq!(status, 200);
    let kept = async || tenant.sessions().elsewhere(&session).await.unwrap().is_some();
    let open = tenant.sessions().enter(&session).unwrap();
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_millis(2_500) {
        // What the open request says meanwhile keeps the session here; the pings stand for it.
        assert_eq!(send(&tenant, Some(&session), PING).await.0, 200);
        assert!(kept().await, "{:?}", begun.elapsed());
        sleep(Duration::from_millis(100)).await;
    }
    drop(open);
    let dropped = Instant::now();
    while kept().await {
        assert!(dropped.elapsed() < Duration::from_secs(10));
        sleep(Duration::from_millis(50)).await;
    }
    hearing.abort();
}
