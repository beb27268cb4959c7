//! How clients reach the server. Knows bytes and sessions, and hands whole messages to `mcp`.

pub mod http;
pub mod plain;
pub mod stdio;
