//! MCP over HTTP for many callers: streamable HTTP of all protocol versions, the older HTTP+SSE transport, and what
//! separates and limits the callers. Knows nothing about the meaning of a message; that is the task of [`crate::mcp`].
//!
//! A request passes host and origin ([`layers`]), authentication ([`auth`]), the limits of its tenant ([`tenant`]), the
//! limits of its body ([`body`]) and its session ([`sessions`]), and then reaches rmcp's streamable HTTP (`mcp_route`)
//! or `sse`. Two tenants share nothing but the limits of the whole server.

pub mod accept;
pub mod answer;
pub mod auth;
pub mod body;
pub mod body_budget;
pub mod call_events;
pub mod cancel_on_close;
mod context;
pub mod handler;
pub mod health;
pub mod layers;
pub mod listener;
mod mcp_route;
pub mod origin;
pub mod rate;
pub mod server;
pub mod sessions;
mod sse;
pub mod sse_channel;
pub mod tenant;
pub mod tool_filter;
