//! What a handler returns: a JSON reply and how it is to be delivered, or an error.

use std::time::Duration;

use http::StatusCode;
use serde_json::{Value, json};

use crate::engine::InsufficientCredit;
use crate::model::calls_paused_message;
use crate::store::{KeyError, MAX_ORGANIZATIONS};

/// An error answer: a status and the text of its `error` field.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ApiError {
    pub(crate) status: StatusCode,
    pub(crate) message: String,
    pub(crate) retry_after: Option<u64>,
}

impl ApiError {
    pub(crate) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into(), retry_after: None }
    }

    /// 400: the body or a parameter is not acceptable.
    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    /// 400 for a value of the wrong form: `to must be a string`.
    pub(crate) fn invalid_value(name: &str, expected: &str) -> Self {
        Self::bad_request(format!("{name} must be {expected}"))
    }

    /// 404 in the API's words: `call <id> not found`.
    pub(crate) fn not_found(what: &str, id: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, format!("{what} {} not found", sanitize_input(id)))
    }

    /// 409: the state of another entity forbids it.
    pub(crate) fn conflict(message: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, message)
    }

    /// 401, the same for a missing and an invalid key.
    pub(crate) fn unauthorized() -> Self {
        Self::new(
            StatusCode::UNAUTHORIZED,
            "missing or invalid API key; send Authorization: Bearer sk_… (the simulator takes any sk_ key)",
        )
    }
}

impl From<KeyError> for ApiError {
    fn from(error: KeyError) -> Self {
        match error {
            KeyError::Invalid => Self::unauthorized(),
            KeyError::TooManyOrganizations => Self::new(
                StatusCode::SERVICE_UNAVAILABLE,
                format!("this simulator keeps at most {MAX_ORGANIZATIONS} organizations"),
            ),
        }
    }
}

impl From<InsufficientCredit> for ApiError {
    fn from(error: InsufficientCredit) -> Self {
        Self::new(StatusCode::PAYMENT_REQUIRED, calls_paused_message(error.available))
    }
}

/// Repeats a client's text in an error: without control characters, and at most 64 characters of it.
pub(crate) fn sanitize_input(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(64).collect()
}

/// How the bytes of a reply are delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DeliveryMode {
    /// Immediately and whole.
    Whole,
    /// Whole, after this much real time.
    Late(Duration),
    /// Not at all: the connection is reset.
    Reset,
    /// Half of the body under the full `Content-Length`, and then the connection ends.
    Truncated,
    /// Whole, in small pieces over this much real time.
    Slow(Duration),
}

/// A reply to be delivered.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) body: Value,
    pub(crate) retry_after: Option<u64>,
    pub(crate) mode: DeliveryMode,
}

impl Reply {
    pub(crate) fn new(status: StatusCode, body: Value) -> Self {
        Self { status, body, retry_after: None, mode: DeliveryMode::Whole }
    }

    /// 200 with a body.
    pub(crate) fn ok(body: Value) -> Self {
        Self::new(StatusCode::OK, body)
    }

    /// 201 with a body.
    pub(crate) fn created(body: Value) -> Self {
        Self::new(StatusCode::CREATED, body)
    }
}

impl From<ApiError> for Reply {
    fn from(error: ApiError) -> Self {
        Self {
            retry_after: error.retry_after,
            ..Self::new(error.status, json!({"error": error.message, "simulated": true}))
        }
    }
}

pub(crate) type HandlerResult = Result<Reply, ApiError>;
