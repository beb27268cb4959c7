//! A question that the human has not answered yet, and what a tool answers meanwhile. It does not know any tool.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;
use serde_with::skip_serializing_none;

use super::preview::{Preview, PreviewField};
use crate::mcp::card::CONFIRM_META;
use crate::mcp::input::arguments::Object;
use crate::mcp::reply::answer::Reply;
use crate::mcp::reply::text;

/// What the human is asked.
#[derive(Debug, Clone)]
pub struct Question {
    /// Why the human is asked.
    pub reason: String,
    /// The order that must be confirmed.
    pub preview: Preview,
}

impl Question {
    /// The question about an order that needs a yes for this reason.
    #[must_use]
    pub fn new(reason: &str, preview: Preview) -> Self {
        Self { reason: format!("You are asked because {reason}."), preview }
    }

    /// The preview and the reason as one text.
    #[must_use]
    pub fn text(&self) -> String {
        format!("{}\n\n{}", self.preview.text(), self.reason)
    }
}

/// A question that the human has not answered yet.
#[derive(Debug)]
pub struct OpenQuestion {
    pub question: Question,
    pub expires_at: Timestamp,
    pub answer: ExpectedAnswer,
}

/// How the answer comes.
#[derive(Debug)]
pub enum ExpectedAnswer {
    /// The model returns this token after a yes.
    Token { token: String, card_is_missing: bool },
    /// The human answers in the card, which asks this.
    Card(Value),
}

/// The words of one tool about its open questions.
pub struct OpenQuestionWords {
    /// The beginning of a sentence that ends with "yet", such as "Nothing was bought".
    pub nothing_done: &'static str,
    /// What the model calls after a yes.
    pub repeat: &'static str,
    /// What follows a yes in the card, as a sentence after a space.
    pub after_card: &'static str,
}

/// The fields of an answer that depend on an open question.
#[skip_serializing_none]
#[derive(Debug, Default, Serialize, JsonSchema)]
pub struct PendingFields {
    /// What to show the user.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<Object>")]
    pub preview: Vec<PreviewField>,
    /// To be brought back once the user agreed.
    pub confirmation_token: Option<String>,
    pub expires_at: Option<String>,
}

impl PendingFields {
    /// The token on a line of its own, if there is one.
    #[must_use]
    pub fn token_line(&self) -> String {
        let line = |token| format!("\nconfirmation_token: {token}");
        self.confirmation_token.as_ref().map(line).unwrap_or_default()
    }
}

impl OpenQuestion {
    #[must_use]
    pub fn is_in_card(&self) -> bool {
        matches!(self.answer, ExpectedAnswer::Card(_))
    }

    /// The reply that `build` makes of the fields and the note, with the question for the card.
    pub fn into_reply<T>(
        self,
        words: &OpenQuestionWords,
        build: impl FnOnce(PendingFields, String) -> Reply<T>,
    ) -> Reply<T> {
        let OpenQuestionWords { nothing_done, repeat, after_card } = words;
        let shown = self.question.text();
        let until = text::format_instant(self.expires_at);
        let (token, card, note) = match self.answer {
            ExpectedAnswer::Token { token, card_is_missing } => {
                let missing = match card_is_missing {
                    true => "The card in which the user was to answer did not appear. ",
                    false => "",
                };
                let note = format!(
                    "{missing}{nothing_done} yet. Show this to the user. Only if they agree, call {repeat}, before {until}:\n{shown}"
                );
                (Some(token), None, note)
            }
            ExpectedAnswer::Card(card) => {
                let note = format!(
                    "{nothing_done} yet. The user answers in the card, until {until}: wait for them, and do not answer in their place.{after_card} The card asks:\n{shown}"
                );
                (None, Some(card), note)
            }
        };
        let fields = PendingFields {
            preview: self.question.preview.fields,
            confirmation_token: token,
            expires_at: Some(until),
        };
        let reply = build(fields, note);
        match card {
            Some(card) => reply.with_meta(CONFIRM_META, card),
            None => reply,
        }
    }
}
