//! An agent in short, and what the tools about agents share.

use std::fmt::Write;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_with::skip_serializing_none;

use crate::mcp::registry::name::ToolName;
use crate::mcp::reply::error::ToolError;
use crate::mcp::reply::next_step::NextStep;
use crate::mcp::reply::text;
use crate::mcp::tools::shared::wire_word;
use callingbox::E164;
use callingbox::{Agent, AgentId, AgentType, NumberId};

/// An agent in short.
#[skip_serializing_none]
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(inline)]
pub(in crate::mcp::tools) struct AgentSummary {
    pub(super) agent_id: AgentId,
    name: Option<String>,
    #[serde(rename = "type")]
    kind: Option<String>,
    pub(super) numbers: Vec<AttachedNumber>,
    primary_number_id: Option<NumberId>,
    #[schemars(skip)]
    created_at: Option<String>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(in crate::mcp::tools) simulated: bool,
}

#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub(super) struct AttachedNumber {
    number_id: NumberId,
    #[serde(skip_serializing_if = "Option::is_none")]
    e164: Option<E164>,
}

impl From<Agent> for AgentSummary {
    fn from(agent: Agent) -> Self {
        Self {
            simulated: text::is_simulated(&agent.extra),
            agent_id: agent.id,
            name: agent.name,
            kind: agent.r#type.map(|kind| wire_word(&kind)),
            numbers: agent
                .numbers
                .unwrap_or_default()
                .into_iter()
                .map(|number| AttachedNumber { number_id: number.id, e164: number.e164 })
                .collect(),
            primary_number_id: agent.primary_number_id,
            created_at: agent.created_at.as_ref().map(text::format_time),
        }
    }
}

impl AgentSummary {
    /// One line: name, type, id, numbers.
    pub(in crate::mcp::tools) fn summary_line(&self) -> String {
        let mut line = format!(
            "{} ({}), agent_id {}",
            text::one_line(self.name.as_deref().unwrap_or("unnamed"), 200),
            self.kind.as_deref().unwrap_or("type not said"),
            self.agent_id
        );
        // Writing to a String cannot fail.
        let _ = write!(line, ", {}", self.numbers_text());
        if let Some(created) = &self.created_at {
            let _ = write!(line, ", created {created}");
        }
        line
    }

    pub(super) fn is_outbound(&self) -> bool {
        self.kind.as_deref() == Some(AgentType::Outbound.as_str())
    }

    /// Its numbers, with the primary one marked.
    fn numbers_text(&self) -> String {
        if self.numbers.is_empty() {
            return "no numbers".to_owned();
        }
        let describe = |number: &AttachedNumber| {
            let is_primary = Some(&number.number_id) == self.primary_number_id.as_ref();
            format!(
                "{}{} (number_id {})",
                number.e164.as_ref().map_or("number", E164::as_str),
                if is_primary { " primary" } else { "" },
                number.number_id
            )
        };
        self.numbers.iter().map(describe).collect::<Vec<_>>().join(", ")
    }
}

/// The numbers of an agent, with the primary one marked.
pub(super) fn numbers_text(agent: &Agent) -> String {
    AgentSummary::from(agent.clone()).numbers_text()
}

/// Rejects a telephone number in place of its id: the API would only answer that it does not exist, possibly after
/// other steps.
pub(super) fn require_ids<'a>(
    argument: &str,
    ids: impl IntoIterator<Item = &'a NumberId>,
) -> Result<(), ToolError> {
    if ids.into_iter().any(|id| id.as_str().starts_with('+')) {
        return Err(ToolError::invalid_argument(format!(
            "`{argument}` takes the number_id, not the telephone number itself"
        ))
        .with_next([NextStep::tool(
            ToolName::LIST_NUMBERS,
            "shows the number_id of each number",
        )]));
    }
    Ok(())
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::mcp::tools) struct AgentInput {
    /// The agent.
    pub(super) agent_id: AgentId,
}
