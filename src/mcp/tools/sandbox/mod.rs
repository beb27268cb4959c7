//! The toolset `sandbox`: what only the simulator can do.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::mcp::reply::call_report::CallReport;
use crate::mcp::reply::error::{ADD_CREDIT, ErrorCode, Retry, ToolError};
use crate::mcp::reply::next_step::NextStep;
use crate::mcp::tool::{
    Always, CardRole, Reply, Sentence, Tool, ToolContext, ToolEffect, ToolExit, ToolName, With,
};
use crate::mcp::waiting::ObservedCall;
use crate::simulator::SimulatorError;
use callingbox::E164;
use callingbox::Effect;

pub(super) struct SimulateInboundCall;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SimulateInboundCallInput {
    /// An owned number that an inbound agent answers.
    to: E164,
    /// The caller. The last four digits choose what happens: 0100 a conversation, 0105 a result that cannot be extracted, 0107 a long call, 0108 somebody with another concern, 0109 a caller who gives orders. Default: +14155550100.
    from: Option<E164>,
}

impl Tool for SimulateInboundCall {
    const NAME: ToolName = ToolName::SIMULATE_INBOUND_CALL;
    const TITLE: &'static str = "Simulate an inbound call";
    const DESCRIPTION: &'static [Sentence] = &[
        Always(
            "Sandbox only: a simulated caller rings one of the account's numbers, and its inbound agent answers. No real call takes place. Returns a call_id.",
        ),
        With(ToolName::GET_CALL_RESULT, "get_call_result waits for the end."),
    ];
    const EFFECT: ToolEffect = ToolEffect::Writes { destructive: false, idempotent: false };
    const OPEN_WORLD: bool = false;
    const CARD: CardRole = CardRole::ShowsResult;
    type Input = SimulateInboundCallInput;
    type Output = CallReport;

    async fn run(input: Self::Input, cx: &ToolContext) -> Result<Reply<Self::Output>, ToolExit> {
        let Some(simulator) = cx.account.simulator() else {
            return Err(ToolError::new(ErrorCode::SwitchedOff, "there is no simulator here").into());
        };
        let from = match input.from {
            Some(from) => from,
            None => E164::parse("+14155550100")
                .map_err(|error| ToolError::internal(error.to_string()))?,
        };
        let call = simulator.simulate_inbound_call(&input.to, &from).await.map_err(|error| {
            let status = match &error {
                SimulatorError::Refused { status, .. } => Some(*status),
                _ => None,
            };
            let failure = |class| ToolError::new(class, error.to_string());
            if !error.had_no_effect() {
                return failure(ErrorCode::Unavailable)
                    .with_effect(Effect::Unknown)
                    .with_retry(Retry::No)
                    .with_next([NextStep::tool(ToolName::LIST_CALLS, "shows whether the call exists")]);
            }
            let numbers = [
                NextStep::tool(
                    ToolName::LIST_NUMBERS,
                    "shows the numbers and the agents that answer them",
                ),
                NextStep::tool(ToolName::SET_AGENT_NUMBERS, "attaches an inbound agent"),
            ];
            match status {
                Some(400) => failure(ErrorCode::InvalidArgument).with_next([NextStep::person(
                    "Omit `from`, or choose a number whose last four digits are a scenario for callers.",
                )]),
                Some(402) => failure(ErrorCode::InsufficientCredit).with_next([ADD_CREDIT]),
                Some(404) => failure(ErrorCode::NotFound).with_next(numbers),
                Some(_) => failure(ErrorCode::Conflict).with_next(numbers),
                None => failure(ErrorCode::Unavailable),
            }
        })?;
        Ok(ObservedCall::new(call).into_report(&cx.account, &cx.tools).await.into_reply())
    }
}
