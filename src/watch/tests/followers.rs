//! What followers see: the stages of a call, arrivals and departures, errors, webhooks, many calls.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures::FutureExt;
use futures::future::{BoxFuture, join_all};
use tokio::time::{sleep, sleep_until, timeout};

use super::api::{CallStages, FakeApi, RequestKind};
use crate::watch::table::WatchTable;
use crate::watch::{CallSource, FollowError, WatchOptions, WatchSettings, WatchStatus, Watchers};
use callingbox::{Call, CallId, Error, ErrorKind, Page, PageRequest, ResultStatus, Transcript};

const RECORD: WatchOptions = WatchOptions { transcript: false };
const WITH_TRANSCRIPT: WatchOptions = WatchOptions { transcript: true };

const SHORT: CallStages = CallStages { begins: 0.0, dialing: 5.0, talking: 20.0, extracting: 4.0 };

async fn sleep_until_second(api: &FakeApi, seconds: f64) {
    sleep_until(api.start + Duration::from_secs_f64(seconds)).await;
}

fn server_error() -> ErrorKind {
    ErrorKind::Server { status: 500, message: "oops".into() }
}

#[tokio::test(start_paused = true)]
async fn a_follower_sees_each_status_in_order_and_each_line_once() {
    let api = FakeApi::new(100);
    let id = api.add_call("c", SHORT);
    let watchers = Watchers::new(api.clone(), WatchSettings::default());
    let mut follower = watchers.follow(&id, WITH_TRANSCRIPT).unwrap();
    assert!(follower.snapshot().call.is_none());
    let (mut statuses, mut lines) = (Vec::new(), Vec::new());
    while let Some(snapshot) = follower.changed().await {
        if let Some(call) = &snapshot.call {
            statuses.push(format!("{} {}", call.status, call.result_status.as_ref().unwrap()));
        }
        let new = snapshot.segments.iter().skip(lines.len());
        lines.extend(new.map(|segment| segment.text.clone()));
        let over = statuses.last().is_some_and(|status| status.starts_with("completed"));
        assert!(over || !snapshot.segments_final);
    }
    statuses.dedup();
    let expected = [
        "queued pending",
        "ringing pending",
        "in_progress pending",
        "completed pending",
        "completed completed",
    ];
    assert_eq!(statuses, expected);
    assert_eq!(lines, ["line 0", "line 1", "line 2", "line 3", "line 4"]);
    let last = follower.snapshot();
    assert_eq!((last.state, last.segments_final), (WatchStatus::Finished, true));
    assert!(last.trouble.is_none());
    // A second wait for the end returns immediately.
    assert!(follower.finished().now_or_never().is_some());
    assert!(follower.changed().now_or_never().unwrap().is_none());
}

#[tokio::test(start_paused = true)]
async fn polling_stops_with_the_last_follower() {
    let api = FakeApi::new(100);
    let id = api.add_call("c", CallStages::three_minutes());
    let watchers = Watchers::new(api.clone(), WatchSettings::default());
    let first = watchers.follow(&id, RECORD).unwrap();
    let second = watchers.follow(&id, WITH_TRANSCRIPT).unwrap();
    sleep_until_second(&api, 30.0).await;
    drop(second);
    let transcripts = api.count_requests(RequestKind::Transcript);
    assert!(transcripts > 0);
    sleep_until_second(&api, 60.0).await;
    assert!(api.count_requests(RequestKind::Transcript) <= transcripts + 1);
    assert_eq!(watchers.watched_calls(), 1);
    drop(first);
    assert_eq!(watchers.watched_calls(), 0);
    let total = api.total_requests();
    sleep_until_second(&api, 600.0).await;
    assert_eq!((api.total_requests(), watchers.is_running()), (total, false));
    // A new follower starts the watch again.
    let last = watchers.follow(&id, RECORD).unwrap().finished().await;
    assert_eq!(last.state, WatchStatus::Finished);
    assert_eq!(api.total_requests(), total + 1);
    // The task ends once the snapshot of the finished call expires.
    assert!(watchers.is_running());
    sleep(Duration::from_secs(61)).await;
    assert!(!watchers.is_running());
}

#[tokio::test(start_paused = true)]
async fn a_client_that_polls_keeps_the_watch_alive() {
    let api = FakeApi::new(100);
    let id = api.add_call("c", CallStages::three_minutes());
    let watchers = Watchers::new(api.clone(), WatchSettings::default());
    let poll = async || {
        let mut follower = watchers.follow(&id, RECORD).unwrap();
        while follower.snapshot().call.is_none() {
            follower.changed().await.unwrap();
        }
        watchers.keep_alive(&id, follower, Duration::from_secs(5));
    };
    // Ten clients that poll every three seconds cost no more than one that waits: about 3 s between two polls.
    for _ in 0..20 {
        join_all((0..10).map(|_| poll())).await;
        sleep(Duration::from_secs(3)).await;
    }
    let total = api.total_requests();
    assert!((15..=30).contains(&total), "{total}");
    assert_eq!(watchers.watched_calls(), 1);
    // No client polls again.
    sleep(Duration::from_secs(3)).await;
    assert_eq!((watchers.watched_calls(), watchers.is_running()), (0, false));
    // A later poll starts a new watch, which ends with the call.
    poll().await;
    assert_eq!(watchers.watched_calls(), 1);
    sleep_until_second(&api, 194.0).await;
    poll().await;
    sleep(Duration::from_secs(4)).await;
    assert_eq!(watchers.watched_calls(), 0);
    assert_eq!(watchers.follow(&id, RECORD).unwrap().snapshot().state, WatchStatus::Finished);
}

#[tokio::test(start_paused = true)]
async fn late_followers_cause_no_request() {
    let api = FakeApi::new(100);
    let id = api.add_call("c", SHORT);
    let watchers = Watchers::new(api.clone(), WatchSettings::default());
    watchers.follow(&id, RECORD).unwrap().finished().await;
    let total = api.total_requests();
    for _ in 0..100 {
        let mut late = watchers.follow(&id, RECORD).unwrap();
        assert_eq!(late.snapshot().state, WatchStatus::Finished);
        assert_eq!(late.finished().await.call.as_ref().unwrap().id, id);
    }
    assert_eq!(api.total_requests(), total);
    // No earlier follower wanted the transcript: it is requested once.
    let late = (0..100).map(async |_| {
        let last = watchers.follow(&id, WITH_TRANSCRIPT).unwrap().finished().await;
        assert_eq!((last.segments.len(), last.segments_final), (5, true));
    });
    join_all(late).await;
    assert_eq!((api.total_requests(), api.count_requests(RequestKind::Transcript)), (total + 1, 1));
    assert_eq!(watchers.watched_calls(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_later_follower_can_add_the_transcript() {
    let api = FakeApi::new(100);
    let id = api.add_call("c", CallStages::three_minutes());
    let watchers = Watchers::new(api.clone(), WatchSettings::default());
    let first = watchers.follow(&id, RECORD).unwrap();
    sleep_until_second(&api, 60.0).await;
    assert_eq!(api.count_requests(RequestKind::Transcript), 0);
    let mut second = watchers.follow(&id, WITH_TRANSCRIPT).unwrap();
    let snapshot = second.changed().await.unwrap();
    assert!(api.elapsed_seconds() < 60.2);
    assert_eq!(snapshot.segments.len(), 12);
    // All followers share one copy.
    assert!(std::sync::Arc::ptr_eq(&first.snapshot().segments, &second.snapshot().segments));
}

#[tokio::test(start_paused = true)]
async fn an_error_is_reported_and_the_wait_goes_on() {
    let api = FakeApi::new(100);
    let id = api.add_call("c", SHORT);
    api.set_fault(|_, now| (10.0..40.0).contains(&now).then(server_error));
    let watchers = Watchers::new(api.clone(), WatchSettings::default());
    let mut follower = watchers.follow(&id, WITH_TRANSCRIPT).unwrap();
    sleep_until_second(&api, 39.0).await;
    let known = follower.snapshot();
    assert_eq!(known.state, WatchStatus::Watching);
    assert_eq!(known.call.as_ref().unwrap().status.as_str(), "in_progress");
    assert_eq!(known.trouble.as_ref().unwrap().status(), Some(500));
    let asked_in_trouble = api.request_times().iter().filter(|at| **at > 10.0).count();
    assert!((4..=12).contains(&asked_in_trouble), "{asked_in_trouble}");
    let last = follower.finished().await;
    assert_eq!(
        (last.state, last.segments.len(), last.segments_final),
        (WatchStatus::Finished, 5, true)
    );
    assert!(last.trouble.is_none());
    assert!(api.elapsed_seconds() < 75.0, "{}", api.elapsed_seconds());
}

#[tokio::test(start_paused = true)]
async fn retry_after_pauses_the_whole_account() {
    for asked in [20, u64::MAX] {
        let api = FakeApi::new(100);
        let calls = ["a", "b", "c"].map(|name| api.add_call(name, CallStages::three_minutes()));
        let first = Arc::new(OnceLock::new());
        let told = Arc::clone(&first);
        api.set_fault(move |_, now| {
            let retry_after = Some(Duration::from_secs(asked));
            let limited = ErrorKind::RateLimited { message: "slow down".into(), retry_after };
            let refused = (30.0..35.0).contains(&now);
            refused.then(|| told.get_or_init(|| now)).map(|_| limited)
        });
        let watchers = Watchers::new(api.clone(), WatchSettings::default());
        let followers = calls.each_ref().map(|id| watchers.follow(id, WITH_TRANSCRIPT).unwrap());
        sleep_until_second(&api, 60.0).await;
        let refused = *first.get().unwrap();
        let silence = asked.min(3_600) as f64;
        sleep_until_second(&api, refused + silence - 1.0).await;
        for id in &calls {
            watchers.record_event(id, None);
        }
        sleep_until_second(&api, refused + silence + 30.0).await;
        let within = |at: &&f64| **at > refused + 0.06 && **at < refused + silence;
        let times = api.request_times();
        assert_eq!(times.iter().filter(within).count(), 0, "{times:?}");
        assert!(times.iter().any(|at| *at > refused + silence));
        assert!(followers.iter().all(|follower| follower.snapshot().trouble.is_none()));
    }
}

#[tokio::test(start_paused = true)]
async fn an_error_that_no_retry_fixes_ends_the_watch() {
    let unauthorized = || ErrorKind::Unauthorized { message: "no".into() };
    let forbidden = || ErrorKind::Forbidden { status: 403, message: "no".into() };
    type Row = (&'static str, f64, Option<fn() -> ErrorKind>, WatchStatus, u16);
    let table: [Row; 5] = [
        ("unknown", 0.0, None, WatchStatus::NotFound, 404),
        ("c", 0.0, Some(unauthorized), WatchStatus::Unauthorized, 401),
        ("c", 12.0, Some(unauthorized), WatchStatus::Unauthorized, 401),
        ("c", 0.0, Some(forbidden), WatchStatus::Unauthorized, 403),
        ("c", 12.0, Some(forbidden), WatchStatus::Unauthorized, 403),
    ];
    for (id, from, fault, state, status) in table {
        for calls in [1, 20] {
            let api = FakeApi::new(100);
            let ids: Vec<CallId> = (0..calls)
                .map(|number| CallId::new(format!("{id}{number}")))
                .inspect(|id| {
                    _ = id.as_str().starts_with('c').then(|| api.add_call(id.as_str(), SHORT))
                })
                .collect();
            api.set_fault(move |_, now| fault.filter(|_| now >= from).map(|fault| fault()));
            let watchers = Watchers::new(api.clone(), WatchSettings::default());
            let ended = ids.iter().map(async |id| {
                let last = watchers.follow(id, WITH_TRANSCRIPT).unwrap().finished().await;
                let trouble = last.trouble.as_ref().and_then(|trouble| trouble.status());
                assert_eq!((last.state, trouble), (state, Some(status)), "{id}");
            });
            join_all(ended).await;
            assert!(api.elapsed_seconds() < from + 6.0, "{}", api.elapsed_seconds());
            sleep(Duration::from_secs(1)).await;
            assert_eq!((watchers.watched_calls(), watchers.is_running()), (0, false));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_watch_ends_without_a_transcript_that_cannot_be_read() {
    let table: [(fn() -> ErrorKind, bool); 2] =
        [(server_error, false), (|| ErrorKind::NotFound { message: "none".into() }, true)];
    for (fault, complete) in table {
        let api = FakeApi::new(100);
        let id = api.add_call("c", SHORT);
        api.set_fault(move |asked, _| (asked == RequestKind::Transcript).then(fault));
        let watchers = Watchers::new(api.clone(), WatchSettings::default());
        let mut follower = watchers.follow(&id, WITH_TRANSCRIPT).unwrap();
        let last = follower.finished().await;
        assert_eq!((last.state, last.segments_final), (WatchStatus::Finished, complete));
        assert_eq!((last.segments.len(), last.segments_trouble.is_some()), (0, !complete));
        assert!(last.trouble.is_none());
        assert_eq!(last.call.as_ref().unwrap().result_status, Some(ResultStatus::Completed));
        assert!(api.elapsed_seconds() < SHORT.result_at() + 40.0, "{}", api.elapsed_seconds());
    }
}

#[tokio::test(start_paused = true)]
async fn a_watch_ends_although_the_extraction_never_does() {
    let api = FakeApi::new(100);
    let id = api.add_call("c", CallStages { extracting: f64::INFINITY, ..SHORT });
    let watchers = Watchers::new(api.clone(), WatchSettings::default());
    let last = watchers.follow(&id, RECORD).unwrap().finished().await;
    assert_eq!(last.state, WatchStatus::Finished);
    assert_eq!(last.call.as_ref().unwrap().result_status, Some(ResultStatus::Pending));
    let waited = api.elapsed_seconds() - 25.0;
    assert!((120.0..130.0).contains(&waited), "{waited}");
}

#[tokio::test(start_paused = true)]
async fn an_unanswered_call_ends_its_watch_immediately() {
    let api = FakeApi::new(100);
    let id = api.add_call("c", CallStages { talking: 0.0, ..SHORT });
    let watchers = Watchers::new(api.clone(), WatchSettings::default());
    let last = watchers.follow(&id, RECORD).unwrap().finished().await;
    assert_eq!(last.call.as_ref().unwrap().status.as_str(), "no_answer");
    assert!(api.elapsed_seconds() < 7.0, "{}", api.elapsed_seconds());
}

#[tokio::test(start_paused = true)]
async fn webhooks_may_be_late_out_of_order_or_missing() {
    let api = FakeApi::new(100);
    let id = api.add_call("c", SHORT);
    let watchers = Watchers::new(api.clone(), WatchSettings::default());
    let mut follower = watchers.follow(&id, RECORD).unwrap();
    sleep_until_second(&api, 6.0).await;
    // A late event causes a poll, and its record is not used.
    watchers.record_event(&id, api.record_at(&id, 2.0));
    sleep(Duration::from_millis(150)).await;
    assert_eq!(follower.snapshot().call.as_ref().unwrap().status.as_str(), "in_progress");
    // The same goes for another call's record.
    let other = api.add_call("other", CallStages { begins: -100.0, ..SHORT });
    watchers.record_event(&id, api.record_at(&other, 7.0));
    sleep(Duration::from_millis(150)).await;
    assert_eq!(follower.snapshot().call.as_ref().unwrap().id, id);
    let before = api.total_requests();
    sleep_until_second(&api, 24.0).await;
    assert!(api.total_requests() <= before + 1, "webhooks make polling rare");
    // The last event is lost; polling finds the end.
    assert_eq!(follower.finished().await.state, WatchStatus::Finished);
    assert!(api.elapsed_seconds() < 55.0, "{}", api.elapsed_seconds());
    // An event of a call that is not watched is ignored.
    watchers.record_event(&CallId::new("unknown"), None);
    assert_eq!(watchers.watched_calls(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_webhook_during_a_poll_causes_another_poll() {
    let api = FakeApi::new(1_000);
    let id =
        api.add_call("c", CallStages { dialing: 0.6, talking: 0.1, extracting: 0.1, begins: 0.0 });
    let watchers = Watchers::new(api.clone(), WatchSettings::default());
    let mut follower = watchers.follow(&id, RECORD).unwrap();
    // The account was read before the call's end, and the answer has not arrived yet.
    sleep_until_second(&api, 0.9).await;
    watchers.record_event(&id, None);
    assert_eq!(follower.finished().await.state, WatchStatus::Finished);
    assert!(api.elapsed_seconds() < 3.0, "{}", api.elapsed_seconds());
}

#[tokio::test(start_paused = true)]
async fn a_webhook_during_a_list_request_causes_a_poll_of_its_call() {
    let api = FakeApi::new(1_000);
    let stages = CallStages { dialing: 0.6, talking: 0.1, extracting: 0.1, begins: 0.0 };
    let id = api.add_call("c", stages);
    let others: Vec<CallId> = (0..20).map(|n| api.add_call(&format!("o{n}"), SHORT)).collect();
    let watchers = Watchers::new(api.clone(), WatchSettings::default());
    let mut follower = watchers.follow(&id, RECORD).unwrap();
    let _others: Vec<_> = others.iter().map(|id| watchers.follow(id, RECORD).unwrap()).collect();
    sleep_until_second(&api, 0.9).await;
    assert_eq!((api.count_requests(RequestKind::List), api.total_requests()), (1, 1));
    watchers.record_event(&id, None);
    assert_eq!(follower.finished().await.state, WatchStatus::Finished);
    assert!(api.elapsed_seconds() < 2.0, "{}", api.elapsed_seconds());
}

#[tokio::test(start_paused = true)]
async fn a_transcript_that_no_follower_wants_any_more_delays_no_end() {
    let api = FakeApi::new(100);
    api.set_fault(|asked, _| (asked == RequestKind::Transcript).then(server_error));
    let id = api.add_call("c", SHORT);
    let watchers = Watchers::new(api.clone(), WatchSettings::default());
    let mut record = watchers.follow(&id, RECORD).unwrap();
    let transcript = watchers.follow(&id, WITH_TRANSCRIPT).unwrap();
    let finished = |call: &Call| call.result_status == Some(ResultStatus::Completed);
    while !record.changed().await.unwrap().call.as_deref().is_some_and(finished) {}
    assert_eq!(record.snapshot().state, WatchStatus::Watching);
    drop(transcript);
    let soon = timeout(Duration::from_millis(10), record.finished()).await;
    assert_eq!(soon.expect("it is over").state, WatchStatus::Finished);
}

#[tokio::test(start_paused = true)]
async fn a_change_without_a_webhook_makes_polling_frequent_again() {
    let api = FakeApi::new(100);
    let id = api.add_call("c", CallStages::three_minutes());
    let watchers = Watchers::new(api.clone(), WatchSettings::default());
    let _follower = watchers.follow(&id, RECORD).unwrap();
    sleep_until_second(&api, 2.0).await;
    watchers.record_event(&id, None);
    // A poll 20 s after the webhook finds the change at 10 s.
    sleep_until_second(&api, 30.0).await;
    let slow = api.total_requests();
    sleep_until_second(&api, 90.0).await;
    let quick = api.total_requests() - slow;
    assert!(slow <= 7 && quick >= 15, "{slow} {quick}");
}

#[tokio::test(start_paused = true)]
async fn an_older_answer_never_overwrites_a_newer_one() {
    let api = FakeApi::new(100);
    let id = api.add_call("c", SHORT);
    let now = tokio::time::Instant::now();
    let mut table = WatchTable::new(WatchSettings::default(), now);
    let (receiver, _) = table.add_follower(&id, RECORD, now).unwrap();
    let status = || receiver.borrow().call.as_ref().unwrap().status.as_str().to_owned();
    for (ticket, at, expected) in
        [(5, 3.0, "ringing"), (4, 0.5, "ringing"), (7, 6.0, "in_progress"), (6, 3.0, "in_progress")]
    {
        table.use_record(&id, ticket, api.record_at(&id, at).unwrap(), now);
        assert_eq!(status(), expected);
    }
    // A stale copy does not reopen a call that is over either.
    for (ticket, at) in [(8, 26.0), (9, 6.0)] {
        table.use_record(&id, ticket, api.record_at(&id, at).unwrap(), now);
        assert_eq!(status(), "completed");
    }
}

#[tokio::test(start_paused = true)]
async fn a_shorter_transcript_is_ignored() {
    let api = FakeApi::new(100);
    let id = api.add_call("c", SHORT);
    let now = tokio::time::Instant::now();
    let mut table = WatchTable::new(WatchSettings::default(), now);
    let (receiver, _) = table.add_follower(&id, WITH_TRANSCRIPT, now).unwrap();
    table.use_record(&id, 1, api.record_at(&id, 20.0).unwrap(), now);
    for (ticket, at, lines) in [(2, 15.0, 2), (3, 9.0, 2), (4, 20.0, 3)] {
        table.record_transcript_answer(&id, ticket, Ok(api.transcript_at(&id, at).unwrap()), now);
        assert_eq!(receiver.borrow().segments.len(), lines);
    }
}

#[tokio::test(start_paused = true)]
async fn a_finished_record_from_a_webhook_outranks_an_earlier_poll() {
    let api = FakeApi::new(1_000);
    let id = api.add_call("c", CallStages { dialing: 0.2, talking: 0.4, extracting: 0.2, ..SHORT });
    let watchers = Watchers::new(api.clone(), WatchSettings::default());
    let mut follower = watchers.follow(&id, WITH_TRANSCRIPT).unwrap();
    sleep_until_second(&api, 0.8).await;
    watchers.record_event(&id, api.record_at(&id, 0.8));
    let mut seen = Vec::new();
    while let Some(snapshot) = follower.changed().await {
        seen.extend(snapshot.call.as_ref().map(|call| call.status.as_str().to_owned()));
    }
    seen.dedup();
    assert_eq!(seen, ["completed"]);
    assert!(follower.snapshot().segments_final);
}

#[tokio::test(start_paused = true)]
async fn many_calls_are_polled_by_lists_and_unlisted_ones_one_by_one() {
    let api = FakeApi::new(100);
    let old: Vec<CallId> = (0..3)
        .map(|n| {
            api.add_call(&format!("old{n}"), CallStages { begins: -100.0, talking: 190.0, ..SHORT })
        })
        .collect();
    for n in 0..1_000 {
        api.add_call(&format!("other{n}"), CallStages { begins: -50.0, talking: 9.0, ..SHORT });
    }
    let new: Vec<CallId> = (0..50)
        .map(|n| api.add_call(&format!("new{n}"), CallStages { talking: 85.0, ..SHORT }))
        .collect();
    let watchers = Watchers::new(api.clone(), WatchSettings::default());
    let wait = async |id: &CallId| watchers.follow(id, RECORD).unwrap().finished().await.state;
    let ended = join_all(old.iter().chain(&new).map(wait)).await;
    assert_eq!(ended, vec![WatchStatus::Finished; 53]);
    let (lists, records) =
        (api.count_requests(RequestKind::List), api.count_requests(RequestKind::Record));
    println!("53 calls for 95 s: {lists} lists and {records} records");
    assert!((20..=200).contains(&lists), "{lists}");
    // Three calls by themselves, about 29 polls each, and a few single polls of the others.
    assert!((60..=200).contains(&records), "{records}");
    assert!(api.elapsed_seconds() < 104.0, "{}", api.elapsed_seconds());
}

#[tokio::test(start_paused = true)]
async fn followers_that_return_during_a_list_request_are_answered() {
    let api = FakeApi::new(1_000);
    let ids: Vec<CallId> = (0..20).map(|n| api.add_call(&format!("c{n}"), SHORT)).collect();
    let watchers = Watchers::new(api.clone(), WatchSettings::default());
    let follow = || ids.iter().map(|id| watchers.follow(id, RECORD).unwrap()).collect::<Vec<_>>();
    let followers = follow();
    sleep_until_second(&api, 0.5).await;
    assert_eq!((api.count_requests(RequestKind::List), api.total_requests()), (1, 1));
    drop(followers);
    sleep_until_second(&api, 0.6).await;
    let mut followers = follow();
    let all = join_all(followers.iter_mut().map(|follower| follower.finished()));
    let soon = timeout(Duration::from_secs_f64(SHORT.result_at() + 5.0), all);
    for last in soon.await.expect("all followers are answered") {
        assert_eq!(last.state, WatchStatus::Finished);
    }
}

#[tokio::test(start_paused = true)]
async fn calls_are_polled_one_by_one_if_lists_cannot_be_read() {
    let api = FakeApi::new(100);
    api.set_fault(|asked, _| {
        (asked == RequestKind::List).then_some(ErrorKind::TooLarge { status: 200, limit: 8 })
    });
    let ids: Vec<CallId> = (0..20).map(|n| api.add_call(&format!("c{n}"), SHORT)).collect();
    let watchers = Watchers::new(api.clone(), WatchSettings::default());
    let wait = async |id: &CallId| watchers.follow(id, RECORD).unwrap().finished().await;
    for last in join_all(ids.iter().map(wait)).await {
        assert_eq!((last.state, last.trouble.is_none()), (WatchStatus::Finished, true));
    }
    assert_eq!(api.count_requests(RequestKind::List), 1);
    assert!(api.elapsed_seconds() < SHORT.result_at() + 4.0, "{}", api.elapsed_seconds());
}

#[tokio::test(start_paused = true)]
async fn the_number_of_live_calls_is_limited() {
    let api = FakeApi::new(100);
    let settings = WatchSettings { max_live: 2, ..WatchSettings::default() };
    let watchers = Watchers::new(api.clone(), settings);
    let [a, b, c] = ["a", "b", "c"].map(|name| api.add_call(name, SHORT));
    let first = watchers.follow(&a, RECORD).unwrap();
    let _second = watchers.follow(&b, RECORD).unwrap();
    assert!(
        watchers.follow(&a, RECORD).is_ok(),
        "a second follower of the same call does not count"
    );
    assert_eq!(watchers.follow(&c, RECORD).err(), Some(FollowError::TooMany { limit: 2 }));
    drop(first);
    assert!(watchers.follow(&c, RECORD).is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_faster_simulated_clock_is_polled_more_often() {
    let api = FakeApi::new(10);
    let id =
        api.add_call("c", CallStages { talking: 18.0, dialing: 1.0, extracting: 0.5, begins: 0.0 });
    let settings = WatchSettings { speed: 10.0, ..WatchSettings::default() };
    let watchers = Watchers::new(api.clone(), settings);
    watchers.follow(&id, RECORD).unwrap().finished().await;
    let total = api.total_requests();
    assert!((40..=75).contains(&total), "{total}");
}

/// An account whose client panics.
struct PanickingSource;

impl CallSource for PanickingSource {
    fn get_call<'a>(&'a self, _: &'a CallId) -> BoxFuture<'a, Result<Call, Error>> {
        Box::pin(async { panic!("broken") })
    }

    fn get_transcript<'a>(&'a self, _: &'a CallId) -> BoxFuture<'a, Result<Transcript, Error>> {
        Box::pin(async { panic!("broken") })
    }

    fn list_calls<'a>(&'a self, _: &'a PageRequest) -> BoxFuture<'a, Result<Page<Call>, Error>> {
        Box::pin(async { panic!("broken") })
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_of_the_client_ends_all_waits() {
    let watchers = Watchers::new(std::sync::Arc::new(PanickingSource), WatchSettings::default());
    for _ in 0..2 {
        let mut follower = watchers.follow(&CallId::new("c"), RECORD).unwrap();
        let last = timeout(Duration::from_secs(5), follower.finished()).await.unwrap();
        assert_eq!(last.state, WatchStatus::Watching);
        assert_eq!((watchers.watched_calls(), watchers.is_running()), (0, false));
    }
}

#[test]
fn watchers_and_followers_are_send_and_sync() {
    fn assert_send_sync<T: Send + Sync + std::fmt::Debug>() {}
    assert_send_sync::<Watchers>();
    assert_send_sync::<crate::watch::Follower>();
    assert_send_sync::<crate::watch::Snapshot>();
}
