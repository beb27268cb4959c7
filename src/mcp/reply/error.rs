//! Errors of tool calls: what happened, whether anything was done, whether a retry is safe, and what to do next.
//!
//! These are tool errors (`isError`), which the model reads. Protocol errors are for mistakes that only a developer
//! can fix; `pipeline` creates them.

use std::fmt;

use serde::Serialize;
use serde_with::skip_serializing_none;

use crate::account::{Environment, MissingApiKey};
use crate::dialing::ledger::LedgerError;
use crate::dialing::organization::UnknownAccount;
use crate::mcp::registry::available::AvailableTools;
use crate::mcp::registry::name::ToolName;
use crate::mcp::reply::next_step::{self, NextStep};
use crate::mcp::reply::text;
use crate::own_command::own_command;
use callingbox::{self, ApiOperation, CallId, Effect};

/// The kinds of errors that a caller can distinguish.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorCode {
    /// The arguments are not acceptable.
    InvalidArgument,
    /// No CallingBox key is set.
    NoKey,
    /// CallingBox did not accept the key.
    Unauthorized,
    /// The account has no such record.
    NotFound,
    /// The present state does not allow it.
    Conflict,
    /// The account's credit does not cover it.
    InsufficientCredit,
    /// The user's own calling rules forbid it.
    RefusedByPolicy,
    /// The human was asked and did not say yes.
    Declined,
    /// Too many requests in a short time.
    RateLimited,
    /// CallingBox or its provider failed, or could not be reached.
    Unavailable,
    /// The deadline passed.
    TimedOut,
    /// The client cancelled the request.
    Canceled,
    /// The tool is not offered here.
    SwitchedOff,
    /// A defect in this program.
    Internal,
}

impl ErrorCode {
    /// The name on the wire and in logs.
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

impl Serialize for ErrorCode {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// Whether a retry is useful and safe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Retry {
    /// Only after a change.
    AfterChange,
    /// Unchanged, after some time.
    Later,
    /// No.
    No,
}

/// The remedy for missing credit on the simulator.
const ADD_SIMULATED_CREDIT: NextStep = NextStep::person(
    "To run more calls at a time, tell the user to restart the simulator with --sandbox-credit=1000 (the command `sandbox` has --credit). Calls to numbers that end in 5550111 are always refused for lack of credit.",
);

/// What to do where the API cannot be reached.
const DIAGNOSE: NextStep =
    NextStep::Command { args: "doctor", hint: "diagnoses the connection to CallingBox" };

/// The same where the simulator cannot be reached.
fn restart_simulator() -> NextStep {
    let program = own_command();
    NextStep::Person(
        format!("If this continues, tell the user that the simulator does not answer: `{program} sandbox` starts another one, without the earlier records.").into(),
    )
}

/// Why a record that was there a moment ago may be gone: a client that restarts also restarts the simulator
/// inside this server.
const RESTARTED: &str = "a simulator that was restarted has lost all earlier records";

/// The error of a tool call, and what its caller can do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToolError {
    class: ErrorCode,
    message: String,
    effect: Effect,
    retry: Retry,
    next: Vec<NextStep>,
    remedy: Option<String>,
    call_id: Option<CallId>,
    /// The request of the API that failed, and the HTTP status if there was a response.
    request: Option<(ApiOperation, Option<u16>)>,
}

impl ToolError {
    /// Whether a request to the API failed with it.
    #[must_use]
    pub const fn is_from_api(&self) -> bool {
        self.request.is_some()
    }

    /// An error that certainly did nothing and needs a change before a retry.
    #[must_use]
    pub fn new(class: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            class,
            message: message.into(),
            effect: Effect::Nothing,
            retry: Retry::AfterChange,
            next: Vec::new(),
            remedy: None,
            request: None,
            call_id: None,
        }
    }

    /// The arguments are not acceptable.
    #[must_use]
    pub fn invalid_argument(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::InvalidArgument, message)
    }

    /// A defect in this program: whether anything was done is not known.
    #[must_use]
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::Internal, message).with_effect(Effect::Unknown).with_retry(Retry::No)
    }

    #[must_use]
    pub fn with_effect(mut self, effect: Effect) -> Self {
        self.effect = effect;
        self
    }

    #[must_use]
    pub fn with_retry(mut self, retry: Retry) -> Self {
        self.retry = retry;
        self
    }

    /// Replaces the next steps.
    #[must_use]
    pub fn with_next(mut self, steps: impl Into<Vec<NextStep>>) -> Self {
        self.next = steps.into();
        self
    }

    /// Adds what only a person can change. It is in the data for programs, not in the text that the model reads.
    #[must_use]
    pub fn with_remedy(mut self, remedy: String) -> Self {
        self.remedy = Some(remedy);
        self
    }

    /// Adds a next step after the others.
    #[must_use]
    pub fn with_next_also(mut self, step: NextStep) -> Self {
        self.next.push(step);
        self
    }

    /// Replaces the message.
    #[must_use]
    pub fn with_message(mut self, message: String) -> Self {
        self.message = message;
        self
    }

    /// The same error after part of the work was done: the message names the part, and `step` continues with the rest.
    #[must_use]
    pub fn partial(self, message: String, step: NextStep) -> Self {
        self.with_message(message).with_effect(Effect::Partly).with_next_also(step)
    }

    /// Adds the id of the call concerned. The id of a dispatched call is never lost.
    #[must_use]
    pub fn with_call_id(mut self, id: CallId) -> Self {
        self.call_id = Some(id);
        self
    }

    /// Adapts the error to its environment: a refusal of the simulator must not lead a user to add credit to the real
    /// account.
    fn for_environment(mut self, environment: Environment) -> Self {
        if environment == Environment::Sandbox {
            match self.class {
                ErrorCode::InsufficientCredit => {
                    let steps = self.next.iter_mut().filter(|step| **step == ADD_CREDIT);
                    steps.for_each(|step| *step = ADD_SIMULATED_CREDIT);
                }
                ErrorCode::NotFound => {
                    self.message = format!("{}; {RESTARTED}", self.message.trim_end_matches('.'));
                }
                _ => {
                    let steps = self.next.iter_mut().filter(|step| **step == DIAGNOSE);
                    steps.for_each(|step| *step = restart_simulator());
                }
            }
        }
        self
    }

    /// The failure as one caller reads it.
    #[must_use]
    pub fn report(self, tools: &AvailableTools) -> ErrorReport {
        let error = self.for_environment(tools.environment());
        let next = next_step::render(&error.next, tools);
        ErrorReport {
            class: error.class,
            message: error.message,
            effect: error.effect,
            retry: error.retry,
            next: (!next.is_empty()).then_some(next),
            remedy: error.remedy,
            request: error.request.map(|(operation, _)| operation.to_string()),
            status: error.request.and_then(|(_, status)| status),
            call_id: error.call_id,
            simulated: tools.environment() == Environment::Sandbox,
        }
    }

    #[must_use]
    pub fn class(&self) -> ErrorCode {
        self.class
    }

    #[must_use]
    pub fn effect(&self) -> Effect {
        self.effect
    }

    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }
}

/// A failure as one caller reads it: the data for programs, and its `Display` for models.
#[skip_serializing_none]
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ErrorReport {
    class: ErrorCode,
    message: String,
    #[serde(rename = "done")]
    effect: Effect,
    retry: Retry,
    next: Option<String>,
    remedy: Option<String>,
    /// The request of CallingBox's API that failed, and the HTTP status. Developers need them; models do not.
    request: Option<String>,
    status: Option<u16>,
    call_id: Option<CallId>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    simulated: bool,
}

impl fmt::Display for ErrorReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.simulated {
            writeln!(f, "{}", text::SIMULATED)?;
        }
        write!(f, "{}: {}", self.class.as_str(), self.message.trim_end_matches('.'))?;
        f.write_str(match self.effect {
            Effect::Nothing => ". Nothing was done.",
            Effect::Partly => ". Part of it was done.",
            Effect::Whole => ". It was done; only the answer was lost.",
            Effect::Unknown => ". It is not known whether anything was done.",
        })?;
        if let Some(id) = &self.call_id {
            write!(f, " call_id: {id}.")?;
        }
        f.write_str(match self.retry {
            Retry::AfterChange => " Retry only after changing the request.",
            Retry::Later => " Retrying later is safe.",
            Retry::No => " Do not retry.",
        })?;
        match &self.next {
            Some(next) => write!(f, " Next: {next}"),
            None => Ok(()),
        }
    }
}

/// Tells the model how the user sets a key.
impl From<MissingApiKey> for ToolError {
    fn from(error: MissingApiKey) -> Self {
        Self::new(ErrorCode::NoKey, error.to_string()).with_next([
            NextStep::Command { args: "setup", hint: "asks for the key and stores it" },
            NextStep::person(
                "Or tell the user to set CALLINGBOX_API_KEY or CALLINGBOX_API_KEY_FILE where this server is configured, and to restart it. With --sandbox it needs no key.",
            ),
        ])
    }
}

/// Nothing is dispatched that cannot be recorded. Some causes are temporary.
impl From<LedgerError> for ToolError {
    fn from(error: LedgerError) -> Self {
        let retry = match error {
            LedgerError::Locked | LedgerError::Server(_) | LedgerError::Clock(_) => Retry::Later,
            _ => Retry::AfterChange,
        };
        Self::new(ErrorCode::Unavailable, error.to_string()).with_retry(retry).with_next([
            NextStep::person("Tell the user what this message says."),
            NextStep::Command { args: "receipts", hint: "shows the ledger" },
        ])
    }
}

impl From<UnknownAccount> for ToolError {
    fn from(error: UnknownAccount) -> Self {
        match error {
            UnknownAccount::Ledger(error) => error.into(),
            UnknownAccount::Api(error) => error.into(),
            UnknownAccount::NoAgent => Self::new(ErrorCode::Conflict, error.to_string())
                .with_next([NextStep::tool(ToolName::CREATE_AGENT, "creates an agent")]),
        }
    }
}

/// Maps the API's errors to tool errors.
impl From<callingbox::Error> for ToolError {
    fn from(error: callingbox::Error) -> Self {
        use callingbox::ErrorKind as Kind;
        let operation = error.operation();
        let (class, next) = match error.kind() {
            Kind::BadRequest { .. } if operation == ApiOperation::PlaceCall => {
                (ErrorCode::InvalidArgument, ready_an_agent())
            }
            Kind::BadRequest { .. }
            | Kind::Refused { .. }
            | Kind::Unsendable { .. }
            | Kind::Withheld => (ErrorCode::InvalidArgument, vec![]),
            Kind::Unauthorized { .. } => (ErrorCode::Unauthorized, vec![REPLACE_KEY]),
            Kind::Forbidden { .. } => (ErrorCode::Unauthorized, vec![ASK_FOR_ACCESS]),
            Kind::CallsPaused { .. } | Kind::InsufficientCredit { .. } => {
                (ErrorCode::InsufficientCredit, vec![ADD_CREDIT])
            }
            Kind::NotFound { .. } => (ErrorCode::NotFound, vec![]),
            Kind::Conflict { .. } => (ErrorCode::Conflict, vec![]),
            Kind::RateLimited { .. } => (ErrorCode::RateLimited, vec![]),
            Kind::Transport { .. } => (ErrorCode::Unavailable, vec![DIAGNOSE]),
            _ => (ErrorCode::Unavailable, vec![]),
        };
        let retry = match (error.retry_is_safe(), error.is_transient()) {
            // Each secret replaces the one before, so a second rotation is safe.
            _ if operation == ApiOperation::RotateWebhookSecret && !error.retry_is_safe() => {
                Retry::Later
            }
            (true, true) => Retry::Later,
            (true, false) => Retry::AfterChange,
            (false, _) => Retry::No,
        };
        let effect = error.effect();
        let not_found = effect == Effect::Nothing && class == ErrorCode::NotFound;
        let next = match (effect, class) {
            _ if not_found => list_ids(operation),
            (Effect::Nothing, _) | (_, ErrorCode::Unauthorized) => next,
            _ => look_up_effect(operation),
        };
        let mut message = match error.kind() {
            Kind::CallsPaused { balance, .. } => {
                let credit = balance.map_or_else(
                    || "the credit".to_owned(),
                    |balance| format!("the credit of {balance}"),
                );
                format!(
                    "{credit} does not cover the $3.00 that are held for each call until it ends"
                )
            }
            kind => kind.describe(),
        };
        if not_found {
            let text = message.trim_end_matches('.');
            message = format!("{text}; ids of another account are not found either");
        }
        let mut failed = Self::new(class, message);
        failed.request = Some((operation, error.status()));
        failed.with_effect(effect).with_retry(retry).with_next(next)
    }
}

const REPLACE_KEY: NextStep = NextStep::person(
    "Tell the user that CallingBox does not accept the API key (CALLINGBOX_API_KEY or the key file): it is wrong, expired or revoked. The dashboard creates a new one under API keys.",
);

const ASK_FOR_ACCESS: NextStep = NextStep::person(
    "Tell the user what this message says: the account or its key may not do this, or a proxy refused it. Another key, made by an administrator in the CallingBox dashboard, may help.",
);

pub const ADD_CREDIT: NextStep = NextStep::person(
    "To go on, or to run more calls at a time, tell the user to add credit in the CallingBox dashboard; no tool can do it.",
);

/// The steps that lead to an agent that can place calls.
fn ready_an_agent() -> Vec<NextStep> {
    vec![
        NextStep::tool(ToolName::GET_AGENT, "shows the type and the numbers of the agent"),
        NextStep::tool(
            ToolName::LIST_AGENTS,
            "with type outbound shows those that can place calls",
        ),
        NextStep::tool(ToolName::LIST_NUMBERS, "shows the owned numbers"),
        NextStep::tool(ToolName::SET_AGENT_NUMBERS, "attaches one"),
        NextStep::tool(ToolName::SEARCH_NUMBERS, "finds one for sale"),
    ]
}

/// The tools that show whether a write took effect after its answer was lost.
fn look_up_effect(operation: ApiOperation) -> Vec<NextStep> {
    use ApiOperation as Op;
    let tool = NextStep::tool;
    match operation {
        Op::PlaceCall => vec![tool(ToolName::LIST_CALLS, "shows whether the call was placed")],
        Op::PurchaseNumber => {
            vec![tool(ToolName::LIST_NUMBERS, "shows whether the number was bought")]
        }
        Op::CreateAgent => vec![tool(
            ToolName::LIST_AGENTS,
            "shows whether the agent exists: create it again only if it does not",
        )],
        Op::UpdateAgent
        | Op::ArchiveAgent
        | Op::AttachNumber
        | Op::DetachNumber
        | Op::SetPrimaryNumber => {
            vec![tool(ToolName::GET_AGENT, "shows the present state of the agent")]
        }
        Op::CreateWebhook => vec![
            tool(
                ToolName::LIST_WEBHOOKS,
                "shows whether the webhook exists: create it again only if it does not",
            ),
            tool(
                ToolName::ROTATE_WEBHOOK_SECRET,
                "gives an existing webhook a new signing secret, because the one in the lost answer is not shown again",
            ),
        ],
        Op::RotateWebhookSecret => vec![tool(
            ToolName::ROTATE_WEBHOOK_SECRET,
            "gives another secret: the one in the lost answer is not shown again, and the old one may no longer be valid",
        )],
        Op::DeleteWebhook => {
            vec![tool(ToolName::LIST_WEBHOOKS, "shows whether the webhook still exists")]
        }
        Op::UpdateWebhook => {
            vec![tool(ToolName::GET_WEBHOOK, "shows the present state of the webhook")]
        }
        Op::RedeliverWebhook => vec![tool(
            ToolName::GET_WEBHOOK_DELIVERY,
            "shows whether it was sent again, by its count of manual retries",
        )],
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
        | Op::GetWebhookDelivery => vec![],
    }
}

/// The tools that list the ids that a request may have named.
fn list_ids(operation: ApiOperation) -> Vec<NextStep> {
    use ApiOperation as Op;
    let list_agents = NextStep::tool(ToolName::LIST_AGENTS, "shows the ids of agents");
    let list_numbers = NextStep::tool(ToolName::LIST_NUMBERS, "shows the ids of numbers");
    match operation {
        Op::PlaceCall | Op::GetAgent | Op::UpdateAgent | Op::ArchiveAgent => vec![list_agents],
        Op::ListCalls | Op::GetCall | Op::GetTranscript => {
            vec![NextStep::tool(ToolName::LIST_CALLS, "shows the ids of calls")]
        }
        Op::AttachNumber | Op::DetachNumber | Op::SetPrimaryNumber => {
            vec![list_agents, list_numbers]
        }
        Op::ListWebhooks
        | Op::CreateWebhook
        | Op::GetWebhook
        | Op::UpdateWebhook
        | Op::DeleteWebhook
        | Op::RotateWebhookSecret => {
            vec![NextStep::tool(ToolName::LIST_WEBHOOKS, "shows the ids of webhooks")]
        }
        Op::ListWebhookDeliveries | Op::GetWebhookDelivery | Op::RedeliverWebhook => {
            let hint = "shows the ids of deliveries";
            vec![NextStep::tool(ToolName::LIST_WEBHOOK_DELIVERIES, hint)]
        }
        // A new agent names numbers, as the requests about numbers do.
        Op::ListAgents
        | Op::CreateAgent
        | Op::ListNumbers
        | Op::SearchNumbers
        | Op::PurchaseNumber => vec![list_numbers],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tools(environment: Environment) -> AvailableTools {
        AvailableTools::only(&[ToolName::GET_CALL_RESULT], environment)
    }

    #[test]
    fn a_failure_says_all_that_a_caller_needs() {
        let error = ToolError::new(ErrorCode::Unavailable, "no answer came in time")
            .with_effect(Effect::Unknown)
            .with_retry(Retry::No)
            .with_call_id(CallId::new("c1"))
            .with_next([
                NextStep::tool(ToolName::GET_CALL_RESULT, "reads the call"),
                NextStep::tool(ToolName::LIST_CALLS, "is not available"),
            ]);
        let text = "unavailable: no answer came in time. It is not known whether anything was done. call_id: c1. Do not retry. Next: get_call_result reads the call.";
        let live = error.clone().report(&tools(Environment::Live));
        assert_eq!(live.to_string(), text);
        assert_eq!(
            serde_json::to_value(&live).unwrap(),
            serde_json::json!({
                "class": "unavailable",
                "message": "no answer came in time",
                "done": "unknown",
                "retry": "no",
                "next": "get_call_result reads the call.",
                "call_id": "c1",
            })
        );
        let simulated = error.report(&tools(Environment::Sandbox));
        assert_eq!(simulated.to_string(), format!("{}\n{text}", text::SIMULATED));
        assert_eq!(serde_json::to_value(&simulated).unwrap()["simulated"], true);
    }

    #[test]
    fn a_failure_of_the_simulator_has_its_own_remedies() {
        let next = |error: ToolError, environment| error.report(&tools(environment)).next.unwrap();
        let text = |step: NextStep| next_step::render(&[step], &tools(Environment::Sandbox));
        for (class, step, simulated) in [
            (ErrorCode::InsufficientCredit, ADD_CREDIT, ADD_SIMULATED_CREDIT),
            (ErrorCode::Unavailable, DIAGNOSE, restart_simulator()),
            (ErrorCode::Conflict, REPLACE_KEY, REPLACE_KEY),
        ] {
            let error = ToolError::new(class, "it failed").with_next([step.clone()]);
            assert_eq!(next(error.clone(), Environment::Sandbox), text(simulated));
            assert_eq!(
                next(error, Environment::Live),
                next_step::render(&[step], &tools(Environment::Live))
            );
        }
        let missing = ToolError::new(ErrorCode::NotFound, "no such call.");
        assert_eq!(missing.clone().report(&tools(Environment::Live)).message, "no such call.");
        assert_eq!(
            missing.report(&tools(Environment::Sandbox)).message,
            format!("no such call; {RESTARTED}")
        );
    }
}
