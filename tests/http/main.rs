//! `callingbox-mcp http` as clients meet it: the real program on a free port, with the simulator.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic")]

mod auth;
mod limits;
mod protocol;
mod shutdown;
mod support;
mod webhooks;
