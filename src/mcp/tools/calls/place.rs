//! `place_call`: the one tool that rings a telephone.

use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_with::skip_serializing_none;

use crate::account::Environment;
use crate::dialing::call_outcome::CallOutcome;
use crate::dialing::disclosure::DisclosureDecision;
use crate::dialing::ledger::IdempotencyKey;
use crate::dialing::order::{CALL_HOLD, DISPATCH_KEY, DialRequest, Order, Placed};
use crate::dialing::outcome::{DialResult, Dialed};
use crate::dialing::policy::MetadataSource;
use crate::dialing::rules::DialingRules;
use crate::mcp::confirmation::card::CardAnswer;
use crate::mcp::confirmation::open_question::{OpenQuestionWords, PendingFields};
use crate::mcp::input::arguments::{CalleeNumber, HttpsUrl, Object, Text};
use crate::mcp::registry::available::AvailableTools;
use crate::mcp::reply::error::{ADD_CREDIT, ErrorCode, Retry, ToolError};
use crate::mcp::reply::next_step::{NextStep, with_steps};
use crate::mcp::reply::text::{self};
use crate::mcp::tool::{
    Always, CardRole, Live, Reply, Sandbox, Sentence, Tool, ToolContext, ToolEffect, ToolExit,
    ToolName, With,
};
use crate::mcp::tools::ordering::{self, AnsweredOrder, ConfirmableTool, OrderOutcome};
use crate::mcp::tools::shared::check_webhook_hosts;
use callingbox::{
    Agent, AgentId, Call, CallCreate, CallId, E164, OpenEnum, PageRequest, VoicemailAction,
};

pub(in crate::mcp::tools) struct PlaceCall;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::mcp::tools) struct PlaceCallInput {
    /// The outbound agent that speaks.
    agent_id: AgentId,
    /// Number to call, in E.164 such as +14155550100.
    to: CalleeNumber,
    /// Caller ID: a number attached to the agent. Default: its primary number.
    #[schemars(with = "Option<String>")]
    from_number: Option<E164>,
    /// Task for this call; replaces the agent's instructions.
    instructions: Option<Text<1, 20_000>>,
    /// Facts the agent can look up during the call.
    context: Option<Object>,
    /// Data stored with the call; the agent does not see it.
    metadata: Option<Object>,
    /// Address that receives this call's events.
    webhook_url: Option<HttpsUrl>,
    /// Your name for this request: a key rings at most once in 24 hours.
    idempotency_key: Option<KeyText>,
    /// Ring again even if the same call was placed within 10 minutes.
    allow_repeat: Option<bool>,
    /// From an earlier answer, after the user agreed to it.
    #[schemars(with = "Option<String>")]
    confirmation_token: Option<Text<1, 200>>,
}

/// The client's name of a request.
#[derive(Deserialize, JsonSchema)]
#[serde(try_from = "String")]
#[schemars(inline, description = "", with = "String", extend("pattern" = "^[!-~]{1,255}$"))]
pub(super) struct KeyText(pub(super) IdempotencyKey);

impl TryFrom<String> for KeyText {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        IdempotencyKey::parse(&text)
            .map(Self)
            .map_err(|_| "must be 1 to 255 visible ASCII characters without spaces")
    }
}

/// What became of the order.
#[skip_serializing_none]
#[derive(Default, Serialize, JsonSchema)]
pub(in crate::mcp::tools) struct PlaceCallOutput {
    /// Absent while a confirmation is outstanding.
    #[schemars(with = "Option<String>")]
    outcome: Option<CallOutcome>,
    call_id: Option<CallId>,
    status: Option<String>,
    from_number: Option<E164>,
    /// The same call was placed before: nothing rang now.
    duplicate_of: Option<CallId>,
    dispatch_id: Option<String>,
    #[serde(flatten)]
    pending: PendingFields,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    simulated: bool,
    note: String,
}

impl PlaceCallOutput {
    fn new(outcome: Option<CallOutcome>, note: String) -> Self {
        Self { outcome, note, ..Self::default() }
    }

    /// `key` is the name that this request was given.
    fn new_dialed(dialed: Dialed, key: Option<&IdempotencyKey>, tools: &AvailableTools) -> Self {
        let result = |hint| NextStep::tool(ToolName::GET_CALL_RESULT, hint);
        let dispatch_id = Some(dialed.dispatch.to_string());
        let mut output = match dialed.result {
            DialResult::Placed(Placed::Call(call)) => {
                // Recovery may have found the call only after its end.
                let (note, step) = match CallOutcome::from_call(&call) {
                    CallOutcome::InProgress => {
                        ("The call was placed.", result("waits for its end"))
                    }
                    _ => ("The call was placed and is over.", result("has its result")),
                };
                Self::from_call(*call, with_steps(note, &[step], tools))
            }
            DialResult::Repeat { id, product, key: earlier } => {
                let note = if key.is_some() && earlier.as_ref() == key {
                    "This idempotency_key was used for this call in the last 24 hours; nothing rang now. To ring again, use another idempotency_key and allow_repeat."
                } else {
                    "The same call was placed recently; this is that call, and nothing rang now. To ring again, set allow_repeat."
                };
                let note = with_steps(note, &[result("returns its outcome")], tools);
                let id = CallId::new(id);
                let mut output = match product {
                    Some(Placed::Call(call)) => Self::from_call(*call, note),
                    _ => Self { call_id: Some(id.clone()), ..Self::new(None, note) },
                };
                output.duplicate_of = Some(id);
                output
            }
            DialResult::Unknown(why) => {
                let note = format!(
                    "It is not known whether the call was placed: {}. Do not place it again: it may be ringing. The same request later first searches for this call.",
                    text::one_line(why.trim_end_matches('.'), 300)
                );
                let step = NextStep::tool(ToolName::LIST_CALLS, "shows whether it appears");
                Self::new(Some(CallOutcome::Unknown), with_steps(&note, &[step], tools))
            }
            DialResult::InFlight => {
                let note = "The same call is being placed by another request at this moment. Do not place it again.";
                let step = NextStep::tool(ToolName::LIST_CALLS, "shows it when it is placed");
                Self::new(Some(CallOutcome::Unknown), with_steps(note, &[step], tools))
            }
            DialResult::Placed(Placed::Number(_)) => {
                Self::new(Some(CallOutcome::Unknown), "The answer was not a call.".to_owned())
            }
        };
        output.dispatch_id = dispatch_id;
        output
    }

    fn from_call(call: Call, note: String) -> Self {
        Self {
            status: Some(call.status.to_string()),
            from_number: call.from_number.clone(),
            call_id: Some(call.id.clone()),
            ..Self::new(Some(CallOutcome::from_call(&call)), note)
        }
    }

    fn into_reply(mut self, cx: &ToolContext) -> Reply<Self> {
        // Set even if there is no record.
        self.simulated = cx.account.environment() == Environment::Sandbox;
        let text = self.text();
        Reply::new(self, text)
    }

    /// The same as text.
    fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail.
        if let Some(outcome) = self.outcome {
            let _ = write!(text, "outcome: {}. ", outcome.as_str());
        }
        if let Some(id) = &self.call_id {
            let _ = write!(text, "call_id: {id}. ");
        }
        text.push_str(&self.note);
        text.push_str(&self.pending.token_line());
        text
    }
}

/// What the agent does at a machine, and the facts that it extracts.
fn describe_expectations(agent: &Agent) -> String {
    let at_machine = match &agent.voicemail_action {
        Some(OpenEnum::Known(VoicemailAction::LeaveMessage)) => "leaves a message",
        _ => "hangs up",
    };
    let fields = agent.returns.as_ref().and_then(Value::as_object);
    let fields: Vec<String> = fields
        .into_iter()
        .flatten()
        .map(|(name, kind)| {
            let kind = kind.as_str().unwrap_or("value");
            format!("{} ({})", text::one_line(name, 100), text::one_line(kind, 20))
        })
        .collect();
    let fields = match fields.as_slice() {
        [] => "It extracts no result fields.".to_owned(),
        fields => format!("Result fields: {}.", fields.join(", ")),
    };
    format!("At an answering machine the agent {at_machine}. {fields}")
}

/// Fills in the arguments that have a default: the caller ID, so that a call with the default written out is the same
/// call; and this server's webhook address, unless the agent has its own, which an address of the call would replace.
/// Checks that the call sends nothing to a host that the operator does not allow, by whichever setting. Returns the agent,
/// which is read before the call is placed, so that nothing delays the answer that carries its id.
async fn fill_in_defaults(
    cx: &ToolContext,
    rules: &DialingRules,
    call: &mut CallCreate,
) -> Result<Option<Arc<Agent>>, ToolError> {
    check_webhook_hosts(cx, call.webhook_url.as_deref())?;
    let own_url = cx.account.webhook_url().filter(|_| call.webhook_url.is_none());
    let is_restricted = rules.webhook_hosts.is_restricted();
    let needs_agent = is_restricted || rules.disclosure.is_binding();
    if call.from_number.is_some() && own_url.is_none() && !needs_agent {
        // Nothing of the agent is needed but what the answer says of it.
        return Ok(cx.account.find_agent(&call.agent_id).await);
    }
    let agent = cx.account.api()?.get_agent(&call.agent_id).await?;
    let events = agent.webhook_url.as_deref().filter(|_| call.webhook_url.is_none());
    let tools = agent.tools.as_ref().and_then(Value::as_array).into_iter().flatten();
    let tools = tools.filter_map(|tool| tool.get("url")?.as_str());
    check_webhook_hosts(cx, events.into_iter().chain(tools))?;
    if agent.webhook_url.is_none() {
        call.webhook_url = call.webhook_url.take().or(own_url.map(str::to_owned));
    }
    if call.from_number.is_none() {
        call.from_number = ordering::primary_number(&agent).cloned();
    }
    Ok(Some(Arc::new(agent)))
}

/// Adds to a refusal for too little credit the call whose end frees some.
async fn name_running_call(cx: &ToolContext, error: ToolError) -> ToolError {
    let Ok(api) = cx.account.api() else { return error };
    let page = api.list_calls(&PageRequest::with_limit(20)).await.map(|page| page.data);
    let mut calls = page.unwrap_or_default().into_iter();
    let Some(call) = calls.find(|call| CallOutcome::from_call(call) == CallOutcome::InProgress)
    else {
        return error;
    };
    let hint = format!(
        "with call_id {} waits for the end of the call that is running, for which {CALL_HOLD} are held; then repeat",
        call.id
    );
    error.with_retry(Retry::Later).with_next([
        NextStep::Tool { name: ToolName::GET_CALL_RESULT, hint: hint.into() },
        ADD_CREDIT,
    ])
}

const OPEN_CALL: OpenQuestionWords = OpenQuestionWords {
    nothing_done: "Nobody was called",
    repeat: "place_call again with the same arguments and the confirmation_token",
    after_card: " Once they have said yes, the same place_call returns that call.",
};

impl Tool for PlaceCall {
    const NAME: ToolName = ToolName::PLACE_CALL;
    const TITLE: &'static str = "Place a phone call";
    const DESCRIPTION: &'static [Sentence] = &[
        Live(
            "Rings a real telephone, and an AI agent speaks with the person who answers. Costs $0.05 per connected minute; each call holds $3.00 of credit until it ends.",
        ),
        Sandbox(
            "Places a simulated call: no telephone rings and nothing is charged. The last four digits of `to` choose how it ends: 0100 a conversation, 0101 no answer, 0102 busy, 0103 voicemail.",
        ),
        Always("Use it only when the user asked for this call. Returns a call_id."),
        With(ToolName::GET_CALL_RESULT, "get_call_result waits for the end."),
        Always(
            "The agent's `returns` decide what comes back, and its voicemail_action what it does at a machine. If `outcome` is `unknown`, the telephone may be ringing: do not call again. Within 10 minutes the same agent and number ring again only with allow_repeat: the same words return the first call, other words are a conflict. Emergency, premium, short and opted-out numbers are always refused. Rules may refuse a call or require confirmation: then show the user the answer.",
        ),
    ];
    const EFFECT: ToolEffect = ToolEffect::RingsPhone;
    const OPEN_WORLD: bool = true;
    const CARD: CardRole = CardRole::ShowsResult;
    type Input = PlaceCallInput;
    type Output = PlaceCallOutput;

    /// The human may take time, and so may the dispatch.
    fn deadline(_input: &Self::Input, cx: &ToolContext) -> Duration {
        ordering::order_deadline(cx)
    }

    async fn run(input: Self::Input, cx: &ToolContext) -> Result<Reply<Self::Output>, ToolExit> {
        let token = input.confirmation_token.clone();
        let order = PreparedOrder::new(input, cx).await?;
        let token = token.as_ref().map(Text::as_str);
        match ordering::place_order(cx, order.asked.clone(), token).await {
            Ok(OrderOutcome::Dialed(dialed)) => Ok(order.reply_dialed(dialed, cx)),
            Ok(OrderOutcome::Asked(question)) => {
                Ok(question.into_reply(&OPEN_CALL, |pending, note| {
                    PlaceCallOutput { pending, ..PlaceCallOutput::new(None, note) }.into_reply(cx)
                }))
            }
            Err(exit) => Err(explain_credit(cx, exit).await),
        }
    }
}

impl ConfirmableTool for PlaceCall {
    async fn run_as_answered(
        input: Self::Input,
        answer: CardAnswer<'_>,
        cx: &ToolContext,
    ) -> Result<AnsweredOrder<Reply<Self::Output>>, ToolExit> {
        let order = PreparedOrder::new(input, cx).await?;
        match ordering::place_answered_order(cx, order.asked.clone(), answer).await {
            Ok(answered) => Ok(answered.map(|dialed| order.reply_dialed(dialed, cx))),
            Err(exit) => Err(explain_credit(cx, exit).await),
        }
    }
}

/// A hold that the credit does not cover is explained by the call that has the credit.
async fn explain_credit(cx: &ToolContext, exit: ToolExit) -> ToolExit {
    match exit {
        ToolExit::Failed(error) if error.class() == ErrorCode::InsufficientCredit => {
            name_running_call(cx, error).await.into()
        }
        exit => exit,
    }
}

/// The order of a call with its defaults filled in.
struct PreparedOrder {
    asked: DialRequest,
    agent: Option<Arc<Agent>>,
    /// What is missing in the instructions.
    reminder: Option<String>,
}

impl PreparedOrder {
    async fn new(input: PlaceCallInput, cx: &ToolContext) -> Result<Self, ToolError> {
        let PlaceCallInput {
            agent_id,
            to: CalleeNumber(to),
            from_number,
            instructions,
            context,
            metadata,
            webhook_url,
            idempotency_key,
            allow_repeat,
            confirmation_token: _,
        } = input;
        let metadata = metadata.map(Object::into_map);
        if metadata.as_ref().is_some_and(|metadata| metadata.contains_key(DISPATCH_KEY)) {
            return Err(ToolError::invalid_argument(format!(
                "`metadata.{DISPATCH_KEY}` is reserved"
            )));
        }
        ordering::check_dialable(&to)?;
        let mut call = CallCreate {
            to,
            from_number,
            instructions: instructions.map(Text::into_string),
            context: context.map(Object::into_map),
            webhook_url: webhook_url.map(HttpsUrl::into_string),
            agent_id,
            metadata,
        };
        let rules = cx.account.dialer()?.rules();
        let agent = fill_in_defaults(cx, &rules, &mut call).await?;
        let disclosure = agent.as_ref().map_or(DisclosureDecision::Unchanged, |agent| {
            rules.disclosure.decide(agent, call.instructions.as_deref())
        });
        let reminder = disclosure.reminder().map(str::to_owned);
        let asked = DialRequest {
            order: Order::Call(Box::new(call)),
            caller: cx.caller.clone(),
            idempotency_key: idempotency_key.map(|key| key.0),
            allow_repeat: allow_repeat.unwrap_or(false),
            attempt: None,
            metadata_source: MetadataSource::Model,
            disclosing_instructions: disclosure.into_instructions().map_err(ToolError::from)?,
        };
        Ok(Self { asked, agent, reminder })
    }

    /// The answer to an order that was dispatched.
    fn reply_dialed(&self, dialed: Dialed, cx: &ToolContext) -> Reply<PlaceCallOutput> {
        let key = self.asked.idempotency_key.as_ref();
        let mut output = PlaceCallOutput::new_dialed(dialed, key, &cx.tools);
        let is_live = output.outcome == Some(CallOutcome::InProgress);
        if is_live && let Some(agent) = &self.agent {
            output.note = format!("{} {}", output.note, describe_expectations(agent));
            if let Some(reminder) = &self.reminder {
                output.note = format!("{} {reminder}", output.note);
            }
        }
        let has_card = cx.client.shows_card() && cx.tools.contains(ToolName::FOLLOW_CALL);
        if is_live && has_card {
            output.note.push_str(" The user sees the call live in a card; do not place it again.");
        }
        // A repeated call gets no task, because the task would look like one of a new call. With the card there is none
        // either: the host would show the card nothing before the task ends.
        let is_task = is_live && output.duplicate_of.is_none() && !has_card;
        let followed = output.call_id.clone().filter(|_| is_task);
        let reply = output.into_reply(cx);
        match followed {
            Some(call) => reply.followed_by(call),
            None => reply,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialing::ledger::DispatchId;

    #[test]
    fn every_reply_says_not_to_place_it_again() {
        let tools = AvailableTools::only(&[PlaceCall::NAME], Environment::Live);
        for (result, begins) in [
            (DialResult::Unknown("no answer".to_owned()), "It is not known whether"),
            (DialResult::Unknown("No answer.".to_owned()), "It is not known whether"),
            (DialResult::InFlight, "The same call is being placed by another request"),
        ] {
            let dialed = Dialed { dispatch: DispatchId::new(), result };
            let note = PlaceCallOutput::new_dialed(dialed, None, &tools).note;
            assert!(note.starts_with(begins), "{note}");
            assert!(note.contains(". Do not place it again"), "{note}");
        }
    }
}
