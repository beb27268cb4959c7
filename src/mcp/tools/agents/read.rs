//! `list_agents` and `get_agent`.

use std::collections::HashMap;
use std::fmt::Write;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use serde_with::skip_serializing_none;

use super::redact;
use super::summary::{AgentInput, AgentSummary};
use crate::dialing::ledger::{MAX_PAGE, RecordFilter};
use crate::dialing::limits::OrderKind;
use crate::mcp::input::arguments::Object;
use crate::mcp::reply::text::{self, one_line};
use crate::mcp::tool::{
    Always, Reply, Sentence, Tool, ToolContext, ToolEffect, ToolExit, ToolName, With,
};
use crate::mcp::tools::shared::{take_simulated, wire_word};
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
    agents: Vec<ListedAgent>,
    has_more: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    simulated: bool,
}

/// An agent in a list.
#[derive(Serialize, JsonSchema)]
struct ListedAgent {
    #[serde(flatten)]
    agent: AgentSummary,
    /// By this server's ledger.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_call_placed_at: Option<String>,
}

/// The times of the last calls that agents placed by the ledger.
struct LastCalls {
    placed_at: HashMap<String, Timestamp>,
    /// Whether the ledger holds no older calls.
    is_complete: bool,
}

impl LastCalls {
    /// Without a ledger that can be read, a list has no such times.
    async fn read(cx: &ToolContext) -> Option<Self> {
        let dialer = cx.account.dialer().ok()?;
        // A key that has placed no call needs no request for its organization.
        let account = dialer.find_recorded_account().await.ok()??;
        let filter = RecordFilter {
            account_id: Some(account.id().clone()),
            limit: MAX_PAGE,
            ..RecordFilter::default()
        };
        let records = dialer.ledger().await.ok()?.list_records(filter).await.ok()?;
        let is_complete = u32::try_from(records.len()).is_ok_and(|count| count < MAX_PAGE);
        let mut placed_at = HashMap::new();
        for record in records {
            if record.kind == OrderKind::Call
                && record.state.id().is_some()
                && let Some(agent) = record.agent_id
            {
                // The newest come first.
                placed_at.entry(agent).or_insert(record.created_at);
            }
        }
        Some(Self { placed_at, is_complete })
    }

    fn of_agent(&self, agent: &AgentSummary) -> Option<Timestamp> {
        self.placed_at.get(agent.agent_id.as_str()).copied()
    }
}

impl ListedAgent {
    fn new(agent: AgentSummary, last_calls: Option<&LastCalls>) -> Self {
        let last = last_calls.and_then(|calls| calls.of_agent(&agent));
        Self { agent, last_call_placed_at: last.map(text::format_instant) }
    }

    fn summary_line(&self, last_calls: Option<&LastCalls>) -> String {
        let line = self.agent.summary_line();
        match &self.last_call_placed_at {
            Some(at) => format!("{line}, last call placed {at}"),
            None if self.agent.is_outbound()
                && last_calls.is_some_and(|calls| calls.is_complete) =>
            {
                format!("{line}, no call placed by this server yet")
            }
            None => line,
        }
    }
}

impl Tool for ListAgents {
    const NAME: ToolName = ToolName::LIST_AGENTS;
    const TITLE: &'static str = "List agents";
    const DESCRIPTION: &'static [Sentence] = &[
        Always(
            "Lists the account's agents in short, without archived agents, with their numbers and when this server last placed a call with each. Use it to find an agent_id.",
        ),
        With(ToolName::GET_AGENT, "get_agent returns one in full."),
    ];
    const EFFECT: ToolEffect = ToolEffect::Reads;
    const OPEN_WORLD: bool = false;
    type Input = ListAgentsInput;
    type Output = ListAgentsOutput;

    async fn run(input: Self::Input, cx: &ToolContext) -> Result<Reply<Self::Output>, ToolExit> {
        let page = cx.account.api()?.list_agents(input.kind).await?;
        let has_more = page.has_more;
        let last_calls = LastCalls::read(cx).await;
        let last_calls = last_calls.as_ref();
        let mut agents: Vec<ListedAgent> =
            page.data.into_iter().map(|agent| ListedAgent::new(agent.into(), last_calls)).collect();
        let mut text = match (agents.is_empty(), input.kind) {
            (true, None) => "There are no agents.".to_owned(),
            (true, Some(kind)) => {
                format!("There is no {} agent. Leave `type` out to see all agents.", kind.as_str())
            }
            (false, _) => {
                agents.iter().map(|agent| agent.summary_line(last_calls) + "\n").collect()
            }
        };
        if has_more {
            text.push_str(
                "There are more than CallingBox returns in one list; there is no next page.",
            );
            if input.kind.is_none() {
                text.push_str(" Set `type` to see the agents of one type.");
            }
        }
        let simulated = take_simulated(agents.iter_mut().map(|listed| &mut listed.agent.simulated));
        let output = ListAgentsOutput { agents, has_more, simulated };
        Ok(Reply::new(output, text).with_simulated(simulated))
    }
}

/// The voice of an agent that names none.
pub(super) const PLATFORM_DEFAULT: &str = "the platform's default";

pub(in crate::mcp::tools) struct GetAgent;

/// An agent in full but for its secrets, under the names that `create_agent` and `update_agent` take.
#[skip_serializing_none]
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub(in crate::mcp) struct AgentReport {
    #[serde(flatten)]
    agent: AgentSummary,
    persona: Option<String>,
    instructions: Option<String>,
    /// Absent: the platform's default.
    voice: Option<String>,
    language: Option<String>,
    /// An object, as far as the API keeps to its contract.
    #[schemars(with = "Option<Object>")]
    returns: Option<Value>,
    /// An array, as far as the API keeps to its contract.
    #[schemars(with = "Option<Vec<Object>>")]
    tools: Option<Value>,
    webhook_url: Option<String>,
    voicemail_action: Option<String>,
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

/// A list or an object as text, unless it is empty.
fn non_empty_text(value: &Value) -> Option<String> {
    let is_empty =
        value.as_object().is_some_and(Map::is_empty) || value.as_array().is_some_and(Vec::is_empty);
    (!is_empty).then(|| value.to_string())
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
            ("voice", Some(report.voice.as_deref().unwrap_or(PLATFORM_DEFAULT).to_owned())),
            ("language", Some(report.language.as_deref().unwrap_or(PLATFORM_DEFAULT).to_owned())),
            ("returns", report.returns.as_ref().and_then(non_empty_text)),
            ("tools", report.tools.as_ref().and_then(non_empty_text)),
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
