//! The progress of a call and the wait until its next poll, as tables.

use std::time::Duration;

use callingbox::Call;
use serde_json::{Value, json};

use crate::watch::scheduler::CallPart::{Record, Transcript};
use crate::watch::scheduler::CallProgress::{
    self, Dialing, Extracting, Finished, Talking, Unknown,
};
use crate::watch::scheduler::{CallPart, PollInputs, next_poll_delay};

#[test]
fn the_progress_of_a_call() {
    let schema = json!({"date": {"type": "string"}});
    let ended = "2026-04-15T14:30:00Z";
    let table = [
        // record, over for (s), seconds since ended_at, progress
        (json!({"status": "queued"}), 0, 0, CallProgress::Dialing),
        (json!({"status": "initiated"}), 0, 0, CallProgress::Dialing),
        (json!({"status": "ringing"}), 0, 0, CallProgress::Dialing),
        (json!({"status": "in_progress"}), 0, 0, CallProgress::Talking),
        (json!({"status": "in_progress"}), 999_999, 999_999, CallProgress::Talking),
        (json!({"status": "on_hold"}), 999_999, 999_999, CallProgress::Unknown),
        (json!({}), 0, 0, CallProgress::Unknown),
        (
            json!({"status": "no_answer", "returns": schema, "result_status": "pending"}),
            0,
            0,
            CallProgress::Finished,
        ),
        (
            json!({"status": "busy", "returns": schema, "result_status": "pending"}),
            0,
            0,
            CallProgress::Finished,
        ),
        (
            json!({"status": "failed", "returns": schema, "result_status": "pending"}),
            0,
            0,
            CallProgress::Finished,
        ),
        (
            json!({"status": "canceled", "returns": schema, "result_status": "pending"}),
            0,
            0,
            CallProgress::Finished,
        ),
        (json!({"status": "completed"}), 0, 0, CallProgress::Finished),
        (json!({"status": "completed", "result_status": "pending"}), 0, 0, CallProgress::Finished),
        (
            json!({"status": "completed", "returns": {}, "result_status": "pending"}),
            0,
            0,
            CallProgress::Finished,
        ),
        (
            json!({"status": "completed", "returns": null, "result_status": "pending"}),
            0,
            0,
            CallProgress::Finished,
        ),
        (json!({"status": "completed", "returns": schema}), 0, 0, CallProgress::Finished),
        (
            json!({"status": "completed", "returns": schema, "result_status": "completed"}),
            0,
            0,
            CallProgress::Finished,
        ),
        (
            json!({"status": "completed", "returns": schema, "result_status": "failed"}),
            0,
            0,
            CallProgress::Finished,
        ),
        (
            json!({"status": "completed", "returns": schema, "result_status": "pending"}),
            0,
            0,
            CallProgress::Extracting,
        ),
        (
            json!({"status": "completed", "returns": schema, "result_status": "queued"}),
            0,
            0,
            CallProgress::Extracting,
        ),
        (
            json!({"status": "completed", "returns": schema, "result_status": "pending", "answered_by": "human"}),
            0,
            0,
            CallProgress::Extracting,
        ),
        (
            json!({"status": "completed", "returns": schema, "result_status": "pending", "answered_by": "machine"}),
            0,
            0,
            CallProgress::Finished,
        ),
        (
            json!({"status": "completed", "returns": schema, "result_status": "pending"}),
            119,
            3_599,
            CallProgress::Extracting,
        ),
        (
            json!({"status": "completed", "returns": schema, "result_status": "pending"}),
            120,
            0,
            CallProgress::Finished,
        ),
        (
            json!({"status": "completed", "returns": schema, "result_status": "pending"}),
            0,
            3_600,
            CallProgress::Finished,
        ),
        (
            json!({"status": "completed", "returns": schema, "result_status": "pending"}),
            0,
            -9_999,
            CallProgress::Extracting,
        ),
        (
            json!({"status": "completed", "returns": schema, "result_status": "pending", "ended_at": "yesterday"}),
            0,
            9_999,
            CallProgress::Extracting,
        ),
    ];
    for (mut record, over_for, since_end, expected) in table {
        let fields = record.as_object_mut().unwrap();
        fields.insert("id".into(), Value::from("c"));
        if !fields.contains_key("ended_at") {
            fields.insert("ended_at".into(), Value::from(ended));
        }
        let now =
            ended.parse::<jiff::Timestamp>().unwrap() + jiff::SignedDuration::from_secs(since_end);
        let call: Call = serde_json::from_value(record.clone()).unwrap();
        let progress = CallProgress::from_call(&call, Duration::from_secs(over_for), now);
        assert_eq!(progress, expected, "{record} {over_for} {since_end}");
        assert_eq!(
            progress.is_over(),
            matches!(progress, CallProgress::Extracting | CallProgress::Finished)
        );
    }
}

fn poll_inputs(progress: CallProgress, progress_for: u64) -> PollInputs {
    PollInputs {
        progress,
        progress_for: Duration::from_secs(progress_for),
        has_webhooks: false,
        failures: 0,
        retry_after: None,
    }
}

#[test]
fn the_wait_by_progress_and_age() {
    let table = [
        // part, progress, at it for (s), webhooks arrive, wait (ms)
        (Record, Dialing, 0, false, Some(1_500)),
        (Record, Dialing, 18, false, Some(1_500)),
        (Record, Dialing, 45, false, Some(3_000)),
        (Record, Dialing, 9_999, false, Some(10_000)),
        (Record, Dialing, 0, true, Some(20_000)),
        (Record, Talking, 0, false, Some(3_200)),
        (Record, Talking, 180, false, Some(3_200)),
        (Record, Talking, 600, false, Some(5_000)),
        (Record, Talking, 1_200, false, Some(10_000)),
        (Record, Talking, u64::MAX, false, Some(10_000)),
        (Record, Talking, 600, true, Some(20_000)),
        (Record, Extracting, 0, false, Some(1_000)),
        (Record, Extracting, 16, false, Some(2_000)),
        (Record, Extracting, 110, false, Some(5_000)),
        (Record, Extracting, 0, true, Some(5_000)),
        (Record, Unknown, 0, false, Some(2_000)),
        (Record, Unknown, 9_999, false, Some(10_000)),
        (Record, Unknown, 0, true, Some(20_000)),
        (Record, Finished, 0, false, None),
        (Transcript, Dialing, 0, false, None),
        (Transcript, Talking, 0, false, Some(3_000)),
        (Transcript, Talking, 0, true, Some(3_000)),
        (Transcript, Talking, 9_999, false, Some(10_000)),
        (Transcript, Unknown, 0, false, Some(10_000)),
        (Transcript, Extracting, 0, false, Some(700)),
        (Transcript, Finished, 0, false, Some(700)),
    ];
    for (part, progress, progress_for, has_webhooks, expected) in table {
        let inputs = PollInputs { has_webhooks, ..poll_inputs(progress, progress_for) };
        let wait = next_poll_delay(part, &inputs, 0.5);
        assert_eq!(wait, expected.map(Duration::from_millis), "{part:?} {inputs:?}");
    }
}

#[test]
fn the_wait_after_failures_and_with_retry_after() {
    let table = [
        // failures, Retry-After (s), jitter, wait (ms)
        (0, None, 0.0, 2_880),
        (0, None, 1.0, 3_520),
        (0, None, f64::NAN, 3_520),
        (0, None, -7.0, 2_880),
        (1, None, 0.5, 6_400),
        (2, None, 0.5, 12_800),
        (3, None, 0.5, 25_600),
        (4, None, 0.5, 30_000),
        (u32::MAX, None, 1.0, 33_000),
        (1, Some(0), 0.5, 6_400),
        (1, Some(20), 0.0, 20_000),
        (1, Some(20), 1.0, 21_000),
        (1, Some(u64::MAX), 0.0, 3_600_000),
    ];
    for (failures, retry_after, jitter, expected) in table {
        let retry_after = retry_after.map(Duration::from_secs);
        let inputs = PollInputs { failures, retry_after, ..poll_inputs(Talking, 0) };
        let wait = next_poll_delay(Record, &inputs, jitter).unwrap();
        assert_eq!(wait.as_millis(), expected, "{inputs:?} {jitter}");
    }
}

/// Counts the polls that the schedule alone makes of a call that goes through `stages`.
fn count_polls(part: CallPart, stages: &[(CallProgress, f64)], jitter: f64) -> usize {
    let (mut count, mut late) = (0, 0.0);
    for (progress, length) in stages {
        let mut at = late;
        while at < *length {
            count += 1;
            let progress_for = Duration::from_secs_f64(at);
            let inputs = PollInputs { progress_for, ..poll_inputs(*progress, 0) };
            let Some(wait) = next_poll_delay(part, &inputs, jitter) else { break };
            at += wait.as_secs_f64();
        }
        late = (at - length).max(0.0);
    }
    count
}

#[test]
fn how_often_a_call_is_polled() {
    let three = [(Dialing, 10.0), (Talking, 180.0), (Extracting, 5.0), (Finished, 1.0)];
    let thirty = [(Dialing, 10.0), (Talking, 1_800.0), (Extracting, 5.0), (Finished, 1.0)];
    let figures = |jitter| {
        [
            count_polls(Record, &three, jitter),
            count_polls(Transcript, &three[1..2], jitter),
            count_polls(Record, &thirty, jitter),
            count_polls(Transcript, &thirty[1..2], jitter),
        ]
    };
    assert_eq!(figures(0.5), [68, 60, 325, 326]);
}
