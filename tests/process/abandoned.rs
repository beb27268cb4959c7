//! Abandoned sessions use no memory once they have expired. The clock is paused, so a day takes a minute.

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

/// The resident memory of this process, in KiB.
fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse().unwrap()
}

async fn open_session(tenant: &Tenant) {
    let initialize = json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {
        "protocolVersion": "2025-11-25",
        "capabilities": {},
        "clientInfo": {"name": "abandoned", "version": "0"},
    }});
    let request = http::Request::post("/mcp")
        .header("host", "localhost")
        .header("content-type", "application/json")
        .header("accept", "application/json, text/event-stream")
        .body(Full::new(Bytes::from(initialize.to_string())))
        .unwrap();
    let response = tenant.streamable_http().handle_request(request).await;
    assert_eq!(response.status(), 200);
    response.into_body().collect().await.unwrap();
}

/// Opens so many sessions for ten tenants, abandons them, and lets them expire.
async fn abandon_sessions(sessions: usize) {
    let limits = TenantLimits { session_idle: Duration::from_secs(900), ..TenantLimits::default() };
    let end = CancellationToken::new();
    let tenants = Tenants::new(Arc::new(Catalogue::new()), limits, false, end);
    let account = Arc::new(Account::without_key(WaitLimits::default()));
    let all: Vec<Arc<Tenant>> = (0..10_u8)
        .map(|index| {
            let selection = Arc::new(Selection::default());
            tenants.get_or_create(Identity::from_parts(&[&[index]]), &account, &selection).unwrap()
        })
        .collect();
    let batch = async || {
        for tenant in all.iter().cycle().take(BATCH) {
            open_session(tenant).await;
        }
        assert_eq!(tenants.session_count(), BATCH);
        // Two steps, so that the tasks that the first one wakes run before the count.
        tokio::time::sleep(Duration::from_secs(901)).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(tenants.session_count(), 0);
    };
    // The allocator grows until then.
    let warm_up = 12;
    for _ in 0..warm_up {
        batch().await;
    }
    let before = resident_kib();
    for _ in warm_up..sessions / BATCH {
        batch().await;
    }
    let after = resident_kib();
    let grown = after.saturating_sub(before);
    println!("{before} KiB after {} sessions, {after} KiB after {sessions}", warm_up * BATCH);
    // A session takes about 60 KiB, so fewer than 36 of them are left.
    assert!(grown < 2 * 1024, "{grown} KiB more");
}

#[tokio::test(start_paused = true)]
#[ignore = "measures the memory of the whole process"]
async fn abandoned_sessions_use_no_memory() {
    abandon_sessions(24_000).await;
}

/// One a second, for a day. `cargo test --test process abandoned -- --ignored`
#[tokio::test(start_paused = true)]
#[ignore = "takes a minute"]
async fn a_day_of_abandoned_sessions_uses_no_memory() {
    abandon_sessions(86_000).await;
}
