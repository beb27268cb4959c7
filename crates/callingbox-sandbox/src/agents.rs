//! Agents: reusable configurations of calls, and the numbers attached to them.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::answer::{Answer, Refusal, Reply, shorten};
use super::clock::Moment;
use super::conversation::{FIELD_TYPES, FieldType};
use super::fields::{self, Fields, choose, wrong};
use super::records::Record;
use super::request::Request;
use super::tools;
use super::webhook_url;
use super::world::{Org, Scope, Settings};

/// More agents than this are refused.
const MAX_AGENTS: usize = 10_000;

/// Whether an agent answers calls or places them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum AgentType {
    Inbound,
    Outbound,
}

const AGENT_TYPES: &[(&str, AgentType)] =
    &[("inbound", AgentType::Inbound), ("outbound", AgentType::Outbound)];

/// What an outbound call does when a machine picks up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum VoicemailAction {
    Hangup,
    LeaveMessage,
}

const VOICEMAIL_ACTIONS: &[(&str, VoicemailAction)] =
    &[("hangup", VoicemailAction::Hangup), ("leave_message", VoicemailAction::LeaveMessage)];

/// What a call takes over from its agent when it begins.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Config {
    pub(super) name: String,
    pub(super) persona: Option<String>,
    pub(super) instructions: Option<String>,
    pub(super) voice: Option<String>,
    pub(super) language: Option<String>,
    pub(super) returns: Vec<(String, FieldType)>,
    pub(super) tools: Vec<Value>,
    pub(super) webhook_url: Option<String>,
    pub(super) voicemail_action: VoicemailAction,
}

impl Config {
    /// `returns` as the API shows it.
    pub(super) fn show_returns(&self) -> Value {
        self.returns.iter().map(|(name, kind)| (name.clone(), json!(kind))).collect()
    }
}

/// An agent.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Agent {
    pub(super) id: Uuid,
    pub(super) kind: AgentType,
    #[serde(with = "super::state::shared")]
    pub(super) config: Arc<Config>,
    /// In the order of attaching.
    pub(super) numbers: Vec<Uuid>,
    pub(super) primary: Option<Uuid>,
    pub(super) archived_at: Option<Moment>,
    created_at: Moment,
    updated_at: Moment,
}

impl Record for Agent {
    fn id(&self) -> Uuid {
        self.id
    }
}

impl Agent {
    fn attach(&mut self, number: Uuid) {
        if !self.numbers.contains(&number) {
            self.numbers.push(number);
        }
        self.primary.get_or_insert(number);
    }
}

impl Org {
    fn show_agent(&self, agent: &Agent) -> Value {
        let config = &agent.config;
        let numbers = agent.numbers.iter().filter_map(|id| self.numbers.get(*id));
        json!({
            "id": agent.id,
            "org_id": self.id,
            "user_id": "user_sandbox",
            "name": config.name,
            "type": agent.kind,
            "persona": config.persona,
            "instructions": config.instructions,
            "voice": config.voice,
            "language": config.language,
            "returns": config.show_returns(),
            "tools": config.tools,
            "webhook_url": config.webhook_url,
            "voicemail_action": config.voicemail_action,
            "primary_number_id": agent.primary,
            "archived_at": agent.archived_at.map(Moment::text),
            "created_at": agent.created_at.text(),
            "updated_at": agent.updated_at.text(),
            "numbers": numbers.map(|number| self.show_number(number)).collect::<Vec<_>>(),
            "simulated": true,
        })
    }

    fn agent_id(&self, text: &str) -> Result<Uuid, Refusal> {
        fields::id(text)
            .filter(|id| self.agents.get(*id).is_some())
            .ok_or_else(|| Refusal::not_found("agent", text))
    }

    fn number_id(&self, text: &str) -> Result<Uuid, Refusal> {
        fields::id(text)
            .filter(|id| self.numbers.get(*id).is_some())
            .ok_or_else(|| Refusal::not_found("number", text))
    }

    /// Whether an inbound agent, other than `agent`, already has the number.
    fn free_for_inbound(&self, number: Uuid, agent: Option<Uuid>) -> Result<(), Refusal> {
        match self.inbound_agent(number).filter(|owner| Some(*owner) != agent) {
            None => Ok(()),
            Some(_) => Err(Refusal::conflict(format!(
                "number {number} is already attached to another inbound agent"
            ))),
        }
    }

    fn answer_agent(&self, id: Uuid) -> Answer {
        let agent =
            self.agents.get(id).ok_or_else(|| Refusal::not_found("agent", &id.to_string()))?;
        Ok(Reply::ok(self.show_agent(agent)))
    }
}

/// GET /v1/agents
pub(super) fn list(scope: &mut Scope<'_>, mut request: Request) -> Answer {
    let kind = request.query.word("type", AGENT_TYPES)?;
    request.query.end()?;
    let org = &*scope.org;
    let shown: Vec<Value> = org
        .agents
        .iter()
        .rev()
        .filter(|agent| agent.archived_at.is_none() && kind.is_none_or(|kind| kind == agent.kind))
        .map(|agent| org.show_agent(agent))
        .collect();
    Ok(Reply::ok(json!({"data": shown})))
}

/// POST /v1/agents
pub(super) fn create(scope: &mut Scope<'_>, request: Request) -> Answer {
    request.query.end()?;
    let mut fields = Fields::parse(&request.body)?;
    let name = fields.required_text("name")?;
    let kind = fields
        .word("type", AGENT_TYPES)?
        .ok_or_else(|| Refusal::bad("type is required: inbound or outbound"))?;
    let config = Config {
        name,
        persona: fields.text("persona")?,
        instructions: fields.text("instructions")?,
        voice: fields.text("voice")?,
        language: fields.text("language")?,
        returns: returns(fields.object("returns")?)?.unwrap_or_default(),
        tools: tools::read(fields.list("tools")?)?.unwrap_or_default(),
        webhook_url: receiver(scope.settings, fields.text("webhook_url")?)?,
        voicemail_action: fields
            .word("voicemail_action", VOICEMAIL_ACTIONS)?
            .unwrap_or(VoicemailAction::Hangup),
    };
    let wanted = fields.texts("number_ids")?.unwrap_or_default();
    let primary = fields.text("primary_number_id")?;
    fields.end()?;

    let org = &mut *scope.org;
    if org.agents.len() >= MAX_AGENTS {
        return Err(Refusal::bad(format!("an organization has at most {MAX_AGENTS} agents here")));
    }
    let mut numbers = Vec::new();
    for text in &wanted {
        let number = org.number_id(text)?;
        if kind == AgentType::Inbound {
            org.free_for_inbound(number, None)?;
        }
        numbers.push(number);
    }
    let primary = match primary {
        None => None,
        Some(text) => Some(
            fields::id(&text)
                .filter(|id| numbers.contains(id))
                .ok_or_else(|| Refusal::bad("primary_number_id must be one of number_ids"))?,
        ),
    };
    let id = org.next_id(scope.settings.seed);
    let mut agent = Agent {
        id,
        kind,
        config: Arc::new(config),
        numbers: Vec::new(),
        primary,
        archived_at: None,
        created_at: scope.now,
        updated_at: scope.now,
    };
    for number in numbers {
        agent.attach(number);
    }
    org.agents.push(agent);
    org.answer_agent(id).map(|reply| Reply::created(reply.body))
}

/// GET /v1/agents/{id}
pub(super) fn get(scope: &mut Scope<'_>, request: Request) -> Answer {
    request.query.end()?;
    let id = scope.org.agent_id(request.id())?;
    scope.org.answer_agent(id)
}

/// PATCH /v1/agents/{id}
pub(super) fn update(scope: &mut Scope<'_>, request: Request) -> Answer {
    let id = scope.org.agent_id(request.id())?;
    request.query.end()?;
    let agent = scope.org.agents.get(id).ok_or_else(|| Refusal::not_found("agent", ""))?;
    let mut config = Config::clone(&agent.config);
    let mut fields = Fields::parse(&request.body)?;
    if let Some(name) = fields.text("name")? {
        config.name = name;
    }
    if let Some(persona) = fields.clearable("persona")? {
        config.persona = persona;
    }
    if let Some(instructions) = fields.clearable("instructions")? {
        config.instructions = instructions;
    }
    if let Some(voice) = fields.text("voice")? {
        config.voice = Some(voice);
    }
    if let Some(language) = fields.clearable("language")? {
        config.language = language;
    }
    if let Some(returns) = returns(fields.object("returns")?)? {
        config.returns = returns;
    }
    if let Some(tools) = tools::read(fields.list("tools")?)? {
        config.tools = tools;
    }
    if let Some(url) = fields.clearable("webhook_url")? {
        config.webhook_url = receiver(scope.settings, url)?;
    }
    if let Some(action) = fields.word("voicemail_action", VOICEMAIL_ACTIONS)? {
        config.voicemail_action = action;
    }
    fields.end()?;
    if let Some(agent) = scope.org.agents.get_mut(id) {
        agent.config = Arc::new(config);
        agent.updated_at = scope.now;
    }
    scope.org.answer_agent(id)
}

/// DELETE /v1/agents/{id}
pub(super) fn archive(scope: &mut Scope<'_>, request: Request) -> Answer {
    request.query.end()?;
    let id = scope.org.agent_id(request.id())?;
    if let Some(agent) = scope.org.agents.get_mut(id).filter(|agent| agent.archived_at.is_none()) {
        agent.archived_at = Some(scope.now);
        agent.updated_at = scope.now;
        agent.numbers.clear();
        agent.primary = None;
    }
    scope.org.answer_agent(id)
}

/// POST /v1/agents/{id}/numbers
pub(super) fn attach(scope: &mut Scope<'_>, request: Request) -> Answer {
    let (id, number) = agent_and_number(scope, request)?;
    let agent = scope.org.agents.get(id).ok_or_else(|| Refusal::not_found("agent", ""))?;
    if agent.archived_at.is_some() {
        return Err(Refusal::bad("the agent is archived"));
    }
    if agent.kind == AgentType::Inbound {
        scope.org.free_for_inbound(number, Some(id))?;
    }
    if let Some(agent) = scope.org.agents.get_mut(id) {
        agent.attach(number);
        agent.updated_at = scope.now;
    }
    scope.org.answer_agent(id)
}

/// DELETE /v1/agents/{id}/numbers/{number_id}
pub(super) fn detach(scope: &mut Scope<'_>, request: Request) -> Answer {
    let id = scope.org.agent_id(request.id())?;
    let text = request.second_id().to_owned();
    request.query.end()?;
    let missing = || Refusal::not_found("attached number", &text);
    let number = fields::id(&text).ok_or_else(missing)?;
    let agent = scope.org.agents.get_mut(id).ok_or_else(missing)?;
    let place =
        agent.numbers.iter().position(|attached| *attached == number).ok_or_else(missing)?;
    agent.numbers.remove(place);
    if agent.primary == Some(number) {
        agent.primary = agent.numbers.first().copied();
    }
    agent.updated_at = scope.now;
    scope.org.answer_agent(id)
}

/// PUT /v1/agents/{id}/primary-number
pub(super) fn set_primary(scope: &mut Scope<'_>, request: Request) -> Answer {
    let (id, number) = agent_and_number(scope, request)?;
    let agent = scope.org.agents.get_mut(id).ok_or_else(|| Refusal::not_found("agent", ""))?;
    if !agent.numbers.contains(&number) {
        return Err(Refusal::bad(format!("number {number} is not attached to the agent")));
    }
    agent.primary = Some(number);
    agent.updated_at = scope.now;
    scope.org.answer_agent(id)
}

/// The agent of the path and the number of the body.
fn agent_and_number(scope: &Scope<'_>, request: Request) -> Result<(Uuid, Uuid), Refusal> {
    let agent = scope.org.agent_id(request.id())?;
    request.query.end()?;
    let mut fields = Fields::parse(&request.body)?;
    let number = fields.required_text("number_id")?;
    fields.end()?;
    Ok((agent, scope.org.number_id(&number)?))
}

/// A flat map from field name to type word.
fn returns(map: Option<Map<String, Value>>) -> Result<Option<Vec<(String, FieldType)>>, Refusal> {
    let Some(map) = map else { return Ok(None) };
    let fields = map.into_iter().map(|(name, value)| {
        let label = format!("returns.{}", shorten(&name));
        let word = value
            .as_str()
            .ok_or_else(|| wrong(&label, "one of boolean, string, number; the schema is flat"))?;
        let kind = choose(&label, word, FIELD_TYPES)?;
        Ok((name, kind))
    });
    fields.collect::<Result<_, _>>().map(Some)
}

/// A receiver of events that may be left out.
pub(super) fn receiver(
    settings: &Settings,
    url: Option<String>,
) -> Result<Option<String>, Refusal> {
    if let Some(url) = &url {
        webhook_url::check("webhook_url", url, settings.allow_private_webhooks)?;
    }
    Ok(url)
}
