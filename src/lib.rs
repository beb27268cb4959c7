//! callingbox-mcp: a telephone for AI clients.
//!
//! The way of a call through the house is one direction:
//! `transport → mcp → {dialing, watch} → api`.
//!
//! - [`transport`]: how clients reach the server; bytes and sessions.
//! - [`mcp`]: what a model is offered, how its calls are checked, what it is answered.
//! - [`account`]: on whose behalf, and in which world: the real one or the simulated one, never both.
//! - [`dialing`]: may this number be dialed, did the human say yes, and has it been dialed already.
//! - [`watch`]: follows live calls to their end for everyone who waits.
//! - [`api`]: the typed client of CallingBox's REST API. It knows nothing of MCP.
//! - [`sandbox`]: the other side of the same wire, a simulator of that API on a real port. It shares
//!   no code with [`api`], so that a mistake in one reading of the contract shows. [`simulator`] is
//!   the way to its controls.
//! - [`clients`]: writes this server into the configuration of MCP clients.
//! - [`webhook`]: takes the deliveries that CallingBox sends, and believes only the signed ones.
//! - [`state`]: what several replicas of the server share in one Redis or Valkey.
//! - [`config`], [`cli`], [`commands`], [`telemetry`]: flags, environment and file; the command line and
//!   what each command does; logs, metrics and traces. [`environment`] reads one variable.
//! - [`tls`]: the encryption of every request that goes out; `outgoing`: what else they have in common.
//! - `cause`: what a failure began with; `near`: the name that somebody meant; `hex`: bytes as digits.
//! - [`e164`] and [`money`]: the two kinds of value that must never be mixed up or printed whole.

pub mod account;
pub mod cli;
pub mod commands;
pub mod config;
pub mod dialing;
pub mod environment;
mod hex;
pub mod http;
pub mod install;
pub mod mcp;
mod runtime;
pub mod simulator;
pub mod state;
pub mod stdio;
mod suggest;
pub mod telemetry;
pub mod ttl_cache;
pub mod watch;
pub mod webhook;
