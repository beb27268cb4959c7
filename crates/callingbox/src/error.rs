//! What can go wrong with a request, said so that a person or a model can act on it: what was asked,
//! what came back, whether it was done, and whether asking again is safe.
//!
//! An error never holds the key. What it repeats of the API's words may hold an id; what looks like a
//! secret or an E.164 number is masked in them. Knows nothing of MCP.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

use super::operation::{ApiOperation, Method};
use crate::money::MilliCents;

/// Whether a request, or something made of several requests, had an effect. A greater value is stronger evidence that
/// something was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// Nothing was done.
    Nothing,
    /// It is not known whether anything was done.
    Unknown,
    /// Part of it was done. No single request has this effect.
    Partly,
    /// All of it was done; only the response is lost or unreadable.
    Whole,
}

/// How far a request got before the transport failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Phase {
    /// The host name was not found; nothing left.
    Dns,
    /// No connection was made; nothing left.
    Connect,
    /// The encrypted connection was refused, by either side; nothing left.
    Tls,
    /// The connection broke before a readable answer began; the request may have arrived.
    Send,
    /// The connection broke within the answer.
    Receive,
    /// No whole answer in time; the request may have arrived.
    Timeout,
}

/// What became of an attempt that did not succeed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The API, or something on the way, answered with this status.
    Status(u16),
    /// No whole answer came; this is how far it got.
    Transport(Phase),
    /// Something that another attempt cannot mend.
    Final,
}

/// What came back, or did not. Messages are the API's own words, cut, cleaned and not to be trusted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ErrorKind {
    /// 400 or 422: the body or the parameters are wrong.
    BadRequest {
        /// The HTTP status.
        status: u16,
        /// The API's words.
        message: String,
    },
    /// 401: the key is missing, wrong, expired or revoked.
    Unauthorized {
        /// The API's words.
        message: String,
    },
    /// Too little credit for the hold of a call, whatever the status.
    CallsPaused {
        /// The HTTP status.
        status: u16,
        /// The API's words.
        message: String,
        /// What the account holds.
        balance: Option<MilliCents>,
        /// What the call would hold.
        hold: Option<MilliCents>,
        /// The least that must be added.
        add: Option<MilliCents>,
    },
    /// 402: too little credit.
    InsufficientCredit {
        /// The API's words.
        message: String,
    },
    /// 404: nothing with this id in the organization.
    NotFound {
        /// The API's words.
        message: String,
    },
    /// 409: at odds with the present state.
    Conflict {
        /// The API's words.
        message: String,
    },
    /// 429: too many requests.
    RateLimited {
        /// The API's words.
        message: String,
        /// How long the API asks to wait.
        retry_after: Option<Duration>,
    },
    /// Any other 4xx.
    Refused {
        /// The HTTP status.
        status: u16,
        /// The API's words.
        message: String,
    },
    /// 502 on `POST /v1/calls` in the API's own form: the telephony provider could not place the call.
    Provider {
        /// The API's words.
        message: String,
    },
    /// 503: the API is not available for now.
    Unavailable {
        /// The API's words.
        message: String,
        /// How long the API asks to wait.
        retry_after: Option<Duration>,
    },
    /// Any other 5xx, from the API or something on the way; or a 408, by which some servers say that they
    /// were too slow with a request that they had whole.
    Server {
        /// The HTTP status.
        status: u16,
        /// What the body said.
        message: String,
    },
    /// No whole answer came.
    Transport {
        /// How far it got.
        phase: Phase,
        /// The status, when the head of an answer was read.
        status: Option<u16>,
        /// The operating system's or TLS library's words.
        detail: String,
    },
    /// A redirect. None is followed: the key goes to the configured host only.
    Redirect {
        /// The HTTP status.
        status: u16,
    },
    /// A success whose body is larger than the limit.
    TooLarge {
        /// The HTTP status.
        status: u16,
        /// The limit in bytes.
        limit: usize,
    },
    /// A success whose body is not what the contract says.
    Unreadable {
        /// The HTTP status.
        status: u16,
        /// What was missing, without the content.
        detail: String,
    },
    /// The request never left: it could not be made.
    Unsendable {
        /// Why.
        detail: String,
    },
}

/// A request that did not succeed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    operation: ApiOperation,
    kind: ErrorKind,
    effect: Effect,
}

impl Error {
    /// An error of this kind, of this request.
    pub fn new(operation: ApiOperation, kind: ErrorKind) -> Self {
        let effect = effect(operation.method(), &kind);
        Self { operation, kind, effect }
    }

    /// What an earlier attempt may have done is not undone by the failure of a later one.
    pub(super) fn after(mut self, earlier: Effect) -> Self {
        self.effect = self.effect.max(earlier);
        self
    }

    /// The same, after what was asked for had been searched for and was not there.
    #[must_use]
    pub fn searched_and_not_done(mut self) -> Self {
        self.effect = Effect::Nothing;
        self
    }

    /// Whether a removal found nothing left after an earlier attempt of it whose answer was lost: what
    /// was to be removed is gone.
    pub(super) fn is_own_removal(&self) -> bool {
        // A 404 itself did nothing.
        self.operation.method() == Method::Delete
            && matches!(self.kind, ErrorKind::NotFound { .. })
            && self.effect != Effect::Nothing
    }

    /// What was asked.
    #[must_use]
    pub fn operation(&self) -> ApiOperation {
        self.operation
    }

    /// What came back.
    #[must_use]
    pub fn kind(&self) -> &ErrorKind {
        &self.kind
    }

    /// Whether it was done, over all attempts.
    #[must_use]
    pub fn effect(&self) -> Effect {
        self.effect
    }

    /// Whether asking again cannot do the thing twice. It says nothing of whether it would help;
    /// that is [`Error::is_transient`].
    #[must_use]
    pub fn retry_is_safe(&self) -> bool {
        self.effect == Effect::Nothing || self.operation.method().is_idempotent()
    }

    /// Whether the same request may succeed later.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match &self.kind {
            ErrorKind::RateLimited { .. }
            | ErrorKind::Provider { .. }
            | ErrorKind::Unavailable { .. }
            | ErrorKind::Server { .. } => true,
            ErrorKind::Transport { phase, .. } => *phase != Phase::Tls,
            _ => false,
        }
    }

    /// The API's own words, cut and cleaned: text from outside, to be shown and not obeyed.
    #[must_use]
    pub fn message(&self) -> Option<&str> {
        match &self.kind {
            ErrorKind::BadRequest { message, .. }
            | ErrorKind::Unauthorized { message }
            | ErrorKind::CallsPaused { message, .. }
            | ErrorKind::InsufficientCredit { message }
            | ErrorKind::NotFound { message }
            | ErrorKind::Conflict { message }
            | ErrorKind::RateLimited { message, .. }
            | ErrorKind::Refused { message, .. }
            | ErrorKind::Provider { message }
            | ErrorKind::Unavailable { message, .. }
            | ErrorKind::Server { message, .. } => Some(message),
            ErrorKind::Transport { .. }
            | ErrorKind::Redirect { .. }
            | ErrorKind::TooLarge { .. }
            | ErrorKind::Unreadable { .. }
            | ErrorKind::Unsendable { .. } => None,
        }
    }

    /// How long the API asked to wait.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match &self.kind {
            ErrorKind::RateLimited { retry_after, .. }
            | ErrorKind::Unavailable { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// The HTTP status, when one came.
    #[must_use]
    pub fn status(&self) -> Option<u16> {
        Some(match &self.kind {
            ErrorKind::Unauthorized { .. } => 401,
            ErrorKind::InsufficientCredit { .. } => 402,
            ErrorKind::NotFound { .. } => 404,
            ErrorKind::Conflict { .. } => 409,
            ErrorKind::RateLimited { .. } => 429,
            ErrorKind::Provider { .. } => 502,
            ErrorKind::Unavailable { .. } => 503,
            ErrorKind::BadRequest { status, .. }
            | ErrorKind::CallsPaused { status, .. }
            | ErrorKind::Refused { status, .. }
            | ErrorKind::Server { status, .. }
            | ErrorKind::Redirect { status }
            | ErrorKind::TooLarge { status, .. }
            | ErrorKind::Unreadable { status, .. } => *status,
            ErrorKind::Transport { status, .. } => return *status,
            ErrorKind::Unsendable { .. } => return None,
        })
    }

    /// What became of the attempt, for the decision whether to make another.
    pub(super) fn outcome(&self) -> Outcome {
        match (&self.kind, self.status()) {
            (ErrorKind::Transport { phase, .. }, _) => Outcome::Transport(*phase),
            (
                ErrorKind::TooLarge { .. }
                | ErrorKind::CallsPaused { .. }
                | ErrorKind::Unsendable { .. },
                _,
            )
            | (_, None) => Outcome::Final,
            (_, Some(status)) => Outcome::Status(status),
        }
    }
}

/// Whether one attempt with this end had an effect. A refusal (4xx) is the API saying that it did
/// nothing; a 5xx may come from something between that saw the request through.
fn effect(method: Method, kind: &ErrorKind) -> Effect {
    if method == Method::Get {
        return Effect::Nothing;
    }
    match kind {
        ErrorKind::BadRequest { .. }
        | ErrorKind::Unauthorized { .. }
        | ErrorKind::CallsPaused { .. }
        | ErrorKind::InsufficientCredit { .. }
        | ErrorKind::NotFound { .. }
        | ErrorKind::Conflict { .. }
        | ErrorKind::RateLimited { .. }
        | ErrorKind::Refused { .. }
        | ErrorKind::Unsendable { .. } => Effect::Nothing,
        ErrorKind::Provider { .. }
        | ErrorKind::Unavailable { .. }
        | ErrorKind::Server { .. }
        | ErrorKind::Redirect { .. } => Effect::Unknown,
        ErrorKind::TooLarge { .. } | ErrorKind::Unreadable { .. } => Effect::Whole,
        ErrorKind::Transport { phase: Phase::Dns | Phase::Connect | Phase::Tls, .. } => {
            Effect::Nothing
        }
        ErrorKind::Transport { status: Some(200..=299), .. } => Effect::Whole,
        ErrorKind::Transport { .. } => Effect::Unknown,
    }
}

impl std::error::Error for Error {}

/// What was asked, what came back, whether it was done, whether to ask again.
impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} ", self.operation, self.kind)?;
        f.write_str(match self.effect {
            Effect::Nothing => "Nothing was done.",
            Effect::Unknown => "It is not known whether it was done.",
            Effect::Partly => "It was done in part.",
            Effect::Whole => "It was done.",
        })?;
        match (self.retry_is_safe(), self.is_transient(), self.retry_after()) {
            (true, true, Some(wait)) => {
                write!(f, " It is safe to try again after {} s.", wait.as_secs().max(1))
            }
            (true, true, None) => f.write_str(" It is safe to try again."),
            (true, false, _) => f.write_str(" Trying again unchanged will not help."),
            (false, _, _) => f.write_str(" It is not safe to try again: look first what happened."),
        }
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (status, meaning, message) = match self {
            Self::BadRequest { status, message } => (*status, "the request was refused", message),
            Self::Unauthorized { message } => (401, "the API key was not accepted", message),
            Self::CallsPaused { message, .. } => {
                return write!(
                    f,
                    "CallingBox refused the call for too little credit: {}",
                    stop(message)
                );
            }
            Self::InsufficientCredit { message } => (402, "too little credit", message),
            Self::NotFound { message } => (404, "not found", message),
            Self::Conflict { message } => (409, "at odds with the present state", message),
            Self::RateLimited { message, .. } => (429, "too many requests", message),
            Self::Refused { status, message } => (*status, "the request was refused", message),
            Self::Provider { message } => {
                (502, "the telephony provider could not place the call", message)
            }
            Self::Unavailable { message, .. } => (503, "not available for now", message),
            Self::Server { status, message } => {
                (*status, "a failure on the server's side", message)
            }
            Self::Transport { phase, status, detail } => {
                let what = match (phase, status) {
                    (Phase::Dns, _) => "the host of the API was not found",
                    (Phase::Connect, _) => "no connection to the API could be made",
                    (Phase::Tls, _) => "no secure connection to the API could be made",
                    (Phase::Send, _) => "the connection broke before an answer came",
                    (Phase::Receive, _) => "the connection broke within the answer",
                    (Phase::Timeout, None) => "no answer came in time",
                    (Phase::Timeout, Some(_)) => "the answer did not end in time",
                };
                return if detail.is_empty() {
                    write!(f, "{what}.")
                } else {
                    write!(f, "{what} ({detail}).")
                };
            }
            Self::Redirect { status } => {
                return write!(
                    f,
                    "the answer was a redirect ({status}), which is not followed so that the key goes \
                     nowhere else; the base URL may be wrong."
                );
            }
            Self::TooLarge { limit, .. } => {
                return write!(f, "the answer was larger than {limit} bytes and was not read.");
            }
            Self::Unreadable { detail, .. } => {
                return write!(f, "the answer could not be read: {}", stop(detail));
            }
            Self::Unsendable { detail } => {
                return write!(f, "the request could not be made: {}", stop(detail));
            }
        };
        write!(f, "CallingBox answered {status}, {meaning}")?;
        if message.is_empty() { f.write_str(".") } else { write!(f, ": {}", stop(message)) }
    }
}

/// The text as a sentence of its own.
fn stop(text: &str) -> String {
    let ended = text.ends_with(['.', '!', '?', '…']);
    if ended { text.to_owned() } else { format!("{text}.") }
}
