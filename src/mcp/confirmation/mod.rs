//! Asks the human to confirm an order, in the four ways that clients support. Only an explicit yes to exactly this
//! order counts; decline, cancel, silence or an unreadable answer is a no.
//!
//! - up to 2025-11-25: `elicitation/create`;
//! - 2026-07-28: an `InputRequiredResult`, answered by the same call with a sealed `requestState`;
//! - the call card, where the client shows it and can do neither ([`card`]);
//! - a client that can do none of these: a preview with a sealed token, which the model returns once
//!   its user has agreed.
//!
//! State and token ([`token`]) are protected by the ledger's secret, expire after 15 minutes, are accepted once, and are bound
//! to the account, the caller, the session, every argument and what the human was shown.

pub mod card;
pub mod open_question;
pub mod preview;
pub mod token;

use std::collections::BTreeMap;
use std::fmt::Display;
use std::time::Duration;

use jiff::Timestamp;
use rmcp::elicit_safe;
use rmcp::model::{
    ElicitRequest, ElicitRequestParams, ElicitResult, ElicitationAction, ElicitationSchema,
    InputRequest, InputRequiredResult,
};
use schemars::JsonSchema;
use serde::Deserialize;

use self::card::{CardForm, can_ask_in_card};
use self::open_question::{ExpectedAnswer, OpenQuestion, Question};
use self::preview::Preview;
use self::token::{ConfirmationTokens, InvalidToken, TokenBinding, TokenClaims, TokenPurpose};
use crate::dialing::confirm::{CANNOT_ASK_REMEDY, RECORD_REMEDY};
use crate::dialing::dialer::Dialer;
use crate::dialing::ledger::{AccountRef, ConfirmedBy};
use crate::dialing::limits::OrderKind;
use crate::dialing::order::DialRequest;
use crate::mcp::registry::name::ToolName;
use crate::mcp::reply::error::{ErrorCode, Retry, ToolError};
use crate::mcp::reply::next_step::NextStep;
use crate::mcp::request::context::ToolContext;
use crate::mcp::request::peer::Era;
use crate::mcp::tool::ToolExit;
use crate::telemetry::arguments::mask_digits;

/// The name of the only question.
const QUESTION: &str = "confirm";

const UNREADABLE: &str = "the human's answer is missing or cannot be read";

// A comment of this type would be shown to the human with the form.
#[derive(Debug, Deserialize, JsonSchema)]
struct Answer {
    /// Yes, do exactly this, now.
    confirm: bool,
}

elicit_safe!(Answer);

/// The subject of a confirmation: one request to one tool, on one account.
#[derive(Debug, Clone)]
pub struct ConfirmedRequest {
    /// The tool that issues and accepts the token.
    pub tool: ToolName,
    pub account: AccountRef,
    /// Identifies everything in the request that the yes covers.
    pub arguments: String,
}

impl ConfirmedRequest {
    /// # Errors
    /// The account is not known.
    pub async fn from_order(dialer: &Dialer, order: &DialRequest) -> Result<Self, ToolError> {
        let tool = match order.kind() {
            OrderKind::Call => ToolName::PLACE_CALL,
            OrderKind::Purchase => ToolName::PURCHASE_NUMBER,
        };
        let account = dialer.account_for(order).await?;
        let arguments = order.confirmation_fingerprint(&account).as_str().to_owned();
        Ok(Self { tool, account, arguments })
    }
}

/// The outcome of asking.
#[derive(Debug)]
pub enum ConfirmOutcome {
    /// The human said yes.
    Confirmed(ConfirmedBy),
    /// The human has not answered yet.
    Open(OpenQuestion),
}

/// The error for every kind of no.
fn declined(why: &str) -> ToolError {
    ToolError::new(
        ErrorCode::Declined,
        format!("{why}. Nobody was called and nothing was bought or changed"),
    )
    .with_retry(Retry::No)
    .with_next([NextStep::person("Do not ask again unless the user brings it up.")])
}

fn reject_token(why: impl Display) -> ToolError {
    ToolError::new(
        ErrorCode::Declined,
        format!(
            "the confirmation was not accepted: {why}. Nobody was called and nothing was bought or changed"
        ),
    )
}

/// Adds the step to a new confirmation if this one was not accepted.
fn with_retry_hint(cx: &ToolContext, error: ToolError) -> ToolError {
    if error.class() != ErrorCode::Declined {
        return error;
    }
    error.with_next([NextStep::person(match cx.client.can_ask_human() {
        true => "Call again without confirmation_token: the user is then asked.",
        false => {
            "Call again without confirmation_token to get a new preview, and show it to the user."
        }
    })])
}

/// Asks the human, or reads the answer that this request carries. Where the client cannot ask, the card does, if there is one
/// and `form` says how.
///
/// # Errors
/// A no, the input request of 2026-07-28, or a card that did not appear where only the human's own answer counts.
pub async fn ask_human(
    cx: &ToolContext,
    dialer: &Dialer,
    asked: &ConfirmedRequest,
    token: Option<&str>,
    question: &Question,
    form: Option<CardForm<'_>>,
) -> Result<ConfirmOutcome, ToolExit> {
    let rules = dialer.rules();
    let tokens = TokenContext::new(cx, dialer, asked, &question.preview);
    if let Some(token) = token {
        let redeemed = match rules.require_human {
            true => Err(reject_token("only the user's own answer to the client is accepted here")),
            false => tokens.redeem_token(TokenPurpose::Confirmation, token).await,
        };
        redeemed.map_err(|error| with_retry_hint(cx, error))?;
        return Ok(ConfirmOutcome::Confirmed(ConfirmedBy::Token));
    }
    if !cx.client.can_ask_human() {
        let form = form.filter(|_| can_ask_in_card(cx, &rules));
        let card_is_missing = form.is_some();
        if let Some(form) = form {
            let depends_on_model_record = form.depends_on_model_record;
            let tokens = TokenContext::new(cx, dialer, asked, &question.preview).for_card();
            match tokens.issue_question(question, form).await? {
                Some(open) => return Ok(ConfirmOutcome::Open(open)),
                None if depends_on_model_record => return Err(missing_card(RECORD_REMEDY).into()),
                None if rules.require_human => return Err(missing_card(CANNOT_ASK_REMEDY).into()),
                None => {}
            }
        }
        let (token, expires_at) = tokens.issue_token(TokenPurpose::Confirmation).await?;
        return Ok(ConfirmOutcome::Open(OpenQuestion {
            question: question.clone(),
            expires_at,
            answer: ExpectedAnswer::Token { token, card_is_missing },
        }));
    }
    match cx.client.era {
        Era::Sessions => elicit_answer(cx, rules.thinking_time, question).await?,
        Era::Stateless => match (&cx.client.request_state, &cx.client.input_responses) {
            (Some(state), Some(responses)) => {
                tokens
                    .redeem_token(TokenPurpose::RequestState, state)
                    .await
                    .map_err(|error| with_retry_hint(cx, error))?;
                let answer = responses
                    .get(QUESTION)
                    .and_then(|answer| serde_json::from_value::<ElicitResult>(answer.clone()).ok())
                    .ok_or_else(|| declined(UNREADABLE))?;
                read(answer)?;
            }
            _ => {
                return Err(ToolExit::NeedsInput(Box::new(
                    input_required(&tokens, question).await?,
                )));
            }
        },
    }
    Ok(ConfirmOutcome::Confirmed(ConfirmedBy::User))
}

/// The refusal of an order that needs the user's own answer, which the card did not get.
fn missing_card(remedy: &str) -> ToolError {
    let text = "this order needs the user's own answer, and the card in which they were to give it did not appear in this client. Nobody was called and nothing was bought";
    ToolError::new(ErrorCode::RefusedByPolicy, text)
        .with_remedy(remedy.to_owned())
        .with_next([NextStep::person(
            "Tell the user that this order needs their own answer, for which this client did not ask them.",
        )])
}

/// The era of sessions: asks the client and waits for its answer.
async fn elicit_answer(
    cx: &ToolContext,
    thinking_time: Duration,
    question: &Question,
) -> Result<(), ToolError> {
    use rmcp::service::{ElicitationError, ServiceError};
    cx.progress.report("Waiting for the human to confirm.").await;
    let peer = &cx.client.peer;
    let answer = tokio::select! {
        answer = peer.elicit_with_timeout::<Answer>(question.text(), Some(thinking_time)) => answer,
        () = cx.draining.cancelled() => {
            let text = "this server is about to end, before the human answered. Nobody was called and nothing was bought or changed";
            return Err(ToolError::new(ErrorCode::Unavailable, text).with_retry(Retry::Later));
        }
    };
    match answer {
        Ok(Some(Answer { confirm: true })) => Ok(()),
        Ok(_) => Err(declined("the human did not say yes")),
        Err(ElicitationError::UserDeclined) => Err(declined("the human declined")),
        Err(ElicitationError::UserCancelled) => Err(declined("the human closed the question")),
        Err(
            ElicitationError::ParseError { .. }
            | ElicitationError::NoContent
            | ElicitationError::Service(ServiceError::UnexpectedResponse),
        ) => Err(declined(UNREADABLE)),
        Err(ElicitationError::Service(ServiceError::Timeout { .. })) => {
            Err(declined("the human did not answer in time"))
        }
        Err(error) => {
            let error = error.to_string();
            tracing::warn!(error = %mask_digits(&error), "the question to the human failed");
            Err(declined("the client could not ask the human"))
        }
    }
}

/// The stateless era: the answer to this request is the question.
async fn input_required(
    tokens: &TokenContext<'_>,
    question: &Question,
) -> Result<InputRequiredResult, ToolError> {
    let (state, _) = tokens.issue_token(TokenPurpose::RequestState).await?;
    let form = ElicitationSchema::from_type::<Answer>()
        .map_err(|error| ToolError::internal(error.to_string()))?;
    let request = ElicitRequest::new(ElicitRequestParams::FormElicitationParams {
        meta: None,
        message: question.text(),
        requested_schema: form,
    });
    let requests = BTreeMap::from([(QUESTION.to_owned(), InputRequest::Elicitation(request))]);
    Ok(InputRequiredResult::new(Some(requests), Some(state)))
}

/// Reads the answer to a form: only an accepted form with `confirm: true` is a yes.
fn read(answer: ElicitResult) -> Result<(), ToolError> {
    match answer.action {
        ElicitationAction::Accept => {
            let confirmed = answer
                .content
                .and_then(|content| serde_json::from_value::<Answer>(content).ok())
                .is_some_and(|answer| answer.confirm);
            if confirmed { Ok(()) } else { Err(declined("the human did not say yes")) }
        }
        ElicitationAction::Decline => Err(declined("the human declined")),
        _ => Err(declined("the human closed the question")),
    }
}

async fn confirmation_tokens(dialer: &Dialer) -> Result<ConfirmationTokens, ToolError> {
    let secret = dialer.ledger().await?.secret().await?;
    Ok(ConfirmationTokens::new(*secret.as_bytes()))
}

/// A request of one caller, for which tokens are issued and redeemed.
struct TokenContext<'a> {
    dialer: &'a Dialer,
    request: &'a ConfirmedRequest,
    preview: &'a Preview,
    caller: &'a str,
    session: &'a str,
}

impl<'a> TokenContext<'a> {
    fn new(
        cx: &'a ToolContext,
        dialer: &'a Dialer,
        request: &'a ConfirmedRequest,
        preview: &'a Preview,
    ) -> Self {
        let caller = cx.tenant.as_deref().unwrap_or_default();
        let session = cx.client.session_id.as_deref().unwrap_or_default();
        Self { dialer, request, preview, caller, session }
    }

    /// Without the session: a view may be served by another one than the model.
    fn for_card(self) -> Self {
        Self { session: "", ..self }
    }

    async fn issue_token(&self, purpose: TokenPurpose) -> Result<(String, Timestamp), ToolError> {
        let tokens = confirmation_tokens(self.dialer).await?;
        Ok(self.with_binding(purpose, |binding| tokens.issue(binding, Timestamp::now())))
    }

    /// Verifies a token and marks it as used.
    async fn redeem_token(&self, purpose: TokenPurpose, token: &str) -> Result<(), ToolError> {
        let claims = self.verify_token(purpose, token).await?;
        match self.redeem_claims(&claims).await? {
            true => Ok(()),
            false => Err(reject_token(InvalidToken::Used)),
        }
    }

    async fn verify_token(
        &self,
        purpose: TokenPurpose,
        token: &str,
    ) -> Result<TokenClaims, ToolError> {
        let tokens = confirmation_tokens(self.dialer).await?;
        self.with_binding(purpose, |binding| tokens.verify(binding, token, Timestamp::now()))
            .map_err(reject_token)
    }

    /// Marks a verified token as used; `false`: it was used before.
    async fn redeem_claims(&self, claims: &TokenClaims) -> Result<bool, ToolError> {
        let ledger = self.dialer.ledger().await?;
        let (account, expires_at) = (self.request.account.id(), claims.expires_at);
        Ok(ledger.redeem_token(account, &claims.id, expires_at, Timestamp::now()).await?)
    }

    fn with_binding<T>(
        &self,
        purpose: TokenPurpose,
        act: impl FnOnce(&TokenBinding<'_>) -> T,
    ) -> T {
        act(&TokenBinding {
            purpose,
            account: self.request.account.id().as_str(),
            caller: self.caller,
            session: self.session,
            tool: self.request.tool.as_str(),
            arguments: &self.request.arguments,
            shown: &self.preview.covered_text(),
        })
    }
}

/// The error if the order changed after the human said yes.
#[must_use]
pub fn outdated_confirmation() -> ToolError {
    let text = "the agent, the number or the price was changed while the human was asked. Nobody was called and nothing was bought or changed";
    ToolError::new(ErrorCode::Declined, text)
        .with_next([NextStep::person("Call again: the human is then asked about it as it is now.")])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rmcp::model::ElicitResult;
    use serde_json::{Map, Value, json};

    use super::*;
    use crate::dialing::Environment;
    use crate::dialing::caller::CallerName;
    use crate::dialing::confirm::ConfirmMode;
    use crate::dialing::ledger::{IdempotencyKey, KeyRef, LedgerLocation};
    use crate::dialing::order::Order;
    use crate::dialing::policy::Policy;
    use crate::dialing::rules::{CardIsHuman, DialingRules};
    use callingbox::E164;
    use callingbox::{AgentId, ApiClient, ApiKey, BaseUrl, CallCreate, ClientConfig};

    #[test]
    fn only_a_clear_yes_is_a_yes() {
        let read = |answer: Value| {
            serde_json::from_value::<ElicitResult>(answer).is_ok_and(|answer| read(answer).is_ok())
        };
        assert!(read(json!({"action": "accept", "content": {"confirm": true}})));
        for no in [
            json!({"action": "accept", "content": {"confirm": false}}),
            json!({"action": "accept", "content": {"confirm": "true"}}),
            json!({"action": "accept", "content": {"confirm": 1}}),
            json!({"action": "accept", "content": {"yes": true}}),
            json!({"action": "accept", "content": true}),
            json!({"action": "accept"}),
            json!({"action": "decline", "content": {"confirm": true}}),
            json!({"action": "cancel", "content": {"confirm": true}}),
            json!({"action": "maybe", "content": {"confirm": true}}),
            json!({"content": {"confirm": true}}),
            json!({}),
            json!(null),
        ] {
            assert!(!read(no.clone()), "{no}");
        }
    }

    /// The dialer of a key whose organization is known, which has the name of the key. Nothing is sent.
    async fn dialer(ledger: &std::path::Path, key: &str) -> Dialer {
        let base_url = BaseUrl::parse("https://api.example", false).unwrap();
        let api_key = ApiKey::new(key.to_owned()).unwrap();
        let key_ref = KeyRef::new(api_key.clone(), &base_url);
        let api = ApiClient::new(ClientConfig::new(base_url, api_key));
        let rules = DialingRules {
            policy: Policy::default(),
            confirm: ConfirmMode::Always,
            require_human: false,
            ask_do_not_call: true,
            card_is_human: CardIsHuman::Never,
            repeat_window: jiff::SignedDuration::from_mins(10),
            thinking_time: Duration::from_secs(1),
            webhook_hosts: Default::default(),
            disclosure: Default::default(),
            keep_people: jiff::SignedDuration::from_hours(720),
        };
        let place = LedgerLocation::File(ledger.to_owned());
        let dialer = Dialer::new(api, key_ref.clone(), Environment::Live, place, rules);
        let ledger = dialer.ledger().await.unwrap();
        let secret = ledger.secret().await.unwrap();
        let account = key_ref.organization_account(&secret, key);
        ledger.record_account_of_key(&key_ref.hash(&secret), account.id()).await.unwrap();
        dialer
    }

    fn orders() -> impl Strategy<Value = DialRequest> {
        let text = || prop_oneof![Just(None), "[ab]{1,2}".prop_map(Some)];
        let map = || text().prop_map(|text| Some(Map::from_iter([("k".to_owned(), text.into())])));
        let number =
            || (0..3_u8).prop_map(|last| E164::parse(&format!("+1415555010{last}")).unwrap());
        let call = (number(), prop::option::of(number()), text(), map(), map(), text()).prop_map(
            |(to, from_number, instructions, context, metadata, webhook_url)| {
                let agent_id = AgentId::new("a");
                Order::Call(Box::new(CallCreate {
                    agent_id,
                    to,
                    from_number,
                    instructions,
                    context,
                    webhook_url,
                    metadata,
                }))
            },
        );
        // The price of a number is read again each time, and is no argument.
        let number = number().prop_map(|number| Order::Number { number, price: None });
        let key = text().prop_map(|key| key.map(|key| IdempotencyKey::parse(&key).unwrap()));
        (prop_oneof![4 => call, 1 => number], key, any::<bool>()).prop_map(
            |(order, idempotency_key, allow_repeat)| DialRequest {
                order,
                caller: CallerName::local(),
                idempotency_key,
                allow_repeat,
                attempt: None,
                disclosing_instructions: None,
                metadata_source: Default::default(),
            },
        )
    }

    #[test]
    fn a_token_is_accepted_once_for_one_account_one_purpose_and_exactly_these_arguments() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ledger.sqlite3");
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        let (ours, others) = runtime
            .block_on(async { (dialer(&file, "sk_ours").await, dialer(&file, "sk_others").await) });
        let purpose =
            || prop_oneof![Just(TokenPurpose::Confirmation), Just(TokenPurpose::RequestState)];
        let shown = |task: &str| {
            Preview::new(String::new(), [("Task", Some(task.to_owned()))], String::new())
        };
        let (shown, otherwise) = (shown("Remind."), shown("Threaten."));
        // Each case takes its turns of the database: an eighth of the cases takes seconds.
        let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::default() };
        let config = ProptestConfig { cases: config.cases.div_ceil(8), ..config };
        proptest::test_runner::TestRunner::new(config)
            .run(&(orders(), orders(), purpose(), purpose()), |(asked, other, one, another)| {
                runtime.block_on(async {
                    let context = |dialer, request, preview| TokenContext {
                        dialer,
                        request,
                        preview,
                        caller: "",
                        session: "",
                    };
                    let (asked_order, other_order) = (asked, other);
                    let request = async |dialer, order| {
                        ConfirmedRequest::from_order(dialer, order).await.unwrap()
                    };
                    let asked = request(&ours, &asked_order).await;
                    let other = request(&ours, &other_order).await;
                    let theirs = request(&others, &asked_order).await;
                    let (token, _) = context(&ours, &asked, &shown).issue_token(one).await.unwrap();
                    let message = |error: ToolError| error.message().to_owned();
                    let elsewhere = context(&others, &theirs, &shown)
                        .redeem_token(one, &token)
                        .await
                        .map_err(message);
                    prop_assert!(elsewhere.unwrap_err().contains("another server issued it"));
                    let same = other.arguments == asked.arguments;
                    prop_assert_eq!(
                        same,
                        format!("{:?}", parts(&other_order))
                            == format!("{:?}", parts(&asked_order))
                    );
                    if !(same && one == another) {
                        prop_assert!(
                            context(&ours, &other, &shown)
                                .redeem_token(another, &token)
                                .await
                                .is_err()
                        );
                    }
                    prop_assert!(
                        context(&ours, &asked, &otherwise).redeem_token(one, &token).await.is_err()
                    );
                    // The one it was made for, once, although others were tried before.
                    prop_assert!(
                        context(&ours, &asked, &shown).redeem_token(one, &token).await.is_ok()
                    );
                    let again = context(&ours, &asked, &shown)
                        .redeem_token(one, &token)
                        .await
                        .map_err(message);
                    prop_assert!(again.unwrap_err().contains("used before"));
                    Ok(())
                })
            })
            .unwrap();
    }

    /// The parts of an order to which a yes is bound.
    fn parts(asked: &DialRequest) -> Value {
        let order = match &asked.order {
            Order::Call(call) => serde_json::to_value(call).unwrap(),
            Order::Number { number, .. } => json!(number.as_str()),
        };
        json!([order, asked.idempotency_key, asked.allow_repeat])
    }
}
