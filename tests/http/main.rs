//! `callingbox-mcp http` as clients meet it: the real program on a free port, with the simulator.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]

#[path = "../e2e/harness/mod.rs"]
#[expect(dead_code, unused_imports, reason = "the harness serves the end-to-end tests first")]
mod harness;

mod auth;
mod documents;
mod health;
mod issuer;
mod leaving;
mod limits;
mod load;
mod logs;
mod narrowing;
mod oauth;
mod plain;
mod protocol;
mod reload;
mod shutdown;
mod support;
mod webhooks;
