//! The configuration of MCP clients, on real files: what is written, what is kept, what is refused.

mod config_paths;
#[cfg(unix)]
mod files;
#[cfg(unix)]
mod lasting;
#[cfg(unix)]
mod program;
mod program_places;
mod random;
pub(crate) mod tables;
