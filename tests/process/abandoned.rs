//! A day's worth of sessions that are opened and abandoned takes no memory once they have expired. In a
//! process of its own, so that nothing else moves the figure; the clock is moved, not waited for.
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use callingbox_mcp::account::Account;
use callingbox_mcp::http::tenant::{Identity, Tenant, TenantLimits, Tenants};
use callingbox_mcp::mcp::catalogue::Catalogue;
use callingbox_mcp::mcp::registry::selection::Selection;
use callingbox_mcp::watch::WaitLimits;
use http_body_util::{BodyExt as _, Full};
use serde_json::json;
use tokio_util::sync::CancellationToken;

/// Sessions that are open at once.
const BATCH: usize = 1_000;

/// Memory that this process takes now, in KiB.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse().unwrap()
}

async fn open(tenant: &Tenant) {
    let hello = json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {
        "protocolVersion": "2025-11-25",
        "capabilities": {},
        "clientInfo": {"name": "gone", "version": "0"},
    }});
    let request = http::Request::post("/mcp")
        .header("host", "localhost")
        .header("content-type", "application/json")
        .header("accept", "application/json, text/event-stream")
        .body(Full::new(Bytes::from(hello.to_string())))
        .unwrap();
    let response = tenant.streamable_http().handle_request(request).await;
    assert_eq!(response.status(), 200);
    response.into_body().collect().await.unwrap();
}

/// Opens and abandons so many sessions, each by one of ten tenants; all of them expire.
async fn day(sessions: usize) {
    let limits = TenantLimits { session_idle: Duration::from_secs(900), ..TenantLimits::default() };
    let end = CancellationToken::new();
    let tenants = Tenants::new(Arc::new(Catalogue::new()), limits, false, end);
    let account = Arc::new(Account::live(None, WaitLimits::default()));
    let all: Vec<Arc<Tenant>> = (0..10_u8)
        .map(|at| {
            let selection = Arc::new(Selection::default());
            tenants.get_or_create(Identity::from_parts(&[&[at]]), &account, &selection).unwrap()
        })
        .collect();
    let batch = async || {
        for tenant in all.iter().cycle().take(BATCH) {
            open(tenant).await;
        }
        assert_eq!(tenants.session_count(), BATCH);
        // Two steps: who is woken by the first must run before the second is looked at.
        tokio::time::sleep(Duration::from_secs(901)).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(tenants.session_count(), 0);
    };
    // Until then the allocator still spreads.
    let warm = 12;
    for _ in 0..warm {
        batch().await;
    }
    let before = resident();
    for _ in warm..sessions / BATCH {
        batch().await;
    }
    let after = resident();
    let grown = after.saturating_sub(before);
    println!("{before} KiB after {} sessions, {after} KiB after {sessions}", warm * BATCH);
    // One session takes about 60 KiB: of tens of thousands, not three dozen are left.
    assert!(grown < 2 * 1024, "{grown} KiB more");
}

#[tokio::test(start_paused = true)]
#[ignore = "measures the memory of the whole process"]
async fn sessions_that_were_abandoned_leave_nothing_behind() {
    day(24_000).await;
}

/// One a second, for a day. `cargo test --test process abandoned -- --ignored`
#[tokio::test(start_paused = true)]
#[ignore = "takes a minute"]
async fn a_days_worth_of_abandoned_sessions_leaves_nothing_behind() {
    day(86_000).await;
}
