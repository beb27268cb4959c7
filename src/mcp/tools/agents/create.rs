//! `create_agent`.

use schemars::JsonSchema;
use serde::Deserialize;

use super::in_call_tools::{self, InCallTools};
use super::summary::{AgentSummary, require_ids};
use super::take_over::find_held_numbers;
use crate::dialing::opt_outs::RESULT_FIELD;
use crate::mcp::input::arguments::{HttpsUrl, List, Text};
use crate::mcp::reply::error::ToolError;
use crate::mcp::reply::next_step::{NextStep, with_steps};
use crate::mcp::tool::{
    Always, Reply, Sentence, Tool, ToolContext, ToolEffect, ToolExit, ToolName, With,
};
use crate::mcp::tools::shared::check_webhook_hosts;
use callingbox::{
    AgentCreate, AgentType, ErrorKind, NumberId, ReturnType, ReturnsSchema, VoicemailAction,
};

pub(in crate::mcp::tools) struct CreateAgent;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::mcp::tools) struct CreateAgentInput {
    /// Label for people.
    name: Text<1, 200>,
    /// outbound places calls, inbound answers them; cannot be changed.
    #[serde(rename = "type")]
    kind: AgentType,
    /// Who the agent is and how it behaves.
    persona: Option<Text<1, 20_000>>,
    /// Its default task on each call.
    instructions: Option<Text<1, 20_000>>,
    /// Voice id, for all its calls. Default: the platform's voice.
    #[schemars(with = "Option<String>")]
    voice: Option<Text<1, 200>>,
    /// BCP 47 tag such as en: what it speaks, in all its calls.
    #[schemars(with = "Option<String>")]
    language: Option<Text<1, 35>>,
    /// Result fields to extract after each call, flat: name to "boolean", "string" or "number".
    returns: Option<ReturnsSchema>,
    /// Functions the agent may use during a call; end_call is a builtin.
    tools: Option<InCallTools>,
    /// Address that receives the events of its calls.
    webhook_url: Option<HttpsUrl>,
    /// Outbound calls only: what to do when a machine answers. Default: hangup.
    voicemail_action: Option<VoicemailAction>,
    /// Owned numbers to attach.
    number_ids: Option<List<NumberId, 100>>,
    /// Which of number_ids is the caller ID. Default: the first.
    primary_number_id: Option<NumberId>,
}

/// Adds the result field that says whether the person asked not to be called again, unless the agent has one of that name.
/// Returns whether it was added.
fn add_do_not_call(returns: Option<ReturnsSchema>) -> (Option<ReturnsSchema>, bool) {
    let mut returns = returns.unwrap_or_default();
    if returns.contains_key(RESULT_FIELD) {
        return (Some(returns), false);
    }
    returns.insert(RESULT_FIELD.to_owned(), ReturnType::Boolean);
    (Some(returns), true)
}

impl Tool for CreateAgent {
    const NAME: ToolName = ToolName::CREATE_AGENT;
    const TITLE: &'static str = "Create an agent";
    const DESCRIPTION: &'static [Sentence] = &[
        Always(
            "Creates an agent, the AI that speaks on calls. Does not ring anybody and costs nothing.",
        ),
        With(
            ToolName::PLACE_CALL,
            "An outbound agent needs an attached number before place_call can use it.",
        ),
        With(ToolName::UPDATE_AGENT, "To change an agent use update_agent."),
    ];
    const EFFECT: ToolEffect = ToolEffect::Writes { destructive: false, idempotent: false };
    const OPEN_WORLD: bool = false;
    type Input = CreateAgentInput;
    type Output = AgentSummary;

    async fn run(input: Self::Input, cx: &ToolContext) -> Result<Reply<Self::Output>, ToolExit> {
        let kind = input.kind;
        let tools = in_call_tools::to_api_tools(input.tools)?;
        let webhook_url = input.webhook_url.map(HttpsUrl::into_string);
        check_webhook_hosts(cx, in_call_tools::addresses(&webhook_url, &tools))?;
        let number_ids = input.number_ids.map(List::into_vec);
        require_ids("number_ids", number_ids.iter().flatten())?;
        require_ids("primary_number_id", &input.primary_number_id)?;
        if let Some(primary) = &input.primary_number_id
            && !number_ids.as_ref().is_some_and(|ids| ids.contains(primary))
        {
            return Err(ToolError::invalid_argument(
                "`primary_number_id` must be one of `number_ids`",
            )
            .into());
        }
        let asks = kind == AgentType::Outbound && cx.account.dialer()?.rules().ask_do_not_call;
        let (returns, is_added) = match asks {
            true => add_do_not_call(input.returns),
            false => (input.returns, false),
        };
        let agent = AgentCreate {
            name: input.name.into_string(),
            r#type: kind,
            persona: input.persona.map(Text::into_string),
            instructions: input.instructions.map(Text::into_string),
            voice: input.voice.map(Text::into_string),
            language: input.language.map(Text::into_string),
            returns,
            tools,
            webhook_url,
            voicemail_action: input.voicemail_action,
            number_ids,
            primary_number_id: input.primary_number_id,
        };
        let api = cx.account.api()?;
        let created = match api.create_agent(&agent).await {
            Err(error) if matches!(error.kind(), ErrorKind::Conflict { .. }) => {
                let numbers = agent.number_ids.as_deref().unwrap_or_default();
                let held = find_held_numbers(api, None, numbers).await.unwrap_or_default();
                return Err(match held.first() {
                    Some(held) => held.conflict_of_new_agent().into(),
                    None => error.into(),
                });
            }
            created => created?,
        };
        let agent = AgentSummary::from(created);
        let (fact, steps) = match (kind, agent.numbers.is_empty()) {
            (AgentType::Outbound, false) => {
                ("", vec![NextStep::tool(ToolName::PLACE_CALL, "can use it now")])
            }
            (AgentType::Outbound, true) => (
                " It has no number yet and cannot place calls without one.",
                vec![
                    NextStep::tool(ToolName::LIST_NUMBERS, "shows the owned numbers"),
                    NextStep::tool(ToolName::PURCHASE_NUMBER, "buys one"),
                    NextStep::tool(ToolName::SET_AGENT_NUMBERS, "attaches it"),
                ],
            ),
            (AgentType::Inbound, false) => (" It answers its numbers now.", vec![]),
            (AgentType::Inbound, true) => (
                " It has no number yet, and callers cannot reach it without one.",
                vec![NextStep::tool(ToolName::SET_AGENT_NUMBERS, "attaches one")],
            ),
        };
        let added = match is_added {
            true => {
                " Its results also say whether the person asked not to be called again (do_not_call)."
            }
            false => "",
        };
        let created = format!("Created {}.{added}{fact}", agent.summary_line());
        let text = with_steps(&created, &steps, &cx.tools);
        let simulated = agent.simulated;
        Ok(Reply::new(agent, text).with_simulated(simulated))
    }
}
