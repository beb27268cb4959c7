//! How a call ended, in one word for the ledger and for the model, read from the API's record of the call.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use callingbox::MilliCents;
use callingbox::{Call, CallStatus, ReservationStatus, ResultStatus};

/// The outcome of a call. A purchase that succeeded is `Completed`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum CallOutcome {
    /// The call has not ended.
    InProgress,
    /// The call was answered, and the conversation ended.
    Completed,
    /// A machine answered.
    Voicemail,
    /// It rang, and nobody answered.
    NoAnswer,
    /// The line was busy.
    Busy,
    /// The call was canceled before it connected.
    Canceled,
    /// An error ended the call.
    Failed,
    /// Whether the call was placed could not be determined.
    Unknown,
}

impl CallOutcome {
    /// The outcomes of a call that has ended, the only ones that the ledger stores.
    pub const ENDED: [Self; 6] = [
        Self::Completed,
        Self::Voicemail,
        Self::NoAnswer,
        Self::Busy,
        Self::Canceled,
        Self::Failed,
    ];

    /// The outcome of a call as the API reports it. A status that this version does not know is not an end.
    #[must_use]
    pub fn from_call(call: &Call) -> Self {
        match call.status {
            CallStatus::Completed => Self::Completed,
            CallStatus::NoAnswer if call.answered_by.as_deref() == Some("machine") => {
                Self::Voicemail
            }
            CallStatus::NoAnswer => Self::NoAnswer,
            CallStatus::Busy => Self::Busy,
            CallStatus::Canceled => Self::Canceled,
            CallStatus::Failed => Self::Failed,
            _ => Self::InProgress,
        }
    }

    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::InProgress => "in_progress",
            Self::Completed => "completed",
            Self::Voicemail => "voicemail",
            Self::NoAnswer => "no_answer",
            Self::Busy => "busy",
            Self::Canceled => "canceled",
            Self::Failed => "failed",
            Self::Unknown => "unknown",
        }
    }
}

/// The end of a call: its outcome, its cost once that is known, and whether its result was there to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CallEnd {
    pub outcome: CallOutcome,
    pub cost: Option<MilliCents>,
    /// The result will not change any more, or there will be none.
    pub is_result_final: bool,
}

impl CallEnd {
    /// The end of this call, once it has ended. The cost is zero, even if the API reports no amount, when the hold
    /// was released or the call was not answered.
    #[must_use]
    pub fn from_call(call: &Call) -> Option<Self> {
        let outcome = CallOutcome::from_call(call);
        if outcome == CallOutcome::InProgress {
            return None;
        }
        let is_free = call.reservation_status == Some(ReservationStatus::Released)
            || matches!(outcome, CallOutcome::NoAnswer | CallOutcome::Busy);
        let cost = call.billing_amount_milli_cents.or(is_free.then_some(MilliCents::ZERO));
        Some(Self { outcome, cost, is_result_final: has_final_result(call, outcome) })
    }
}

/// Whether the result of a call that has ended will not change any more. Only a conversation has a result.
fn has_final_result(call: &Call, outcome: CallOutcome) -> bool {
    let is_wanted = call.returns.as_ref().is_some_and(|returns| !returns.is_empty());
    let is_extracted =
        matches!(call.result_status, Some(ResultStatus::Completed | ResultStatus::Failed));
    outcome != CallOutcome::Completed || !is_wanted || is_extracted
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn a_call_that_is_not_billed_costs_nothing_once_the_api_says_that_nothing_is_due() {
        let released = || json!({"reservation_status": "released"});
        for (status, fields, outcome, cost) in [
            (
                "completed",
                json!({"billing_amount_milli_cents": 5_000}),
                CallOutcome::Completed,
                Some(5_000),
            ),
            ("completed", json!({}), CallOutcome::Completed, None),
            ("completed", released(), CallOutcome::Completed, Some(0)),
            ("failed", json!({}), CallOutcome::Failed, None),
            ("failed", released(), CallOutcome::Failed, Some(0)),
            ("no_answer", json!({}), CallOutcome::NoAnswer, Some(0)),
            ("busy", json!({"reservation_status": "reserved"}), CallOutcome::Busy, Some(0)),
            ("no_answer", json!({"answered_by": "machine"}), CallOutcome::Voicemail, None),
        ] {
            let call = call(status, fields);
            let end = CallEnd { outcome, cost: cost.map(MilliCents), is_result_final: true };
            assert_eq!(CallEnd::from_call(&call), Some(end), "{call:?}");
        }
        assert_eq!(CallEnd::from_call(&call("parked", json!({}))), None);
    }

    fn call(status: &str, mut fields: Value) -> Call {
        fields["id"] = json!("call_1");
        fields["status"] = json!(status);
        serde_json::from_value(fields).unwrap()
    }
}
