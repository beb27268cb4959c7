//! How far a call is, read from its record. Pure; knows the record and nothing of polling.

use std::time::Duration;

use callingbox::{Call, CallStatus, ResultStatus};

/// How far a call is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Progress {
    /// Created, handed on or ringing.
    Dialing,
    /// Answered; the conversation is live.
    Talking,
    /// The conversation is over and its result is still being extracted.
    Extracting,
    /// Over, and nothing more will come.
    Finished,
    /// A status word that is not in the contract. It is not taken for an end.
    Unknown,
}

impl Progress {
    /// How long a pending extraction is waited for once the call is seen to be over. The contract
    /// names no limit; an extraction takes seconds.
    pub const EXTRACTION_LIMIT: Duration = Duration::from_secs(120);

    /// The same by the call's own `ended_at`, for calls of long ago. Far longer, since the API's clock
    /// and this machine's need not agree.
    pub const EXTRACTION_LIMIT_BY_RECORD: Duration = Duration::from_secs(3_600);

    /// Reads a call's progress. `over_for` is how long the caller has seen the call to be over (zero
    /// at first sight); `now` is this machine's time.
    ///
    /// Extraction follows only a completed call with a schema: without a conversation the API leaves
    /// `result_status` pending for good, and without a schema there is no result.
    #[must_use]
    pub fn of(call: &Call, over_for: Duration, now: jiff::Timestamp) -> Self {
        match call.status {
            CallStatus::Queued | CallStatus::Initiated | CallStatus::Ringing => Self::Dialing,
            CallStatus::InProgress => Self::Talking,
            CallStatus::Completed if extraction_may_come(call) => {
                let ended = call.ended_at.as_ref().and_then(|at| at.instant());
                let ended_for =
                    ended.and_then(|at| Duration::try_from(now.duration_since(at)).ok());
                let long_ago = ended_for.is_some_and(|it| it >= Self::EXTRACTION_LIMIT_BY_RECORD);
                let given_up = over_for >= Self::EXTRACTION_LIMIT || long_ago;
                if given_up { Self::Finished } else { Self::Extracting }
            }
            CallStatus::Completed
            | CallStatus::NoAnswer
            | CallStatus::Busy
            | CallStatus::Canceled
            | CallStatus::Failed => Self::Finished,
            CallStatus::Other(_) => Self::Unknown,
        }
    }

    /// Whether the conversation is over, so that the transcript is final.
    #[must_use]
    pub fn is_over(self) -> bool {
        matches!(self, Self::Extracting | Self::Finished)
    }
}

/// Whether the record of a completed call promises a result that is not there yet. A word for
/// `result_status` that is not in the contract is waited out like a pending one.
fn extraction_may_come(call: &Call) -> bool {
    let has_schema = call.returns.as_ref().is_some_and(|returns| !returns.is_empty());
    let settled =
        matches!(call.result_status, None | Some(ResultStatus::Completed | ResultStatus::Failed));
    has_schema && !settled && call.answered_by.as_deref() != Some("machine")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn when_a_call_is_finished() {
        let schema = json!({"date": {"type": "string"}});
        let ended = "2026-04-15T14:30:00Z";
        let table = [
            // the record, over for (s), seconds since ended_at, progress
            (json!({"status": "queued"}), 0, 0, Progress::Dialing),
            (json!({"status": "initiated"}), 0, 0, Progress::Dialing),
            (json!({"status": "ringing"}), 0, 0, Progress::Dialing),
            (json!({"status": "in_progress"}), 0, 0, Progress::Talking),
            (json!({"status": "in_progress"}), 999_999, 999_999, Progress::Talking),
            (json!({"status": "on_hold"}), 999_999, 999_999, Progress::Unknown),
            (json!({}), 0, 0, Progress::Unknown),
            (
                json!({"status": "no_answer", "returns": schema, "result_status": "pending"}),
                0,
                0,
                Progress::Finished,
            ),
            (
                json!({"status": "busy", "returns": schema, "result_status": "pending"}),
                0,
                0,
                Progress::Finished,
            ),
            (
                json!({"status": "failed", "returns": schema, "result_status": "pending"}),
                0,
                0,
                Progress::Finished,
            ),
            (
                json!({"status": "canceled", "returns": schema, "result_status": "pending"}),
                0,
                0,
                Progress::Finished,
            ),
            (json!({"status": "completed"}), 0, 0, Progress::Finished),
            (json!({"status": "completed", "result_status": "pending"}), 0, 0, Progress::Finished),
            (
                json!({"status": "completed", "returns": {}, "result_status": "pending"}),
                0,
                0,
                Progress::Finished,
            ),
            (
                json!({"status": "completed", "returns": null, "result_status": "pending"}),
                0,
                0,
                Progress::Finished,
            ),
            (json!({"status": "completed", "returns": schema}), 0, 0, Progress::Finished),
            (
                json!({"status": "completed", "returns": schema, "result_status": "completed"}),
                0,
                0,
                Progress::Finished,
            ),
            (
                json!({"status": "completed", "returns": schema, "result_status": "failed"}),
                0,
                0,
                Progress::Finished,
            ),
            (
                json!({"status": "completed", "returns": schema, "result_status": "pending"}),
                0,
                0,
                Progress::Extracting,
            ),
            (
                json!({"status": "completed", "returns": schema, "result_status": "queued"}),
                0,
                0,
                Progress::Extracting,
            ),
            (
                json!({"status": "completed", "returns": schema, "result_status": "pending", "answered_by": "human"}),
                0,
                0,
                Progress::Extracting,
            ),
            (
                json!({"status": "completed", "returns": schema, "result_status": "pending", "answered_by": "machine"}),
                0,
                0,
                Progress::Finished,
            ),
            (
                json!({"status": "completed", "returns": schema, "result_status": "pending"}),
                119,
                3_599,
                Progress::Extracting,
            ),
            (
                json!({"status": "completed", "returns": schema, "result_status": "pending"}),
                120,
                0,
                Progress::Finished,
            ),
            (
                json!({"status": "completed", "returns": schema, "result_status": "pending"}),
                0,
                3_600,
                Progress::Finished,
            ),
            (
                json!({"status": "completed", "returns": schema, "result_status": "pending"}),
                0,
                -9_999,
                Progress::Extracting,
            ),
            (
                json!({"status": "completed", "returns": schema, "result_status": "pending", "ended_at": "yesterday"}),
                0,
                9_999,
                Progress::Extracting,
            ),
        ];
        for (mut record, over_for, since_end, expected) in table {
            let fields = record.as_object_mut().unwrap();
            fields.insert("id".into(), Value::from("c"));
            if !fields.contains_key("ended_at") {
                fields.insert("ended_at".into(), Value::from(ended));
            }
            let now = ended.parse::<jiff::Timestamp>().unwrap()
                + jiff::SignedDuration::from_secs(since_end);
            let call: Call = serde_json::from_value(record.clone()).unwrap();
            let progress = Progress::of(&call, Duration::from_secs(over_for), now);
            assert_eq!(progress, expected, "{record} {over_for} {since_end}");
            assert_eq!(
                progress.is_over(),
                matches!(progress, Progress::Extracting | Progress::Finished)
            );
        }
    }
}
