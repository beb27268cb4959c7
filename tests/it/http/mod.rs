//! `callingbox-mcp http` as its clients see it: the real program on a free port, with the simulator.

mod auth;
mod batches;
mod callers;
mod card;
mod disconnects;
mod health;
mod issuer;
mod limits;
mod load;
mod logs;
mod oauth;
mod protocol;
mod reload;
mod shutdown;
pub(crate) mod support;
mod tool_filter;
mod webhooks;
mod wire;
