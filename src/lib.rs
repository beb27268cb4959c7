//! callingbox-mcp: an MCP server that gives AI clients a telephone.
//!
//! A tool call passes through the modules in one direction: transport → [`mcp`] → [`dialing`] and [`watch`] → the
//! crate [`callingbox`], the typed client of CallingBox's REST API, which knows nothing of MCP.
//!
//! - [`stdio`] and [`http`]: the transports: bytes, sessions and authentication. [`state`]: what several replicas
//!   share in one Redis or Valkey. [`json_rpc`]: the messages of clients, for every transport. [`webhook`]: receives
//!   CallingBox's deliveries and checks their signatures.
//! - [`mcp`]: tools, resources and prompts; how calls are checked and answered. [`toolset`]: the groups of tools.
//! - [`account`]: the account on whose behalf tools run, in one environment: live or sandbox, never both.
//! - [`dialing`]: the calling rules, the confirmation, and the ledger that prevents dialing twice.
//! - [`watch`]: follows live calls to their end for everyone who waits for them.
//! - [`simulator`]: the client of a simulator's controls. The simulator itself is the crate
//!   [`callingbox_sandbox`]. It shares no code with [`callingbox`], so that a mistake in one reading of the API's
//!   contract becomes visible.
//! - [`cli`], [`config`], `settings`, [`commands`] and `runtime`: the command line, the configuration file, both together,
//!   the commands, and their wiring. [`install`]: writes this server into the configuration of MCP clients.
//! - [`telemetry`]: logs, metrics and traces.
//! - [`peer_address`]: the address by which limits know a peer. [`env_var`]: reads environment variables. [`system`]: the
//!   operating system and its folders. [`own_command`]: what a person types to run this program. `suggest`: "did you mean". `toml_error`: words errors in TOML files.
//!   [`protected_file`]: who can change a file with a secret or with rules. [`windows_acl`]: the same by the lists of Windows.
//!   `text_file`: reads UTF-8 and UTF-16.

pub mod account;
pub mod batch;
pub mod cli;
pub mod commands;
pub mod config;
pub mod dialing;
pub mod env_var;
pub mod http;
pub mod install;
pub mod json_rpc;
pub mod mcp;
pub mod own_command;
pub mod peer_address;
pub mod protected_file;
mod runtime;
mod settings;
pub mod simulator;
pub mod state;
pub mod stdio;
mod suggest;
pub mod system;
pub mod telemetry;
mod text_file;
mod toml_error;
pub mod toolset;
pub mod ttl_cache;
pub mod watch;
pub mod webhook;
pub mod windows_acl;
