//! The names of the tools, as values: a text that refers to a tool names it by one of these constants, so
//! that a reference to a tool that does not exist does not compile.

use std::fmt;

use crate::toolset::Toolset;

/// The name of a tool, and the toolset that enables and disables it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ToolName(&'static str, Toolset);

impl ToolName {
    pub const PLACE_CALL: Self = Self("place_call", Toolset::Calls);
    pub const GET_CALL_RESULT: Self = Self("get_call_result", Toolset::Calls);
    pub const GET_CALL_TRANSCRIPT: Self = Self("get_call_transcript", Toolset::Calls);
    pub const LIST_CALLS: Self = Self("list_calls", Toolset::Calls);
    pub const PLACE_CALLS: Self = Self("place_calls", Toolset::Calls);
    pub const GET_BATCH: Self = Self("get_batch", Toolset::Calls);
    pub const CANCEL_BATCH: Self = Self("cancel_batch", Toolset::Calls);
    pub const RECORD_OPT_OUT: Self = Self("record_opt_out", Toolset::Calls);
    pub const GET_ACCOUNT: Self = Self("get_account", Toolset::Account);
    pub const LIST_AGENTS: Self = Self("list_agents", Toolset::Agents);
    pub const GET_AGENT: Self = Self("get_agent", Toolset::Agents);
    pub const CREATE_AGENT: Self = Self("create_agent", Toolset::Agents);
    pub const UPDATE_AGENT: Self = Self("update_agent", Toolset::Agents);
    pub const SET_AGENT_NUMBERS: Self = Self("set_agent_numbers", Toolset::Agents);
    pub const ARCHIVE_AGENT: Self = Self("archive_agent", Toolset::Agents);
    pub const LIST_NUMBERS: Self = Self("list_numbers", Toolset::Numbers);
    pub const SEARCH_NUMBERS: Self = Self("search_numbers", Toolset::Numbers);
    pub const PURCHASE_NUMBER: Self = Self("purchase_number", Toolset::Numbers);
    pub const LIST_WEBHOOKS: Self = Self("list_webhooks", Toolset::Webhooks);
    pub const GET_WEBHOOK: Self = Self("get_webhook", Toolset::Webhooks);
    pub const CREATE_WEBHOOK: Self = Self("create_webhook", Toolset::Webhooks);
    pub const UPDATE_WEBHOOK: Self = Self("update_webhook", Toolset::Webhooks);
    pub const DELETE_WEBHOOK: Self = Self("delete_webhook", Toolset::Webhooks);
    pub const ROTATE_WEBHOOK_SECRET: Self = Self("rotate_webhook_secret", Toolset::Webhooks);
    pub const LIST_WEBHOOK_DELIVERIES: Self = Self("list_webhook_deliveries", Toolset::Webhooks);
    pub const GET_WEBHOOK_DELIVERY: Self = Self("get_webhook_delivery", Toolset::Webhooks);
    pub const REDELIVER_WEBHOOK: Self = Self("redeliver_webhook", Toolset::Webhooks);
    pub const FOLLOW_CALL: Self = Self("follow_call", Toolset::Calls);
    pub const CONFIRM_CALL: Self = Self("confirm_call", Toolset::Calls);
    pub const SIMULATE_INBOUND_CALL: Self = Self("simulate_inbound_call", Toolset::Sandbox);

    #[must_use]
    pub const fn as_str(self) -> &'static str {
        self.0
    }

    #[must_use]
    pub const fn toolset(self) -> Toolset {
        self.1
    }

    /// The name of a tool that only a test has.
    #[cfg(test)]
    pub(crate) const fn of_test(name: &'static str) -> Self {
        Self(name, Toolset::Calls)
    }
}

impl fmt::Display for ToolName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}
