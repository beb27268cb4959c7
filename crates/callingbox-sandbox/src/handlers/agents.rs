//! `/v1/agents`.

use std::sync::Arc;

use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::fields::{InputFields, change, parse_id, parse_word};
use super::in_call_tools::parse_tools;
use super::reply::{ApiError, HandlerResult, Reply, sanitize_input};
use super::request::ApiRequest;
use crate::model::{Agent, AgentConfig, AgentType, Organization, VoicemailAction};
use crate::scenario::FieldType;
use crate::store::{OrgContext, SimulatorSettings};
use crate::webhook_url::check_webhook_url;

const MAX_AGENTS: usize = 10_000;

/// GET /v1/agents
pub(crate) fn list_agents(context: &mut OrgContext<'_>, mut request: ApiRequest) -> HandlerResult {
    let wanted = request.query.take_word("type", AgentType::WORDS)?;
    request.query.reject_unknown()?;
    let org = &*context.org;
    let agents: Vec<Value> = org
        .agents
        .iter()
        .rev()
        .filter(|agent| {
            agent.archived_at.is_none() && wanted.is_none_or(|wanted| wanted == agent.agent_type)
        })
        .map(|agent| org.agent_to_json(agent))
        .collect();
    Ok(Reply::ok(json!({"data": agents})))
}

/// POST /v1/agents
pub(crate) fn create_agent(context: &mut OrgContext<'_>, request: ApiRequest) -> HandlerResult {
    let mut fields = InputFields::from_body(&request.body)?;
    let name = fields.take_required_text("name")?;
    let agent_type = fields
        .take_word("type", AgentType::WORDS)?
        .ok_or_else(|| ApiError::bad_request("type is required: inbound or outbound"))?;
    let config = AgentConfig {
        name,
        persona: fields.take_text("persona")?,
        instructions: fields.take_text("instructions")?,
        voice: fields.take_text("voice")?,
        language: fields.take_text("language")?,
        returns: parse_returns(fields.take_object("returns")?)?.unwrap_or_default(),
        tools: parse_tools(fields.take_list("tools")?)?.unwrap_or_default(),
        webhook_url: parse_webhook_url(fields.take_text("webhook_url")?, context.settings)?,
        voicemail_action: fields
            .take_word("voicemail_action", VoicemailAction::WORDS)?
            .unwrap_or(VoicemailAction::Hangup),
    };
    let number_ids = fields.take_texts("number_ids")?.unwrap_or_default();
    let primary_number = fields.take_text("primary_number_id")?;
    fields.reject_unknown()?;

    if context.org.agents.len() >= MAX_AGENTS {
        let message = format!("an organization has at most {MAX_AGENTS} agents here");
        return Err(ApiError::bad_request(message));
    }
    let mut numbers = Vec::new();
    for id in &number_ids {
        let number = find_number_id(context.org, id)?;
        if agent_type == AgentType::Inbound {
            require_no_inbound_agent(context.org, number, None)?;
        }
        numbers.push(number);
    }
    let primary_number = match primary_number {
        None => None,
        Some(text) => {
            let found = parse_id(&text).filter(|id| numbers.contains(id));
            let message = "primary_number_id must be one of number_ids";
            Some(found.ok_or_else(|| ApiError::bad_request(message))?)
        }
    };
    let mut agent = Agent {
        id: context.next_id(),
        agent_type,
        config: Arc::new(config),
        numbers: Vec::new(),
        primary_number,
        archived_at: None,
        created_at: context.now,
        updated_at: context.now,
    };
    for number in numbers {
        agent.attach_number(number);
    }
    let id = agent.id;
    context.org.agents.push(agent);
    show_agent(context.org, id).map(|reply| Reply::created(reply.body))
}

/// GET /v1/agents/{id}
pub(crate) fn get_agent(context: &mut OrgContext<'_>, request: ApiRequest) -> HandlerResult {
    let id = find_agent_id(context.org, request.id())?;
    show_agent(context.org, id)
}

/// PATCH /v1/agents/{id}
pub(crate) fn update_agent(context: &mut OrgContext<'_>, request: ApiRequest) -> HandlerResult {
    let id = find_agent_id(context.org, request.id())?;
    let mut config = AgentConfig::clone(&find_agent(context.org, id)?.config);
    let mut fields = InputFields::from_body(&request.body)?;
    change(&mut config.name, fields.take_text("name")?);
    change(&mut config.persona, fields.take_nullable_text("persona")?);
    change(&mut config.instructions, fields.take_nullable_text("instructions")?);
    change(&mut config.voice, fields.take_text("voice")?.map(Some));
    change(&mut config.language, fields.take_nullable_text("language")?);
    change(&mut config.returns, parse_returns(fields.take_object("returns")?)?);
    change(&mut config.tools, parse_tools(fields.take_list("tools")?)?);
    if let Some(url) = fields.take_nullable_text("webhook_url")? {
        config.webhook_url = parse_webhook_url(url, context.settings)?;
    }
    let action = fields.take_word("voicemail_action", VoicemailAction::WORDS)?;
    change(&mut config.voicemail_action, action);
    fields.reject_unknown()?;
    change_agent(context, id, |agent| agent.config = Arc::new(config))
}

/// DELETE /v1/agents/{id}
pub(crate) fn archive_agent(context: &mut OrgContext<'_>, request: ApiRequest) -> HandlerResult {
    let id = find_agent_id(context.org, request.id())?;
    if let Some(agent) = context.org.agents.get_mut(id) {
        agent.archive(context.now);
    }
    show_agent(context.org, id)
}

/// POST /v1/agents/{id}/numbers
pub(crate) fn attach_number(context: &mut OrgContext<'_>, request: ApiRequest) -> HandlerResult {
    let (id, number) = parse_agent_and_number(context.org, request)?;
    let agent = find_agent(context.org, id)?;
    if agent.archived_at.is_some() {
        return Err(ApiError::bad_request("the agent is archived"));
    }
    if agent.agent_type == AgentType::Inbound {
        require_no_inbound_agent(context.org, number, Some(id))?;
    }
    change_agent(context, id, |agent| agent.attach_number(number))
}

/// DELETE /v1/agents/{id}/numbers/{number_id}
pub(crate) fn detach_number(context: &mut OrgContext<'_>, request: ApiRequest) -> HandlerResult {
    let id = find_agent_id(context.org, request.id())?;
    let missing = || ApiError::not_found("attached number", request.second_id());
    let number = parse_id(request.second_id()).ok_or_else(missing)?;
    let agent = context.org.agents.get_mut(id).ok_or_else(missing)?;
    if !agent.detach_number(number) {
        return Err(missing());
    }
    agent.updated_at = context.now;
    show_agent(context.org, id)
}

/// PUT /v1/agents/{id}/primary-number
pub(crate) fn set_primary_number(
    context: &mut OrgContext<'_>,
    request: ApiRequest,
) -> HandlerResult {
    let (id, number) = parse_agent_and_number(context.org, request)?;
    if !find_agent(context.org, id)?.numbers.contains(&number) {
        let message = format!("number {number} is not attached to the agent");
        return Err(ApiError::bad_request(message));
    }
    change_agent(context, id, |agent| agent.primary_number = Some(number))
}

/// Checks the `webhook_url` of an agent or a call.
pub(super) fn parse_webhook_url(
    url: Option<String>,
    settings: &SimulatorSettings,
) -> Result<Option<String>, ApiError> {
    if let Some(url) = &url {
        check_webhook_url(url, settings.allow_private_webhooks)
            .map_err(|expected| ApiError::invalid_value("webhook_url", &expected))?;
    }
    Ok(url)
}

fn change_agent(
    context: &mut OrgContext<'_>,
    id: Uuid,
    change: impl FnOnce(&mut Agent),
) -> HandlerResult {
    if let Some(agent) = context.org.agents.get_mut(id) {
        change(agent);
        agent.updated_at = context.now;
    }
    show_agent(context.org, id)
}

fn show_agent(org: &Organization, id: Uuid) -> HandlerResult {
    Ok(Reply::ok(org.agent_to_json(find_agent(org, id)?)))
}

fn find_agent(org: &Organization, id: Uuid) -> Result<&Agent, ApiError> {
    org.agents.get(id).ok_or_else(|| ApiError::not_found("agent", &id.to_string()))
}

fn find_agent_id(org: &Organization, text: &str) -> Result<Uuid, ApiError> {
    parse_id(text)
        .filter(|id| org.agents.get(*id).is_some())
        .ok_or_else(|| ApiError::not_found("agent", text))
}

fn find_number_id(org: &Organization, text: &str) -> Result<Uuid, ApiError> {
    parse_id(text)
        .filter(|id| org.numbers.get(*id).is_some())
        .ok_or_else(|| ApiError::not_found("number", text))
}

/// Rejects a number that already has an inbound agent other than `agent`.
fn require_no_inbound_agent(
    org: &Organization,
    number: Uuid,
    agent: Option<Uuid>,
) -> Result<(), ApiError> {
    match org.inbound_agent(number).filter(|owner| Some(owner.id) != agent) {
        None => Ok(()),
        Some(_) => Err(ApiError::conflict(format!(
            "number {number} is already attached to another inbound agent"
        ))),
    }
}

/// The agent of the path and the number of the body.
fn parse_agent_and_number(
    org: &Organization,
    request: ApiRequest,
) -> Result<(Uuid, Uuid), ApiError> {
    let agent = find_agent_id(org, request.id())?;
    let mut fields = InputFields::from_body(&request.body)?;
    let number = fields.take_required_text("number_id")?;
    fields.reject_unknown()?;
    Ok((agent, find_number_id(org, &number)?))
}

/// `returns`: a flat map from field name to type.
fn parse_returns(
    map: Option<Map<String, Value>>,
) -> Result<Option<Vec<(String, FieldType)>>, ApiError> {
    let Some(map) = map else { return Ok(None) };
    let fields = map.into_iter().map(|(name, value)| {
        let label = format!("returns.{}", sanitize_input(&name));
        let expected = "one of boolean, string, number; the schema is flat";
        let word = value.as_str().ok_or_else(|| ApiError::invalid_value(&label, expected))?;
        Ok((name, parse_word(&label, word, FieldType::WORDS)?))
    });
    fields.collect::<Result<_, _>>().map(Some)
}
