//! What `place_call` and `purchase_number` share: check the policy, ask the human, dispatch, and map the errors.

use std::time::Duration;

use rmcp::model::JsonObject;
use serde_json::Value;

use crate::account::Environment;
use crate::dialing::confirm::{
    CANNOT_ASK_REMEDY, ConfirmContext, Confirmation, RECORD_REMEDY, confirmation_required,
};
use crate::dialing::ledger::ConfirmedBy;
use crate::dialing::order::{DialRequest, Order};
use crate::dialing::outcome::{DialError, Dialed};
use crate::dialing::policy::{Decision, refuse_undialable};
use crate::dialing::policy_check::PolicyCheck;
use crate::mcp::confirmation::card::{
    self, CardAnswer, CardOutcome, CardQuestion, CardVerdict, can_ask_in_card,
};
use crate::mcp::confirmation::preview::{Preview, PreviewField};
use crate::mcp::confirmation::{self, ConfirmOutcome, ConfirmedRequest, Question};
use crate::mcp::reply::answer::Reply;
use crate::mcp::reply::error::{ErrorCode, ToolError};
use crate::mcp::reply::next_step::NextStep;
use crate::mcp::request::context::ToolContext;
use crate::mcp::tool::{Tool, ToolExit};
use crate::telemetry::metrics;
use callingbox::E164;

/// How far an order got.
pub(super) enum OrderOutcome {
    /// The order was dispatched, now or before.
    Dialed(Dialed),
    /// The user must agree first, and the model must return the token.
    Preview {
        /// What to show, as text and as fields.
        text: String,
        fields: Vec<PreviewField>,
        /// What to bring back.
        token: String,
        /// Until when.
        expires_at: jiff::Timestamp,
        /// Whether the card was to ask and did not appear.
        card_is_missing: bool,
    },
    /// The card asks the user.
    AskedInCard {
        /// What to show, as text and as fields.
        text: String,
        fields: Vec<PreviewField>,
        question: CardQuestion,
        /// The order as arguments of its tool.
        arguments: JsonObject,
    },
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
///
/// `preview` writes the text that the human reads, from the local times at the destination. It is called only if a
/// confirmation is required, and once more after the yes, so that the order is what the human saw.
pub(super) async fn place_order<F, P>(
    cx: &ToolContext,
    asked: DialRequest,
    token: Option<&str>,
    preview: F,
) -> Result<OrderOutcome, ToolExit>
where
    F: Fn(Vec<String>) -> P,
    P: Future<Output = Result<Preview, ToolError>>,
{
    let ordered = confirm_and_dial(cx, asked, token, preview).await;
    metrics::dialing_decision(match &ordered {
        Ok(OrderOutcome::Dialed(_)) => "dispatched",
        Ok(OrderOutcome::Preview { .. }) => "previewed",
        Ok(OrderOutcome::AskedInCard { .. }) | Err(ToolExit::NeedsInput(_)) => "asked",
        Err(ToolExit::Failed(error)) => error.class().as_str(),
    });
    ordered
}

async fn confirm_and_dial<F, P>(
    cx: &ToolContext,
    asked: DialRequest,
    token: Option<&str>,
    preview: F,
) -> Result<OrderOutcome, ToolExit>
where
    F: Fn(Vec<String>) -> P,
    P: Future<Output = Result<Preview, ToolError>>,
{
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
        Confirmation::Refuse(refusal) => {
            return Err(refusal.into());
        }
        Confirmation::NotRequired => ConfirmedBy::NotRequired,
        Confirmation::Ask(reason) => {
            let reason = format!("You are asked because {reason}.");
            let question = Question { reason, preview: preview(judgment.local_times).await? };
            let request = ConfirmedRequest::from_order(dialer, &asked).await?;
            let mut card_is_missing = false;
            if token.is_none() && !cx.client.can_ask_human() && can_ask_in_card(cx, &dialer.rules())
            {
                match card::ask_in_card(cx, dialer, &request, &question, labels(&asked)).await? {
                    CardOutcome::Asked(card) => {
                        return Ok(OrderOutcome::AskedInCard {
                            text: question.text(),
                            fields: question.preview.fields,
                            question: card,
                            arguments: order_arguments(cx, &asked)?,
                        });
                    }
                    CardOutcome::Missing if judgment.decision.hangs_on_model_record() => {
                        return Err(missing_card(RECORD_REMEDY).into());
                    }
                    CardOutcome::Missing if dialer.rules().require_human => {
                        return Err(missing_card(CANNOT_ASK_REMEDY).into());
                    }
                    CardOutcome::Missing => card_is_missing = true,
                }
            }
            let confirmed_by =
                match confirmation::ask_human(cx, dialer, &request, token, &question).await? {
                    ConfirmOutcome::Confirmed(confirmed_by) => confirmed_by,
                    ConfirmOutcome::Preview { token, expires_at } => {
                        let text = question.text();
                        let fields = question.preview.fields;
                        return Ok(OrderOutcome::Preview {
                            text,
                            fields,
                            token,
                            expires_at,
                            card_is_missing,
                        });
                    }
                };
            // The human may have taken long, so the policy and the agent are checked once more.
            let judgment = dialer.check_policy(&asked).await?;
            if let Confirmation::Refuse(refusal) = demanded(&judgment) {
                return Err(refusal.into());
            }
            let now = preview(judgment.local_times).await?;
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
pub(super) async fn place_answered_order<F, P>(
    cx: &ToolContext,
    asked: DialRequest,
    answer: CardAnswer<'_>,
    preview: F,
) -> Result<AnsweredOrder<Dialed>, ToolExit>
where
    F: Fn(Vec<String>) -> P,
    P: Future<Output = Result<Preview, ToolError>>,
{
    let answered = dial_as_answered(cx, asked, answer, preview).await;
    match &answered {
        Ok(AnsweredOrder::Confirmed(_)) => metrics::dialing_decision("dispatched"),
        Ok(AnsweredOrder::Declined) => metrics::dialing_decision(ErrorCode::Declined.as_str()),
        Ok(AnsweredOrder::Unanswered) | Err(ToolExit::NeedsInput(_)) => {}
        Err(ToolExit::Failed(error)) => metrics::dialing_decision(error.class().as_str()),
    }
    answered
}

async fn dial_as_answered<F, P>(
    cx: &ToolContext,
    asked: DialRequest,
    answer: CardAnswer<'_>,
    preview: F,
) -> Result<AnsweredOrder<Dialed>, ToolExit>
where
    F: Fn(Vec<String>) -> P,
    P: Future<Output = Result<Preview, ToolError>>,
{
    let dialer = cx.account.dialer()?;
    if let Some(accepted) = card::find_earlier_answer(dialer, answer.token).await? {
        return find_answered_order(cx, asked, accepted).await;
    }
    let PolicyCheck { decision, local_times, .. } = dialer.check_policy(&asked).await?;
    // The reason is not part of what the yes covers.
    let question = Question { reason: String::new(), preview: preview(local_times).await? };
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

/// The words on the buttons of the card.
const fn labels(order: &DialRequest) -> (&'static str, &'static str) {
    match order.order {
        Order::Call(_) => ("Call", "Don’t call"),
        Order::Number { .. } => ("Buy", "Don’t buy"),
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

/// The refusal of an order that needs the user's own answer, which the card did not get.
pub(super) fn missing_card(remedy: &str) -> ToolError {
    let text = "this order needs the user's own answer, and the card in which they were to give it did not appear in this client. Nobody was called and nothing was bought";
    ToolError::new(ErrorCode::RefusedByPolicy, text)
        .with_remedy(remedy.to_owned())
        .with_next([NextStep::person(
            "Tell the user that this order needs their own answer, for which this client did not ask them.",
        )])
}

/// The sentence before a preview in place of a card that did not appear.
pub(super) const MISSING_CARD: &str = "The card in which the user was to answer did not appear. ";

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
