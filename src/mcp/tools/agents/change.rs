//! `update_agent` and `archive_agent`.

use std::fmt::Write;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_with::skip_serializing_none;

use super::in_call_tools::{self, InCallTools};
use super::read::{AgentReport, PLATFORM_DEFAULT};
use super::summary::{AgentInput, AgentSummary};
use crate::account::Environment;
use crate::mcp::input::arguments::{HttpsUrl, List, Object, Text};
use crate::mcp::reply::error::ToolError;
use crate::mcp::reply::text;
use crate::mcp::tool::{
    Always, Reply, Sentence, Tool, ToolContext, ToolEffect, ToolExit, ToolName, With,
};
use crate::mcp::tools::shared::check_webhook_hosts;
use callingbox::{AgentId, AgentUpdate, Change, ReturnsSchema, VoicemailAction};

pub(in crate::mcp::tools) struct UpdateAgent;

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
pub(in crate::mcp::tools) struct UpdateAgentInput {
    /// The agent.
    agent_id: AgentId,
    /// New label.
    name: Option<Text<1, 200>>,
    /// New persona.
    persona: Option<Text<1, 20_000>>,
    /// New default task.
    instructions: Option<Text<1, 20_000>>,
    /// New voice id, for all its calls.
    #[schemars(with = "Option<String>")]
    voice: Option<Text<1, 200>>,
    /// New BCP 47 tag: what it speaks, in all its calls.
    #[schemars(with = "Option<String>")]
    language: Option<Text<1, 35>>,
    /// New result fields, name to "boolean", "string" or "number"; they replace all old ones. {} ends extraction.
    returns: Option<ReturnsSchema>,
    /// New in-call tools; they replace all old ones.
    #[schemars(with = "Option<List<Object, 16>>")]
    tools: Option<InCallTools>,
    /// New address that receives call events.
    webhook_url: Option<HttpsUrl>,
    /// Outbound calls only: what to do when a machine answers.
    voicemail_action: Option<VoicemailAction>,
    /// Fields to empty.
    clear: Option<List<Clearable, 4>>,
}

/// What one clearable field becomes.
fn field_change(
    name: &str,
    value: Option<String>,
    field: Clearable,
    clear: &[Clearable],
) -> Result<Change<String>, ToolError> {
    match (value, clear.contains(&field)) {
        (Some(_), true) => {
            Err(ToolError::invalid_argument(format!("`{name}` is set and also named in `clear`")))
        }
        (Some(value), false) => Ok(Change::Set(value)),
        (None, true) => Ok(Change::Clear),
        (None, false) => Ok(Change::Keep),
    }
}

#[derive(Serialize, JsonSchema)]
pub(in crate::mcp::tools) struct UpdateAgentOutput {
    #[serde(flatten)]
    agent: AgentSummary,
    #[schemars(with = "Vec<crate::mcp::input::arguments::Object>")]
    changes: Vec<FieldChange>,
}

/// A field that has another value now; long values are shortened.
#[skip_serializing_none]
#[derive(Debug, PartialEq, Eq, Serialize)]
struct FieldChange {
    field: String,
    old: Option<String>,
    new: Option<String>,
}

/// The maximum length of a value in a list of changes, in characters.
const MAX_VALUE_CHARS: usize = 200;

/// The fields in which two reports on an agent differ.
fn list_changes(before: &AgentReport, after: &AgentReport) -> Result<Vec<FieldChange>, ToolError> {
    let fields = |report: &AgentReport| match serde_json::to_value(report) {
        Ok(Value::Object(fields)) => Ok(fields),
        Ok(_) => Err(ToolError::internal("an agent's report is not an object")),
        Err(error) => Err(ToolError::internal(error.to_string())),
    };
    let (before, after) = (fields(before)?, fields(after)?);
    let shown = |value: Option<&Value>| {
        value.map(|value| match value {
            Value::String(text) => text::one_line(text, MAX_VALUE_CHARS),
            other => text::one_line(&other.to_string(), MAX_VALUE_CHARS),
        })
    };
    let added = after.keys().filter(|name| !before.contains_key(*name));
    Ok(before
        .keys()
        .chain(added)
        .filter(|name| before.get(*name) != after.get(*name))
        .map(|name| FieldChange {
            field: name.clone(),
            old: shown(before.get(name)),
            new: shown(after.get(name)),
        })
        .collect())
}

impl Tool for UpdateAgent {
    const NAME: ToolName = ToolName::UPDATE_AGENT;
    const TITLE: &'static str = "Change an agent";
    const DESCRIPTION: &'static [Sentence] = &[
        Always(
            "Changes an agent, starting with its next call. A given field replaces the whole old value; omitted fields stay. The type cannot be changed.",
        ),
        With(ToolName::SET_AGENT_NUMBERS, "set_agent_numbers changes the numbers."),
    ];
    const EFFECT: ToolEffect = ToolEffect::Writes { destructive: true, idempotent: true };
    const OPEN_WORLD: bool = false;
    type Input = UpdateAgentInput;
    type Output = UpdateAgentOutput;

    async fn run(input: Self::Input, cx: &ToolContext) -> Result<Reply<Self::Output>, ToolExit> {
        let agent_id = input.agent_id;
        let tools = in_call_tools::to_api_tools(input.tools)?;
        let clear = input.clear.map(List::into_vec).unwrap_or_default();
        let (persona, instructions) =
            (input.persona.map(Text::into_string), input.instructions.map(Text::into_string));
        let (language, webhook_url) =
            (input.language.map(Text::into_string), input.webhook_url.map(HttpsUrl::into_string));
        check_webhook_hosts(cx, in_call_tools::addresses(&webhook_url, &tools))?;
        let update = AgentUpdate {
            name: input.name.map(Text::into_string),
            persona: field_change("persona", persona, Clearable::Persona, &clear)?,
            instructions: field_change(
                "instructions",
                instructions,
                Clearable::Instructions,
                &clear,
            )?,
            voice: input.voice.map(Text::into_string),
            language: field_change("language", language, Clearable::Language, &clear)?,
            returns: input.returns,
            tools,
            webhook_url: field_change("webhook_url", webhook_url, Clearable::WebhookUrl, &clear)?,
            voicemail_action: input.voicemail_action,
        };
        if update == AgentUpdate::default() {
            return Err(ToolError::invalid_argument(
                "there is nothing to change: set at least one field besides `agent_id`",
            )
            .into());
        }
        let api = cx.account.api()?;
        // Without it, the answer cannot name the changes.
        let before = api.get_agent(&agent_id).await.ok().map(AgentReport::from);
        let agent = api.update_agent(&agent_id, &update).await;
        cx.account.forget_agents();
        let agent = agent?;
        let agent_is_archived = agent.archived_at.is_some();
        let effect = match agent.archived_at {
            None => "The change applies from the next call on.",
            Some(_) => "The agent is archived: it places and answers no calls.",
        };
        let changes = match &before {
            Some(before) => list_changes(before, &AgentReport::from(agent.clone()))?,
            None => Vec::new(),
        };
        let agent = AgentSummary::from(agent);
        let is_same = before.is_some() && changes.is_empty();
        let mut text = match is_same {
            true => format!("Nothing changed: {} had these values already.", agent.summary_line()),
            false => format!("Changed {}.", agent.summary_line()),
        };
        for FieldChange { field, old, new } in &changes {
            let none = if field == "voice" { PLATFORM_DEFAULT } else { "none" };
            let value = |value: &Option<String>| value.clone().unwrap_or_else(|| none.to_owned());
            // Writing to a String cannot fail.
            let _ = write!(text, "\n{field}: {} → {}", value(old), value(new));
        }
        if !is_same || agent_is_archived {
            let _ = write!(text, "\n{effect}");
        }
        let simulated = agent.simulated;
        Ok(Reply::new(UpdateAgentOutput { agent, changes }, text).with_simulated(simulated))
    }
}

pub(in crate::mcp::tools) struct ArchiveAgent;

#[derive(Serialize, JsonSchema)]
pub(in crate::mcp::tools) struct ArchiveAgentOutput {
    agent_id: AgentId,
    archived: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    simulated: bool,
}

impl Tool for ArchiveAgent {
    const NAME: ToolName = ToolName::ARCHIVE_AGENT;
    const TITLE: &'static str = "Archive an agent";
    const DESCRIPTION: &'static [Sentence] = &[Always(
        "Archives an agent permanently: it places and answers no more calls. Past calls and transcripts stay.",
    )];
    const EFFECT: ToolEffect = ToolEffect::Writes { destructive: true, idempotent: true };
    const OPEN_WORLD: bool = false;
    type Input = AgentInput;
    type Output = ArchiveAgentOutput;

    async fn run(input: Self::Input, cx: &ToolContext) -> Result<Reply<Self::Output>, ToolExit> {
        let AgentInput { agent_id } = input;
        let api = cx.account.api()?;
        // Without it, the answer names only the id.
        let agent = api.get_agent(&agent_id).await.ok().map(AgentSummary::from);
        let archived = api.archive_agent(&agent_id).await;
        cx.account.forget_agents();
        archived?;
        let simulated = cx.account.environment() == Environment::Sandbox;
        let numbers = match agent.as_ref().map(|agent| agent.numbers.as_slice()) {
            Some([]) => "It had no numbers.",
            _ => "Its numbers stay owned and are charged each month; another agent can use them.",
        };
        let line =
            agent.map_or_else(|| format!("agent_id {agent_id}"), |agent| agent.summary_line());
        let text = format!("Archived {line}. {numbers} Past calls stay readable.");
        Ok(Reply::new(ArchiveAgentOutput { agent_id, archived: true, simulated }, text))
    }
}
