//! `record_opt_out`: a person asked not to be called again.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::account::Environment;
use crate::dialing::destination::Destination;
use crate::dialing::ledger::{MAX_TOOL_OPT_OUTS, OptOutSource, RecordOptOutResult};
use crate::dialing::opt_outs::{OptOutRequest, other_party};
use crate::mcp::confirmation::open_question::{OpenQuestionWords, Question};
use crate::mcp::confirmation::preview::Preview;
use crate::mcp::confirmation::{self, ConfirmOutcome, ConfirmedRequest};
use crate::mcp::input::arguments::{CalleeNumber, Text};
use crate::mcp::reply::error::{ErrorCode, Retry, ToolError};
use crate::mcp::reply::next_step::NextStep;
use crate::mcp::tool::{
    Always, Reply, Sentence, Tool, ToolContext, ToolEffect, ToolExit, ToolName,
};
use crate::mcp::tools::ordering;
use crate::own_command::own_command;
use callingbox::{CallId, E164};

const DEFAULT_REASON: &str = "asked not to be called again";

pub(in crate::mcp::tools) struct RecordOptOut;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::mcp::tools) struct RecordOptOutInput {
    /// The call on which it was said.
    call_id: Option<CallId>,
    /// Or the number; the user is asked.
    #[schemars(with = "Option<String>")]
    number: Option<CalleeNumber>,
    /// What they said.
    #[schemars(with = "Option<String>")]
    reason: Option<Text<1, 300>>,
    /// From an earlier answer.
    #[schemars(with = "Option<String>")]
    confirmation_token: Option<Text<1, 200>>,
}

#[derive(Serialize, JsonSchema)]
pub(in crate::mcp::tools) struct RecordOptOutOutput {
    recorded: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(skip)]
    confirmation_token: Option<String>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    #[schemars(skip)]
    simulated: bool,
    #[schemars(skip)]
    note: String,
}

const OPEN_OPT_OUT: OpenQuestionWords = OpenQuestionWords {
    nothing_done: "Nothing was recorded",
    repeat: "record_opt_out again with the same arguments and the confirmation_token",
    after_card: "",
};

/// Asks the user about a number that no call names. `None`: they agreed.
async fn ask_about_number(
    cx: &ToolContext,
    number: &E164,
    token: Option<&str>,
) -> Result<Option<Reply<RecordOptOutOutput>>, ToolExit> {
    let reason = ordering::reason_to_ask(cx, "nobody could call this number any more")?;
    let Some(reason) = reason else { return Ok(None) };
    // The person must see which number it is.
    let fields = [("Number", Some(number.as_str().to_owned()))];
    let title = "Never call this number again?".to_owned();
    let question = Question::new(&reason, Preview::new(title, fields, String::new()));
    let dialer = cx.account.dialer()?;
    let account = dialer.account().await?;
    let arguments = account.hash(number).as_str().to_owned();
    let request = ConfirmedRequest { tool: RecordOptOut::NAME, account, arguments };
    Ok(match confirmation::ask_human(cx, dialer, &request, token, &question, None).await? {
        ConfirmOutcome::Confirmed(_) => None,
        ConfirmOutcome::Open(open) => Some(open.into_reply(&OPEN_OPT_OUT, |pending, note| {
            let note = format!("{note}{}", pending.token_line());
            RecordOptOutOutput::reply(cx, false, pending.confirmation_token, note)
        })),
    })
}

impl RecordOptOutOutput {
    fn reply(
        cx: &ToolContext,
        recorded: bool,
        confirmation_token: Option<String>,
        note: String,
    ) -> Reply<Self> {
        let simulated = cx.account.environment() == Environment::Sandbox;
        let text = note.clone();
        Reply::new(Self { recorded, confirmation_token, simulated, note }, text)
    }
}

fn limit_reached() -> ToolError {
    ToolError::new(
        ErrorCode::RateLimited,
        format!(
            "tools record at most {MAX_TOOL_OPT_OUTS} people in 24 hours. Nothing was recorded"
        ),
    )
    .with_retry(Retry::Later)
    .with_next([NextStep::Person(
        format!("Tell the user: `{} optout add` in a terminal records more.", own_command()).into(),
    )])
}

impl Tool for RecordOptOut {
    const NAME: ToolName = ToolName::RECORD_OPT_OUT;
    const TITLE: &'static str = "Record an opt-out";
    const DESCRIPTION: &'static [Sentence] = &[Always(
        "Puts who asked not to be called again on the do-not-call list. Not for a wrong number or a bad moment.",
    )];
    const EFFECT: ToolEffect = ToolEffect::Writes { destructive: false, idempotent: true };
    const OPEN_WORLD: bool = false;
    type Input = RecordOptOutInput;
    type Output = RecordOptOutOutput;

    /// The human may take time.
    fn deadline(_input: &Self::Input, cx: &ToolContext) -> Duration {
        ordering::order_deadline(cx)
    }

    async fn run(input: Self::Input, cx: &ToolContext) -> Result<Reply<Self::Output>, ToolExit> {
        let RecordOptOutInput { call_id, number, reason, confirmation_token } = input;
        let number = match (&call_id, number) {
            (Some(call_id), None) => {
                let call = cx.account.api()?.get_call(call_id).await?;
                other_party(&call).cloned().ok_or_else(|| {
                    ToolError::invalid_argument("the other party of this call has no number")
                })?
            }
            (None, Some(CalleeNumber(number))) => {
                if Destination::from_number(&number).number_type.is_never_dialed() {
                    ordering::check_dialable(&number)?;
                }
                let token = confirmation_token.as_ref().map(Text::as_str);
                if let Some(reply) = ask_about_number(cx, &number, token).await? {
                    return Ok(reply);
                }
                number
            }
            _ => {
                return Err(ToolError::invalid_argument("give either `call_id` or `number`").into());
            }
        };
        let masked = number.masked();
        let request = OptOutRequest {
            number,
            source: OptOutSource::Tool,
            call: call_id,
            caller: cx.caller.clone(),
            reason: reason.map_or_else(|| DEFAULT_REASON.to_owned(), Text::into_string),
            expires_at: None,
        };
        let result = cx.account.dialer()?.record_opt_out(request).await?;
        let note = match result {
            RecordOptOutResult::Recorded(_) => format!(
                "Recorded: {masked} is on the do-not-call list, and calls to it are refused. Nobody was called."
            ),
            RecordOptOutResult::Known(_) | RecordOptOutResult::Removed(_) => {
                format!("{masked} was on the do-not-call list already. Nobody was called.")
            }
            RecordOptOutResult::LimitReached => return Err(limit_reached().into()),
        };
        Ok(RecordOptOutOutput::reply(cx, true, None, note))
    }
}
