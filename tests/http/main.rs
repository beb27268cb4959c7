//! `callingbox-mcp http` as clients meet it: the real program on a free port, with the simulator.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic")]

mod auth;
mod issuer;
mod limits;
mod logs;
mod narrowing;
mod oauth;
mod protocol;
mod reload;
mod shutdown;
mod support;
mod webhooks;
