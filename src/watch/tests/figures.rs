//! The figures that are promised: how many requests a wait costs, and how late its answer is.
//! Run with `--nocapture` to read them.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use rand::RngExt;
use tokio::time::{sleep, sleep_until};

use super::api::{CallStages, FakeApi, RequestKind};
use crate::watch::{Follower, WatchOptions, WatchSettings, WatchStatus, Watchers};
use callingbox::CallId;

const RECORD: WatchOptions = WatchOptions { transcript: false };
const WITH_TRANSCRIPT: WatchOptions = WatchOptions { transcript: true };

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Follows one call to its end with so many waiters; the requests by kind, and the delay.
async fn follow(stages: CallStages, waiters: usize, want: WatchOptions) -> (usize, usize, f64) {
    let api = FakeApi::new(100);
    let id = api.add("c", stages);
    let watchers = Watchers::new(api.clone(), WatchSettings::default());
    let wait = async |number: usize| {
        sleep(Duration::from_millis(number as u64 * 37)).await;
        watchers.follow(&id, want).unwrap().finished().await
    };
    for last in join_all((0..waiters).map(wait)).await {
        assert_eq!(last.state, WatchStatus::Finished);
        assert_eq!(last.call.as_deref(), api.record(&id, stages.ready()).as_ref());
        let lines = if want.transcript { (stages.talking / 4.0) as usize } else { 0 };
        assert_eq!((last.segments.len(), last.segments_final), (lines, want.transcript));
    }
    let delay = api.seconds() - stages.ready();
    assert_eq!(api.count(RequestKind::List), 0);
    (api.count(RequestKind::Record), api.count(RequestKind::Transcript), delay)
}

#[tokio::test(start_paused = true)]
async fn what_one_call_costs_however_many_wait() {
    for (waiters, rounds) in [(1, 20), (100, 3)] {
        for (want, limit) in [(RECORD, 70), (WITH_TRANSCRIPT, 140)] {
            let mut totals = Vec::new();
            for _ in 0..rounds {
                let (records, transcripts, _) =
                    follow(CallStages::three_minutes(), waiters, want).await;
                totals.push(records + transcripts);
            }
            let (least, most) = (totals.iter().min().unwrap(), totals.iter().max().unwrap());
            println!("3-minute call, {waiters} waiters, {want:?}: {least} to {most} requests");
            assert!(*most <= limit, "{most}");
            assert!(*least > 20, "{least}");
        }
    }
    let thirty = CallStages { talking: 1_800.0, ..CallStages::three_minutes() };
    let (records, transcripts, _) = follow(thirty, 1, WITH_TRANSCRIPT).await;
    println!("30-minute call, 1 waiter: {records} requests, and {transcripts} for its transcript");
    assert!(records <= 350 && transcripts <= 400, "{records} {transcripts}");
}

#[tokio::test(start_paused = true)]
async fn how_late_the_answer_is_by_polling() {
    let mut rng = rand::rng();
    let (mut with_result, mut without) = (Vec::new(), Vec::new());
    for _ in 0..500 {
        let stages = CallStages {
            dialing: rng.random_range(3.0..30.0),
            talking: rng.random_range(5.0..400.0),
            extracting: rng.random_range(1.0..8.0),
            ..CallStages::three_minutes()
        };
        with_result.push(follow(stages, 1, RECORD).await.2);
        without.push(follow(CallStages { extracting: 0.0, ..stages }, 1, RECORD).await.2);
    }
    let (with_result, without) = (median(with_result), median(without));
    println!("median delay by polling: {with_result:.2} s with a result, {without:.2} s without");
    assert!(with_result < 2.0 && without < 2.0);
    assert!(with_result > 0.05 && without > 0.05);
}

#[tokio::test(start_paused = true)]
async fn how_late_the_answer_is_once_a_webhook_tells() {
    for with_record in [true, false] {
        let mut delays = Vec::new();
        for _ in 0..20 {
            let talking = rand::rng().random_range(5.0..400.0);
            let stages = CallStages { talking, ..CallStages::three_minutes() };
            let api = FakeApi::new(100);
            let id = api.add("c", stages);
            let watchers = Watchers::new(api.clone(), WatchSettings::default());
            let mut follower = watchers.follow(&id, RECORD).unwrap();
            // Ringing, answered, completed: each is told.
            for at in [1.0, stages.dialing, stages.ready()] {
                sleep_until(api.start + Duration::from_secs_f64(at)).await;
                watchers.record_event(&id, api.record(&id, at).filter(|_| with_record));
            }
            assert_eq!(follower.finished().await.state, WatchStatus::Finished);
            delays.push(api.seconds() - stages.ready());
            assert!(api.total() <= 40, "{}", api.total());
        }
        let longest = delays.iter().copied().fold(0.0, f64::max);
        println!("longest delay after a webhook, record in it {with_record}: {longest:.3} s");
        assert!(longest < 0.3);
    }
}

/// A thousand calls of one account, each followed from `begins`; the delays of their answers.
async fn a_thousand(
    api: &Arc<FakeApi>,
    want: WatchOptions,
    begins: impl Fn(u32) -> f64,
) -> Vec<f64> {
    let watchers = Watchers::new(api.clone(), WatchSettings::default());
    let calls: Vec<(CallId, CallStages)> = (0..1_000)
        .map(|number| {
            let talking = 50.0 + f64::from(number * 7 % 50);
            let stages =
                CallStages { begins: begins(number), talking, ..CallStages::three_minutes() };
            (api.add(&format!("c{number}"), stages), stages)
        })
        .collect();
    let wait = async |(id, stages): &(CallId, CallStages)| {
        sleep_until(api.start + Duration::from_secs_f64(stages.begins)).await;
        let last = watchers.follow(id, want).unwrap().finished().await;
        assert_eq!(last.state, WatchStatus::Finished);
        assert_eq!(last.call.as_deref(), api.record(id, stages.ready()).as_ref());
        assert_eq!(last.segments_final, want.transcript);
        api.seconds() - stages.ready()
    };
    join_all(calls.iter().map(wait)).await
}

#[tokio::test(start_paused = true)]
async fn a_thousand_live_calls() {
    for (name, spread) in [("at once", 0.0), ("over a minute", 0.06)] {
        let api = FakeApi::new(100);
        let delays = a_thousand(&api, RECORD, |number| f64::from(number) * spread).await;
        let most = api.most_in_a_second();
        let delay = median(delays);
        let (total, seconds) = (api.total(), api.seconds());
        println!(
            "1,000 live calls begun {name}: at most {most} requests in a second, {total} in {seconds:.0} s \
             ({:.1} a second), median delay {delay:.2} s",
            total as f64 / seconds
        );
        assert!(most <= 20);
        assert!(delay < 2.5, "{delay}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_thousand_live_calls_with_transcripts_stay_within_the_limit() {
    let api = FakeApi::new(100);
    let delays = a_thousand(&api, WITH_TRANSCRIPT, |number| f64::from(number) * 0.2).await;
    let most = api.most_in_a_second();
    let delay = median(delays);
    println!("1,000 calls with transcripts: at most {most} a second, median delay {delay:.2} s");
    assert!(most <= 20);
    assert!(delay < 5.0, "{delay}");
}

#[tokio::test(start_paused = true)]
async fn a_webhook_is_heeded_among_a_thousand_live_calls() {
    for latency in [10, 100] {
        let api = FakeApi::new(latency);
        // They are being extracted, which is when they are looked at most.
        let busy = CallStages { begins: 0.0, dialing: 1.0, talking: 1.0, extracting: 9_000.0 };
        let talking = CallStages { talking: 9_000.0, ..CallStages::three_minutes() };
        let watchers = Watchers::new(api.clone(), WatchSettings::default());
        let mut followers = Vec::new();
        for number in 0..1_000 {
            let stages = if number % 10 == 0 { talking } else { busy };
            let id = api.add(&format!("c{number}"), stages);
            followers.push((watchers.follow(&id, RECORD).unwrap(), id));
        }
        let mut longest = 0.0_f64;
        for (number, (follower, id)) in followers.iter_mut().enumerate().step_by(10) {
            sleep_until(api.start + Duration::from_secs_f64(20.0 + number as f64 / 13.0)).await;
            let end = api.seconds();
            api.add(id.as_str(), CallStages { talking: end - 10.0, extracting: 0.0, ..talking });
            watchers.record_event(id, None);
            assert_eq!(follower.finished().await.state, WatchStatus::Finished);
            longest = longest.max(api.seconds() - end);
        }
        let most = api.most_in_a_second();
        println!("a webhook among 1,000 live calls, latency {latency} ms: {longest:.3} s at most");
        assert!(longest < 0.3, "{longest}");
        assert!(most <= 20, "{most}");
    }
}

/// Two hundred calls in the midst of their conversations, whose transcripts are wanted.
fn two_hundred(api: &Arc<FakeApi>, watchers: &Watchers) -> Vec<(Follower, CallId)> {
    let talking = CallStages { talking: 9_000.0, ..CallStages::three_minutes() };
    let follow = |number: u32| {
        let id = api.add(&format!("c{number}"), talking);
        (watchers.follow(&id, WITH_TRANSCRIPT).unwrap(), id)
    };
    (0..200).map(follow).collect()
}

#[tokio::test(start_paused = true)]
async fn a_webhook_is_heeded_while_transcripts_take_all_that_is_left() {
    let api = FakeApi::new(10);
    let watchers = Watchers::new(api.clone(), WatchSettings::default());
    let followers = two_hundred(&api, &watchers);
    let mut longest = 0.0_f64;
    for (number, (_, id)) in followers.iter().enumerate().take(20) {
        // Each at another moment of the second for which the others have to wait.
        let at = 40.0 + number as f64 * 3.05;
        sleep_until(api.start + Duration::from_secs_f64(at)).await;
        let records = api.count(RequestKind::Record);
        watchers.record_event(id, None);
        while api.count(RequestKind::Record) == records {
            sleep(Duration::from_millis(5)).await;
        }
        longest = longest.max(api.seconds() - at);
    }
    println!("a webhook among 200 transcripts: asked for after {longest:.3} s at most");
    assert!(longest < 0.1, "{longest}");
}

#[tokio::test(start_paused = true)]
async fn an_api_that_grew_slow_is_asked_for_so_many_at_a_time_and_no_more() {
    let api = FakeApi::new(10);
    let watchers = Watchers::new(api.clone(), WatchSettings::default());
    let _followers = two_hundred(&api, &watchers);
    sleep(Duration::from_secs(40)).await;
    api.slow_down(Duration::from_secs(60));
    let before = api.total();
    sleep(Duration::from_secs(30)).await;
    assert_eq!(api.total() - before, 32);
}
