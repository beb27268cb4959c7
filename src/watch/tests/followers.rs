//! What followers see: the life of a call, joining and leaving, trouble, webhooks, many calls.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures::FutureExt;
use futures::future::{BoxFuture, join_all};
use tokio::time::{sleep, sleep_until, timeout};

use super::telephone::{Asked, Life, Telephone};
use crate::watch::roster::Roster;
use crate::watch::{FollowError, Settings, Source, State, Want, Watchers};
use callingbox::{Call, CallId, Error, ErrorKind, Page, PageRequest, ResultStatus, Transcript};

const RECORD: Want = Want { transcript: false };
const WITH_TRANSCRIPT: Want = Want { transcript: true };

const SHORT: Life = Life { begins: 0.0, dialing: 5.0, talking: 20.0, extracting: 4.0 };

async fn until(telephone: &Telephone, seconds: f64) {
    sleep_until(telephone.start + Duration::from_secs_f64(seconds)).await;
}

fn server_error() -> ErrorKind {
    ErrorKind::Server { status: 500, message: "oops".into() }
}

#[tokio::test(start_paused = true)]
async fn the_life_of_a_call_in_order_and_each_line_once() {
    let telephone = Telephone::new(100);
    let id = telephone.add("c", SHORT);
    let watchers = Watchers::new(telephone.clone(), Settings::default());
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
    assert_eq!((last.state, last.segments_final), (State::Finished, true));
    assert!(last.trouble.is_none());
    // The wait for the end of what has ended does not wait.
    assert!(follower.finished().now_or_never().is_some());
    assert!(follower.changed().now_or_never().unwrap().is_none());
}

#[tokio::test(start_paused = true)]
async fn nothing_is_asked_once_nobody_waits() {
    let telephone = Telephone::new(100);
    let id = telephone.add("c", Life::three_minutes());
    let watchers = Watchers::new(telephone.clone(), Settings::default());
    let first = watchers.follow(&id, RECORD).unwrap();
    let second = watchers.follow(&id, WITH_TRANSCRIPT).unwrap();
    until(&telephone, 30.0).await;
    drop(second);
    let transcripts = telephone.count(Asked::Transcript);
    assert!(transcripts > 0);
    until(&telephone, 60.0).await;
    assert!(telephone.count(Asked::Transcript) <= transcripts + 1);
    assert_eq!(watchers.live(), 1);
    drop(first);
    assert_eq!(watchers.live(), 0);
    let total = telephone.total();
    until(&telephone, 600.0).await;
    assert_eq!((telephone.total(), watchers.is_running()), (total, false));
    // Interest that comes back starts the watch again.
    let last = watchers.follow(&id, RECORD).unwrap().finished().await;
    assert_eq!(last.state, State::Finished);
    assert_eq!(telephone.total(), total + 1);
    // The task goes once the finished call is forgotten.
    assert!(watchers.is_running());
    sleep(Duration::from_secs(61)).await;
    assert!(!watchers.is_running());
}

#[tokio::test(start_paused = true)]
async fn who_polls_finds_the_watch_still_there() {
    let telephone = Telephone::new(100);
    let id = telephone.add("c", Life::three_minutes());
    let watchers = Watchers::new(telephone.clone(), Settings::default());
    let poll = async || {
        let mut follower = watchers.follow(&id, RECORD).unwrap();
        while follower.snapshot().call.is_none() {
            follower.changed().await.unwrap();
        }
        watchers.linger(&id, follower, Duration::from_secs(5));
    };
    // Ten who ask every three seconds cost no more than one who waits: some 3 s between two looks.
    for _ in 0..20 {
        join_all((0..10).map(|_| poll())).await;
        sleep(Duration::from_secs(3)).await;
    }
    let total = telephone.total();
    assert!((15..=30).contains(&total), "{total}");
    assert_eq!(watchers.live(), 1);
    // Nobody comes back.
    sleep(Duration::from_secs(3)).await;
    assert_eq!((watchers.live(), watchers.is_running()), (0, false));
    // One who comes late begins anew, and the end of the call ends it.
    poll().await;
    assert_eq!(watchers.live(), 1);
    until(&telephone, 194.0).await;
    poll().await;
    sleep(Duration::from_secs(4)).await;
    assert_eq!(watchers.live(), 0);
    assert_eq!(watchers.follow(&id, RECORD).unwrap().snapshot().state, State::Finished);
}

#[tokio::test(start_paused = true)]
async fn those_who_come_late_cost_nothing() {
    let telephone = Telephone::new(100);
    let id = telephone.add("c", SHORT);
    let watchers = Watchers::new(telephone.clone(), Settings::default());
    watchers.follow(&id, RECORD).unwrap().finished().await;
    let total = telephone.total();
    for _ in 0..100 {
        let mut late = watchers.follow(&id, RECORD).unwrap();
        assert_eq!(late.snapshot().state, State::Finished);
        assert_eq!(late.finished().await.call.as_ref().unwrap().id, id);
    }
    assert_eq!(telephone.total(), total);
    // The transcript was not wanted before: it is asked for once.
    let late = (0..100).map(async |_| {
        let last = watchers.follow(&id, WITH_TRANSCRIPT).unwrap().finished().await;
        assert_eq!((last.segments.len(), last.segments_final), (5, true));
    });
    join_all(late).await;
    assert_eq!((telephone.total(), telephone.count(Asked::Transcript)), (total + 1, 1));
    assert_eq!(watchers.live(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_follower_may_bring_the_transcript_in_later() {
    let telephone = Telephone::new(100);
    let id = telephone.add("c", Life::three_minutes());
    let watchers = Watchers::new(telephone.clone(), Settings::default());
    let first = watchers.follow(&id, RECORD).unwrap();
    until(&telephone, 60.0).await;
    assert_eq!(telephone.count(Asked::Transcript), 0);
    let mut second = watchers.follow(&id, WITH_TRANSCRIPT).unwrap();
    let snapshot = second.changed().await.unwrap();
    assert!(telephone.seconds() < 60.2);
    assert_eq!(snapshot.segments.len(), 12);
    // One copy for all.
    assert!(std::sync::Arc::ptr_eq(&first.snapshot().segments, &second.snapshot().segments));
}

#[tokio::test(start_paused = true)]
async fn trouble_is_told_and_the_wait_goes_on() {
    let telephone = Telephone::new(100);
    let id = telephone.add("c", SHORT);
    telephone.fail(|_, now| (10.0..40.0).contains(&now).then(server_error));
    let watchers = Watchers::new(telephone.clone(), Settings::default());
    let mut follower = watchers.follow(&id, WITH_TRANSCRIPT).unwrap();
    until(&telephone, 39.0).await;
    let known = follower.snapshot();
    assert_eq!(known.state, State::Watching);
    assert_eq!(known.call.as_ref().unwrap().status.as_str(), "in_progress");
    assert_eq!(known.trouble.as_ref().unwrap().status(), Some(500));
    let asked_in_trouble = telephone.times().iter().filter(|at| **at > 10.0).count();
    assert!((4..=12).contains(&asked_in_trouble), "{asked_in_trouble}");
    let last = follower.finished().await;
    assert_eq!((last.state, last.segments.len(), last.segments_final), (State::Finished, 5, true));
    assert!(last.trouble.is_none());
    assert!(telephone.seconds() < 75.0, "{}", telephone.seconds());
}

#[tokio::test(start_paused = true)]
async fn retry_after_silences_the_whole_account() {
    for asked in [20, u64::MAX] {
        let telephone = Telephone::new(100);
        let calls = ["a", "b", "c"].map(|name| telephone.add(name, Life::three_minutes()));
        let first = Arc::new(OnceLock::new());
        let told = Arc::clone(&first);
        telephone.fail(move |_, now| {
            let retry_after = Some(Duration::from_secs(asked));
            let limited = ErrorKind::RateLimited { message: "slow down".into(), retry_after };
            let refused = (30.0..35.0).contains(&now);
            refused.then(|| told.get_or_init(|| now)).map(|_| limited)
        });
        let watchers = Watchers::new(telephone.clone(), Settings::default());
        let followers = calls.each_ref().map(|id| watchers.follow(id, WITH_TRANSCRIPT).unwrap());
        until(&telephone, 60.0).await;
        let refused = *first.get().unwrap();
        let silence = asked.min(3_600) as f64;
        until(&telephone, refused + silence - 1.0).await;
        for id in &calls {
            watchers.wake(id, None);
        }
        until(&telephone, refused + silence + 30.0).await;
        let within = |at: &&f64| **at > refused + 0.06 && **at < refused + silence;
        let times = telephone.times();
        assert_eq!(times.iter().filter(within).count(), 0, "{times:?}");
        assert!(times.iter().any(|at| *at > refused + silence));
        assert!(followers.iter().all(|follower| follower.snapshot().trouble.is_none()));
    }
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_mended_ends_the_watch() {
    let unauthorized = || ErrorKind::Unauthorized { message: "no".into() };
    type Row = (&'static str, f64, Option<fn() -> ErrorKind>, State, u16);
    let table: [Row; 3] = [
        ("unknown", 0.0, None, State::NotFound, 404),
        ("c", 0.0, Some(unauthorized), State::Unauthorized, 401),
        ("c", 12.0, Some(unauthorized), State::Unauthorized, 401),
    ];
    for (id, from, fault, state, status) in table {
        for calls in [1, 20] {
            let telephone = Telephone::new(100);
            let ids: Vec<CallId> = (0..calls)
                .map(|number| CallId::new(format!("{id}{number}")))
                .inspect(|id| {
                    _ = id.as_str().starts_with('c').then(|| telephone.add(id.as_str(), SHORT))
                })
                .collect();
            telephone.fail(move |_, now| fault.filter(|_| now >= from).map(|fault| fault()));
            let watchers = Watchers::new(telephone.clone(), Settings::default());
            let ended = ids.iter().map(async |id| {
                let last = watchers.follow(id, WITH_TRANSCRIPT).unwrap().finished().await;
                let trouble = last.trouble.as_ref().and_then(|trouble| trouble.status());
                assert_eq!((last.state, trouble), (state, Some(status)), "{id}");
            });
            join_all(ended).await;
            assert!(telephone.seconds() < from + 6.0, "{}", telephone.seconds());
            sleep(Duration::from_secs(1)).await;
            assert_eq!((watchers.live(), watchers.is_running()), (0, false));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_end_is_given_out_without_a_transcript_that_does_not_come() {
    let table: [(fn() -> ErrorKind, bool); 2] =
        [(server_error, false), (|| ErrorKind::NotFound { message: "none".into() }, true)];
    for (fault, complete) in table {
        let telephone = Telephone::new(100);
        let id = telephone.add("c", SHORT);
        telephone.fail(move |asked, _| (asked == Asked::Transcript).then(fault));
        let watchers = Watchers::new(telephone.clone(), Settings::default());
        let mut follower = watchers.follow(&id, WITH_TRANSCRIPT).unwrap();
        let last = follower.finished().await;
        assert_eq!((last.state, last.segments_final), (State::Finished, complete));
        assert_eq!((last.segments.len(), last.segments_trouble.is_some()), (0, !complete));
        assert!(last.trouble.is_none());
        assert_eq!(last.call.as_ref().unwrap().result_status, Some(ResultStatus::Completed));
        assert!(telephone.seconds() < SHORT.ready() + 40.0, "{}", telephone.seconds());
    }
}

#[tokio::test(start_paused = true)]
async fn an_extraction_that_never_ends_is_not_waited_for_forever() {
    let telephone = Telephone::new(100);
    let id = telephone.add("c", Life { extracting: f64::INFINITY, ..SHORT });
    let watchers = Watchers::new(telephone.clone(), Settings::default());
    let last = watchers.follow(&id, RECORD).unwrap().finished().await;
    assert_eq!(last.state, State::Finished);
    assert_eq!(last.call.as_ref().unwrap().result_status, Some(ResultStatus::Pending));
    let waited = telephone.seconds() - 25.0;
    assert!((120.0..130.0).contains(&waited), "{waited}");
}

#[tokio::test(start_paused = true)]
async fn a_call_that_nobody_answers_ends_at_once() {
    let telephone = Telephone::new(100);
    let id = telephone.add("c", Life { talking: 0.0, ..SHORT });
    let watchers = Watchers::new(telephone.clone(), Settings::default());
    let last = watchers.follow(&id, RECORD).unwrap().finished().await;
    assert_eq!(last.call.as_ref().unwrap().status.as_str(), "no_answer");
    assert!(telephone.seconds() < 7.0, "{}", telephone.seconds());
}

#[tokio::test(start_paused = true)]
async fn webhooks_come_late_out_of_order_or_not_at_all() {
    let telephone = Telephone::new(100);
    let id = telephone.add("c", SHORT);
    let watchers = Watchers::new(telephone.clone(), Settings::default());
    let mut follower = watchers.follow(&id, RECORD).unwrap();
    until(&telephone, 6.0).await;
    // An event of the past is a reason to look, and no news.
    watchers.wake(&id, telephone.record(&id, 2.0));
    sleep(Duration::from_millis(150)).await;
    assert_eq!(follower.snapshot().call.as_ref().unwrap().status.as_str(), "in_progress");
    // So is another call's record.
    let other = telephone.add("other", Life { begins: -100.0, ..SHORT });
    watchers.wake(&id, telephone.record(&other, 7.0));
    sleep(Duration::from_millis(150)).await;
    assert_eq!(follower.snapshot().call.as_ref().unwrap().id, id);
    let told = telephone.total();
    until(&telephone, 24.0).await;
    assert!(telephone.total() <= told + 1, "webhooks are trusted");
    // The last event is lost.
    assert_eq!(follower.finished().await.state, State::Finished);
    assert!(telephone.seconds() < 55.0, "{}", telephone.seconds());
    // For calls that nobody follows they are no matter.
    watchers.wake(&CallId::new("unknown"), None);
    assert_eq!(watchers.live(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_webhook_that_comes_during_a_look_makes_another() {
    let telephone = Telephone::new(1_000);
    let id = telephone.add("c", Life { dialing: 0.6, talking: 0.1, extracting: 0.1, begins: 0.0 });
    let watchers = Watchers::new(telephone.clone(), Settings::default());
    let mut follower = watchers.follow(&id, RECORD).unwrap();
    // The look under way was answered before the call's end, and is still on its way back.
    until(&telephone, 0.9).await;
    watchers.wake(&id, None);
    assert_eq!(follower.finished().await.state, State::Finished);
    assert!(telephone.seconds() < 3.0, "{}", telephone.seconds());
}

#[tokio::test(start_paused = true)]
async fn a_webhook_that_comes_during_a_list_makes_a_look_of_its_own() {
    let telephone = Telephone::new(1_000);
    let life = Life { dialing: 0.6, talking: 0.1, extracting: 0.1, begins: 0.0 };
    let id = telephone.add("c", life);
    let others: Vec<CallId> = (0..20).map(|n| telephone.add(&format!("o{n}"), SHORT)).collect();
    let watchers = Watchers::new(telephone.clone(), Settings::default());
    let mut follower = watchers.follow(&id, RECORD).unwrap();
    let _others: Vec<_> = others.iter().map(|id| watchers.follow(id, RECORD).unwrap()).collect();
    until(&telephone, 0.9).await;
    assert_eq!((telephone.count(Asked::List), telephone.total()), (1, 1));
    watchers.wake(&id, None);
    assert_eq!(follower.finished().await.state, State::Finished);
    assert!(telephone.seconds() < 2.0, "{}", telephone.seconds());
}

#[tokio::test(start_paused = true)]
async fn who_wants_the_record_alone_waits_for_no_transcript_that_nobody_wants_any_more() {
    let telephone = Telephone::new(100);
    telephone.fail(|asked, _| (asked == Asked::Transcript).then(server_error));
    let id = telephone.add("c", SHORT);
    let watchers = Watchers::new(telephone.clone(), Settings::default());
    let mut record = watchers.follow(&id, RECORD).unwrap();
    let transcript = watchers.follow(&id, WITH_TRANSCRIPT).unwrap();
    let finished = |call: &Call| call.result_status == Some(ResultStatus::Completed);
    while !record.changed().await.unwrap().call.as_deref().is_some_and(finished) {}
    assert_eq!(record.snapshot().state, State::Watching);
    drop(transcript);
    let soon = timeout(Duration::from_millis(10), record.finished()).await;
    assert_eq!(soon.expect("it is over").state, State::Finished);
}

#[tokio::test(start_paused = true)]
async fn a_change_that_no_webhook_told_of_ends_the_trust_in_them() {
    let telephone = Telephone::new(100);
    let id = telephone.add("c", Life::three_minutes());
    let watchers = Watchers::new(telephone.clone(), Settings::default());
    let _follower = watchers.follow(&id, RECORD).unwrap();
    until(&telephone, 2.0).await;
    watchers.wake(&id, None);
    // The answer at 10 s is found by looking, 20 s after the webhook.
    until(&telephone, 30.0).await;
    let slow = telephone.total();
    until(&telephone, 90.0).await;
    let quick = telephone.total() - slow;
    assert!(slow <= 7 && quick >= 15, "{slow} {quick}");
}

#[tokio::test(start_paused = true)]
async fn an_older_answer_never_overwrites_a_newer_one() {
    let telephone = Telephone::new(100);
    let id = telephone.add("c", SHORT);
    let now = tokio::time::Instant::now();
    let mut roster = Roster::new(Settings::default(), now);
    let (receiver, _) = roster.join(&id, RECORD, now).unwrap();
    let status = || receiver.borrow().call.as_ref().unwrap().status.as_str().to_owned();
    for (ticket, at, expected) in
        [(5, 3.0, "ringing"), (4, 0.5, "ringing"), (7, 6.0, "in_progress"), (6, 3.0, "in_progress")]
    {
        roster.take_record(&id, ticket, telephone.record(&id, at).unwrap(), now);
        assert_eq!(status(), expected);
    }
    // Nor does a stale copy bring a call back that was over.
    for (ticket, at) in [(8, 26.0), (9, 6.0)] {
        roster.take_record(&id, ticket, telephone.record(&id, at).unwrap(), now);
        assert_eq!(status(), "completed");
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_said_is_not_unsaid() {
    let telephone = Telephone::new(100);
    let id = telephone.add("c", SHORT);
    let now = tokio::time::Instant::now();
    let mut roster = Roster::new(Settings::default(), now);
    let (receiver, _) = roster.join(&id, WITH_TRANSCRIPT, now).unwrap();
    roster.take_record(&id, 1, telephone.record(&id, 20.0).unwrap(), now);
    for (ticket, at, lines) in [(2, 15.0, 2), (3, 9.0, 2), (4, 20.0, 3)] {
        roster.land_transcript(&id, ticket, Ok(telephone.transcript(&id, at).unwrap()), now);
        assert_eq!(receiver.borrow().segments.len(), lines);
    }
}

#[tokio::test(start_paused = true)]
async fn a_finished_record_from_a_webhook_beats_a_look_that_began_before() {
    let telephone = Telephone::new(1_000);
    let id = telephone.add("c", Life { dialing: 0.2, talking: 0.4, extracting: 0.2, ..SHORT });
    let watchers = Watchers::new(telephone.clone(), Settings::default());
    let mut follower = watchers.follow(&id, WITH_TRANSCRIPT).unwrap();
    until(&telephone, 0.8).await;
    watchers.wake(&id, telephone.record(&id, 0.8));
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
    let telephone = Telephone::new(100);
    let old: Vec<CallId> = (0..3)
        .map(|n| {
            telephone.add(&format!("old{n}"), Life { begins: -100.0, talking: 190.0, ..SHORT })
        })
        .collect();
    for n in 0..1_000 {
        telephone.add(&format!("other{n}"), Life { begins: -50.0, talking: 9.0, ..SHORT });
    }
    let new: Vec<CallId> = (0..50)
        .map(|n| telephone.add(&format!("new{n}"), Life { talking: 85.0, ..SHORT }))
        .collect();
    let watchers = Watchers::new(telephone.clone(), Settings::default());
    let wait = async |id: &CallId| watchers.follow(id, RECORD).unwrap().finished().await.state;
    let ended = join_all(old.iter().chain(&new).map(wait)).await;
    assert_eq!(ended, vec![State::Finished; 53]);
    let (lists, records) = (telephone.count(Asked::List), telephone.count(Asked::Record));
    println!("53 calls for 95 s: {lists} lists and {records} records");
    assert!((20..=200).contains(&lists), "{lists}");
    // Three calls by themselves, about 29 looks each, and the stragglers of the others.
    assert!((60..=200).contains(&records), "{records}");
    assert!(telephone.seconds() < 104.0, "{}", telephone.seconds());
}

#[tokio::test(start_paused = true)]
async fn who_comes_back_after_all_had_left_a_list_under_way_is_answered() {
    let telephone = Telephone::new(1_000);
    let ids: Vec<CallId> = (0..20).map(|n| telephone.add(&format!("c{n}"), SHORT)).collect();
    let watchers = Watchers::new(telephone.clone(), Settings::default());
    let follow = || ids.iter().map(|id| watchers.follow(id, RECORD).unwrap()).collect::<Vec<_>>();
    let followers = follow();
    until(&telephone, 0.5).await;
    assert_eq!((telephone.count(Asked::List), telephone.total()), (1, 1));
    drop(followers);
    until(&telephone, 0.6).await;
    let mut followers = follow();
    let all = join_all(followers.iter_mut().map(|follower| follower.finished()));
    let soon = timeout(Duration::from_secs_f64(SHORT.ready() + 5.0), all);
    for last in soon.await.expect("they are answered") {
        assert_eq!(last.state, State::Finished);
    }
}

#[tokio::test(start_paused = true)]
async fn lists_that_cannot_be_read_are_done_without() {
    let telephone = Telephone::new(100);
    telephone.fail(|asked, _| {
        (asked == Asked::List).then_some(ErrorKind::TooLarge { status: 200, limit: 8 })
    });
    let ids: Vec<CallId> = (0..20).map(|n| telephone.add(&format!("c{n}"), SHORT)).collect();
    let watchers = Watchers::new(telephone.clone(), Settings::default());
    let wait = async |id: &CallId| watchers.follow(id, RECORD).unwrap().finished().await;
    for last in join_all(ids.iter().map(wait)).await {
        assert_eq!((last.state, last.trouble.is_none()), (State::Finished, true));
    }
    assert_eq!(telephone.count(Asked::List), 1);
    assert!(telephone.seconds() < SHORT.ready() + 4.0, "{}", telephone.seconds());
}

#[tokio::test(start_paused = true)]
async fn there_is_a_limit_to_live_calls() {
    let telephone = Telephone::new(100);
    let settings = Settings { max_live: 2, ..Settings::default() };
    let watchers = Watchers::new(telephone.clone(), settings);
    let [a, b, c] = ["a", "b", "c"].map(|name| telephone.add(name, SHORT));
    let first = watchers.follow(&a, RECORD).unwrap();
    let _second = watchers.follow(&b, RECORD).unwrap();
    assert!(watchers.follow(&a, RECORD).is_ok(), "a call that is followed already takes no room");
    assert_eq!(watchers.follow(&c, RECORD).err(), Some(FollowError::TooMany { limit: 2 }));
    drop(first);
    assert!(watchers.follow(&c, RECORD).is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_simulated_api_in_a_hurry_is_looked_at_more_often() {
    let telephone = Telephone::new(10);
    let id = telephone.add("c", Life { talking: 18.0, dialing: 1.0, extracting: 0.5, begins: 0.0 });
    let settings = Settings { speed: 10.0, ..Settings::default() };
    let watchers = Watchers::new(telephone.clone(), settings);
    watchers.follow(&id, RECORD).unwrap().finished().await;
    let total = telephone.total();
    assert!((40..=75).contains(&total), "{total}");
}

/// An account whose client is broken.
struct Broken;

impl Source for Broken {
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
    let watchers = Watchers::new(std::sync::Arc::new(Broken), Settings::default());
    for _ in 0..2 {
        let mut follower = watchers.follow(&CallId::new("c"), RECORD).unwrap();
        let last = timeout(Duration::from_secs(5), follower.finished()).await.unwrap();
        assert_eq!(last.state, State::Watching);
        assert_eq!((watchers.live(), watchers.is_running()), (0, false));
    }
}

#[test]
fn watchers_and_followers_may_go_to_any_thread() {
    fn may<T: Send + Sync + std::fmt::Debug>() {}
    may::<Watchers>();
    may::<crate::watch::Follower>();
    may::<crate::watch::Snapshot>();
}
