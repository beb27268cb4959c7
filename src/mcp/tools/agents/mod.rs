//! The toolset `agents`: who speaks on a call.

mod change;
mod create;
pub(super) mod in_call_tools;
mod numbers;
mod read;
mod redact;
mod summary;
mod take_over;

pub(super) use change::{ArchiveAgent, UpdateAgent};
pub(super) use create::CreateAgent;
pub(super) use numbers::SetAgentNumbers;
pub(in crate::mcp) use read::AgentReport;
pub(super) use read::{GetAgent, ListAgents};
pub(super) use summary::AgentSummary;
