//! What a model is told when a call of it fails: what happened, whether anything was done, whether
//! it may try again, and what to do next.
//!
//! These are tool errors (`isError`), which the model reads. Protocol errors are for what only a
//! developer can mend, and are made in `gate` alone.

use std::fmt;

use serde::Serialize;

use super::offer::Offer;
use super::present;
use crate::account::{Environment, NoKey};
use crate::dialing::ledger::LedgerError;
use callingbox::{self, ApiOperation, CallId, Effect};

/// The kinds of failure a caller can tell apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Class {
    /// The arguments are not acceptable.
    InvalidArgument,
    /// No CallingBox key is set.
    NoKey,
    /// CallingBox did not accept the key.
    Unauthorized,
    /// There is no such thing in this account.
    NotFound,
    /// The state of things does not allow it.
    Conflict,
    /// The account's credit does not cover it.
    InsufficientCredit,
    /// The user's own calling rules forbid it.
    RefusedByPolicy,
    /// The human was asked and did not say yes.
    Declined,
    /// Too many requests at once.
    RateLimited,
    /// CallingBox or its provider failed, or could not be reached.
    Unavailable,
    /// It took longer than it may.
    TimedOut,
    /// The client took the request back.
    Canceled,
    /// This tool is switched off here.
    SwitchedOff,
    /// A defect in this program.
    Internal,
}

impl Class {
    /// The name as it is written on the wire and in logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::InvalidArgument => "invalid_argument",
            Self::NoKey => "no_key",
            Self::Unauthorized => "unauthorized",
            Self::NotFound => "not_found",
            Self::Conflict => "conflict",
            Self::InsufficientCredit => "insufficient_credit",
            Self::RefusedByPolicy => "refused_by_policy",
            Self::Declined => "declined",
            Self::RateLimited => "rate_limited",
            Self::Unavailable => "unavailable",
            Self::TimedOut => "timed_out",
            Self::Canceled => "canceled",
            Self::SwitchedOff => "switched_off",
            Self::Internal => "internal",
        }
    }
}

impl Serialize for Class {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// Whether calling the tool again is sensible and safe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Retry {
    /// Not before something else was changed.
    AfterChange,
    /// As it is, after a while.
    Later,
    /// No.
    No,
}

/// What to do about credit, which the simulator gives away.
const SIMULATED_CREDIT: &str = "tell the user that the simulated credit does not suffice: what is held for calls comes back when they end; POST /sandbox/credits sets it on a simulator that runs alone, and one that is started anew has $5.00 and nothing else. Numbers that end in 5550111 are always refused so.";

/// What to do where the API cannot be reached.
const DOCTOR: &str =
    "if it goes on, tell the user to run `callingbox-mcp doctor`, which finds out why.";

/// What to do where the simulator cannot be.
const NO_SIMULATOR: &str = "if it goes on, tell the user that the simulator does not answer: `callingbox-mcp sandbox` starts one, which knows nothing of what was before.";

/// Why what was there a moment ago may be there no more: a client that is started anew starts the
/// simulator inside anew.
const BEGAN_ANEW: &str = "A simulator that was started anew knows nothing of what was before.";

/// A failure as the model is told it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ToolError {
    class: Class,
    message: String,
    done: Effect,
    retry: Retry,
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    call_id: Option<CallId>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    simulated: bool,
}

impl ToolError {
    /// A failure that certainly did nothing and needs a change before it is tried again.
    #[must_use]
    pub fn new(class: Class, message: impl Into<String>) -> Self {
        Self {
            class,
            message: message.into(),
            done: Effect::Nothing,
            retry: Retry::AfterChange,
            next: None,
            call_id: None,
            simulated: false,
        }
    }

    /// The arguments are not acceptable.
    #[must_use]
    pub fn invalid_argument(message: impl Into<String>) -> Self {
        Self::new(Class::InvalidArgument, message)
    }

    /// A defect in this program: whether anything was done is not known.
    #[must_use]
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(Class::Internal, message).done(Effect::Unknown).retry(Retry::No)
    }

    /// Says whether anything was done.
    #[must_use]
    pub fn done(mut self, done: Effect) -> Self {
        self.done = done;
        self
    }

    /// Says whether it may be tried again.
    #[must_use]
    pub fn retry(mut self, retry: Retry) -> Self {
        self.retry = retry;
        self
    }

    /// Says what to do next, in sentences that name the tools: one with a tool that is not offered is
    /// left out.
    #[must_use]
    pub fn next(mut self, next: impl Into<String>) -> Self {
        self.next = Some(next.into());
        self
    }

    /// The same failure after part of the work was done: the message says which, and the next step goes
    /// on to what is left.
    #[must_use]
    pub fn in_part(mut self, message: String, left: &str) -> Self {
        self.message = message;
        self.done = Effect::Partly;
        self.next = Some(match self.next {
            Some(next) => format!("{next} {left}"),
            None => left.to_owned(),
        });
        self
    }

    /// Keeps the id of the call it is about: the id of a dispatched call is never lost.
    #[must_use]
    pub fn call_id(mut self, id: CallId) -> Self {
        self.call_id = Some(id);
        self
    }

    /// Leaves out of the next step what cannot be done with what is offered.
    #[must_use]
    pub fn within(mut self, offer: &Offer) -> Self {
        let next = self.next.map(|next| offer.fitting(&next));
        self.next = next.filter(|next| !next.is_empty());
        self
    }

    /// Says of which world it is: nobody is to add credit to an account for what the simulator refuses.
    #[must_use]
    pub fn for_environment(mut self, environment: Environment) -> Self {
        self.simulated = environment == Environment::Sandbox;
        if self.simulated {
            match self.class {
                Class::InsufficientCredit => self.next = Some(SIMULATED_CREDIT.to_owned()),
                Class::NotFound => {
                    let next = self.next.take().map_or_else(String::new, |next| next + " ");
                    self.next = Some(next + BEGAN_ANEW);
                }
                // Which world a command looks at is told by this flag alone.
                _ => {
                    self.next = self.next.map(|next| match next.as_str() {
                        DOCTOR => NO_SIMULATOR.to_owned(),
                        next => next.replace("`callingbox-mcp ", "`callingbox-mcp --sandbox "),
                    });
                }
            }
        }
        self
    }

    /// The class.
    #[must_use]
    pub fn class(&self) -> Class {
        self.class
    }

    /// What happened.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }
}

/// The text the model reads.
impl fmt::Display for ToolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.class.as_str(), self.message.trim_end_matches('.'))?;
        f.write_str(match self.done {
            Effect::Nothing => ". Nothing was done.",
            Effect::Partly => ". It was done in part.",
            Effect::Whole => ". It was done all the same.",
            Effect::Unknown => ". Whether anything was done is not known.",
        })?;
        if let Some(id) = &self.call_id {
            write!(f, " call_id: {id}.")?;
        }
        if self.simulated {
            write!(f, " {}", present::SIMULATED)?;
        }
        f.write_str(match self.retry {
            Retry::AfterChange => " Retry only after changing what is named.",
            Retry::Later => " Retrying later is safe.",
            Retry::No => " Do not retry.",
        })?;
        match &self.next {
            Some(next) => write!(f, " Next: {next}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for ToolError {}

/// How to set a key, for the model to pass on.
impl From<NoKey> for ToolError {
    fn from(error: NoKey) -> Self {
        Self::new(Class::NoKey, error.to_string()).next(
            "tell the user to run `callingbox-mcp setup` in a terminal, which asks for the key and keeps it, or to set CALLINGBOX_API_KEY (or CALLINGBOX_API_KEY_FILE) where this server is configured; then to start it again. With --sandbox it needs no key.",
        )
    }
}

/// Nothing is done that cannot be written down. Some of what keeps it from being passes by itself.
impl From<LedgerError> for ToolError {
    fn from(error: LedgerError) -> Self {
        let retry = match error {
            LedgerError::Locked | LedgerError::Server(_) => Retry::Later,
            _ => Retry::AfterChange,
        };
        Self::new(Class::Unavailable, error.to_string()).retry(retry).next(
            "tell the user what the message says; `callingbox-mcp receipts` shows the ledger.",
        )
    }
}

/// What the API's refusals and failures mean to a model.
impl From<callingbox::Error> for ToolError {
    fn from(error: callingbox::Error) -> Self {
        use callingbox::ErrorKind as Kind;
        let (class, next) = match error.kind() {
            Kind::BadRequest { .. } if error.operation() == ApiOperation::PlaceCall => (
                Class::InvalidArgument,
                Some(
                    "get_agent shows the type and the numbers of the agent. list_agents with type outbound shows those that can place calls. list_numbers shows the owned numbers, and set_agent_numbers attaches one. search_numbers finds one for sale.",
                ),
            ),
            Kind::BadRequest { .. } | Kind::Refused { .. } | Kind::Unsendable { .. } => {
                (Class::InvalidArgument, None)
            }
            Kind::Unauthorized { .. } => (
                Class::Unauthorized,
                Some(
                    "tell the user that CallingBox does not accept the API key (CALLINGBOX_API_KEY or the key file): it is wrong, expired or revoked. A new one is made in the dashboard under API keys.",
                ),
            ),
            Kind::CallsPaused { .. } | Kind::InsufficientCredit { .. } => (
                Class::InsufficientCredit,
                Some("tell the user to add credit in the CallingBox dashboard; no tool can do it."),
            ),
            Kind::NotFound { .. } => (Class::NotFound, None),
            Kind::Conflict { .. } => (Class::Conflict, None),
            Kind::RateLimited { .. } => (Class::RateLimited, None),
            Kind::Transport { .. } => (Class::Unavailable, Some(DOCTOR)),
            _ => (Class::Unavailable, None),
        };
        let retry = match (error.retry_is_safe(), error.is_transient()) {
            // Each secret replaces the one before: a second rotation does no more than the first.
            _ if error.operation() == ApiOperation::RotateWebhookSecret
                && !error.retry_is_safe() =>
            {
                Retry::Later
            }
            (true, true) => Retry::Later,
            (true, false) => Retry::AfterChange,
            (false, _) => Retry::No,
        };
        let done = error.effect();
        let mut told = Self::new(class, format!("{}: {}", error.operation(), error.kind()))
            .done(done)
            .retry(retry);
        told.next = match (done, class) {
            (Effect::Nothing, Class::NotFound) => Some(where_ids_are(error.operation())),
            (Effect::Nothing, _) | (_, Class::Unauthorized) => next.map(str::to_owned),
            _ => where_it_shows(error.operation()).map(str::to_owned),
        };
        told
    }
}

/// Which tools show what became of a write whose answer is lost, and what is to be done then.
fn where_it_shows(operation: ApiOperation) -> Option<&'static str> {
    use ApiOperation as Op;
    Some(match operation {
        Op::PlaceCall => "list_calls shows whether the call was placed.",
        Op::PurchaseNumber => "list_numbers shows whether the number was bought.",
        Op::CreateAgent => {
            "list_agents shows whether the agent is there: make it again only if it is not."
        }
        Op::UpdateAgent
        | Op::ArchiveAgent
        | Op::AttachNumber
        | Op::DetachNumber
        | Op::SetPrimaryNumber => "get_agent shows the agent as it is now.",
        Op::CreateWebhook => {
            "list_webhooks shows whether the webhook is there: make it again only if it is not. If it is, rotate_webhook_secret gives it another signing secret, for the one in the lost answer is shown nowhere else."
        }
        Op::RotateWebhookSecret => {
            "rotate_webhook_secret once more gives another one: the secret in the lost answer is shown nowhere else, and the old one may have stopped."
        }
        Op::DeleteWebhook => "list_webhooks shows whether the webhook is still there.",
        Op::UpdateWebhook => "get_webhook shows the webhook as it is now.",
        Op::RedeliverWebhook => {
            "get_webhook_delivery shows whether it was sent again, in its count of manual retries."
        }
        // A read leaves nothing to look for.
        Op::ListAgents
        | Op::GetAgent
        | Op::ListCalls
        | Op::GetCall
        | Op::GetTranscript
        | Op::ListNumbers
        | Op::SearchNumbers
        | Op::ListWebhooks
        | Op::GetWebhook
        | Op::ListWebhookDeliveries
        | Op::GetWebhookDelivery => return None,
    })
}

/// Which tools show the ids that a request may have named.
fn where_ids_are(operation: ApiOperation) -> String {
    use ApiOperation as Op;
    let tools = match operation {
        Op::PlaceCall | Op::GetAgent | Op::UpdateAgent | Op::ArchiveAgent => {
            "list_agents shows the ids of agents."
        }
        Op::ListCalls | Op::GetCall | Op::GetTranscript => "list_calls shows the ids of calls.",
        Op::AttachNumber | Op::DetachNumber | Op::SetPrimaryNumber => {
            "list_agents shows the ids of agents. list_numbers shows the ids of numbers."
        }
        Op::ListWebhooks
        | Op::CreateWebhook
        | Op::GetWebhook
        | Op::UpdateWebhook
        | Op::DeleteWebhook
        | Op::RotateWebhookSecret => "list_webhooks shows the ids of webhooks.",
        Op::ListWebhookDeliveries | Op::GetWebhookDelivery | Op::RedeliverWebhook => {
            "list_webhook_deliveries shows the ids of deliveries."
        }
        // A new agent names numbers, as the requests about numbers do.
        Op::ListAgents
        | Op::CreateAgent
        | Op::ListNumbers
        | Op::SearchNumbers
        | Op::PurchaseNumber => "list_numbers shows the ids of numbers.",
    };
    format!("{tools} Ids of another account are not found either.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_says_all_that_a_caller_needs() {
        let error = ToolError::new(Class::Unavailable, "no answer came in time")
            .done(Effect::Unknown)
            .retry(Retry::No)
            .call_id(CallId::new("c1"))
            .next("get_call_result with this call_id.");
        assert_eq!(error.clone().for_environment(Environment::Live), error);
        let simulated = error.clone().for_environment(Environment::Sandbox);
        assert_eq!(
            simulated.to_string(),
            "unavailable: no answer came in time. Whether anything was done is not known. call_id: c1. SIMULATED: the real account is not concerned. Do not retry. Next: get_call_result with this call_id."
        );
        let credit = ToolError::new(Class::InsufficientCredit, "too little").next("add credit.");
        assert!(
            credit
                .clone()
                .for_environment(Environment::Live)
                .to_string()
                .ends_with("Next: add credit.")
        );
        let simulated_credit = credit.for_environment(Environment::Sandbox).to_string();
        assert!(simulated_credit.ends_with(SIMULATED_CREDIT), "{simulated_credit}");
        let unknown = ToolError::new(Class::NotFound, "no such call").next("look at list_calls.");
        assert_eq!(
            unknown.for_environment(Environment::Sandbox).to_string(),
            format!(
                "not_found: no such call. Nothing was done. SIMULATED: the real account is not concerned. Retry only after changing what is named. Next: look at list_calls. {BEGAN_ANEW}"
            )
        );
        let next = |next: &str| {
            let error = ToolError::new(Class::Unavailable, "nothing answers").next(next);
            error.for_environment(Environment::Sandbox).next.unwrap()
        };
        assert_eq!(next(DOCTOR), NO_SIMULATOR);
        assert_eq!(
            next("`callingbox-mcp receipts` shows the ledger."),
            "`callingbox-mcp --sandbox receipts` shows the ledger."
        );
        assert_eq!(serde_json::to_value(&simulated).unwrap()["simulated"], true);
        assert_eq!(
            error.to_string(),
            "unavailable: no answer came in time. Whether anything was done is not known. call_id: c1. Do not retry. Next: get_call_result with this call_id."
        );
        assert_eq!(
            serde_json::to_value(&error).unwrap(),
            serde_json::json!({
                "class": "unavailable",
                "message": "no answer came in time",
                "done": "unknown",
                "retry": "no",
                "next": "get_call_result with this call_id.",
                "call_id": "c1",
            })
        );
    }
}
