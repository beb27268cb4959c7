//! The toolset `agents`: who speaks on a call.

use std::fmt::Write;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::in_call::{self, InCallTools};
use crate::api::{
    self, Agent, AgentCreate, AgentId, AgentType, AgentUpdate, Change, NumberId, ReturnsSchema,
    VoicemailAction,
};
use crate::e164::E164;
use crate::mcp::arguments::{HttpsUrl, List, Object, Text};
use crate::mcp::catalogue::{Kind, Stop, Tool};
use crate::mcp::error::{Class, Done, Retry, ToolError};
use crate::mcp::gate::ToolContext;
use crate::mcp::present::{self, Reply};
use crate::mcp::toolset::Toolset;

/// An agent in short.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(inline)]
pub(super) struct AgentSummary {
    agent_id: AgentId,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    kind: Option<String>,
    numbers: Vec<AttachedNumber>,
    #[serde(skip_serializing_if = "Option::is_none")]
    primary_number_id: Option<NumberId>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    simulated: bool,
}

#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
struct AttachedNumber {
    number_id: NumberId,
    #[serde(skip_serializing_if = "Option::is_none")]
    e164: Option<E164>,
}

impl From<Agent> for AgentSummary {
    fn from(agent: Agent) -> Self {
        Self {
            simulated: present::is_simulated(&agent.extra),
            agent_id: agent.id,
            name: agent.name,
            kind: agent.r#type.map(|kind| super::word(&kind)),
            numbers: agent
                .numbers
                .unwrap_or_default()
                .into_iter()
                .map(|number| AttachedNumber { number_id: number.id, e164: number.e164 })
                .collect(),
            primary_number_id: agent.primary_number_id,
        }
    }
}

impl AgentSummary {
    /// One line: name, type, id, numbers.
    fn line(&self) -> String {
        let mut line = format!(
            "{} ({}), agent_id {}",
            self.name.as_deref().unwrap_or("unnamed"),
            self.kind.as_deref().unwrap_or("type not said"),
            self.agent_id
        );
        for number in &self.numbers {
            let primary = Some(&number.number_id) == self.primary_number_id.as_ref();
            // Writing to a String cannot fail.
            let _ = write!(
                line,
                ", {}{} (number_id {})",
                number.e164.as_ref().map_or("number", E164::as_str),
                if primary { " primary" } else { "" },
                number.number_id
            );
        }
        if self.numbers.is_empty() {
            line.push_str(", no numbers");
        }
        if self.simulated {
            line.push_str(", simulated");
        }
        line
    }
}

pub(super) struct ListAgents;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ListAgentsInput {
    /// outbound agents place calls, inbound ones answer them. Default: both.
    #[serde(rename = "type")]
    kind: Option<AgentType>,
}

#[derive(Serialize, JsonSchema)]
pub(super) struct ListAgentsOutput {
    agents: Vec<AgentSummary>,
}

impl Tool for ListAgents {
    const NAME: &'static str = "list_agents";
    const TITLE: &'static str = "List agents";
    const DESCRIPTION: &'static str = "Lists the account's agents in short, without archived ones. Use it to find an agent_id; get_agent returns one in full.";
    const TOOLSET: Toolset = Toolset::Agents;
    const KIND: Kind = Kind::Reads;
    const OPEN_WORLD: bool = false;
    type Input = ListAgentsInput;
    type Output = ListAgentsOutput;

    async fn run(input: Self::Input, cx: &ToolContext) -> Result<Reply<Self::Output>, Stop> {
        let agents: Vec<AgentSummary> =
            cx.account.api()?.list_agents(input.kind).await?.into_iter().map(Into::into).collect();
        let text = match (agents.is_empty(), input.kind) {
            (true, None) => "There are no agents yet. create_agent makes one.".to_owned(),
            (true, Some(kind)) => format!(
                "There is no {} agent. Leave `type` out to see all agents; create_agent makes one.",
                kind.as_str()
            ),
            (false, _) => agents.iter().map(|agent| agent.line() + "\n").collect(),
        };
        Ok(Reply::new(ListAgentsOutput { agents }, text))
    }
}

pub(super) struct GetAgent;

/// An agent in full, under the names that `create_agent` and `update_agent` take.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub(super) struct AgentReport {
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
    created_at: Option<String>,
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
            tools: agent.tools.take().filter(Value::is_array),
            webhook_url: agent.webhook_url.take(),
            voicemail_action: agent.voicemail_action.take().map(|action| super::word(&action)),
            created_at: agent.created_at.take().map(|at| at.to_string()),
            archived_at: agent.archived_at.take().map(|at| at.to_string()),
            agent: AgentSummary::from(agent),
        }
    }
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct AgentInput {
    /// The agent.
    agent_id: AgentId,
}

impl Tool for GetAgent {
    const NAME: &'static str = "get_agent";
    const TITLE: &'static str = "Get an agent";
    const DESCRIPTION: &'static str = "Returns one agent in full, archived ones too: persona, instructions, `returns` (the result fields of its calls), in-call tools, numbers. list_agents finds ids.";
    const TOOLSET: Toolset = Toolset::Agents;
    const KIND: Kind = Kind::Reads;
    const OPEN_WORLD: bool = false;
    type Input = AgentInput;
    type Output = AgentReport;

    async fn run(input: Self::Input, cx: &ToolContext) -> Result<Reply<Self::Output>, Stop> {
        let report = AgentReport::from(cx.account.api()?.get_agent(&input.agent_id).await?);
        let mut text = report.agent.line();
        for (name, value) in [
            ("persona", report.persona.clone()),
            ("instructions", report.instructions.clone()),
            ("voice", report.voice.clone()),
            ("language", report.language.clone()),
            ("returns", report.returns.as_ref().map(ToString::to_string)),
            ("tools", report.tools.as_ref().map(ToString::to_string)),
            ("voicemail_action", report.voicemail_action.clone()),
            ("webhook_url", report.webhook_url.clone()),
            ("archived_at", report.archived_at.clone()),
        ] {
            if let Some(value) = value {
                let _ = write!(text, "\n{name}: {value}");
            }
        }
        Ok(Reply::new(report, text))
    }
}

pub(super) struct CreateAgent;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CreateAgentInput {
    /// Label for people.
    name: Text<1, 200>,
    /// outbound places calls, inbound answers them; fixed for good.
    #[serde(rename = "type")]
    kind: AgentType,
    /// Who the agent is and how it behaves.
    persona: Option<Text<1, 20_000>>,
    /// Its default task on each call.
    instructions: Option<Text<1, 20_000>>,
    /// Voice id. Default: the platform's.
    #[schemars(with = "Option<String>")]
    voice: Option<Text<1, 200>>,
    /// BCP 47 tag such as en.
    #[schemars(with = "Option<String>")]
    language: Option<Text<1, 35>>,
    /// Result fields to extract after each call: name to type, flat.
    returns: Option<ReturnsSchema>,
    /// Functions it may use during a call; end_call is a builtin.
    tools: Option<InCallTools>,
    /// Receives the events of its calls.
    webhook_url: Option<HttpsUrl>,
    /// What to do when a machine answers. Default: hangup.
    voicemail_action: Option<VoicemailAction>,
    /// Owned numbers to attach at once.
    number_ids: Option<List<NumberId, 100>>,
    /// Which of number_ids is the caller ID. Default: the first.
    primary_number_id: Option<NumberId>,
}

impl Tool for CreateAgent {
    const NAME: &'static str = "create_agent";
    const TITLE: &'static str = "Create an agent";
    const DESCRIPTION: &'static str = "Creates an agent: the AI that speaks on calls. Rings nobody and costs nothing. An outbound agent needs an attached number before place_call can use it. To change an agent use update_agent.";
    const TOOLSET: Toolset = Toolset::Agents;
    const KIND: Kind = Kind::Writes { destructive: false, idempotent: false };
    const OPEN_WORLD: bool = false;
    type Input = CreateAgentInput;
    type Output = AgentSummary;

    async fn run(input: Self::Input, cx: &ToolContext) -> Result<Reply<Self::Output>, Stop> {
        let CreateAgentInput {
            name,
            kind,
            persona,
            instructions,
            voice,
            language,
            returns,
            tools,
            webhook_url,
            voicemail_action,
            number_ids,
            primary_number_id,
        } = input;
        let tools = in_call::to_api(tools)?;
        let number_ids = number_ids.map(List::into_vec);
        if let Some(primary) = &primary_number_id
            && !number_ids.as_ref().is_some_and(|ids| ids.contains(primary))
        {
            return Err(ToolError::invalid_argument(
                "`primary_number_id` must be one of `number_ids`",
            )
            .into());
        }
        let agent = AgentCreate {
            name: name.into_string(),
            r#type: kind,
            persona: persona.map(Text::into_string),
            instructions: instructions.map(Text::into_string),
            voice: voice.map(Text::into_string),
            language: language.map(Text::into_string),
            returns,
            tools,
            webhook_url: webhook_url.map(HttpsUrl::into_string),
            voicemail_action,
            number_ids,
            primary_number_id,
        };
        let agent = AgentSummary::from(cx.account.api()?.create_agent(&agent).await?);
        let next = match (kind, agent.numbers.is_empty()) {
            (AgentType::Outbound, false) => "place_call can use it now.",
            (AgentType::Outbound, true) => {
                "It has no number yet: attach one with set_agent_numbers (list_numbers, or purchase_number) before place_call."
            }
            (AgentType::Inbound, false) => "It answers its numbers now.",
            (AgentType::Inbound, true) => {
                "It has no number yet: attach one with set_agent_numbers, so that callers reach it."
            }
        };
        let text = format!("Created {}. {next}", agent.line());
        Ok(Reply::new(agent, text))
    }
}

pub(super) struct UpdateAgent;

/// A field of an agent that can be emptied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Clearable {
    Persona,
    Instructions,
    Language,
    WebhookUrl,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct UpdateAgentInput {
    /// The agent.
    agent_id: AgentId,
    /// New label.
    name: Option<Text<1, 200>>,
    /// New persona.
    persona: Option<Text<1, 20_000>>,
    /// New default task.
    instructions: Option<Text<1, 20_000>>,
    /// New voice id.
    #[schemars(with = "Option<String>")]
    voice: Option<Text<1, 200>>,
    /// New BCP 47 tag.
    #[schemars(with = "Option<String>")]
    language: Option<Text<1, 35>>,
    /// New result fields in place of all old ones; {} ends extraction.
    returns: Option<ReturnsSchema>,
    /// New in-call tools in place of all old ones, in the form of create_agent.
    #[schemars(with = "Option<List<Object, 16>>")]
    tools: Option<InCallTools>,
    /// New receiver of call events.
    webhook_url: Option<HttpsUrl>,
    /// What to do when a machine answers.
    voicemail_action: Option<VoicemailAction>,
    /// Fields to empty.
    clear: Option<List<Clearable, 4>>,
}

/// What one clearable field becomes.
fn change(
    name: &str,
    value: Option<String>,
    field: Clearable,
    clear: &[Clearable],
) -> Result<Change<String>, ToolError> {
    match (value, clear.contains(&field)) {
        (Some(_), true) => {
            Err(ToolError::invalid_argument(format!("`{name}` is both given and in `clear`")))
        }
        (Some(value), false) => Ok(Change::Set(value)),
        (None, true) => Ok(Change::Clear),
        (None, false) => Ok(Change::Keep),
    }
}

impl Tool for UpdateAgent {
    const NAME: &'static str = "update_agent";
    const TITLE: &'static str = "Change an agent";
    const DESCRIPTION: &'static str = "Changes an agent from the next call on; what is given replaces the old value whole, what is left out stays. The type never changes; numbers are set with set_agent_numbers.";
    const TOOLSET: Toolset = Toolset::Agents;
    const KIND: Kind = Kind::Writes { destructive: true, idempotent: true };
    const OPEN_WORLD: bool = false;
    type Input = UpdateAgentInput;
    type Output = AgentSummary;

    async fn run(input: Self::Input, cx: &ToolContext) -> Result<Reply<Self::Output>, Stop> {
        let UpdateAgentInput {
            agent_id,
            name,
            persona,
            instructions,
            voice,
            language,
            returns,
            tools,
            webhook_url,
            voicemail_action,
            clear,
        } = input;
        let tools = in_call::to_api(tools)?;
        let clear = clear.map(List::into_vec).unwrap_or_default();
        let (persona, instructions) =
            (persona.map(Text::into_string), instructions.map(Text::into_string));
        let (language, webhook_url) =
            (language.map(Text::into_string), webhook_url.map(HttpsUrl::into_string));
        let update = AgentUpdate {
            name: name.map(Text::into_string),
            persona: change("persona", persona, Clearable::Persona, &clear)?,
            instructions: change("instructions", instructions, Clearable::Instructions, &clear)?,
            voice: voice.map(Text::into_string),
            language: change("language", language, Clearable::Language, &clear)?,
            returns,
            tools,
            webhook_url: change("webhook_url", webhook_url, Clearable::WebhookUrl, &clear)?,
            voicemail_action,
        };
        if update == AgentUpdate::default() {
            return Err(ToolError::invalid_argument(
                "there is nothing to change: give at least one field besides `agent_id`",
            )
            .into());
        }
        let agent = AgentSummary::from(cx.account.api()?.update_agent(&agent_id, &update).await?);
        let text = format!("Changed {}. It holds from the next call on.", agent.line());
        Ok(Reply::new(agent, text))
    }
}

pub(super) struct SetAgentNumbers;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SetAgentNumbersInput {
    /// The agent.
    agent_id: AgentId,
    /// Owned numbers to attach.
    attach: Option<List<NumberId, 20>>,
    /// Attached number to make the caller ID.
    primary: Option<NumberId>,
    /// Numbers to detach.
    detach: Option<List<NumberId, 20>>,
}

#[derive(Serialize, JsonSchema)]
pub(super) struct SetAgentNumbersOutput {
    #[serde(flatten)]
    agent: AgentSummary,
    steps: Vec<String>,
}

/// One change of an agent's numbers.
enum Step {
    Attach(NumberId),
    MakePrimary(NumberId),
    Detach(NumberId),
}

impl Step {
    async fn take(&self, api: &api::Client, agent: &AgentId) -> Result<Agent, api::Error> {
        match self {
            Self::Attach(number) => api.attach_number(agent, number).await,
            Self::MakePrimary(number) => api.set_primary_number(agent, number).await,
            Self::Detach(number) => api.detach_number(agent, number).await,
        }
    }

    fn past(&self) -> String {
        match self {
            Self::Attach(number) => format!("attached {number}"),
            Self::MakePrimary(number) => format!("made {number} primary"),
            Self::Detach(number) => format!("detached {number}"),
        }
    }
}

impl Tool for SetAgentNumbers {
    const NAME: &'static str = "set_agent_numbers";
    const TITLE: &'static str = "Set an agent's numbers";
    const DESCRIPTION: &'static str = "Attaches owned numbers to an agent, makes one its caller ID, then detaches others. An inbound agent answers an attached number at once; a number has at most one inbound agent.";
    const TOOLSET: Toolset = Toolset::Agents;
    const KIND: Kind = Kind::Writes { destructive: true, idempotent: true };
    const OPEN_WORLD: bool = false;
    type Input = SetAgentNumbersInput;
    type Output = SetAgentNumbersOutput;

    async fn run(input: Self::Input, cx: &ToolContext) -> Result<Reply<Self::Output>, Stop> {
        let SetAgentNumbersInput { agent_id, attach, primary, detach } = input;
        let attach = attach.map(List::into_vec).unwrap_or_default();
        let detach = detach.map(List::into_vec).unwrap_or_default();
        if let Some(number) =
            detach.iter().find(|number| attach.contains(number) || primary.as_ref() == Some(number))
        {
            return Err(ToolError::invalid_argument(format!(
                "`detach` names {number}, which `attach` or `primary` names too"
            ))
            .into());
        }
        let steps = attach
            .into_iter()
            .map(Step::Attach)
            .chain(primary.map(Step::MakePrimary))
            .chain(detach.into_iter().map(Step::Detach));
        let api = cx.account.api()?;
        let mut taken: Vec<String> = Vec::new();
        let mut agent = None;
        for step in steps {
            match step.take(api, &agent_id).await {
                Ok(after) => {
                    agent = Some(after);
                    taken.push(step.past());
                }
                Err(error) if taken.is_empty() => return Err(error.into()),
                Err(error) => {
                    return Err(ToolError::new(
                        Class::Conflict,
                        format!(
                            "{} took place; then {}: {}",
                            taken.join(", "),
                            error.request(),
                            error.kind()
                        ),
                    )
                    .done(Done::Partly)
                    .retry(Retry::AfterChange)
                    .next("get_agent shows the numbers as they are now; call again with the steps that are left.")
                    .into());
                }
            }
        }
        let Some(agent) = agent else {
            return Err(ToolError::invalid_argument(
                "there is nothing to do: give `attach`, `primary` or `detach`",
            )
            .into());
        };
        let agent = AgentSummary::from(agent);
        let text = format!("Done: {}. Now {}", taken.join(", "), agent.line());
        Ok(Reply::new(SetAgentNumbersOutput { agent, steps: taken }, text))
    }
}

pub(super) struct ArchiveAgent;

#[derive(Serialize, JsonSchema)]
pub(super) struct ArchiveAgentOutput {
    agent_id: AgentId,
    archived: bool,
}

impl Tool for ArchiveAgent {
    const NAME: &'static str = "archive_agent";
    const TITLE: &'static str = "Archive an agent";
    const DESCRIPTION: &'static str = "Archives an agent for good: it places and answers no more calls, and there is no way back. Past calls and transcripts stay.";
    const TOOLSET: Toolset = Toolset::Agents;
    const KIND: Kind = Kind::Writes { destructive: true, idempotent: true };
    const OPEN_WORLD: bool = false;
    type Input = AgentInput;
    type Output = ArchiveAgentOutput;

    async fn run(input: Self::Input, cx: &ToolContext) -> Result<Reply<Self::Output>, Stop> {
        cx.account.api()?.archive_agent(&input.agent_id).await?;
        let text = format!("Archived agent {}. Its past calls stay readable.", input.agent_id);
        Ok(Reply::new(ArchiveAgentOutput { agent_id: input.agent_id, archived: true }, text))
    }
}
