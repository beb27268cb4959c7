//! One request: who calls, what the client can do, and where progress is reported. It does not know any tool.

pub mod caller;
pub mod context;
pub mod peer;
pub mod progress;
