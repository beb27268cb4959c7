//! The names of the tools, as values: a text that refers to a tool names it by one of these constants, so
//! that a reference to a tool that does not exist does not compile.

use std::fmt;

/// The name of a tool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ToolName(&'static str);

impl ToolName {
    pub const PLACE_CALL: Self = Self("place_call");
    pub const GET_CALL_RESULT: Self = Self("get_call_result");
    pub const GET_CALL_TRANSCRIPT: Self = Self("get_call_transcript");
    pub const LIST_CALLS: Self = Self("list_calls");
    pub const PLACE_CALLS: Self = Self("place_calls");
    pub const GET_BATCH: Self = Self("get_batch");
    pub const CANCEL_BATCH: Self = Self("cancel_batch");
    pub const RECORD_OPT_OUT: Self = Self("record_opt_out");
    pub const GET_ACCOUNT: Self = Self("get_account");
    pub const LIST_AGENTS: Self = Self("list_agents");
    pub const GET_AGENT: Self = Self("get_agent");
    pub const CREATE_AGENT: Self = Self("create_agent");
    pub const UPDATE_AGENT: Self = Self("update_agent");
    pub const SET_AGENT_NUMBERS: Self = Self("set_agent_numbers");
    pub const ARCHIVE_AGENT: Self = Self("archive_agent");
    pub const LIST_NUMBERS: Self = Self("list_numbers");
    pub const SEARCH_NUMBERS: Self = Self("search_numbers");
    pub const PURCHASE_NUMBER: Self = Self("purchase_number");
    pub const LIST_WEBHOOKS: Self = Self("list_webhooks");
    pub const GET_WEBHOOK: Self = Self("get_webhook");
    pub const CREATE_WEBHOOK: Self = Self("create_webhook");
    pub const UPDATE_WEBHOOK: Self = Self("update_webhook");
    pub const DELETE_WEBHOOK: Self = Self("delete_webhook");
    pub const ROTATE_WEBHOOK_SECRET: Self = Self("rotate_webhook_secret");
    pub const LIST_WEBHOOK_DELIVERIES: Self = Self("list_webhook_deliveries");
    pub const GET_WEBHOOK_DELIVERY: Self = Self("get_webhook_delivery");
    pub const REDELIVER_WEBHOOK: Self = Self("redeliver_webhook");
    pub const FOLLOW_CALL: Self = Self("follow_call");
    pub const CONFIRM_CALL: Self = Self("confirm_call");
    pub const SIMULATE_INBOUND_CALL: Self = Self("simulate_inbound_call");

    #[must_use]
    pub const fn as_str(self) -> &'static str {
        self.0
    }

    /// The name of a tool that only a test has.
    #[cfg(test)]
    pub(crate) const fn of_test(name: &'static str) -> Self {
        Self(name)
    }
}

impl fmt::Display for ToolName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}
