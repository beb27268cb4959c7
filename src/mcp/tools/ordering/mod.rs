//! What `place_call` and `purchase_number` share: check the policy, ask the human, and dispatch.

mod call_preview;
mod purchase_preview;

pub(super) use call_preview::primary_number;
pub(super) use purchase_preview::find_offer;

use std::time::Duration;

use rmcp::model::JsonObject;
use serde_json::Value;

use self::call_preview::preview_call;
use self::purchase_preview::preview_purchase;
use crate::account::Environment;
use crate::dialing::confirm::{
    ConfirmContext, ConfirmMode, Confirmation, confirmation_for_ask, confirmation_required,
};
use crate::dialing::ledger::ConfirmedBy;
use crate::dialing::order::{DialRequest, Order};
use crate::dialing::outcome::{DialError, Dialed};
use crate::dialing::policy::{Decision, RuleName, refuse_undialable};
use crate::dialing::policy_check::PolicyCheck;
use crate::mcp::confirmation::card::{self, CardAnswer, CardForm, CardVerdict, can_ask_in_card};
use crate::mcp::confirmation::open_question::{OpenQuestion, Question};
use crate::mcp::confirmation::preview::Preview;
use crate::mcp::confirmation::{self, ConfirmOutcome, ConfirmedRequest};
use crate::mcp::reply::answer::Reply;
use crate::mcp::reply::error::{ErrorCode, ToolError};
use crate::mcp::request::context::ToolContext;
use crate::mcp::tool::{Tool, ToolExit};
use crate::telemetry::metrics;
use callingbox::E164;

/// How far an order got.
pub(super) enum OrderOutcome {
    /// The order was dispatched, now or before.
    Dialed(Dialed),
    /// The user must agree first.
    Asked(Box<OpenQuestion>),
}

/// An order as the user answered in the card.
pub(super) enum AnsweredOrder<T> {
    /// The user said yes, now or before.
    Confirmed(T),
    Declined,
    /// Nobody has answered.
    Unanswered,
}

impl<T> AnsweredOrder<T> {
    pub(super) fn map<U>(self, change: impl FnOnce(T) -> U) -> AnsweredOrder<U> {
        match self {
            Self::Confirmed(order) => AnsweredOrder::Confirmed(change(order)),
            Self::Declined => AnsweredOrder::Declined,
            Self::Unanswered => AnsweredOrder::Unanswered,
        }
    }
}

/// A tool whose order the user can confirm in the card.
pub(super) trait ConfirmableTool: Tool {
    /// Carries the order out as the user answered. It passes every check that [`Tool::run`] makes, and an answer that was
    /// given before leads to what became of its order.
    fn run_as_answered(
        input: Self::Input,
        answer: CardAnswer<'_>,
        cx: &ToolContext,
    ) -> impl Future<Output = Result<AnsweredOrder<Reply<Self::Output>>, ToolExit>> + Send;
}

/// Passes an order through policy, confirmation and ledger.
pub(super) async fn place_order(
    cx: &ToolContext,
    asked: DialRequest,
    token: Option<&str>,
) -> Result<OrderOutcome, ToolExit> {
    let ordered = confirm_and_dial(cx, asked, token).await;
    metrics::dialing_decision(match &ordered {
        Ok(OrderOutcome::Dialed(_)) => "dispatched",
        Ok(OrderOutcome::Asked(question)) if !question.is_in_card() => "previewed",
        Ok(OrderOutcome::Asked(_)) | Err(ToolExit::NeedsInput(_)) => "asked",
        Err(ToolExit::Failed(error)) => error.class().as_str(),
    });
    ordered
}

async fn confirm_and_dial(
    cx: &ToolContext,
    asked: DialRequest,
    token: Option<&str>,
) -> Result<OrderOutcome, ToolExit> {
    let dialer = cx.account.dialer()?;
    // A dispatched order is not checked or confirmed again.
    if let Some(dialed) = dialer.find_earlier(&asked).await? {
        return Ok(OrderOutcome::Dialed(dialed));
    }
    let judgment = dialer.check_policy(&asked).await?;
    let demanded = |judgment: &PolicyCheck| {
        let rules = dialer.rules();
        let situation = ConfirmContext {
            kind: asked.kind(),
            known_destination: judgment.known_destination,
            client_can_ask: cx.client.can_ask_human() || can_ask_in_card(cx, &rules),
            is_live: cx.account.environment() == Environment::Live,
            require_human: rules.require_human,
        };
        confirmation_required(rules.confirm, &judgment.decision, situation)
    };
    let confirmed_by = match demanded(&judgment) {
        Confirmation::Refuse(refusal) => return Err(refusal.into()),
        Confirmation::NotRequired => ConfirmedBy::NotRequired,
        Confirmation::Ask(reason) => {
            let question =
                Question::new(&reason, build_preview(cx, &asked, &judgment.local_times).await?);
            let request = ConfirmedRequest::from_order(dialer, &asked).await?;
            let (yes, no) = match asked.order {
                Order::Call(_) => ("Call", "Don’t call"),
                Order::Number { .. } => ("Buy", "Don’t buy"),
            };
            let form = CardForm {
                yes,
                no,
                arguments: order_arguments(cx, &asked)?,
                depends_on_model_record: judgment.decision.depends_on_model_record(),
            };
            let asking =
                confirmation::ask_human(cx, dialer, &request, token, &question, Some(form)).await?;
            let confirmed_by = match asking {
                ConfirmOutcome::Confirmed(confirmed_by) => confirmed_by,
                ConfirmOutcome::Open(open) => return Ok(OrderOutcome::Asked(Box::new(open))),
            };
            // The human may have taken long, so the policy and the agent are checked once more.
            let judgment = dialer.check_policy(&asked).await?;
            if let Confirmation::Refuse(refusal) = demanded(&judgment) {
                return Err(refusal.into());
            }
            let now = build_preview(cx, &asked, &judgment.local_times).await?;
            if now.covered_text() != question.preview.covered_text() {
                return Err(confirmation::outdated_confirmation().into());
            }
            confirmed_by
        }
    };
    let rule = asked.receipt_rule(&judgment.decision, confirmed_by);
    Ok(OrderOutcome::Dialed(dialer.dial(asked, rule, confirmed_by).await?))
}

/// Places an order as the user answered in the card. The order is checked as if it were asked for now; an answer that was
/// given before is answered with what became of the order.
pub(super) async fn place_answered_order(
    cx: &ToolContext,
    asked: DialRequest,
    answer: CardAnswer<'_>,
) -> Result<AnsweredOrder<Dialed>, ToolExit> {
    let answered = dial_as_answered(cx, asked, answer).await;
    match &answered {
        Ok(AnsweredOrder::Confirmed(_)) => metrics::dialing_decision("dispatched"),
        Ok(AnsweredOrder::Declined) => metrics::dialing_decision(ErrorCode::Declined.as_str()),
        Ok(AnsweredOrder::Unanswered) | Err(ToolExit::NeedsInput(_)) => {}
        Err(ToolExit::Failed(error)) => metrics::dialing_decision(error.class().as_str()),
    }
    answered
}

async fn dial_as_answered(
    cx: &ToolContext,
    asked: DialRequest,
    answer: CardAnswer<'_>,
) -> Result<AnsweredOrder<Dialed>, ToolExit> {
    let dialer = cx.account.dialer()?;
    if let Some(accepted) = card::find_earlier_answer(dialer, answer.token).await? {
        return find_answered_order(cx, asked, accepted).await;
    }
    let PolicyCheck { decision, local_times, .. } = dialer.check_policy(&asked).await?;
    // The reason is not part of what the yes covers.
    let preview = build_preview(cx, &asked, &local_times).await?;
    let question = Question { reason: String::new(), preview };
    let request = ConfirmedRequest::from_order(dialer, &asked).await?;
    let receipt_rule = asked.receipt_rule(&decision, ConfirmedBy::Card);
    let rule = decision.rule.to_string();
    if answer.accept == Some(true)
        && let Decision::Refuse(refusal) = decision.decision
    {
        return Err(refusal.into());
    }
    match card::read_card_answer(cx, dialer, &request, &question, answer).await? {
        CardVerdict::Confirmed => {
            let dialed = dialer.dial(asked, receipt_rule, ConfirmedBy::Card).await;
            Ok(AnsweredOrder::Confirmed(dialed?))
        }
        CardVerdict::Declined => {
            // Whether the ledger can note it does not change the answer.
            if let Err(error) = dialer.record_declined(asked, rule, ConfirmedBy::Card).await {
                tracing::warn!(%error, "a no in the card could not be noted in the ledger");
            }
            Ok(AnsweredOrder::Declined)
        }
        CardVerdict::Unanswered => Ok(AnsweredOrder::Unanswered),
        CardVerdict::AnsweredBefore { accepted } => find_answered_order(cx, asked, accepted).await,
    }
}

/// What became of an order that was answered before.
async fn find_answered_order(
    cx: &ToolContext,
    asked: DialRequest,
    accepted: bool,
) -> Result<AnsweredOrder<Dialed>, ToolExit> {
    if !accepted {
        return Ok(AnsweredOrder::Declined);
    }
    let dialer = cx.account.dialer()?;
    if let Some(dialed) = dialer.find_placed_by_card(&asked).await? {
        return Ok(AnsweredOrder::Confirmed(dialed));
    }
    // It may be on its way, or what became of it is not known.
    match dialer.find_earlier(&asked).await {
        Ok(Some(dialed)) => Ok(AnsweredOrder::Confirmed(dialed)),
        Ok(None) | Err(DialError::SimilarCall { .. } | DialError::KeyConflict(_)) => {
            Err(card::answered_before().into())
        }
        Err(error) => Err(error.into()),
    }
}

/// What the person reads before the order is placed, and what their yes covers.
async fn build_preview(
    cx: &ToolContext,
    asked: &DialRequest,
    local_times: &[String],
) -> Result<Preview, ToolError> {
    match &asked.order {
        Order::Call(call) => preview_call(cx, asked, call, local_times).await,
        Order::Number { number, .. } => preview_purchase(cx, number).await,
    }
}

/// The order as arguments of its tool, with every default filled in but this server's own address, which is filled in
/// again.
fn order_arguments(cx: &ToolContext, order: &DialRequest) -> Result<JsonObject, ToolError> {
    // The rules decide again about the disclosure and the source of the metadata.
    let DialRequest {
        order,
        caller: _,
        idempotency_key,
        allow_repeat,
        attempt: _,
        disclosing_instructions: _,
        metadata_source: _,
    } = order;
    let mut arguments = match order {
        Order::Call(call) => {
            let mut call = call.as_ref().clone();
            call.webhook_url =
                call.webhook_url.filter(|url| Some(url.as_str()) != cx.account.webhook_url());
            match serde_json::to_value(call) {
                Ok(Value::Object(call)) => call,
                _ => return Err(ToolError::internal("the order cannot be written as arguments")),
            }
        }
        Order::Number { number, price: _ } => {
            JsonObject::from_iter([("phone_number".to_owned(), number.as_str().into())])
        }
    };
    if let Some(key) = idempotency_key {
        arguments.insert("idempotency_key".to_owned(), key.as_str().into());
    }
    if *allow_repeat {
        arguments.insert("allow_repeat".to_owned(), true.into());
    }
    Ok(arguments)
}

/// Why the user must agree to a change that is no order, if they must; that counts as what a rule marks `ask`. On a simulator
/// whose user is never asked nothing is lost, so nothing is refused there.
///
/// # Errors
/// The user cannot be asked.
pub(super) fn reason_to_ask(cx: &ToolContext, reason: &str) -> Result<Option<String>, ToolError> {
    let rules = cx.account.dialer()?.rules();
    let is_simulated = cx.account.environment() == Environment::Sandbox;
    if is_simulated && rules.confirm == ConfirmMode::Never && !rules.require_human {
        return Ok(None);
    }
    let rule = RuleName::Setting(if rules.require_human { "require_human" } else { "confirm" });
    let (reason, can_ask) = (reason.to_owned(), cx.client.can_ask_human());
    match confirmation_for_ask(rules.confirm, rule, reason, can_ask, rules.require_human) {
        Confirmation::NotRequired => Ok(None),
        Confirmation::Refuse(refusal) => Err(refusal.into()),
        Confirmation::Ask(reason) => Ok(Some(reason)),
    }
}

/// The time for the human's answer, plus the longest dispatch with its recovery.
pub(super) fn order_deadline(cx: &ToolContext) -> Duration {
    let Ok(dialer) = cx.account.dialer() else { return Duration::from_secs(15) };
    dialer.rules().thinking_time + dialer.max_dispatch_duration()
}

/// Refuses a number that is never dialed, before anything else is read.
///
/// # Errors
/// It is such a number.
pub(super) fn check_dialable(to: &E164) -> Result<(), ToolError> {
    refuse_undialable(to).map_or(Ok(()), |refusal| Err(refusal.into()))
}
