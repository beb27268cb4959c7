//! What followers see: the stages of a call, joining and leaving, trouble, webhooks, many calls.

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

async fn until(api: &FakeApi, seconds: f64) {
    sleep_until(api.start + Duration::from_secs_f64(seconds)).await;
}

fn server_error() -> ErrorKind {
    ErrorKind::Server { status: 500, message: "oops".into() }
}

#[tokio::test(start_paused = true)]
async fn the_life_of_a_call_in_order_and_each_line_once() {
    let api = FakeApi::new(100);
    let id = api.add("c", SHORT);
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
    // The wait for the end of what has ended does not wait.
    assert!(follower.finished().now_or_never().is_some());
    assert!(follower.changed().now_or_never().unwrap().is_none());
}

#[tokio::test(start_paused = true)]
async fn nothing_is_asked_once_nobody_waits() {
    let api = FakeApi::new(100);
    let id = api.add("c", CallStages::three_minutes());
    let watchers = Watchers::new(api.clone(), WatchSettings::default());
    let first = watchers.follow(&id, RECORD).unwrap();
    let second = watchers.follow(&id, WITH_TRANSCRIPT).unwrap();
    until(&api, 30.0).await;
    drop(second);
    let transcripts = api.count(RequestKind::Transcript);
    assert!(transcripts > 0);
    until(&api, 60.0).await;
    assert!(api.count(RequestKind::Transcript) <= transcripts + 1);
    assert_eq!(watchers.watched_calls(), 1);
    drop(first);
    assert_eq!(watchers.watched_calls(), 0);
    let total = api.total();
    until(&api, 600.0).await;
    assert_eq!((api.total(), watchers.is_running()), (total, false));
    // Interest that comes back starts the watch again.
    let last = watchers.follow(&id, RECORD).unwrap().finished().await;
    assert_eq!(last.state, WatchStatus::Finished);
    assert_eq!(api.total(), total + 1);
    // The task goes once the finished call is forgotten.
    assert!(watchers.is_running());
    sleep(Duration::from_secs(61)).await;
    assert!(!watchers.is_running());
}

#[tokio::test(start_paused = true)]
async fn who_polls_finds_the_watch_still_there() {
    let api = FakeApi::new(100);
    let id = api.add("c", CallStages::three_minutes());
    let watchers = Watchers::new(api.clone(), WatchSettings::default());
    let poll = async || {
        let mut follower = watchers.follow(&id, RECORD).unwrap();
        while follower.snapshot().call.is_none() {
            follower.changed().await.unwrap();
        }
        watchers.keep_alive(&id, follower, Duration::from_secs(5));
    };
    // Ten who ask every three seconds cost no more than one who waits: some 3 s between two looks.
    for _ in 0..20 {
        join_all((0..10).map(|_| poll())).await;
        sleep(Duration::from_secs(3)).await;
    }
    let total = api.total();
    assert!((15..=30).contains(&total), "{total}");
    assert_eq!(watchers.watched_calls(), 1);
    // Nobody comes back.
    sleep(Duration::from_secs(3)).await;
    assert_eq!((watchers.watched_calls(), watchers.is_running()), (0, false));
    // One who comes late begins anew, and the end of the call ends it.
    poll().await;
    assert_eq!(watchers.watched_calls(), 1);
    until(&api, 194.0).await;
    poll().await;
    sleep(Duration::from_secs(4)).await;
    assert_eq!(watchers.watched_calls(), 0);
    assert_eq!(watchers.follow(&id, RECORD).unwrap().snapshot().state, WatchStatus::Finished);
}

#[tokio::test(start_paused = true)]
async fn those_who_come_late_cost_nothing() {
    let api = FakeApi::new(100);
    let id = api.add("c", SHORT);
    let watchers = Watchers::new(api.clone(), WatchSettings::default());
    watchers.follow(&id, RECORD).unwrap().finished().await;
    let total = api.total();
    for _ in 0..100 {
        let mut late = watchers.follow(&id, RECORD).unwrap();
        assert_eq!(late.snapshot().state, WatchStatus::Finished);
        assert_eq!(late.finished().await.call.as_ref().unwrap().id, id);
    }
    assert_eq!(api.total(), total);
    // The transcript was not wanted before: it is asked for once.
    let late = (0..100).map(async |_| {
        let last = watchers.follow(&id, WITH_TRANSCRIPT).unwrap().finished().await;
        assert_eq!((last.segments.len(), last.segments_final), (5, true));
    });
    join_all(late).await;
    assert_eq!((api.total(), api.count(RequestKind::Transcript)), (total + 1, 1));
    assert_eq!(watchers.watched_calls(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_follower_may_bring_the_transcript_in_later() {
    let api = FakeApi::new(100);
    let id = api.add("c", CallStages::three_minutes());
    let watchers = Watchers::new(api.clone(), WatchSettings::default());
    let first = watchers.follow(&id, RECORD).unwrap();
    until(&api, 60.0).await;
    assert_eq!(api.count(RequestKind::Transcript), 0);
    let mut second = watchers.follow(&id, WITH_TRANSCRIPT).unwrap();
    let snapshot = second.changed().await.unwrap();
    assert!(api.seconds() < 60.2);
    assert_eq!(snapshot.segments.len(), 12);
    // One copy for all.
    assert!(std::sync::Arc::ptr_eq(&first.snapshot().segments, &second.snapshot().segments));
}

#[tokio::test(start_paused = true)]
async fn trouble_is_told_and_the_wait_goes_on() {
    let api = FakeApi::new(100);
    let id = api.add("c", SHORT);
    api.fail(|_, now| (10.0..40.0).contains(&now).then(server_error));
    let watchers = Watchers::new(api.clone(), WatchSettings::default());
    let mut follower = watchers.follow(&id, WITH_TRANSCRIPT).unwrap();
    until(&api, 39.0).await;
    let known = follower.snapshot();
    assert_eq!(known.state, WatchStatus::Watching);
    assert_eq!(known.call.as_ref().unwrap().status.as_str(), "in_progress");
    assert_eq!(known.trouble.as_ref().unwrap().status(), Some(500));
    let asked_in_trouble = api.times().iter().filter(|at| **at > 10.0).count();
    assert!((4..=12).contains(&asked_in_trouble), "{asked_in_trouble}");
    let last = follower.finished().await;
    assert_eq!(
        (last.state, last.segments.len(), last.segments_final),
        (WatchStatus::Finished, 5, true)
    );
    assert!(last.trouble.is_none());
    assert!(api.seconds() < 75.0, "{}", api.seconds());
}

#[tokio::test(start_paused = true)]
async fn retry_after_silences_the_whole_account() {
    for asked in [20, u64::MAX] {
        let api = FakeApi::new(100);
        let calls = ["a", "b", "c"].map(|name| api.add(name, CallStages::three_minutes()));
        let first = Arc::new(OnceLock::new());
        let told = Arc::clone(&first);
        api.fail(move |_, now| {
            let retry_after = Some(Duration::from_secs(asked));
            let limited = ErrorKind::RateLimited { message: "slow down".into(), retry_after };
            let refused = (30.0..35.0).contains(&now);
            refused.then(|| told.get_or_init(|| now)).map(|_| limited)
        });
        let watchers = Watchers::new(api.clone(), WatchSettings::default());
        let followers = calls.each_ref().map(|id| watchers.follow(id, WITH_TRANSCRIPT).unwrap());
        until(&api, 60.0).await;
        let refused = *first.get().unwrap();
        let silence = asked.min(3_600) as f64;
        until(&api, refused + silence - 1.0).await;
        for id in &calls {
            watchers.record_event(id, None);
        }
        until(&api, refused + silence + 30.0).await;
        let within = |at: &&f64| **at > refused + 0.06 && **at < refused + silence;
        let times = api.times();
        assert_eq!(times.iter().filter(within).count(), 0, "{times:?}");
        assert!(times.iter().any(|at| *at > refused + silence));
        assert!(followers.iter().all(|follower| follower.snapshot().trouble.is_none()));
    }
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_mended_ends_the_watch() {
    let unauthorized = || ErrorKind::Unauthorized { message: "no".into() };
    type Row = (&'static str, f64, Option<fn() -> ErrorKind>, WatchStatus, u16);
    let table: [Row; 3] = [
        ("unknown", 0.0, None, WatchStatus::NotFound, 404),
        ("c", 0.0, Some(unauthorized), WatchStatus::Unauthorized, 401),
        ("c", 12.0, Some(unauthorized), WatchStatus::Unauthorized, 401),
    ];
    for (id, from, fault, state, status) in table {
        for calls in [1, 20] {
            let api = FakeApi::new(100);
            let ids: Vec<CallId> = (0..calls)
                .map(|number| CallId::new(format!("{id}{number}")))
                .inspect(|id| _ = id.as_str().starts_with('c').then(|| api.add(id.as_str(), SHORT)))
                .collect();
            api.fail(move |_, now| fault.filter(|_| now >= from).map(|fault| fault()));
            let watchers = Watchers::new(api.clone(), WatchSettings::default());
            let ended = ids.iter().map(async |id| {
                let last = watchers.follow(id, WITH_TRANSCRIPT).unwrap().finished().await;
                let trouble = last.trouble.as_ref().and_then(|trouble| trouble.status());
                assert_eq!((last.state, trouble), (state, Some(status)), "{id}");
            });
            join_all(ended).await;
            assert!(api.seconds() < from + 6.0, "{}", api.seconds());
            sleep(Duration::from_secs(1)).await;
            assert_eq!((watchers.watched_calls(), watchers.is_running()), (0, false));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_end_is_given_out_without_a_transcript_that_does_not_come() {
    let table: [(fn() -> ErrorKind, bool); 2] =
        [(server_error, false), (|| ErrorKind::NotFound { message: "none".into() }, true)];
    for (fault, complete) in table {
        let api = FakeApi::new(100);
        let id = api.add("c", SHORT);
        api.fail(move |asked, _| (asked == RequestKind::Transcript).then(fault));
        let watchers = Watchers::new(api.clone(), WatchSettings::default());
        let mut follower = watchers.follow(&id, WITH_TRANSCRIPT).unwrap();
        let last = follower.finished().await;
        assert_eq!((last.state, last.segments_final), (WatchStatus::Finished, complete));
        assert_eq!((last.segments.len(), last.segments_trouble.is_some()), (0, !complete));
        assert!(last.trouble.is_none());
        assert_eq!(last.call.as_ref().unwrap().result_status, Some(ResultStatus::Completed));
        assert!(api.seconds() < SHORT.ready() + 40.0, "{}", api.seconds());
    }
}

#[tokio::test(start_paused = true)]
async fn an_extraction_that_never_ends_is_not_waited_for_forever() {
    let api = FakeApi::new(100);
    let id = api.add("c", CallStages { extracting: f64::INFINITY, ..SHORT });
    let watchers = Watchers::new(api.clone(), WatchSettings::default());
    let last = watchers.follow(&id, RECORD).unwrap().finished().await;
    assert_eq!(last.state, WatchStatus::Finished);
    assert_eq!(last.call.as_ref().unwrap().result_status, Some(ResultStatus::Pending));
    let waited = api.seconds() - 25.0;
    assert!((120.0..130.0).contains(&waited), "{waited}");
}

#[tokio::test(start_paused = true)]
async fn a_call_that_nobody_answers_ends_at_once() {
    let api = FakeApi::new(100);
    let id = api.add("c", CallStages { talking: 0.0, ..SHORT });
    let watchers = Watchers::new(api.clone(), WatchSettings::default());
    let last = watchers.follow(&id, RECORD).unwrap().finished().await;
    assert_eq!(last.call.as_ref().unwrap().status.as_str(), "no_answer");
    assert!(api.seconds() < 7.0, "{}", api.seconds());
}

#[tokio::test(start_paused = true)]
async fn webhooks_come_late_out_of_order_or_not_at_all() {
    let api = FakeApi::new(100);
    let id = api.add("c", SHORT);
    let watchers = Watchers::new(api.clone(), WatchSettings::default());
    let mut follower = watchers.follow(&id, RECORD).unwrap();
    until(&api, 6.0).await;
    // An event of the past is a reason to look, and no news.
    watchers.record_event(&id, api.record(&id, 2.0));
    sleep(Duration::from_millis(150)).await;
    assert_eq!(follower.snapshot().call.as_ref().unwrap().status.as_str(), "in_progress");
    // So is another call's record.
    let other = api.add("other", CallStages { begins: -100.0, ..SHORT });
    watchers.record_event(&id, api.record(&other, 7.0));
    sleep(Duration::from_millis(150)).await;
    assert_eq!(follower.snapshot().call.as_ref().unwrap().id, id);
    let told = api.total();
    until(&api, 24.0).await;
    assert!(api.total() <= told + 1, "webhooks are trusted");
    // The last event is lost.
    assert_eq!(follower.finished().await.state, WatchStatus::Finished);
    assert!(api.seconds() < 55.0, "{}", api.seconds());
    // For calls that nobody follows they are no matter.
    watchers.record_event(&CallId::new("unknown"), None);
    assert_eq!(watchers.watched_calls(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_webhook_that_comes_during_a_look_makes_another() {
    let api = FakeApi::new(1_000);
    let id = api.add("c", CallStages { dialing: 0.6, talking: 0.1, extracting: 0.1, begins: 0.0 });
    let watchers = Watchers::new(api.clone(), WatchSettings::default());
    let mut follower = watchers.follow(&id, RECORD).unwrap();
    // The look under way was answered before the call's end, and is still on its way back.
    until(&api, 0.9).await;
    watchers.record_event(&id, None);
    assert_eq!(follower.finished().await.state, WatchStatus::Finished);
    assert!(api.seconds() < 3.0, "{}", api.seconds());
}

#[tokio::test(start_paused = true)]
async fn a_webhook_that_comes_during_a_list_makes_a_look_of_its_own() {
    let api = FakeApi::new(1_000);
    let stages = CallStages { dialing: 0.6, talking: 0.1, extracting: 0.1, begins: 0.0 };
    let id = api.add("c", stages);
    let others: Vec<CallId> = (0..20).map(|n| api.add(&format!("o{n}"), SHORT)).collect();
    let watchers = Watchers::new(api.clone(), WatchSettings::default());
    let mut follower = watchers.follow(&id, RECORD).unwrap();
    let _others: Vec<_> = others.iter().map(|id| watchers.follow(id, RECORD).unwrap()).collect();
    until(&api, 0.9).await;
    assert_eq!((api.count(RequestKind::List), api.total()), (1, 1));
    watchers.record_event(&id, None);
    assert_eq!(follower.finished().await.state, WatchStatus::Finished);
    assert!(api.seconds() < 2.0, "{}", api.seconds());
}

#[tokio::test(start_paused = true)]
async fn who_wants_the_record_alone_waits_for_no_transcript_that_nobody_wants_any_more() {
    let api = FakeApi::new(100);
    api.fail(|asked, _| (asked == RequestKind::Transcript).then(server_error));
    let id = api.add("c", SHORT);
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
async fn a_change_that_no_webhook_told_of_ends_the_trust_in_them() {
    let api = FakeApi::new(100);
    let id = api.add("c", CallStages::three_minutes());
    let watchers = Watchers::new(api.clone(), WatchSettings::default());
    let _follower = watchers.follow(&id, RECORD).unwrap();
    until(&api, 2.0).await;
    watchers.record_event(&id, None);
    // The answer at 10 s is found by looking, 20 s after the webhook.
    until(&api, 30.0).await;
    let slow = api.total();
    until(&api, 90.0).await;
    let quick = api.total() - slow;
    assert!(slow <= 7 && quick >= 15, "{slow} {quick}");
}

#[tokio::test(start_paused = true)]
async fn an_older_answer_never_overwrites_a_newer_one() {
    let api = FakeApi::new(100);
    let id = api.add("c", SHORT);
    let now = tokio::time::Instant::now();
    let mut table = WatchTable::new(WatchSettings::default(), now);
    let (receiver, _) = table.add_follower(&id, RECORD, now).unwrap();
    let status = || receiver.borrow().call.as_ref().unwrap().status.as_str().to_owned();
    for (ticket, at, expected) in
        [(5, 3.0, "ringing"), (4, 0.5, "ringing"), (7, 6.0, "in_progress"), (6, 3.0, "in_progress")]
    {
        table.use_record(&id, ticket, api.record(&id, at).unwrap(), now);
        assert_eq!(status(), expected);
    }
    // Nor does a stale copy bring a call back that was over.
    for (ticket, at) in [(8, 26.0), (9, 6.0)] {
        table.use_record(&id, ticket, api.record(&id, at).unwrap(), now);
        assert_eq!(status(), "completed");
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_said_is_not_unsaid() {
    let api = FakeApi::new(100);
    let id = api.add("c", SHORT);
    let now = tokio::time::Instant::now();
    let mut table = WatchTable::new(WatchSettings::default(), now);
    let (receiver, _) = table.add_follower(&id, WITH_TRANSCRIPT, now).unwrap();
    table.use_record(&id, 1, api.record(&id, 20.0).unwrap(), now);
    for (ticket, at, lines) in [(2, 15.0, 2), (3, 9.0, 2), (4, 20.0, 3)] {
        table.record_transcript_answer(&id, ticket, Ok(api.transcript(&id, at).unwrap()), now);
        assert_eq!(receiver.borrow().segments.len(), lines);
    }
}

#[tokio::test(start_paused = true)]
async fn a_finished_record_from_a_webhook_beats_a_look_that_began_before() {
    let api = FakeApi::new(1_000);
    let id = api.add("c", CallStages { dialing: 0.2, talking: 0.4, extracting: 0.2, ..SHORT });
    let watchers = Watchers::new(api.clone(), WatchSettings::default());
    let mut follower = watchers.follow(&id, WITH_TRANSCRIPT).unwrap();
    until(&api, 0.8).await;
    watchers.record_event(&id, api.record(&id, 0.8));
    let mut seen = Vec::new();
    while let Some(snapshot) = follower.changed().await {
        seen.extend(snapshot.call.as_ref().map(|call| call.status.as_str().to_owned()));
    }
    seen.dedup();
    assert_eq!(seen, ["completed"]);
    assert!(follower.snapshot().segments_final);
}

#[tokio::test(start_paused = true)]
async fn many_calls_are_followed_by_lists_and_those_not_in_them_one_by_one() {
    let api = FakeApi::new(100);
    let old: Vec<CallId> = (0..3)
        .map(|n| {
            api.add(&format!("old{n}"), CallStages { begins: -100.0, talking: 190.0, ..SHORT })
        })
        .collect();
    for n in 0..1_000 {
        api.add(&format!("other{n}"), CallStages { begins: -50.0, talking: 9.0, ..SHORT });
    }
    let new: Vec<CallId> = (0..50)
        .map(|n| api.add(&format!("new{n}"), CallStages { talking: 85.0, ..SHORT }))
        .collect();
    let watchers = Watchers::new(api.clone(), WatchSettings::default());
    let wait = async |id: &CallId| watchers.follow(id, RECORD).unwrap().finished().await.state;
    let ended = join_all(old.iter().chain(&new).map(wait)).await;
    assert_eq!(ended, vec![WatchStatus::Finished; 53]);
    let (lists, records) = (api.count(RequestKind::List), api.count(RequestKind::Record));
    println!("53 calls for 95 s: {lists} lists and {records} records");
    assert!((20..=200).contains(&lists), "{lists}");
    // Three calls by themselves, about 29 looks each, and the stragglers of the others.
    assert!((60..=200).contains(&records), "{records}");
    assert!(api.seconds() < 104.0, "{}", api.seconds());
}

#[tokio::test(start_paused = true)]
async fn who_comes_back_after_all_had_left_a_list_under_way_is_answered() {
    let api = FakeApi::new(1_000);
    let ids: Vec<CallId> = (0..20).map(|n| api.add(&format!("c{n}"), SHORT)).collect();
    let watchers = Watchers::new(api.clone(), WatchSettings::default());
    let follow = || ids.iter().map(|id| watchers.follow(id, RECORD).unwrap()).collect::<Vec<_>>();
    let followers = follow();
    until(&api, 0.5).await;
    assert_eq!((api.count(RequestKind::List), api.total()), (1, 1));
    drop(followers);
    until(&api, 0.6).await;
    let mut followers = follow();
    let all = join_all(followers.iter_mut().map(|follower| follower.finished()));
    let soon = timeout(Duration::from_secs_f64(SHORT.ready() + 5.0), all);
    for last in soon.await.expect("they are answered") {
        assert_eq!(last.state, WatchStatus::Finished);
    }
}

#[tokio::test(start_paused = true)]
async fn lists_that_cannot_be_read_are_done_without() {
    let api = FakeApi::new(100);
    api.fail(|asked, _| {
        (asked == RequestKind::List).then_some(ErrorKind::TooLarge { status: 200, limit: 8 })
    });
    let ids: Vec<CallId> = (0..20).map(|n| api.add(&format!("c{n}"), SHORT)).collect();
    let watchers = Watchers::new(api.clone(), WatchSettings::default());
    let wait = async |id: &CallId| watchers.follow(id, RECORD).unwrap().finished().await;
    for last in join_all(ids.iter().map(wait)).await {
        assert_eq!((last.state, last.trouble.is_none()), (WatchStatus::Finished, true));
    }
    assert_eq!(api.count(RequestKind::List), 1);
    assert!(api.seconds() < SHORT.ready() + 4.0, "{}", api.seconds());
}

#[tokio::test(start_paused = true)]
async fn there_is_a_limit_to_live_calls() {
    let api = FakeApi::new(100);
    let settings = WatchSettings { max_live: 2, ..WatchSettings::default() };
    let watchers = Watchers::new(api.clone(), settings);
    let [a, b, c] = ["a", "b", "c"].map(|name| api.add(name, SHORT));
    let first = watchers.follow(&a, RECORD).unwrap();
    let _second = watchers.follow(&b, RECORD).unwrap();
    assert!(watchers.follow(&a, RECORD).is_ok(), "a call that is followed already takes no room");
    assert_eq!(watchers.follow(&c, RECORD).err(), Some(FollowError::TooMany { limit: 2 }));
    drop(first);
    assert!(watchers.follow(&c, RECORD).is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_simulated_api_in_a_hurry_is_looked_at_more_often() {
    let api = FakeApi::new(10);
    let id = api.add("c", CallStages { talking: 18.0, dialing: 1.0, extracting: 0.5, begins: 0.0 });
    let settings = WatchSettings { speed: 10.0, ..WatchSettings::default() };
    let watchers = Watchers::new(api.clone(), settings);
    watchers.follow(&id, RECORD).unwrap().finished().await;
    let total = api.total();
    assert!((40..=75).contains(&total), "{total}");
}

/// An account whose client is broken.
struct Broken;

impl CallSource for Broken {
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
async fn a_broken_client_leaves_nobody_waiting() {
    let watchers = Watchers::new(std::sync::Arc::new(Broken), WatchSettings::default());
    for _ in 0..2 {
        let mut follower = watchers.follow(&CallId::new("c"), RECORD).unwrap();
        let last = timeout(Duration::from_secs(5), follower.finished()).await.unwrap();
        assert_eq!(last.state, WatchStatus::Watching);
        assert_eq!((watchers.watched_calls(), watchers.is_running()), (0, false));
    }
}

#[test]
fn watchers_and_followers_may_go_to_any_thread() {
    fn may<T: Send + Sync + std::fmt::Debug>() {}
    may::<Watchers>();
    may::<crate::watch::Follower>();
    may::<crate::watch::Snapshot>();
}
