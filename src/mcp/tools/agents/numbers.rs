//! `set_agent_numbers`: which numbers an agent calls from and answers.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use serde_with::skip_serializing_none;
use tokio::time::{Instant, timeout_at};
use tokio_util::task::TaskTracker;

use super::summary::{AgentSummary, numbers_text, require_ids};
use super::take_over::{
    Cause, HeldNumber, Moved, agent_label, find_held_numbers, move_number, run_until,
};
use crate::mcp::confirmation::open_question::{OpenQuestionWords, PendingFields, Question};
use crate::mcp::confirmation::preview::Preview;
use crate::mcp::confirmation::{self, ConfirmOutcome, ConfirmedRequest};
use crate::mcp::input::arguments::{List, Text};
use crate::mcp::reply::error::{ErrorCode, Retry, ToolError};
use crate::mcp::reply::next_step::NextStep;
use crate::mcp::tool::{
    Always, Reply, Sentence, Tool, ToolContext, ToolEffect, ToolExit, ToolName,
};
use crate::mcp::tools::ordering;
use callingbox::{
    self, Agent, AgentId, AgentType, ApiClient, Effect, ErrorKind, NumberId, OpenEnum,
};

pub(in crate::mcp::tools) struct SetAgentNumbers;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::mcp::tools) struct SetAgentNumbersInput {
    /// The agent.
    agent_id: AgentId,
    /// number_ids to attach.
    attach: Option<List<NumberId, 20>>,
    /// Attach even numbers that another inbound agent answers; the user is asked.
    take_over: Option<bool>,
    /// number_id to make the caller ID.
    primary: Option<NumberId>,
    /// number_ids to detach.
    detach: Option<List<NumberId, 20>>,
    /// From an earlier answer, after the user agreed to it.
    #[schemars(with = "Option<String>")]
    confirmation_token: Option<Text<1, 200>>,
}

#[skip_serializing_none]
#[derive(Serialize, JsonSchema)]
pub(in crate::mcp::tools) struct SetAgentNumbersOutput {
    #[serde(flatten)]
    agent: AgentSummary,
    steps: Vec<String>,
    #[serde(flatten)]
    pending: PendingFields,
}

/// One change of an agent's numbers.
enum Step {
    Attach(NumberId),
    TakeOver { target: Box<Agent>, held: Box<HeldNumber> },
    MakePrimary(NumberId),
    Detach(NumberId),
}

fn timed_out() -> ToolError {
    ToolError::new(ErrorCode::TimedOut, "CallingBox did not answer in time.")
        .with_effect(Effect::Unknown)
        .with_retry(Retry::No)
        .with_next([NextStep::tool(ToolName::GET_AGENT, "shows the present state of the agent")])
}

/// What the steps are run with.
struct StepContext<'a> {
    api: &'a ApiClient,
    /// A number that is being moved is not left without an agent because the client stops waiting.
    tasks: &'a TaskTracker,
    agent_id: &'a AgentId,
    until: Instant,
}

impl Step {
    /// Runs the step. Returns the agent after it, and a description of the change.
    async fn run(&self, cx: &StepContext<'_>) -> Result<(Agent, String), ToolError> {
        let StepContext { api, agent_id, until, .. } = *cx;
        let after = match self {
            // It has a limit of its own.
            Self::TakeOver { target, held } => return take_over(cx, target, held).await,
            Self::Attach(number) => run_until(until, api.attach_number(agent_id, number)).await,
            Self::MakePrimary(number) => {
                run_until(until, api.set_primary_number(agent_id, number)).await
            }
            Self::Detach(number) => run_until(until, api.detach_number(agent_id, number)).await,
        };
        match (after, self) {
            (Ok(after), _) => Ok((after, self.describe().0)),
            (Err(Cause::TimedOut), _) => Err(timed_out()),
            (Err(Cause::Failed(error)), Self::Attach(number))
                if matches!(error.kind(), ErrorKind::Conflict { .. }) =>
            {
                Err(name_holder(cx, number, error.into()).await)
            }
            (Err(Cause::Failed(error)), _) => Err(error.into()),
        }
    }

    /// What the step does, in the past tense and in the present.
    fn describe(&self) -> (String, String) {
        let (past, present, what) = match self {
            Self::Attach(number) => ("attached", "attaching", number.to_string()),
            Self::TakeOver { held, .. } => {
                let from = agent_label(&held.holder);
                ("moved", "moving", format!("{} from {from}", held.label()))
            }
            Self::MakePrimary(number) => ("made", "making", format!("{number} primary")),
            Self::Detach(number) => ("detached", "detaching", number.to_string()),
        };
        (format!("{past} {what}"), format!("{present} {what}"))
    }

    /// The error of a move among other steps. It describes the state itself.
    fn move_error(&self, error: ToolError, taken: &[String], is_last: bool) -> ToolError {
        let rest = if is_last { "" } else { ". The later steps were not started" };
        let text = error.message().trim_end_matches('.');
        let (_, doing) = self.describe();
        let message = format!("{}{doing} failed: {text}{rest}", taken_before(taken));
        let error = error.with_message(message);
        if taken.is_empty() { error } else { error.with_effect(Effect::Partly) }
    }

    /// The error of this step among others.
    fn to_error(&self, error: ToolError, taken: &[String], is_last: bool) -> ToolError {
        let effect = error.effect();
        let what = match (effect, taken) {
            (Effect::Nothing, _) => "failed",
            (Effect::Unknown | Effect::Partly, _) => {
                "failed, and it is not known whether it took place"
            }
            (Effect::Whole, []) => "took place, but its answer is lost",
            (Effect::Whole, _) => "took place too, but its answer is lost",
        };
        let rest = if is_last { "" } else { " The later steps were not started." };
        let (_, doing) = self.describe();
        let message = format!("{}{doing} {what}: {}{rest}", taken_before(taken), error.message());
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

/// The beginning of a sentence about a step after these.
fn taken_before(taken: &[String]) -> String {
    match taken {
        [] => String::new(),
        taken => format!("{} took place; then ", taken.join(", ")),
    }
}

/// Moves a number to this agent, to the end even if the client stops waiting.
async fn take_over(
    cx: &StepContext<'_>,
    target: &Agent,
    held: &HeldNumber,
) -> Result<(Agent, String), ToolError> {
    let work = move_number(cx.api.clone(), target.clone(), held.clone(), cx.until);
    let moved = cx.tasks.spawn(work).await;
    let Moved { target, holder } =
        moved.map_err(|error| ToolError::internal(error.to_string()))??;
    let done = format!(
        "moved {} from {}, which now has {}; nobody answered it for a moment between",
        held.label(),
        agent_label(&holder),
        numbers_text(&holder)
    );
    Ok((target, done))
}

/// The error of attaching a number that another inbound agent answers, with that agent. Unchanged if it cannot be read.
async fn name_holder(cx: &StepContext<'_>, number: &NumberId, error: ToolError) -> ToolError {
    let find = find_held_numbers(cx.api, Some(cx.agent_id), std::slice::from_ref(number));
    match timeout_at(cx.until, find).await {
        Ok(Ok(held)) => held.first().map_or(error, |held| held.conflict(cx.agent_id)),
        _ => error,
    }
}

/// How long all steps may take together: the answer must be sent before the deadline of the tool call.
const TIME: Duration = Duration::from_secs(40);

/// Runs the steps in order and returns the agent after the last one, and what was done.
///
/// # Errors
/// The step that failed or timed out, with the steps that took place.
async fn run_steps(
    cx: &StepContext<'_>,
    steps: &[Step],
) -> Result<(Agent, Vec<String>), ToolError> {
    let mut taken = Vec::new();
    let mut agent = None;
    for (at, step) in (1..).zip(steps) {
        match step.run(cx).await {
            Ok((after, done)) => {
                agent = Some(after);
                taken.push(done);
            }
            Err(error) => {
                let is_last = at == steps.len();
                let alone = error.effect() == Effect::Nothing;
                return Err(match step {
                    Step::TakeOver { .. } => step.move_error(error, &taken, is_last),
                    _ if taken.is_empty() && (alone || steps.len() == 1) => error,
                    _ => step.to_error(error, &taken, is_last),
                });
            }
        }
    }
    let agent = agent.ok_or_else(|| {
        ToolError::invalid_argument("there is nothing to do: set `attach`, `primary` or `detach`")
    })?;
    Ok((agent, taken))
}

/// Numbers to move to one agent, and the agents that have them now.
struct Takeover {
    target: Agent,
    held: Vec<HeldNumber>,
}

impl Takeover {
    /// Finds what must be moved before these numbers can be attached.
    async fn find(
        api: &ApiClient,
        agent: &AgentId,
        attach: &[NumberId],
    ) -> Result<Self, ToolError> {
        let target = api.get_agent(agent).await?;
        // Outbound agents share numbers.
        let is_inbound = target.r#type == Some(OpenEnum::Known(AgentType::Inbound));
        let held = match is_inbound {
            true => find_held_numbers(api, Some(agent), attach).await?,
            false => Vec::new(),
        };
        Ok(Self { target, held })
    }

    /// What the user is shown, and what their yes covers.
    fn preview(&self, suffix: &str) -> Preview {
        let title = format!("Move a phone number to another agent{suffix}?");
        let fields = self.held.iter().flat_map(|held| {
            let was_primary = if held.is_primary() { ", whose primary number it is" } else { "" };
            [
                ("Number", Some(held.label())),
                ("From", Some(format!("{}{was_primary}", agent_label(&held.holder)))),
            ]
        });
        let rest = [
            ("To", Some(agent_label(&self.target))),
            (
                "Meanwhile",
                Some("nobody answers the number for a moment, usually under a second".to_owned()),
            ),
        ];
        Preview::new(title, fields.chain(rest), String::new())
    }
}

const OPEN_TAKEOVER: OpenQuestionWords = OpenQuestionWords {
    nothing_done: "Nothing was changed",
    repeat: "set_agent_numbers again with the same arguments and the confirmation_token",
    after_card: "",
};

/// What became of asking the user.
enum Agreement {
    Given(Box<Takeover>),
    /// The model must show this and bring the token back.
    Preview(Box<Reply<SetAgentNumbersOutput>>),
}

/// Asks the user whether the numbers may be moved.
async fn agree_to_takeover(
    cx: &ToolContext,
    takeover: Takeover,
    request: &ConfirmedRequest,
    attach: &[NumberId],
    token: Option<&str>,
) -> Result<Agreement, ToolExit> {
    let dialer = cx.account.dialer()?;
    let Some(reason) = ordering::reason_to_ask(cx, "another agent would lose its number")? else {
        return Ok(Agreement::Given(Box::new(takeover)));
    };
    let suffix = cx.account.environment().order_suffix();
    let question = Question::new(&reason, takeover.preview(suffix));
    match confirmation::ask_human(cx, dialer, request, token, &question, None).await? {
        ConfirmOutcome::Open(open) => {
            let reply = open.into_reply(&OPEN_TAKEOVER, |pending, note| {
                let text = format!("{note}{}", pending.token_line());
                let agent = takeover.target.into();
                Reply::new(SetAgentNumbersOutput { agent, steps: Vec::new(), pending }, text)
            });
            Ok(Agreement::Preview(Box::new(reply)))
        }
        ConfirmOutcome::Confirmed(_) => {
            // The human may have taken long.
            let now = Takeover::find(cx.account.api()?, &takeover.target.id, attach).await?;
            if now.preview(suffix).covered_text() != question.preview.covered_text() {
                return Err(confirmation::outdated_confirmation().into());
            }
            Ok(Agreement::Given(Box::new(now)))
        }
    }
}

impl Tool for SetAgentNumbers {
    const NAME: ToolName = ToolName::SET_AGENT_NUMBERS;
    const TITLE: &'static str = "Set an agent's numbers";
    const DESCRIPTION: &'static [Sentence] = &[Always(
        "Attaches owned numbers to an agent, makes one its caller ID, then detaches others. An inbound agent answers an attached number immediately; a number has at most one inbound agent: take_over moves it from the agent that has it, and for a moment nobody answers.",
    )];
    const EFFECT: ToolEffect = ToolEffect::Writes { destructive: true, idempotent: true };
    const OPEN_WORLD: bool = false;
    type Input = SetAgentNumbersInput;
    type Output = SetAgentNumbersOutput;

    /// The human may take time, and so may giving a number back.
    fn deadline(input: &Self::Input, cx: &ToolContext) -> Duration {
        match input.take_over {
            Some(true) => ordering::order_deadline(cx) + TIME + Duration::from_secs(30),
            _ => TIME + Duration::from_secs(15),
        }
    }

    async fn run(input: Self::Input, cx: &ToolContext) -> Result<Reply<Self::Output>, ToolExit> {
        let SetAgentNumbersInput { agent_id, primary, confirmation_token, .. } = input;
        let attach = input.attach.map(List::into_vec).unwrap_or_default();
        let detach = input.detach.map(List::into_vec).unwrap_or_default();
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
        let api = cx.account.api()?;
        let mut takeover = None;
        if input.take_over == Some(true) {
            let found = Takeover::find(api, &agent_id, &attach).await?;
            if !found.held.is_empty() {
                let arguments = json!([agent_id, attach, primary, detach]).to_string();
                let account = cx.account.dialer()?.account().await?;
                let request = ConfirmedRequest { tool: Self::NAME, account, arguments };
                let token = confirmation_token.as_ref().map(Text::as_str);
                match agree_to_takeover(cx, found, &request, &attach, token).await? {
                    Agreement::Given(agreed) => takeover = Some(*agreed),
                    Agreement::Preview(reply) => return Ok(*reply),
                }
            }
        }
        let attach_step = |number: NumberId| match &takeover {
            Some(Takeover { target, held }) => {
                match held.iter().find(|held| held.number == number) {
                    Some(held) => Step::TakeOver {
                        target: Box::new(target.clone()),
                        held: Box::new(held.clone()),
                    },
                    None => Step::Attach(number),
                }
            }
            None => Step::Attach(number),
        };
        let steps: Vec<Step> = attach
            .into_iter()
            .map(attach_step)
            .chain(primary.map(Step::MakePrimary))
            .chain(detach.into_iter().map(Step::Detach))
            .collect();
        let tasks = cx.account.dialer()?.tasks();
        let run = StepContext { api, tasks, agent_id: &agent_id, until: Instant::now() + TIME };
        let done = run_steps(&run, &steps).await;
        cx.account.forget_agents();
        let (agent, taken) = done?;
        let agent = AgentSummary::from(agent);
        let text = format!("Done: {}. Now {}.", taken.join(", "), agent.summary_line());
        let simulated = agent.simulated;
        let pending = PendingFields::default();
        let output = SetAgentNumbersOutput { agent, steps: taken, pending };
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
    use callingbox::{ApiKey, BaseUrl, ClientConfig};

    #[tokio::test]
    async fn a_timeout_of_a_later_step_keeps_the_result_of_the_earlier_ones() {
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
        let (tasks, agent_id) = (TaskTracker::new(), &agent);
        let cx = StepContext { api: &api, tasks: &tasks, agent_id, until };
        let error = run_steps(&cx, &steps).await.unwrap_err();
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
