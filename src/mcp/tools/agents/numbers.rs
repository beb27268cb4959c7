//! `set_agent_numbers`: which numbers an agent calls from and answers.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{AgentSummary, only_ids};
use crate::api::{self, Agent, AgentId, Effect, NumberId};
use crate::mcp::arguments::List;
use crate::mcp::context::ToolContext;
use crate::mcp::error::ToolError;
use crate::mcp::kind::Kind;
use crate::mcp::present::Reply;
use crate::mcp::tool::{Stop, Tool};
use crate::mcp::toolset::Toolset;

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

    fn present(&self) -> String {
        match self {
            Self::Attach(number) => format!("attaching {number}"),
            Self::MakePrimary(number) => format!("making {number} primary"),
            Self::Detach(number) => format!("detaching {number}"),
        }
    }

    /// Its failure after others were taken.
    fn failed(&self, error: api::Error, taken: &[String]) -> ToolError {
        let (what, look) = match error.effect() {
            Effect::Nothing => ("failed", "get_agent shows the numbers as they are now. "),
            Effect::Unknown => ("failed, and whether it took place is not known", ""),
            Effect::Done => ("took place too, but its answer is lost", ""),
        };
        let (taken, step) = (taken.join(", "), self.present());
        let message = format!(
            "{taken} took place; then {step} {what}: {}: {}",
            error.request(),
            error.kind()
        );
        let next = format!("{look}Call again with the steps that are left.");
        ToolError::from(error).in_part(message, &next)
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
        only_ids("attach", &attach)?;
        only_ids("primary", &primary)?;
        only_ids("detach", &detach)?;
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
                Err(error) => return Err(step.failed(error, &taken).into()),
            }
        }
        let Some(agent) = agent else {
            return Err(ToolError::invalid_argument(
                "there is nothing to do: give `attach`, `primary` or `detach`",
            )
            .into());
        };
        let agent = AgentSummary::from(agent);
        let text = format!("Done: {}. Now {}.", taken.join(", "), agent.line());
        Ok(Reply::new(SetAgentNumbersOutput { agent, steps: taken }, text))
    }
}
