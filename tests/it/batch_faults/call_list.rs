//! The list that is called while something happens, and what may have been dialed for it. `tests/replicas` includes this file too.

use std::collections::{BTreeMap, BTreeSet};

use callingbox_mcp::dialing::order::DISPATCH_KEY;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::harness::Control;

/// How many calls may run at the same time.
pub(crate) const CONCURRENT: usize = 2;
pub(crate) const POLICY: &str = "[limits]\nconcurrent = 2\n";
pub(crate) const CONFIG: &str =
    "request_timeout_seconds = 3\n\n[dialing]\nsandbox_quiet_hours = true\n";
/// One is in Los Angeles, where it is half past seven when the list starts; two are called twice.
pub(crate) const PEOPLE: [&str; 5] =
    ["+12125550100", "+13125550102", "+13105550100", "+16175550100", "+16465550101"];
/// How many calls it takes if nothing is lost.
pub(crate) const CALLS: usize = 7;
const IN_LOS_ANGELES: &str = "+13105550100";
/// The simulator's clock begins at 15:00.
pub(crate) const START_AT: &str = "2026-11-02T15:30:00Z";
pub(crate) const MINUTES_TO_START: u64 = 30;
const QUIET_UNTIL: &str = "2026-11-02T16:00:00Z";
/// Late enough for those who wait for a call whose result is unknown.
pub(crate) const END_BY: &str = "2026-11-02T18:40:00Z";

/// An attempt that has begun, according to the ledger.
#[derive(Debug, Clone)]
pub(crate) struct BegunAttempt {
    pub(crate) batch: String,
    pub(crate) dispatch: String,
    pub(crate) row: u32,
    pub(crate) attempt: u32,
    pub(crate) lease_expires_at: Timestamp,
}

impl BegunAttempt {
    /// Reads the record of a dispatch that is an attempt, as each ledger keeps it.
    pub(crate) fn read(record: &str) -> Self {
        let record: Value = serde_json::from_str(record).unwrap();
        let number = |value: &Value| u32::try_from(value.as_u64().unwrap()).unwrap();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let attempt = &record["attempt"];
        Self {
            batch: text(&attempt["batch_id"]),
            dispatch: text(&record["dispatch_id"]),
            row: number(&attempt["row"]),
            attempt: number(&attempt["attempt"]),
            lease_expires_at: time(record["lease_expires_at"].as_str().unwrap()),
        }
    }
}

/// The arguments of the list.
pub(crate) fn list(agent: &str) -> Value {
    let people: Vec<Value> = PEOPLE.iter().map(|to| json!({"to": to, "name": "Ada"})).collect();
    json!({
        "agent_id": agent,
        "people": people,
        "instructions": "Call {name}.",
        "retry": {"max_attempts": 2, "after_minutes": 5},
        "start_at": START_AT,
        "end_by": END_BY,
    })
}

fn time(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// Checks the calls of a batch: at most one for each row and attempt, each within the window and the allowed hours, and never
/// too many at the same time. Returns the number of calls.
pub(crate) async fn check_dialed(control: &Control, batch: &str, begun: &[BegunAttempt]) -> usize {
    let attempts: BTreeMap<&str, (u32, u32)> = begun
        .iter()
        .filter(|begun| begun.batch == batch)
        .map(|begun| (begun.dispatch.as_str(), (begun.row, begun.attempt)))
        .collect();
    let dialed = control.dialed().await;
    let mut seen = BTreeSet::new();
    for call in &dialed {
        let dispatch = call["metadata"][DISPATCH_KEY].as_str().unwrap();
        let attempt = attempts.get(dispatch).unwrap_or_else(|| panic!("{call} is not known"));
        assert!(seen.insert(*attempt), "row and attempt {attempt:?} rang twice: {dialed:#?}");
        let at = time(call["dialed_at"].as_str().unwrap());
        assert!((time(START_AT)..time(END_BY)).contains(&at), "{call}");
        if call["to"] == IN_LOS_ANGELES {
            assert!(at >= time(QUIET_UNTIL), "{call}");
        }
    }
    check_concurrency(control).await;
    dialed.len()
}

/// Whether the person was called in whose place it was too early when the list started.
pub(crate) async fn has_waited_for_its_hour(control: &Control) -> bool {
    control.dialed().await.iter().any(|call| call["to"] == IN_LOS_ANGELES)
}

async fn check_concurrency(control: &Control) {
    let calls = control.request("GET", "/v1/calls?limit=100", None).await;
    let instant = |call: &Value, name: &str| call[name].as_str().map(time);
    let calls = calls["data"].as_array().unwrap();
    for call in calls {
        let begun = instant(call, "created_at").unwrap();
        let runs = |other: &&Value| {
            instant(other, "created_at").unwrap() <= begun
                && instant(other, "ended_at").is_none_or(|ended| ended > begun)
        };
        let running = calls.iter().filter(runs).count();
        assert!(running <= CONCURRENT, "{running} calls at {begun}: {calls:#?}");
    }
}
