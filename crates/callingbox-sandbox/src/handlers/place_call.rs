//! Beginning calls: `POST /v1/calls`, and `POST /sandbox/inbound_calls` for a caller who rings an owned number.

use std::sync::Arc;

use http::StatusCode;
use serde_json::Map;
use uuid::Uuid;

use super::agents::parse_webhook_url;
use super::fields::{InputFields, parse_id};
use super::reply::{ApiError, DeliveryMode, HandlerResult, Reply, sanitize_input};
use super::request::ApiRequest;
use crate::engine::{InsufficientCredit, begin_call};
use crate::model::{
    Agent, AgentType, CallOrder, CallScenario, Direction, MilliCents, Organization, is_e164,
};
use crate::scenario::{
    Admission, Ending, SCENARIOS, scenario_for_destination, scenario_for_digits,
};
use crate::store::OrgContext;

/// Destinations that are remembered for their one-time error; beyond them all are forgotten.
const MAX_REFUSED_ONCE: usize = 10_000;

/// The balance in the example of the dashboard guide.
const PAUSED_BALANCE: MilliCents = MilliCents::from_cents(188);

/// POST /v1/calls
pub(crate) fn place_call(context: &mut OrgContext<'_>, request: ApiRequest) -> HandlerResult {
    let mut fields = InputFields::from_body(&request.body)?;
    let agent_id = fields.take_required_text("agent_id")?;
    let to = parse_e164("to", fields.take_required_text("to")?)?;
    let from = fields.take_text("from_number")?;
    let from = from.map(|text| parse_e164("from_number", text)).transpose()?;
    let instructions = fields.take_text("instructions")?;
    let call_context = fields.take_object("context")?.unwrap_or_default();
    let webhook_url = parse_webhook_url(fields.take_text("webhook_url")?, context.settings)?;
    let metadata = fields.take_object("metadata")?.unwrap_or_default();
    fields.reject_unknown()?;

    let agent = find_outbound_agent(context.org, &agent_id)?;
    let (agent_id, config) = (agent.id, Arc::clone(&agent.config));
    let from = choose_caller_id(context.org, agent, from.as_deref())?;
    let file = context.settings.scenarios.iter().find(|file| file.matches(&to));
    let (scenario, admission) = match file {
        Some(file) => {
            let earlier = context.org.calls.iter().filter(|call| call.order.to == to).count();
            (CallScenario::from_file(file, earlier), Admission::Accepted)
        }
        None => {
            let built_in = scenario_for_destination(&to);
            (built_in.into(), built_in.admission)
        }
    };
    check_admission(context.org, admission, &to)?;
    let order = CallOrder {
        direction: Direction::Outbound,
        agent_id,
        instructions: instructions.or_else(|| config.instructions.clone()),
        webhook_url: webhook_url.or_else(|| config.webhook_url.clone()),
        config,
        to,
        from,
        context: call_context,
        metadata,
        scenario,
        bytes: request.body.len(),
    };
    let call = begin_call(context, order)?;
    let mode = match admission {
        Admission::AnswerLost => DeliveryMode::Reset,
        Admission::AnswerLate => DeliveryMode::Late(context.settings.late_answer),
        _ => DeliveryMode::Whole,
    };
    Ok(Reply { mode, ..Reply::created(call) })
}

/// POST /sandbox/inbound_calls
pub(crate) fn simulate_inbound_call(
    context: &mut OrgContext<'_>,
    request: ApiRequest,
) -> HandlerResult {
    let mut fields = InputFields::from_body(&request.body)?;
    let to = parse_e164("to", fields.take_required_text("to")?)?;
    let from = parse_e164("from", fields.take_required_text("from")?)?;
    let scenario = fields.take_text("scenario")?;
    fields.reject_unknown()?;
    let scenario = find_inbound_scenario(context, scenario.as_deref().unwrap_or("0100"))?;
    let number = context.org.find_number(&to).map(|number| number.id);
    let number = number.ok_or_else(|| ApiError::not_found("number", &to))?;
    let agent = context.org.inbound_agent(number).ok_or_else(|| {
        ApiError::conflict(format!("number {to} has no inbound agent; the call is rejected"))
    })?;
    let config = Arc::clone(&agent.config);
    let order = CallOrder {
        direction: Direction::Inbound,
        agent_id: agent.id,
        instructions: config.instructions.clone(),
        webhook_url: config.webhook_url.clone(),
        config,
        to,
        from,
        context: Map::new(),
        metadata: Map::new(),
        scenario,
        bytes: request.body.len(),
    };
    Ok(Reply::created(begin_call(context, order)?))
}

fn parse_e164(name: &str, text: String) -> Result<String, ApiError> {
    if is_e164(&text) {
        Ok(text)
    } else {
        Err(ApiError::invalid_value(name, "a number in E.164 form, such as +14155550100"))
    }
}

/// The agent of an order, if it can place calls.
fn find_outbound_agent<'a>(org: &'a Organization, text: &str) -> Result<&'a Agent, ApiError> {
    let agent = parse_id(text)
        .and_then(|id| org.agents.get(id))
        .ok_or_else(|| ApiError::not_found("agent", text))?;
    let problem = if agent.archived_at.is_some() {
        "is archived"
    } else if agent.agent_type == AgentType::Inbound {
        "is inbound; only an outbound agent can place calls"
    } else if agent.numbers.is_empty() {
        "has no number; attach one first"
    } else {
        return Ok(agent);
    };
    Err(ApiError::bad_request(format!("agent {} {problem}", sanitize_input(text))))
}

/// The caller ID of an order: the requested number, if it is attached, or the agent's primary number.
fn choose_caller_id(
    org: &Organization,
    agent: &Agent,
    requested: Option<&str>,
) -> Result<String, ApiError> {
    let is_attached = |id: &Uuid| agent.numbers.contains(id);
    let number = match requested {
        Some(requested) => org.find_number(requested).filter(|number| is_attached(&number.id)),
        None => agent.primary_number.and_then(|id| org.numbers.get(id)),
    };
    number
        .map(|number| number.e164.clone())
        .ok_or_else(|| ApiError::bad_request("from_number is not attached to the agent"))
}

/// Gives the error that the destination calls for, before anything is dialed.
fn check_admission(org: &mut Organization, admission: Admission, to: &str) -> Result<(), ApiError> {
    match admission {
        Admission::Accepted | Admission::AnswerLost | Admission::AnswerLate => Ok(()),
        Admission::ProviderError => Err(ApiError::new(
            StatusCode::BAD_GATEWAY,
            "the telephony provider could not place the call",
        )),
        Admission::InsufficientCredit => {
            Err(InsufficientCredit { available: org.available_credit().min(PAUSED_BALANCE) }.into())
        }
        Admission::RateLimitedOnce if is_first_request(org, to) => Err(ApiError {
            retry_after: Some(1),
            ..ApiError::new(StatusCode::TOO_MANY_REQUESTS, "too many requests")
        }),
        Admission::ServerErrorOnce if is_first_request(org, to) => {
            Err(ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "internal error"))
        }
        Admission::RateLimitedOnce | Admission::ServerErrorOnce => Ok(()),
    }
}

/// Whether a destination with a one-time error is called for the first time.
fn is_first_request(org: &mut Organization, to: &str) -> bool {
    if org.refused_once.len() >= MAX_REFUSED_ONCE {
        org.refused_once.clear();
    }
    org.refused_once.insert(to.to_owned())
}

/// The scenario that an inbound caller plays: one of a file by its name, or a built-in one by its digits.
fn find_inbound_scenario(context: &OrgContext<'_>, name: &str) -> Result<CallScenario, ApiError> {
    let files = &context.settings.scenarios;
    if let Some(file) = files.iter().find(|file| file.name == name) {
        return match file.ending(0) {
            Ending::Completed | Ending::Canceled | Ending::Failed => {
                Ok(CallScenario::from_file(file, 0))
            }
            ending => {
                let message = format!("an inbound call cannot end as {}", ending.as_str());
                Err(ApiError::bad_request(message))
            }
        };
    }
    let built_in = scenario_for_digits(name).filter(|scenario| scenario.supports_inbound);
    built_in.map(CallScenario::from).ok_or_else(|| {
        let built_in = SCENARIOS.iter().filter(|scenario| scenario.supports_inbound);
        let names: Vec<&str> = built_in
            .map(|scenario| scenario.digits)
            .chain(files.iter().map(|file| file.name.as_str()))
            .collect();
        ApiError::bad_request(format!(
            "scenario {} cannot be played by a caller; use one of {}",
            sanitize_input(name),
            names.join(", ")
        ))
    })
}
