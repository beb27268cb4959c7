//! `list_agents` and `get_agent`.

use std::fmt::Write;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::redact;
use super::summary::{AgentInput, AgentSummary};
use crate::mcp::input::arguments::Object;
use crate::mcp::registry::description::Sentence::{self, Always, With};
use crate::mcp::registry::effect::ToolEffect;
use crate::mcp::registry::name::ToolName;
use crate::mcp::reply::answer::Reply;
use crate::mcp::reply::text::{self, one_line};
use crate::mcp::request::context::ToolContext;
use crate::mcp::tool::{Tool, ToolExit};
use crate::mcp::tools::shared::wire_word;
use crate::toolset::Toolset;
use callingbox::{Agent, AgentType};

pub(in crate::mcp::tools) struct ListAgents;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::mcp::tools) struct ListAgentsInput {
    /// outbound agents call, inbound agents answer. Default: both.
    #[serde(rename = "type")]
    kind: Option<AgentType>,
}

#[derive(Serialize, JsonSchema)]
pub(in crate::mcp::tools) struct ListAgentsOutput {
    agents: Vec<AgentSummary>,
    has_more: bool,
}

impl Tool for ListAgents {
    const NAME: ToolName = ToolName::LIST_AGENTS;
    const TITLE: &'static str = "List agents";
    const DESCRIPTION: &'static [Sentence] = &[
        Always(
            "Lists the account's agents in short, without archived agents. Use it to find an agent_id.",
        ),
        With(ToolName::GET_AGENT, "get_agent returns one in full."),
    ];
    const TOOLSET: Toolset = Toolset::Agents;
    const EFFECT: ToolEffect = ToolEffect::Reads;
    const OPEN_WORLD: bool = false;
    type Input = ListAgentsInput;
    type Output = ListAgentsOutput;

    async fn run(input: Self::Input, cx: &ToolContext) -> Result<Reply<Self::Output>, ToolExit> {
        let page = cx.account.api()?.list_agents(input.kind).await?;
        let has_more = page.has_more;
        let agents: Vec<AgentSummary> = page.data.into_iter().map(Into::into).collect();
        let mut text = match (agents.is_empty(), input.kind) {
            (true, None) => "There are no agents.".to_owned(),
            (true, Some(kind)) => {
                format!("There is no {} agent. Leave `type` out to see all agents.", kind.as_str())
            }
            (false, _) => agents.iter().map(|agent| agent.summary_line() + "\n").collect(),
        };
        if has_more {
            text.push_str(
                "There are more than CallingBox returns in one list; there is no next page.",
            );
            if input.kind.is_none() {
                text.push_str(" Set `type` to see the agents of one type.");
            }
        }
        let simulated = agents.iter().any(|agent| agent.simulated);
        Ok(Reply::new(ListAgentsOutput { agents, has_more }, text).with_simulated(simulated))
    }
}

/// The voice of an agent that names none.
const DEFAULT_VOICE: &str = "the platform's default";

pub(in crate::mcp::tools) struct GetAgent;

/// An agent in full but for its secrets, under the names that `create_agent` and `update_agent` take.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub(in crate::mcp) struct AgentReport {
    #[serde(flatten)]
    agent: AgentSummary,
    #[serde(skip_serializing_if = "Option::is_none")]
    persona: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    instructions: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    voice: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    language: Option<String>,
    /// An object, as far as the API keeps to its contract.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Object>")]
    returns: Option<Value>,
    /// An array, as far as the API keeps to its contract.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Vec<Object>>")]
    tools: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    webhook_url: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    voicemail_action: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    archived_at: Option<String>,
}

impl From<Agent> for AgentReport {
    fn from(mut agent: Agent) -> Self {
        Self {
            persona: agent.persona.take(),
            instructions: agent.instructions.take(),
            voice: agent.voice.take(),
            language: agent.language.take(),
            // What is of another kind is no field of a result and no tool.
            returns: agent.returns.take().filter(Value::is_object),
            tools: agent.tools.take().filter(Value::is_array).map(redact::redact_tools),
            webhook_url: agent.webhook_url.take().as_deref().map(redact::redact_url),
            voicemail_action: agent.voicemail_action.take().map(|action| wire_word(&action)),
            archived_at: agent.archived_at.take().as_ref().map(text::format_time),
            agent: AgentSummary::from(agent),
        }
    }
}

/// The maximum length of a field in the text, in characters: more than any argument may have.
const MAX_FIELD_CHARS: usize = 65_536;

impl Tool for GetAgent {
    const NAME: ToolName = ToolName::GET_AGENT;
    const TITLE: &'static str = "Get an agent";
    const DESCRIPTION: &'static [Sentence] = &[
        Always(
            "Returns one agent in full, archived or not: persona, instructions, `returns` (the result fields of its calls), in-call tools and numbers.",
        ),
        With(ToolName::LIST_AGENTS, "list_agents finds ids."),
    ];
    const TOOLSET: Toolset = Toolset::Agents;
    const EFFECT: ToolEffect = ToolEffect::Reads;
    const OPEN_WORLD: bool = false;
    type Input = AgentInput;
    type Output = AgentReport;

    async fn run(input: Self::Input, cx: &ToolContext) -> Result<Reply<Self::Output>, ToolExit> {
        let report = AgentReport::from(cx.account.api()?.get_agent(&input.agent_id).await?);
        let mut text = report.agent.summary_line();
        for (name, value) in [
            ("persona", report.persona.clone()),
            ("instructions", report.instructions.clone()),
            ("voice", Some(report.voice.as_deref().unwrap_or(DEFAULT_VOICE).to_owned())),
            ("language", report.language.clone()),
            ("returns", report.returns.as_ref().map(ToString::to_string)),
            ("tools", report.tools.as_ref().map(ToString::to_string)),
            ("voicemail_action", report.voicemail_action.clone()),
            ("webhook_url", report.webhook_url.clone()),
            ("archived_at", report.archived_at.clone()),
        ] {
            if let Some(value) = value {
                let _ = write!(text, "\n{name}: {}", one_line(&value, MAX_FIELD_CHARS));
            }
        }
        let simulated = report.agent.simulated;
        Ok(Reply::new(report, text).with_simulated(simulated))
    }
}
