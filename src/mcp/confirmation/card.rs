//! The question in the call card, for clients that show the card and cannot ask their human themselves.
//!
//! The server stores the question nowhere: the card holds the order and the token of a yes, which only `confirm_call`
//! accepts. Four marks in the ledger expire with the token: that the card was to ask about an order, that a card showed
//! the question, that a token was answered, and that the answer was no.

use jiff::Timestamp;
use rmcp::model::JsonObject;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::json;

use super::open_question::{ExpectedAnswer, OpenQuestion, Question};
use super::token::{LIFETIME, TokenPurpose, token_id};
use super::{ConfirmedRequest, TokenContext, reject_token};
use crate::dialing::dialer::Dialer;
use crate::dialing::ledger::{AccountId, LedgerError, compute_hmac};
use crate::dialing::rules::DialingRules;
use crate::mcp::registry::available::AvailableTools;
use crate::mcp::registry::name::ToolName;
use crate::mcp::reply::error::ToolError;
use crate::mcp::reply::text;
use crate::mcp::request::context::ToolContext;

/// The length of the part of a question's id that names its request.
const TAG_BYTES: usize = 16;
const MAX_QUESTION_ID_CHARS: usize = 100;

/// The answer of the human in the card.
#[derive(Debug, Clone, Copy)]
pub struct CardAnswer<'a> {
    /// The token of the question.
    pub token: &'a str,
    /// Yes or no; `None` asks what became of an answer that was given before.
    pub accept: Option<bool>,
}

/// What a card needs beside the question.
#[derive(Debug)]
pub struct CardForm<'a> {
    /// The words on the buttons.
    pub yes: &'a str,
    pub no: &'a str,
    /// The order as arguments of its tool, as `confirm_call` returns them to that tool.
    pub arguments: JsonObject,
    /// Whether only the record of a model allows the order, which then needs the human's own answer.
    pub depends_on_model_record: bool,
}

/// What an answer leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CardVerdict {
    /// The human says yes now.
    Confirmed,
    /// The human says no now.
    Declined,
    /// Nobody has answered yet.
    Unanswered,
    /// The human answered before: yes or no.
    AnsweredBefore { accepted: bool },
}

/// Whether a card has shown a question, and whether it was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum QuestionStanding {
    Open,
    Answered,
    /// It has expired, or never existed.
    Expired,
}

/// Whether the card may ask this client's human: the client shows it, its tools are offered, and its answer counts.
#[must_use]
pub fn can_ask_in_card(cx: &ToolContext, rules: &DialingRules) -> bool {
    let has_tools = |tools: &AvailableTools| {
        tools.contains(ToolName::CONFIRM_CALL) && tools.contains(ToolName::FOLLOW_CALL)
    };
    cx.client.shows_card()
        && has_tools(&cx.tools)
        && (!rules.require_human || rules.card_is_human.counts_for(cx.client.name.as_deref()))
}

/// The marks of questions in the ledger. They belong to the key, because a question is reported without its order.
struct QuestionMarks<'a> {
    dialer: &'a Dialer,
    account: AccountId,
}

impl<'a> QuestionMarks<'a> {
    async fn open(dialer: &'a Dialer) -> Result<Self, LedgerError> {
        let secret = dialer.ledger().await?.secret().await?;
        let account = dialer.key().own_account(&secret).id().clone();
        Ok(Self { dialer, account })
    }

    async fn contains(&self, mark: &str) -> Result<bool, LedgerError> {
        self.dialer.ledger().await?.is_token_redeemed(&self.account, mark, Timestamp::now()).await
    }

    async fn insert(&self, mark: &str) -> Result<(), LedgerError> {
        let now = Timestamp::now();
        let expires_at = now.saturating_add(LIFETIME).unwrap_or(Timestamp::MAX);
        self.dialer.ledger().await?.redeem_token(&self.account, mark, expires_at, now).await?;
        Ok(())
    }
}

fn asked_mark(tag: &str) -> String {
    format!("card asked {tag}")
}

fn shown_mark(tag: &str) -> String {
    format!("card shown {tag}")
}

fn answered_mark(token_id: &str) -> String {
    format!("card answered {token_id}")
}

fn declined_mark(token_id: &str) -> String {
    format!("card declined {token_id}")
}

/// Reads the answer that the card returned, and marks it as given.
///
/// # Errors
/// It is not an answer to this question, or the answer in the card does not count here.
pub async fn read_card_answer(
    cx: &ToolContext,
    dialer: &Dialer,
    request: &ConfirmedRequest,
    question: &Question,
    answer: CardAnswer<'_>,
) -> Result<CardVerdict, ToolError> {
    if !can_ask_in_card(cx, &dialer.rules()) {
        return Err(reject_token("an answer in the card does not count here"));
    }
    let tokens = TokenContext::new(cx, dialer, request, &question.preview).for_card();
    tokens.read_answer(answer).await
}

/// The answer that was given before with this token, if one was: yes or no. It is looked up without the order, which its
/// own effect may have changed since: a number that was bought is not for sale any more.
///
/// # Errors
/// The ledger cannot be used.
pub async fn find_earlier_answer(dialer: &Dialer, token: &str) -> Result<Option<bool>, ToolError> {
    let marks = QuestionMarks::open(dialer).await?;
    let id = token_id(token);
    if !marks.contains(&answered_mark(id)).await? {
        return Ok(None);
    }
    Ok(Some(!marks.contains(&declined_mark(id)).await?))
}

impl TokenContext<'_> {
    /// The question for the card. `None`: the card was to ask about the same request before, and never appeared.
    pub(super) async fn issue_question(
        &self,
        question: &Question,
        form: CardForm<'_>,
    ) -> Result<Option<OpenQuestion>, ToolError> {
        let marks = QuestionMarks::open(self.dialer).await?;
        let tag = self.question_tag().await?;
        let asked_before = marks.contains(&asked_mark(&tag)).await?;
        if asked_before && !marks.contains(&shown_mark(&tag)).await? {
            return Ok(None);
        }
        marks.insert(&asked_mark(&tag)).await?;
        let (token, expires_at) = self.issue_token(TokenPurpose::Card).await?;
        let card = json!({
            "question_id": format!("{tag}-{}", token_id(&token)),
            "tool": self.request.tool.as_str(),
            "arguments": form.arguments,
            "token": token,
            "expires_at": text::format_instant(expires_at),
            "shown": {
                "title": question.preview.title,
                "fields": question.preview.fields,
                "reason": question.reason,
                "yes": form.yes,
                "no": form.no,
            },
        });
        let (question, answer) = (question.clone(), ExpectedAnswer::Card(card));
        Ok(Some(OpenQuestion { question, expires_at, answer }))
    }

    async fn read_answer(&self, answer: CardAnswer<'_>) -> Result<CardVerdict, ToolError> {
        let claims = self.verify_token(TokenPurpose::Card, answer.token).await?;
        let Some(accept) = answer.accept else { return Ok(CardVerdict::Unanswered) };
        let marks = QuestionMarks::open(self.dialer).await?;
        if !self.redeem_claims(&claims).await? {
            let accepted = !marks.contains(&declined_mark(&claims.id)).await?;
            return Ok(CardVerdict::AnsweredBefore { accepted });
        }
        if !accept {
            marks.insert(&declined_mark(&claims.id)).await?;
        }
        marks.insert(&answered_mark(&claims.id)).await?;
        Ok(if accept { CardVerdict::Confirmed } else { CardVerdict::Declined })
    }

    /// Identifies the request of a question, without the session: a view may be served by another one.
    async fn question_tag(&self) -> Result<String, ToolError> {
        let secret = self.dialer.ledger().await?.secret().await?;
        let ConfirmedRequest { tool, account, arguments } = self.request;
        let parts = ["card question", account.id().as_str(), self.caller, tool.as_str(), arguments];
        let code = compute_hmac(secret.as_bytes(), &parts.map(str::as_bytes));
        Ok(base16ct::lower::encode_string(code.get(..TAG_BYTES).unwrap_or_default()))
    }
}

/// The error for a token of a yes whose order was not placed.
#[must_use]
pub fn answered_before() -> ToolError {
    reject_token("it was answered before, and no such order was placed since")
}

/// Notes that a card has shown a question, and returns the state of the question.
///
/// # Errors
/// The ledger cannot be used.
pub async fn record_shown_question(
    dialer: &Dialer,
    question_id: &str,
) -> Result<QuestionStanding, ToolError> {
    let Some((tag, token_id)) = question_id.split_once('-') else {
        return Ok(QuestionStanding::Expired);
    };
    let marks = QuestionMarks::open(dialer).await?;
    // Only for a question that was asked, so that nobody can fill the ledger.
    if question_id.len() > MAX_QUESTION_ID_CHARS || !marks.contains(&asked_mark(tag)).await? {
        return Ok(QuestionStanding::Expired);
    }
    marks.insert(&shown_mark(tag)).await?;
    Ok(match marks.contains(&answered_mark(token_id)).await? {
        true => QuestionStanding::Answered,
        false => QuestionStanding::Open,
    })
}
