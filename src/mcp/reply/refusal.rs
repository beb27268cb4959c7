//! The errors of orders and batches that were certainly not placed, as tool errors.

use crate::batch::BatchError;
use crate::dialing::destination::NumberType;
use crate::dialing::limits::{Limit, OrderKind};
use crate::dialing::organization::UnknownAccount;
use crate::dialing::outcome::DialError;
use crate::dialing::policy::{PolicyRefusal, RuleName};
use crate::mcp::registry::name::ToolName;
use crate::mcp::reply::error::{ErrorCode, Retry, ToolError};
use crate::mcp::reply::next_step::NextStep;
use callingbox::CallId;

const RING_AGAIN: NextStep =
    NextStep::person("If the user wants a second call, set allow_repeat to true.");

impl From<PolicyRefusal> for ToolError {
    fn from(refusal: PolicyRefusal) -> Self {
        let error =
            Self::new(ErrorCode::RefusedByPolicy, refusal.to_string()).with_remedy(refusal.remedy);
        match refusal.rule {
            RuleName::Never(NumberType::Emergency) => {
                error.with_retry(Retry::No).with_next([NextStep::person(
                    "Tell the user that emergency numbers are never called: in an emergency they must call themselves.",
                )])
            }
            RuleName::Setting("require_human") => error.with_next([NextStep::person(
                "Tell the user that this order needs their own answer, for which this client cannot ask.",
            )]),
            RuleName::Setting("disclosure") => error.with_next([NextStep::person(
                "Change the instructions of the call, or the agent, as it says.",
            )]),
            RuleName::Never(_) => error.with_retry(Retry::No).with_next([NextStep::person(
                "Tell the user that this number is never called.",
            )]),
            RuleName::OptedOut => error.with_retry(Retry::No).with_next([NextStep::person(
                "Tell the user that this person asked not to be called again. Do not call another number of theirs instead.",
            )]),
            RuleName::Impossible => error.with_next([NextStep::person(
                "Ask the user for the right number, with its country code.",
            )]),
            RuleName::NotCanonical => error.with_next([NextStep::tool(
                ToolName::PLACE_CALL,
                "with that number calls it",
            )]),
            RuleName::Limit(Limit::Concurrent | Limit::CallerConcurrent) => {
                error.with_retry(Retry::Later).with_next([NextStep::tool(
                    ToolName::GET_CALL_RESULT,
                    "waits for the end of a call that is under way",
                )])
            }
            _ if refusal.until.is_some() => {
                error.with_retry(Retry::Later).with_next([NextStep::person(
                    "Tell the user which rule it was, and from when on it is possible; only they can change it.",
                )])
            }
            _ => error.with_next([NextStep::person(
                "Tell the user which rule it was; only they can change it.",
            )]),
        }
    }
}

impl From<DialError> for ToolError {
    fn from(error: DialError) -> Self {
        match error {
            DialError::NotPlaced(error) => error.into(),
            DialError::Ledger(error) => error.into(),
            DialError::Refused(refusal) => refusal.into(),
            DialError::KeyConflict(ref record) => {
                let conflict = Self::new(ErrorCode::Conflict, error.to_string());
                match record.state.id() {
                    Some(id) if record.kind == OrderKind::Call => {
                        conflict.with_call_id(CallId::new(id))
                    }
                    _ => conflict,
                }
            }
            DialError::SimilarCall { ref earlier, .. } => {
                let conflict = Self::new(ErrorCode::Conflict, error.to_string());
                match earlier.state.id() {
                    Some(id) => conflict.with_call_id(CallId::new(id)).with_next([
                        NextStep::tool(
                            ToolName::GET_CALL_RESULT,
                            "shows what became of the first call",
                        ),
                        RING_AGAIN,
                    ]),
                    None => conflict.with_next([
                        NextStep::tool(
                            ToolName::LIST_CALLS,
                            "shows whether the first call was placed",
                        ),
                        RING_AGAIN,
                    ]),
                }
            }
            error @ DialError::WaitsInBatch(_) => Self::new(ErrorCode::Conflict, error.to_string())
                .with_next([
                    NextStep::tool(ToolName::GET_BATCH, "shows when the batch calls this number"),
                    RING_AGAIN,
                ]),
            // Only the runner of a batch begins attempts.
            error @ DialError::Stopped(_) => Self::internal(error.to_string()),
            DialError::NoAgent => UnknownAccount::NoAgent.into(),
            error @ DialError::Interrupted(_) => Self::internal(error.to_string()).with_next([
                NextStep::tool(ToolName::LIST_CALLS, "shows whether it was placed"),
                NextStep::tool(ToolName::LIST_NUMBERS, "shows whether it was bought"),
            ]),
        }
    }
}

/// Why a batch was not prepared, started or found.
impl From<BatchError> for ToolError {
    fn from(error: BatchError) -> Self {
        match error {
            BatchError::List(problems) => Self::invalid_argument(problems.to_string()),
            BatchError::NotFound(_) => Self::new(ErrorCode::NotFound, error.to_string()).with_next(
                [NextStep::tool(ToolName::GET_BATCH, "without batch_id lists the batches")],
            ),
            BatchError::Dial(error) => error.into(),
            BatchError::NoKey(error) => error.into(),
            BatchError::WindowClosed(_) | BatchError::Erased(_) => {
                Self::new(ErrorCode::Conflict, error.to_string()).with_next([
                    NextStep::tool(ToolName::GET_BATCH, "shows who was called"),
                    NextStep::tool(ToolName::PLACE_CALLS, "calls the rest as a new list"),
                ])
            }
            BatchError::KeyConflict(_) | BatchError::WrongState { .. } => {
                Self::new(ErrorCode::Conflict, error.to_string())
                    .with_next([NextStep::tool(ToolName::GET_BATCH, "shows how far it got")])
            }
        }
    }
}
