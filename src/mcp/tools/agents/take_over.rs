//! Takes a number from the inbound agent that answers it. Between the two steps nobody answers the number, so a step
//! that fails is undone if that is safe, and otherwise both agents are read and the error says what is so. It does not know
//! whether the user agreed.

use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::summary::numbers_text;
use crate::mcp::registry::name::ToolName;
use crate::mcp::reply::error::{ErrorCode, Retry, ToolError};
use crate::mcp::reply::next_step::NextStep;
use crate::mcp::reply::text;
use callingbox::{
    self, Agent, AgentId, ApiClient, E164, Effect, Error, NumberId, PageCursor, PageRequest,
};

/// How long it may take to undo a step, and to read how things are.
const RECOVERY_TIME: Duration = Duration::from_secs(12);

/// How many pages of owned numbers are read.
const MAX_PAGES: usize = 20;

/// A number that an inbound agent answers.
#[derive(Debug, Clone)]
pub(super) struct HeldNumber {
    pub(super) number: NumberId,
    e164: Option<E164>,
    pub(super) holder: Agent,
}

/// Finds those of these numbers that an inbound agent other than `target` answers, and their agents. A new agent is none
/// of them.
///
/// # Errors
/// CallingBox cannot be read.
pub(super) async fn find_held_numbers(
    api: &ApiClient,
    target: Option<&AgentId>,
    numbers: &[NumberId],
) -> Result<Vec<HeldNumber>, Error> {
    let mut wanted: Vec<&NumberId> = numbers.iter().collect();
    let mut held = Vec::new();
    let mut request = PageRequest::with_limit(100);
    for _ in 0..MAX_PAGES {
        let page = api.list_numbers(&request).await?;
        let last = page.data.last().map(|number| number.id.as_str().to_owned());
        for found in page.data {
            if !wanted.contains(&&found.id) {
                continue;
            }
            wanted.retain(|id| **id != found.id);
            if let Some(id) = found.inbound_agent_id.filter(|id| Some(id) != target) {
                let holder = api.get_agent(&id).await?;
                held.push(HeldNumber { number: found.id, e164: found.e164, holder });
            }
        }
        let Some(last) = last.filter(|_| page.has_more && !wanted.is_empty()) else { break };
        request.cursor = Some(PageCursor::After(last));
    }
    held.sort_by_key(|held| numbers.iter().position(|number| *number == held.number));
    Ok(held)
}

fn agent_name(agent: &Agent) -> String {
    text::one_line(agent.name.as_deref().unwrap_or("unnamed"), 100)
}

/// An agent's name and id.
pub(super) fn agent_label(agent: &Agent) -> String {
    format!("{} (agent_id {})", agent_name(agent), agent.id)
}

impl HeldNumber {
    /// The number and its id.
    pub(super) fn label(&self) -> String {
        let phone = self.e164.as_ref().map_or("the number", E164::as_str);
        format!("{phone} (number_id {})", self.number)
    }

    /// Whether it is the primary number of its agent.
    pub(super) fn is_primary(&self) -> bool {
        self.holder.primary_number_id.as_ref() == Some(&self.number)
    }

    /// The error of attaching it to `target` without taking it over.
    pub(super) fn conflict(&self, target: &AgentId) -> ToolError {
        let text = format!("{} is answered by {}", self.label(), agent_label(&self.holder));
        let hint = format!(
            "with agent_id {target}, attach [\"{}\"] and take_over: true moves it, once the user agreed",
            self.number
        );
        ToolError::new(ErrorCode::Conflict, text)
            .with_next([NextStep::Tool { name: ToolName::SET_AGENT_NUMBERS, hint: hint.into() }])
    }

    /// The error of creating an agent with it.
    pub(super) fn conflict_of_new_agent(&self) -> ToolError {
        let text = format!("{} is answered by {}", self.label(), agent_label(&self.holder));
        ToolError::new(ErrorCode::Conflict, text).with_next([
            NextStep::person("Create the agent without this number in `number_ids`."),
            NextStep::tool(
                ToolName::SET_AGENT_NUMBERS,
                "with the new agent_id, this number_id in attach and take_over: true then moves it, once the user agreed",
            ),
        ])
    }

    /// The step that attaches it to an agent.
    fn attach_step(&self, agent: &Agent, does: &str) -> NextStep {
        let hint = format!("with agent_id {} and attach [\"{}\"] {does}", agent.id, self.number);
        NextStep::Tool { name: ToolName::SET_AGENT_NUMBERS, hint: hint.into() }
    }
}

/// The error of a move that did not succeed.
fn failed_move(effect: Effect, cause: &Cause, message: String, next: Vec<NextStep>) -> ToolError {
    let retry = match effect {
        Effect::Nothing if cause.is_transient() => Retry::Later,
        Effect::Nothing => Retry::AfterChange,
        _ => Retry::No,
    };
    ToolError::new(cause.class(), message).with_effect(effect).with_retry(retry).with_next(next)
}

/// Why a step did not succeed.
pub(super) enum Cause {
    Failed(Error),
    TimedOut,
}

impl Cause {
    fn class(&self) -> ErrorCode {
        match self {
            Self::Failed(error) => ToolError::from(error.clone()).class(),
            Self::TimedOut => ErrorCode::TimedOut,
        }
    }

    fn message(&self) -> String {
        match self {
            Self::Failed(error) => error.kind().describe().trim_end_matches('.').to_owned(),
            Self::TimedOut => "CallingBox did not answer in time".to_owned(),
        }
    }

    fn is_transient(&self) -> bool {
        match self {
            Self::Failed(error) => error.is_transient(),
            Self::TimedOut => true,
        }
    }

    /// Whether the step certainly did not take place.
    fn had_no_effect(&self) -> bool {
        matches!(self, Self::Failed(error) if error.effect() == Effect::Nothing)
    }
}

pub(super) async fn run_until<T>(
    until: Instant,
    step: impl Future<Output = Result<T, Error>>,
) -> Result<T, Cause> {
    match timeout_at(until, step).await {
        Ok(result) => result.map_err(Cause::Failed),
        Err(_elapsed) => Err(Cause::TimedOut),
    }
}

/// Both agents after a move.
#[derive(Debug)]
pub(super) struct Moved {
    /// The agent that has the number now.
    pub(super) target: Agent,
    /// The agent that had it.
    pub(super) holder: Agent,
}

/// Moves a number from its agent to `target`.
///
/// # Errors
/// The number was not moved, or it is not known whether it was.
pub(super) async fn move_number(
    api: ApiClient,
    target: Agent,
    held: HeldNumber,
    until: Instant,
) -> Result<Moved, ToolError> {
    let HeldNumber { number, holder, .. } = &held;
    let holder = match run_until(until, api.detach_number(&holder.id, number)).await {
        Ok(after) => after,
        Err(cause) if cause.had_no_effect() => {
            let text = format!(
                "detaching it from {} failed: {}. It still answers the number",
                agent_name(holder),
                cause.message()
            );
            return Err(failed_move(Effect::Nothing, &cause, text, Vec::new()));
        }
        Err(cause) => {
            let step = format!("detaching it from {}", agent_name(holder));
            return read_state(&api, &target, &held, &step, &cause).await;
        }
    };
    match run_until(until, api.attach_number(&target.id, number)).await {
        Ok(target) => Ok(Moved { target, holder }),
        Err(cause) if cause.had_no_effect() => give_back(&api, &target, &held, &cause).await,
        Err(cause) => {
            let step = format!("attaching it to {}", agent_name(&target));
            read_state(&api, &target, &held, &step, &cause).await
        }
    }
}

/// Attaches the number to its former agent again, as its primary number if it was.
async fn give_back(
    api: &ApiClient,
    target: &Agent,
    held: &HeldNumber,
    cause: &Cause,
) -> Result<Moved, ToolError> {
    let HeldNumber { number, holder, .. } = held;
    let until = Instant::now() + RECOVERY_TIME;
    let failed = format!("attaching it to {} failed: {}", agent_name(target), cause.message());
    if let Err(other) = run_until(until, api.attach_number(&holder.id, number)).await {
        let step = format!("{failed}. Giving it back to {}", agent_name(holder));
        return read_state(api, target, held, &step, &other).await;
    }
    let back = format!("{failed}. It was given back to {}", agent_name(holder));
    if !held.is_primary() {
        return Err(failed_move(Effect::Nothing, cause, back, Vec::new()));
    }
    match run_until(until, api.set_primary_number(&holder.id, number)).await {
        Ok(_) => {
            let text = format!("{back}, as its primary number");
            Err(failed_move(Effect::Nothing, cause, text, Vec::new()))
        }
        Err(other) => {
            let text =
                format!("{back}; making it its primary number again failed: {}", other.message());
            let hint = format!("with agent_id {} and primary \"{number}\" does that", holder.id);
            let step = NextStep::Tool { name: ToolName::SET_AGENT_NUMBERS, hint: hint.into() };
            Err(failed_move(Effect::Partly, cause, text, vec![step]))
        }
    }
}

/// Reads both agents after a step of which it is not known whether it took place.
async fn read_state(
    api: &ApiClient,
    target: &Agent,
    held: &HeldNumber,
    step: &str,
    cause: &Cause,
) -> Result<Moved, ToolError> {
    let HeldNumber { number, holder, .. } = held;
    let until = Instant::now() + RECOVERY_TIME;
    let read = |id| run_until(until, api.get_agent(id));
    let has_number =
        |agent: &Agent| agent.numbers.iter().flatten().any(|attached| attached.id == *number);
    let failed = format!("{step} failed: {}", cause.message());
    let (now_target, now_holder) = match tokio::join!(read(&target.id), read(&holder.id)) {
        (Ok(target), Ok(holder)) => (target, holder),
        _ => {
            let text = format!(
                "{failed}. It is not known which of {} and {} answers it now",
                agent_name(target),
                agent_name(holder)
            );
            let next = NextStep::tool(ToolName::GET_AGENT, "with each agent_id shows its numbers");
            return Err(failed_move(Effect::Unknown, cause, text, vec![next]));
        }
    };
    if has_number(&now_target) {
        return Ok(Moved { target: now_target, holder: now_holder });
    }
    let is_held = has_number(&now_holder);
    let state = format!(
        "Now {} has {} and {} has {}: {}",
        agent_name(&now_target),
        numbers_text(&now_target),
        agent_name(&now_holder),
        numbers_text(&now_holder),
        if is_held { "nothing has changed" } else { "nobody answers this number" }
    );
    let (effect, next) = if is_held {
        (Effect::Nothing, Vec::new())
    } else {
        let next = vec![
            held.attach_step(target, "completes the move"),
            held.attach_step(holder, "gives it back"),
        ];
        (Effect::Partly, next)
    };
    Err(failed_move(effect, cause, format!("{failed}. {state}"), next))
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::http::StatusCode;
    use axum::routing::{delete, get, post};
    use serde_json::json;

    use super::*;
    use callingbox::{ApiKey, BaseUrl, ClientConfig};

    #[tokio::test]
    async fn an_agent_that_cannot_be_read_is_unknown() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let routes = Router::new()
            .route("/v1/agents/{id}/numbers/{number}", delete(|| async { r#"{"id": "H"}"# }))
            .route("/v1/agents/{id}/numbers", post(std::future::pending::<&str>))
            .route("/v1/agents/{id}", get(|| async { StatusCode::FORBIDDEN }));
        tokio::spawn(async { axum::serve(listener, routes).await });
        let key = ApiKey::new("sk_test".to_owned()).unwrap();
        let api = ApiClient::new(ClientConfig::new(BaseUrl::parse(&url, false).unwrap(), key));
        let agent = |name: &str| serde_json::from_value(json!({"id": name, "name": name})).unwrap();
        let held = HeldNumber { number: NumberId::new("n"), e164: None, holder: agent("H") };
        let until = Instant::now() + Duration::from_millis(500);
        let failed = move_number(api, agent("T"), held, until).await.unwrap_err();
        assert_eq!(
            (failed.effect(), failed.message()),
            (
                Effect::Unknown,
                "attaching it to T failed: CallingBox did not answer in time. It is not known which of T and H answers it now"
            )
        );
    }
}
