//! CallingBox cannot be reached while a list runs: each connection is refused, so certainly nothing was placed. The pauses get
//! longer, one row is tried after each, and in the end everybody is called once.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::gate::{Held, Hold};
use super::live_list::LiveList;
use crate::harness::within_limit;

const RULES: &str = "[quiet_hours]\nmode = \"off\"\n[limits]\nconcurrent = 2\nper_hour = \"off\"\n";
const PEOPLE: u32 = 7;

impl LiveList {
    /// Lets a second pass, and wakes the server.
    async fn tick(&mut self) -> Value {
        self.machine.pass(1);
        self.report().await
    }

    /// Waits until at least so many attempts have begun, failures have paused the list since, and no request is on its way.
    /// Returns how many attempts they are.
    async fn wait_for_failures(&mut self, begun: u32) -> u32 {
        let placed = self.count_dialed().await;
        within_limit("a pause after failures", async {
            loop {
                let report = self.tick().await;
                let calling = report["counts"]["calling"].as_u64().unwrap_or(0);
                if report["state"] == "paused"
                    && calling == placed as u64
                    && self.count_begun() >= begun
                {
                    let note = report["note"].as_str().unwrap();
                    assert!(note.contains("five calls in a row could not be placed"), "{report}");
                    return self.count_begun();
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        })
        .await
    }

    /// The list, which has just paused, stays paused for so many minutes, and then one row is tried, which fails.
    async fn pass_a_pause(&mut self, minutes: u64) {
        let begun = self.count_begun();
        let (since, seconds) = (self.elapsed(), minutes * 60);
        // Not to the very end: time also passes by itself.
        while self.elapsed() + 30 <= since + seconds - 15 {
            self.pass(30).await;
            assert_eq!(self.report().await["state"], "paused", "{minutes}");
        }
        assert_eq!(self.count_begun(), begun, "{minutes}");
        self.pass(30).await;
        self.pass(15).await;
        assert_eq!(self.wait_for_failures(begun + 1).await, begun + 1, "{minutes}");
        assert!(self.elapsed() < since + seconds + 60, "{minutes}");
    }

    /// Waits until no request is on its way: one that the next step of the clock must not let time out.
    async fn wait_for_answers(&mut self) -> Value {
        let is_answered =
            |row: &Value| row["state"] != "calling" || row["call_id"].as_str().is_some();
        within_limit("the answers to the requests", async {
            loop {
                let report = self.report().await;
                if report["rows"].as_array().unwrap().iter().all(is_answered) {
                    return report;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        })
        .await
    }

    /// Waits until a request is held. The time goes on slowly enough that the request can be written within its lease.
    async fn wait_for_held(&mut self) -> Held {
        let gate = Arc::clone(&self.gate);
        loop {
            match tokio::time::timeout(Duration::from_millis(100), gate.next()).await {
                Ok(held) => return held,
                Err(_) => self.tick().await,
            };
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_in_a_row_pause_a_list_for_1_2_4_and_at_most_30_minutes() {
    let start_at = Timestamp::now() + SignedDuration::from_mins(1);
    let start = json!({"start_at": start_at.to_string()});
    let mut list = LiveList::start_with(0, RULES, PEOPLE, start).await;
    // The simulator keeps the time of the world, and the machine's goes on by hours.
    list.gate.hide_date();
    list.gate.refuse().await;
    list.pass(40).await;
    list.pass(20).await;
    // Another one may have been on its way.
    let first = list.wait_for_failures(5).await;
    assert!((5..=6).contains(&first), "{first}");
    for minutes in [1, 2, 4, 8, 16, 30, 30] {
        list.pass_a_pause(minutes).await;
    }
    assert_eq!(list.count_dialed().await, 0);

    // It can be reached for one call, which goes on while the others fail.
    list.gate.hold(Some((list.session.process_id(), Hold::Answer("POST /v1/calls"))));
    list.gate.accept();
    // Second by second at the end, so that the held request does not time out.
    for _ in 0..58 {
        list.pass(30).await;
    }
    let held = list.wait_for_held().await;
    list.gate.refuse().await;
    list.gate.hold(None);
    // Before the call is placed: then the next attempts begin.
    let begun = list.count_begun();
    assert_eq!(begun, first + 7 + 1);
    held.release();
    assert_eq!(list.wait_for_failures(begun + 5).await, begun + 5);
    assert_eq!(list.count_dialed().await, 1);
    for minutes in [1, 2] {
        list.pass_a_pause(minutes).await;
    }
    assert_eq!(list.count_begun(), begun + 5 + 2);

    list.gate.accept();
    let mut report = Value::Null;
    for _ in 0..120 {
        list.control.advance(600).await;
        list.pass(15).await;
        report = list.wait_for_answers().await;
        if report["state"] == "ended" {
            break;
        }
    }
    assert_eq!(report["counts"], json!({"done": PEOPLE}), "{report}");
    let dialed = list.control.dialed().await;
    let numbers: BTreeSet<_> = dialed.iter().map(|call| call["to"].as_str().unwrap()).collect();
    assert_eq!((dialed.len(), numbers.len()), (PEOPLE as usize, PEOPLE as usize), "{dialed:?}");
    let (_, log) = list.session.close().await;
    assert!(log.contains("a call of a batch could not be placed"), "{log}");
}
