//! What an endpoint answers: a JSON value and how it reaches the client, or a refusal.

use std::time::Duration;

use http::StatusCode;
use serde_json::{Value, json};

/// A refusal: a status and the text of the `error` field.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    pub(super) text: String,
    pub(super) retry_after: Option<u64>,
}

impl Refusal {
    pub(super) fn new(status: StatusCode, text: impl Into<String>) -> Self {
        Self { status, text: text.into(), retry_after: None }
    }

    /// 400: the body or a parameter is not acceptable.
    pub(super) fn bad(text: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, text)
    }

    /// 404 in the API's form: `call <id> not found`.
    pub(super) fn not_found(what: &str, id: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, format!("{what} {} not found", shorten(id)))
    }

    /// 409: the state of something else forbids it.
    pub(super) fn conflict(text: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, text)
    }
}

/// Repeats a text from outside in an error without its control characters and at most 64 long.
pub(super) fn shorten(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(64).collect()
}

/// How the bytes of an answer leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Manner {
    /// At once and whole.
    Whole,
    /// Whole, after real time has passed.
    Late(Duration),
    /// Not at all: the connection is reset.
    Reset,
    /// Half of the body under the full Content-Length, then the connection is reset.
    Truncated,
    /// Whole, in small pieces over this much real time.
    Slow(Duration),
}

/// An answer ready to be sent.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Reply {
    pub(super) status: StatusCode,
    pub(super) body: Value,
    pub(super) retry_after: Option<u64>,
    pub(super) manner: Manner,
}

impl Reply {
    pub(super) fn new(status: StatusCode, body: Value) -> Self {
        Self { status, body, retry_after: None, manner: Manner::Whole }
    }

    /// 200 with a body.
    pub(super) fn ok(body: Value) -> Self {
        Self::new(StatusCode::OK, body)
    }

    /// 201 with a body.
    pub(super) fn created(body: Value) -> Self {
        Self::new(StatusCode::CREATED, body)
    }
}

impl From<Refusal> for Reply {
    fn from(refusal: Refusal) -> Self {
        Self {
            retry_after: refusal.retry_after,
            ..Self::new(refusal.status, json!({"error": refusal.text, "simulated": true}))
        }
    }
}

/// What every endpoint gives back.
pub(super) type Answer = Result<Reply, Refusal>;
