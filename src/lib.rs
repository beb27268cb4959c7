//! callingbox-mcp: a telephone for AI clients.
//!
//! The way of a call through the house is one direction:
//! `transport → mcp → {dialing, watch} → api`.
//!
//! - [`api`] is the typed client of CallingBox's REST API. It knows nothing of MCP.
//! - [`watch`] follows live calls to their end for everyone who waits. It knows [`api`] alone.
//! - [`sandbox`] is the other side of the same wire: a simulator of that API on a real port. It
//!   shares no code with [`api`], so that a mistake in one reading of the contract shows.
//! - [`e164`] and [`money`] hold the two kinds of value that must never be mixed up or printed whole.

pub mod api;
pub mod e164;
pub mod money;
pub mod sandbox;
pub mod watch;
