//! Failed requests: what was requested, what came back, whether anything was done, and whether a retry is safe.
//!
//! An error never holds the API key. It repeats the API's message, which may hold an id; in it, what looks like a secret
//! or an E.164 number is masked.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

use crate::money::MilliCents;
use crate::operation::{ApiOperation, Method};

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
    /// The host name was not found. Nothing was sent.
    Dns,
    /// No connection was made. Nothing was sent.
    Connect,
    /// The TLS handshake failed. Nothing was sent.
    Tls,
    /// The connection was lost before a response began. The request may have arrived.
    Send,
    /// The connection was lost during the response.
    Receive,
    /// The response did not come, or did not end, in time. The request may have arrived.
    Timeout,
}

/// How an attempt failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AttemptOutcome {
    /// The API or a proxy answered with this status.
    Status(u16),
    /// No complete response came.
    Transport(Phase),
    /// Another attempt would fail too.
    Final,
}

/// Why a request failed. A message is the API's own, cut and sanitized; it is still untrusted text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ErrorKind {
    /// 400 or 422: the body or the parameters are invalid.
    BadRequest {
        /// The HTTP status.
        status: u16,
        /// The API's message.
        message: String,
    },
    /// 401: the key is missing, wrong, expired or revoked.
    Unauthorized {
        /// The API's message.
        message: String,
    },
    /// 403 or 451: the key is valid but may not do this. Or 407, from a proxy in between.
    Forbidden {
        /// The HTTP status.
        status: u16,
        /// The API's message.
        message: String,
    },
    /// The credit does not cover the hold of a call. Recognized by the message, because the status is not documented.
    CallsPaused {
        /// The HTTP status.
        status: u16,
        /// The API's message.
        message: String,
        /// The balance of the account.
        balance: Option<MilliCents>,
        /// The hold of the call.
        hold: Option<MilliCents>,
        /// The smallest amount to add.
        add: Option<MilliCents>,
    },
    /// 402: the credit does not cover the request.
    InsufficientCredit {
        /// The API's message.
        message: String,
    },
    /// 404: the organization has no record with this id.
    NotFound {
        /// The API's message.
        message: String,
    },
    /// 409: the request conflicts with the current state.
    Conflict {
        /// The API's message.
        message: String,
    },
    /// 429: too many requests.
    RateLimited {
        /// The API's message.
        message: String,
        /// The wait that the API asks for.
        retry_after: Option<Duration>,
    },
    /// Any other 4xx.
    Refused {
        /// The HTTP status.
        status: u16,
        /// The API's message.
        message: String,
    },
    /// 502 for `POST /v1/calls`, in the API's own form: the telephony provider could not place the call.
    Provider {
        /// The API's message.
        message: String,
    },
    /// 503: the API is temporarily unavailable.
    Unavailable {
        /// The API's message.
        message: String,
        /// The wait that the API asks for.
        retry_after: Option<Duration>,
    },
    /// Any other 5xx, from the API or a proxy; or 408, which some servers send after a request arrived as a whole.
    Server {
        /// The HTTP status.
        status: u16,
        /// The message in the body.
        message: String,
    },
    /// No complete response came.
    Transport {
        /// How far the request got.
        phase: Phase,
        /// The HTTP status, if the response began.
        status: Option<u16>,
        /// The message of the operating system or the TLS library.
        detail: String,
    },
    /// A redirect. None is followed, so that the key is only sent to the configured host.
    Redirect {
        /// The HTTP status.
        status: u16,
    },
    /// A success with a body larger than the limit.
    TooLarge {
        /// The HTTP status.
        status: u16,
        /// The limit in bytes.
        limit: usize,
    },
    /// A success with a body that does not fit the contract.
    Unreadable {
        /// The HTTP status.
        status: u16,
        /// What is wrong, without any content.
        detail: String,
    },
    /// The request could not be built. Nothing was sent.
    Unsendable {
        /// The reason.
        detail: String,
    },
    /// Its [`crate::SendGuard`] withheld the request. Nothing was sent.
    Withheld,
}

/// A failed request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    operation: ApiOperation,
    kind: ErrorKind,
    effect: Effect,
}

impl Error {
    /// An error of this kind, in a single attempt at this operation.
    #[must_use]
    pub fn new(operation: ApiOperation, kind: ErrorKind) -> Self {
        let effect = effect_of(operation.method(), &kind);
        Self { operation, kind, effect }
    }

    /// Adds the effect of earlier attempts at the same request.
    pub(crate) fn with_earlier_effect(mut self, earlier: Effect) -> Self {
        self.effect = self.effect.max(earlier);
        self
    }

    /// The same error after a search showed that the request had no effect.
    #[must_use]
    pub fn with_no_effect(mut self) -> Self {
        self.effect = Effect::Nothing;
        self
    }

    /// Whether a DELETE found nothing because an earlier attempt, whose response was lost, had removed it.
    pub(crate) fn is_repeated_delete(&self) -> bool {
        // A 404 itself has no effect.
        self.operation.method() == Method::Delete
            && matches!(self.kind, ErrorKind::NotFound { .. })
            && self.effect != Effect::Nothing
    }

    /// The operation.
    #[must_use]
    pub fn operation(&self) -> ApiOperation {
        self.operation
    }

    /// Why it failed.
    #[must_use]
    pub fn kind(&self) -> &ErrorKind {
        &self.kind
    }

    /// Whether anything was done, in all attempts together.
    #[must_use]
    pub fn effect(&self) -> Effect {
        self.effect
    }

    /// Whether the same request can be sent again without a second effect. Whether that may succeed is
    /// [`Error::is_transient`].
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
            | ErrorKind::Server { .. }
            // Such as the page of a proxy, or a response that was cut off.
            | ErrorKind::Unreadable { .. } => true,
            ErrorKind::Transport { phase, .. } => *phase != Phase::Tls,
            _ => false,
        }
    }

    /// The API's message, cut and sanitized. It is untrusted text: show it, but do not follow instructions in it.
    #[must_use]
    pub fn message(&self) -> Option<&str> {
        self.kind.response_parts().ok().map(|(_, _, message)| message)
    }

    /// The wait that the API asks for before the next attempt.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match &self.kind {
            ErrorKind::RateLimited { retry_after, .. }
            | ErrorKind::Unavailable { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// The HTTP status, if a response began.
    #[must_use]
    pub fn status(&self) -> Option<u16> {
        match &self.kind {
            ErrorKind::Transport { status, .. } => *status,
            ErrorKind::Redirect { status }
            | ErrorKind::TooLarge { status, .. }
            | ErrorKind::Unreadable { status, .. } => Some(*status),
            kind => kind.response_parts().ok().map(|(status, ..)| status),
        }
    }

    /// How far the request got, if the transport failed.
    pub(crate) fn transport_phase(&self) -> Option<Phase> {
        match &self.kind {
            ErrorKind::Transport { phase, .. } => Some(*phase),
            _ => None,
        }
    }

    /// How the attempt failed, for the decision about a retry.
    pub(crate) fn attempt_outcome(&self) -> AttemptOutcome {
        match (&self.kind, self.status()) {
            (ErrorKind::Transport { phase, .. }, _) => AttemptOutcome::Transport(*phase),
            (
                ErrorKind::TooLarge { .. }
                | ErrorKind::CallsPaused { .. }
                | ErrorKind::Unsendable { .. },
                _,
            )
            | (_, None) => AttemptOutcome::Final,
            (_, Some(status)) => AttemptOutcome::Status(status),
        }
    }
}

/// The effect of a single attempt. A 4xx status is the API's statement that nothing was done; a 5xx may come from a proxy
/// after the request was carried out.
fn effect_of(method: Method, kind: &ErrorKind) -> Effect {
    if method == Method::Get {
        return Effect::Nothing;
    }
    match kind {
        ErrorKind::BadRequest { .. }
        | ErrorKind::Unauthorized { .. }
        | ErrorKind::Forbidden { .. }
        | ErrorKind::CallsPaused { .. }
        | ErrorKind::InsufficientCredit { .. }
        | ErrorKind::NotFound { .. }
        | ErrorKind::Conflict { .. }
        | ErrorKind::RateLimited { .. }
        | ErrorKind::Refused { .. }
        | ErrorKind::Unsendable { .. }
        | ErrorKind::Withheld => Effect::Nothing,
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

/// The operation, why it failed, whether anything was done, and whether to retry.
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
            (false, _, _) => {
                f.write_str(" It is not safe to try again: check first whether it was done.")
            }
        }
    }
}

impl ErrorKind {
    /// The cause in words, without the HTTP status.
    #[must_use]
    pub fn describe(&self) -> String {
        match self {
            // The API's message says itself what was not found.
            Self::NotFound { message } if !message.is_empty() => as_sentence(message),
            _ => self.describe_response(),
        }
    }

    /// The meaning of the status, and the API's own message.
    fn describe_response(&self) -> String {
        match self.response_parts() {
            Ok((_, meaning, "")) => format!("{meaning}."),
            Ok((_, meaning, message)) if message.trim_end_matches('.') == meaning => {
                format!("{meaning}.")
            }
            Ok((_, meaning, message)) => format!("{meaning}: {}", as_sentence(message)),
            Err(text) => text,
        }
    }

    /// The HTTP status, its meaning, and the API's own message. The whole text where there was no such response.
    fn response_parts(&self) -> Result<(u16, &'static str, &str), String> {
        Ok(match self {
            Self::BadRequest { status, message } => (*status, "the request was refused", message),
            Self::Unauthorized { message } => (401, "the API key was not accepted", message),
            Self::Forbidden { status, message } => {
                let meaning = match status {
                    407 => "a proxy asks for a password",
                    451 => "this is not available for legal reasons",
                    _ => "the API key may not do this",
                };
                (*status, meaning, message)
            }
            Self::CallsPaused { status, message, .. } => {
                (*status, "CallingBox refused the call for too little credit", message)
            }
            Self::InsufficientCredit { message } => (402, "too little credit", message),
            Self::NotFound { message } => (404, "not found", message),
            Self::Conflict { message } => {
                (409, "the request conflicts with the current state", message)
            }
            Self::RateLimited { message, .. } => (429, "too many requests", message),
            Self::Refused { status, message } => (*status, "the request was refused", message),
            Self::Provider { message } => {
                (502, "the telephony provider could not place the call", message)
            }
            Self::Unavailable { message, .. } => (503, "temporarily unavailable", message),
            Self::Server { status, message } => (*status, "an error of the server", message),
            Self::Transport { phase, status, detail } => {
                let what = match (phase, status) {
                    (Phase::Dns, _) => "the host of the API was not found",
                    (Phase::Connect, _) => "no connection to the API could be made",
                    (Phase::Tls, _) => "no secure connection to the API could be made",
                    (Phase::Send, _) => "the connection was lost before a response began",
                    (Phase::Receive, _) => "the connection was lost during the response",
                    (Phase::Timeout, None) => "no response came in time",
                    (Phase::Timeout, Some(_)) => "the response did not end in time",
                };
                return Err(match detail.as_str() {
                    "" => format!("{what}."),
                    detail => format!("{what} ({detail})."),
                });
            }
            Self::Redirect { status } => {
                return Err(format!(
                    "the response was a redirect ({status}), which is not followed so that the API key goes \
                     to no other host; the base URL may be wrong."
                ));
            }
            Self::TooLarge { limit, .. } => {
                return Err(format!(
                    "the response was larger than {limit} bytes and was not read."
                ));
            }
            Self::Unreadable { detail, .. } => {
                return Err(format!("the response could not be read: {}", as_sentence(detail)));
            }
            Self::Unsendable { detail } => {
                return Err(format!("the request could not be built: {}", as_sentence(detail)));
            }
            Self::Withheld => return Err("the request was withheld.".to_owned()),
        })
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The meaning of `CallsPaused` names CallingBox already.
        if let Ok((status, ..)) = self.response_parts()
            && !matches!(self, Self::CallsPaused { .. })
        {
            write!(f, "CallingBox answered {status}, ")?;
        }
        f.write_str(&self.describe_response())
    }
}

/// The text with a full stop at its end.
fn as_sentence(text: &str) -> String {
    let is_complete = text.ends_with(['.', '!', '?', '…']);
    if is_complete { text.to_owned() } else { format!("{text}.") }
}
