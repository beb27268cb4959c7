//! The configuration of MCP clients, on real files: what is written, what is kept, what is refused.

#[cfg(unix)]
mod files;
mod places;
#[cfg(unix)]
mod program;
mod random;
mod tables;
