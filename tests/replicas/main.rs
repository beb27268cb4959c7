//! Three replicas of `callingbox-mcp http`, one simulator, one Redis and one HAProxy, all of them real processes.
//! Clients connect to HAProxy, which runs with the configuration of the handbook (`docs/balancer/haproxy.cfg`). A test
//! connects to one replica only where it matters which one it is.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]

mod batch_points;
mod batches;
#[path = "../it/batch_faults/call_list.rs"]
mod call_list;
mod client;
mod deployment;
mod dialing;
mod failures;
#[path = "../it/batch_faults/gate.rs"]
#[expect(dead_code, reason = "other tests refuse connections")]
mod gate;
mod harness;
#[path = "../it/batch_faults/machine_clock.rs"]
mod machine_clock;
#[path = "../it/batch_faults/points.rs"]
mod points;
mod redis_link;
#[path = "../../src/state/testing.rs"]
mod redis_server;
mod sessions;
mod settings;
mod webhooks;
