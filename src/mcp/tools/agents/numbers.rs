//! `set_agent_numbers`: which numbers an agent calls from and answers.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, timeout_at};

use super::summary::{AgentSummary, require_ids};
use crate::mcp::input::arguments::List;
use crate::mcp::registry::description::Sentence::{self, Always};
use crate::mcp::registry::effect::ToolEffect;
use crate::mcp::registry::name::ToolName;
use crate::mcp::reply::answer::Reply;
use crate::mcp::reply::error::{ErrorCode, Retry, ToolError};
use crate::mcp::reply::next_step::NextStep;
use crate::mcp::reply::text;
use crate::mcp::request::context::ToolContext;
use crate::mcp::tool::{Tool, ToolExit};
use crate::toolset::Toolset;
use callingbox::{self, Agent, AgentId, E164, Effect, ErrorKind, NumberId, PageRequest};

pub(in crate::mcp::tools) struct SetAgentNumbers;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::mcp::tools) struct SetAgentNumbersInput {
    /// The agent.
    agent_id: AgentId,
    /// number_ids to attach.
    attach: Option<List<NumberId, 20>>,
    /// number_id to make the caller ID.
    primary: Option<NumberId>,
    /// number_ids to detach.
    detach: Option<List<NumberId, 20>>,
}

#[derive(Serialize, JsonSchema)]
pub(in crate::mcp::tools) struct SetAgentNumbersOutput {
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
    async fn run(
        &self,
        api: &callingbox::ApiClient,
        agent: &AgentId,
    ) -> Result<Agent, callingbox::Error> {
        match self {
            Self::Attach(number) => api.attach_number(agent, number).await,
            Self::MakePrimary(number) => api.set_primary_number(agent, number).await,
            Self::Detach(number) => api.detach_number(agent, number).await,
        }
    }

    fn past_tense(&self) -> String {
        match self {
            Self::Attach(number) => format!("attached {number}"),
            Self::MakePrimary(number) => format!("made {number} primary"),
            Self::Detach(number) => format!("detached {number}"),
        }
    }

    fn present_tense(&self) -> String {
        match self {
            Self::Attach(number) => format!("attaching {number}"),
            Self::MakePrimary(number) => format!("making {number} primary"),
            Self::Detach(number) => format!("detaching {number}"),
        }
    }

    /// The error of this step among others.
    fn to_error(
        &self,
        effect: Effect,
        error: ToolError,
        taken: &[String],
        is_last: bool,
    ) -> ToolError {
        let before = match taken {
            [] => String::new(),
            taken => format!("{} took place; then ", taken.join(", ")),
        };
        let what = match (effect, taken) {
            (Effect::Nothing, _) => "failed",
            (Effect::Unknown | Effect::Partly, _) => {
                "failed, and it is not known whether it took place"
            }
            (Effect::Whole, []) => "took place, but its answer is lost",
            (Effect::Whole, _) => "took place too, but its answer is lost",
        };
        let rest = if is_last { "" } else { " The later steps were not started." };
        let message = format!("{before}{} {what}: {}{rest}", self.present_tense(), error.message());
        let error = match effect {
            Effect::Nothing => error.with_next_also(NextStep::tool(
                ToolName::GET_AGENT,
                "shows the present numbers of the agent",
            )),
            Effect::Unknown | Effect::Partly | Effect::Whole => error,
        };
        let rest = NextStep::tool(
            ToolName::SET_AGENT_NUMBERS,
            "with the remaining steps completes the change",
        );
        let error = error.partial(message, rest);
        if taken.is_empty() && effect == Effect::Unknown {
            error.with_effect(Effect::Unknown)
        } else {
            error
        }
    }
}

/// The error of attaching a number that another inbound agent answers, with that agent. Unchanged if it cannot be read.
async fn name_holder(
    api: &callingbox::ApiClient,
    number: &NumberId,
    error: ToolError,
    until: Instant,
) -> ToolError {
    let find = async {
        let page = api.list_numbers(&PageRequest::with_limit(100)).await.ok()?;
        let found = page.data.into_iter().find(|listed| listed.id == *number)?;
        let holder = api.get_agent(&found.inbound_agent_id?).await.ok()?;
        Some((found.e164, holder))
    };
    let Ok(Some((e164, holder))) = timeout_at(until, find).await else { return error };
    let phone = e164.as_ref().map_or("the number", E164::as_str);
    let name = text::one_line(holder.name.as_deref().unwrap_or("unnamed"), 100);
    let id = holder.id;
    let hint = format!("with agent_id {id} and detach [\"{number}\"] frees it; then attach it");
    ToolError::new(
        ErrorCode::Conflict,
        format!("{phone} (number_id {number}) is answered by {name} (agent_id {id})"),
    )
    .with_next([NextStep::Tool { name: ToolName::SET_AGENT_NUMBERS, hint: hint.into() }])
}

/// How long all steps may take together: the answer must be sent before the deadline of the tool call.
const TIME: Duration = Duration::from_secs(50);

/// Runs the steps in order and returns the agent after the last one, and what was done.
///
/// # Errors
/// The step that failed or timed out, with the steps that took place.
async fn run_steps(
    api: &callingbox::ApiClient,
    agent_id: &AgentId,
    steps: &[Step],
    until: Instant,
) -> Result<(Agent, Vec<String>), ToolError> {
    let mut taken = Vec::new();
    let mut agent = None;
    for (at, step) in (1..).zip(steps) {
        let (effect, error) = match timeout_at(until, step.run(api, agent_id)).await {
            Ok(Ok(after)) => {
                agent = Some(after);
                taken.push(step.past_tense());
                continue;
            }
            Ok(Err(error)) => {
                let effect = error.effect();
                let is_conflict = matches!(error.kind(), ErrorKind::Conflict { .. });
                let error = ToolError::from(error);
                match step {
                    Step::Attach(number) if is_conflict => {
                        (effect, name_holder(api, number, error, until).await)
                    }
                    _ => (effect, error),
                }
            }
            Err(_elapsed) => (
                Effect::Unknown,
                ToolError::new(ErrorCode::TimedOut, "CallingBox did not answer in time.")
                    .with_effect(Effect::Unknown)
                    .with_retry(Retry::No)
                    .with_next([NextStep::tool(
                        ToolName::GET_AGENT,
                        "shows the present state of the agent",
                    )]),
            ),
        };
        let alone = steps.len() == 1 || effect == Effect::Nothing;
        return Err(if taken.is_empty() && alone {
            error
        } else {
            step.to_error(effect, error, &taken, at == steps.len())
        });
    }
    let agent = agent.ok_or_else(|| {
        ToolError::invalid_argument("there is nothing to do: set `attach`, `primary` or `detach`")
    })?;
    Ok((agent, taken))
}

impl Tool for SetAgentNumbers {
    const NAME: ToolName = ToolName::SET_AGENT_NUMBERS;
    const TITLE: &'static str = "Set an agent's numbers";
    const DESCRIPTION: &'static [Sentence] = &[Always(
        "Attaches owned numbers to an agent, makes one its caller ID, then detaches others. An inbound agent answers an attached number immediately; a number has at most one inbound agent.",
    )];
    const TOOLSET: Toolset = Toolset::Agents;
    const EFFECT: ToolEffect = ToolEffect::Writes { destructive: true, idempotent: true };
    const OPEN_WORLD: bool = false;
    type Input = SetAgentNumbersInput;
    type Output = SetAgentNumbersOutput;

    async fn run(input: Self::Input, cx: &ToolContext) -> Result<Reply<Self::Output>, ToolExit> {
        let SetAgentNumbersInput { agent_id, attach, primary, detach } = input;
        let attach = attach.map(List::into_vec).unwrap_or_default();
        let detach = detach.map(List::into_vec).unwrap_or_default();
        require_ids("attach", &attach)?;
        require_ids("primary", &primary)?;
        require_ids("detach", &detach)?;
        if let Some(number) =
            detach.iter().find(|number| attach.contains(number) || primary.as_ref() == Some(number))
        {
            return Err(ToolError::invalid_argument(format!(
                "`detach` names {number}, which `attach` or `primary` names too"
            ))
            .into());
        }
        let steps: Vec<Step> = attach
            .into_iter()
            .map(Step::Attach)
            .chain(primary.map(Step::MakePrimary))
            .chain(detach.into_iter().map(Step::Detach))
            .collect();
        let api = cx.account.api()?;
        let (agent, taken) = run_steps(api, &agent_id, &steps, Instant::now() + TIME).await?;
        let agent = AgentSummary::from(agent);
        let text = format!("Done: {}. Now {}.", taken.join(", "), agent.summary_line());
        let simulated = agent.simulated;
        let output = SetAgentNumbersOutput { agent, steps: taken };
        Ok(Reply::new(output, text).with_simulated(simulated))
    }
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::extract::Path;
    use axum::routing::{post, put};
    use serde_json::json;

    use super::*;
    use crate::account::Environment;
    use crate::mcp::registry::available::AvailableTools;
    use callingbox::{ApiClient, ApiKey, BaseUrl, ClientConfig};

    #[tokio::test]
    async fn steps_that_take_too_long_do_not_take_with_them_what_was_done() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let attach = async |Path(id): Path<String>| axum::Json(json!({"id": id}));
        let routes = Router::new()
            .route("/v1/agents/{id}/numbers", post(attach))
            .route("/v1/agents/{id}/primary-number", put(std::future::pending::<&str>));
        tokio::spawn(async { axum::serve(listener, routes).await });
        let key = ApiKey::new("sk_test".to_owned()).unwrap();
        let api = ApiClient::new(ClientConfig::new(BaseUrl::parse(&url, false).unwrap(), key));
        let (agent, one, two) = (AgentId::new("a"), NumberId::new("n1"), NumberId::new("n2"));
        let steps = [Step::Attach(one.clone()), Step::MakePrimary(one), Step::Detach(two)];
        let until = Instant::now() + Duration::from_millis(500);
        let error = run_steps(&api, &agent, &steps, until).await.unwrap_err();
        let tools = [ToolName::GET_AGENT, ToolName::SET_AGENT_NUMBERS];
        let tools = AvailableTools::only(&tools, Environment::Live);
        assert_eq!(
            serde_json::to_value(error.report(&tools)).unwrap(),
            json!({
                "class": "timed_out",
                "message": "attached n1 took place; then making n1 primary failed, and it is not known whether it took place: CallingBox did not answer in time. The later steps were not started.",
                "done": "partly",
                "retry": "no",
                "next": "get_agent shows the present state of the agent. set_agent_numbers with the remaining steps completes the change.",
            })
        );
    }
}
