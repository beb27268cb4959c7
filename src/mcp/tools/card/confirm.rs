//! `confirm_call`: the user's answer in the call card, with the order that it is about. It has no rules of its own: the
//! tool of the order checks it like any other order, and the token decides whether it is the one that the user saw.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::mcp::confirmation::card::CardAnswer;
use crate::mcp::input::arguments::{self, Object, Text};
use crate::mcp::input::schema;
use crate::mcp::reply::error::{ErrorCode, ToolError};
use crate::mcp::tool::{
    Always, CardRole, Reply, Sentence, Tool, ToolContext, ToolEffect, ToolExit, ToolName,
    tool_metadata,
};
use crate::mcp::tools::calls::{PlaceCall, PlaceCalls};
use crate::mcp::tools::numbers::PurchaseNumber;
use crate::mcp::tools::ordering::{AnsweredOrder, ConfirmableTool};

/// How long the card waits for an answer. The order goes on after that, and the card asks again what became of it.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

pub(in crate::mcp::tools) struct ConfirmCall;

// The descriptions of arguments are comments here: only the card reads this tool.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::mcp::tools) struct ConfirmCallInput {
    tool: OrderTool,
    // The order, as the question gave it.
    arguments: Object,
    token: Text<1, 200>,
    // Without an answer, only what became of the order is asked.
    accept: Option<bool>,
}

// The tools whose orders can be confirmed.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum OrderTool {
    PlaceCall,
    PlaceCalls,
    PurchaseNumber,
}

impl OrderTool {
    const fn name(self) -> ToolName {
        match self {
            Self::PlaceCall => PlaceCall::NAME,
            Self::PlaceCalls => PlaceCalls::NAME,
            Self::PurchaseNumber => PurchaseNumber::NAME,
        }
    }
}

/// Runs the tool of an order; its answer loses its type.
async fn run_order<T: ConfirmableTool>(
    order: Object,
    answer: CardAnswer<'_>,
    cx: &ToolContext,
) -> Result<AnsweredOrder<Reply<Value>>, ToolExit> {
    let mut order = order.into_map();
    // An answer of the model is no answer of the user.
    order.shift_remove("confirmation_token");
    let input = arguments::parse::<T::Input>(&schema::input_schema::<T::Input>(), order)?;
    Ok(match T::run_as_answered(input, answer, cx).await? {
        AnsweredOrder::Confirmed(Reply { data, text, simulated, meta, followed: _ }) => {
            let data = serde_json::to_value(data)
                .map_err(|error| ToolError::internal(error.to_string()))?;
            AnsweredOrder::Confirmed(Reply { data, text, simulated, meta, followed: None })
        }
        AnsweredOrder::Declined => AnsweredOrder::Declined,
        AnsweredOrder::Unanswered => AnsweredOrder::Unanswered,
    })
}

impl Tool for ConfirmCall {
    const NAME: ToolName = ToolName::CONFIRM_CALL;
    const TITLE: &'static str = "Answer";
    const DESCRIPTION: &'static [Sentence] =
        &[Always("For the call card alone: the user's own answer to its question.")];
    const EFFECT: ToolEffect = ToolEffect::RingsPhone;
    const OPEN_WORLD: bool = true;
    const CARD: CardRole = CardRole::AppOnly {
        serves: &[
            tool_metadata::<PlaceCall>(),
            tool_metadata::<PlaceCalls>(),
            tool_metadata::<PurchaseNumber>(),
        ],
    };
    type Input = ConfirmCallInput;
    type Output = Value;

    async fn run(input: Self::Input, cx: &ToolContext) -> Result<Reply<Self::Output>, ToolExit> {
        let ConfirmCallInput { tool, arguments, token, accept } = input;
        if !cx.tools.contains(tool.name()) {
            let text = format!("the tool `{}` is not offered here", tool.name());
            return Err(ToolError::new(ErrorCode::SwitchedOff, text).into());
        }
        let answer = CardAnswer { token: token.as_str(), accept };
        let run = async {
            match tool {
                OrderTool::PlaceCall => run_order::<PlaceCall>(arguments, answer, cx).await,
                OrderTool::PlaceCalls => run_order::<PlaceCalls>(arguments, answer, cx).await,
                OrderTool::PurchaseNumber => {
                    run_order::<PurchaseNumber>(arguments, answer, cx).await
                }
            }
        };
        let Ok(answered) = tokio::time::timeout(ANSWER_TIMEOUT, run).await else {
            return Ok(Reply::new(json!({"status": "placing"}), "card: not known yet."));
        };
        Ok(match answered? {
            AnsweredOrder::Confirmed(reply) => reply,
            AnsweredOrder::Declined => Reply::new(
                json!({"declined": true}),
                "The user said no in the card. Nobody was called and nothing was bought.",
            ),
            AnsweredOrder::Unanswered => {
                Reply::new(json!({"status": "asked"}), "card: not answered yet.")
            }
        })
    }
}
