//! The promised figures: how many requests a wait costs, and how late its answer is. `--nocapture` prints them.

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

/// Follows one call to its end with a number of waiters. Returns the requests for records and transcripts, and the delay.
async fn follow_call(
    stages: CallStages,
    waiters: usize,
    options: WatchOptions,
) -> (usize, usize, f64) {
    let api = FakeApi::new(100);
    let id = api.add_call("c", stages);
    let watchers = Watchers::new(api.clone(), WatchSettings::default());
    let wait = async |number: usize| {
        sleep(Duration::from_millis(number as u64 * 37)).await;
        watchers.follow(&id, options).unwrap().finished().await
    };
    for last in join_all((0..waiters).map(wait)).await {
        assert_eq!(last.state, WatchStatus::Finished);
        assert_eq!(last.call.as_deref(), api.record_at(&id, stages.result_at()).as_ref());
        let lines = if options.transcript { (stages.talking / 4.0) as usize } else { 0 };
        assert_eq!((last.segments.len(), last.segments_final), (lines, options.transcript));
    }
    let delay = api.elapsed_seconds() - stages.result_at();
    assert_eq!(api.count_requests(RequestKind::List), 0);
    (api.count_requests(RequestKind::Record), api.count_requests(RequestKind::Transcript), delay)
}

#[tokio::test(start_paused = true)]
async fn one_call_costs_the_same_however_many_wait() {
    for (waiters, rounds) in [(1, 20), (100, 3)] {
        for (options, limit) in [(RECORD, 70), (WITH_TRANSCRIPT, 140)] {
            let mut totals = Vec::new();
            for _ in 0..rounds {
                let (records, transcripts, _) =
                    follow_call(CallStages::three_minutes(), waiters, options).await;
                totals.push(records + transcripts);
            }
            let (least, most) = (totals.iter().min().unwrap(), totals.iter().max().unwrap());
            println!("3-minute call, {waiters} waiters, {options:?}: {least} to {most} requests");
            assert!(*most <= limit, "{most}");
            assert!(*least > 20, "{least}");
        }
    }
    let thirty = CallStages { talking: 1_800.0, ..CallStages::three_minutes() };
    let (records, transcripts, _) = follow_call(thirty, 1, WITH_TRANSCRIPT).await;
    println!("30-minute call, 1 waiter: {records} requests, and {transcripts} for its transcript");
    assert!(records <= 350 && transcripts <= 400, "{records} {transcripts}");
}

#[tokio::test(start_paused = true)]
async fn polling_answers_within_two_seconds() {
    let mut rng = rand::rng();
    let (mut with_result, mut without) = (Vec::new(), Vec::new());
    for _ in 0..500 {
        let stages = CallStages {
            dialing: rng.random_range(3.0..30.0),
            talking: rng.random_range(5.0..400.0),
            extracting: rng.random_range(1.0..8.0),
            ..CallStages::three_minutes()
        };
        with_result.push(follow_call(stages, 1, RECORD).await.2);
        without.push(follow_call(CallStages { extracting: 0.0, ..stages }, 1, RECORD).await.2);
    }
    let (with_result, without) = (median(with_result), median(without));
    println!("median delay by polling: {with_result:.2} s with a result, {without:.2} s without");
    assert!(with_result < 2.0 && without < 2.0);
    assert!(with_result > 0.05 && without > 0.05);
}

#[tokio::test(start_paused = true)]
async fn a_webhook_answers_within_a_third_of_a_second() {
    for with_record in [true, false] {
        let mut delays = Vec::new();
        for _ in 0..20 {
            let talking = rand::rng().random_range(5.0..400.0);
            let stages = CallStages { talking, ..CallStages::three_minutes() };
            let api = FakeApi::new(100);
            let id = api.add_call("c", stages);
            let watchers = Watchers::new(api.clone(), WatchSettings::default());
            let mut follower = watchers.follow(&id, RECORD).unwrap();
            // A webhook for each of ringing, answered and completed.
            for at in [1.0, stages.dialing, stages.result_at()] {
                sleep_until(api.start + Duration::from_secs_f64(at)).await;
                watchers.record_event(&id, api.record_at(&id, at).filter(|_| with_record));
            }
            assert_eq!(follower.finished().await.state, WatchStatus::Finished);
            delays.push(api.elapsed_seconds() - stages.result_at());
            assert!(api.total_requests() <= 40, "{}", api.total_requests());
        }
        let longest = delays.iter().copied().fold(0.0, f64::max);
        println!("longest delay after a webhook, record in it {with_record}: {longest:.3} s");
        assert!(longest < 0.3);
    }
}

/// Follows a thousand calls of one account from their beginnings. Returns the delays of their answers.
async fn follow_a_thousand(
    api: &Arc<FakeApi>,
    options: WatchOptions,
    begins: impl Fn(u32) -> f64,
) -> Vec<f64> {
    let watchers = Watchers::new(api.clone(), WatchSettings::default());
    let calls: Vec<(CallId, CallStages)> = (0..1_000)
        .map(|number| {
            let talking = 50.0 + f64::from(number * 7 % 50);
            let stages =
                CallStages { begins: begins(number), talking, ..CallStages::three_minutes() };
            (api.add_call(&format!("c{number}"), stages), stages)
        })
        .collect();
    let wait = async |(id, stages): &(CallId, CallStages)| {
        sleep_until(api.start + Duration::from_secs_f64(stages.begins)).await;
        let last = watchers.follow(id, options).unwrap().finished().await;
        assert_eq!(last.state, WatchStatus::Finished);
        assert_eq!(last.call.as_deref(), api.record_at(id, stages.result_at()).as_ref());
        assert_eq!(last.segments_final, options.transcript);
        api.elapsed_seconds() - stages.result_at()
    };
    join_all(calls.iter().map(wait)).await
}

#[tokio::test(start_paused = true)]
async fn a_thousand_live_calls_stay_within_the_limit() {
    for (name, spread) in [("at once", 0.0), ("over a minute", 0.06)] {
        let api = FakeApi::new(100);
        let delays = follow_a_thousand(&api, RECORD, |number| f64::from(number) * spread).await;
        let most = api.max_requests_per_second();
        let delay = median(delays);
        let (total, seconds) = (api.total_requests(), api.elapsed_seconds());
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
    let delays = follow_a_thousand(&api, WITH_TRANSCRIPT, |number| f64::from(number) * 0.2).await;
    let most = api.max_requests_per_second();
    let delay = median(delays);
    println!("1,000 calls with transcripts: at most {most} a second, median delay {delay:.2} s");
    assert!(most <= 20);
    assert!(delay < 5.0, "{delay}");
}

#[tokio::test(start_paused = true)]
async fn a_webhook_is_prompt_among_a_thousand_live_calls() {
    for latency in [10, 100] {
        let api = FakeApi::new(latency);
        // Calls are polled most often during extraction.
        let busy = CallStages { begins: 0.0, dialing: 1.0, talking: 1.0, extracting: 9_000.0 };
        let talking = CallStages { talking: 9_000.0, ..CallStages::three_minutes() };
        let watchers = Watchers::new(api.clone(), WatchSettings::default());
        let mut followers = Vec::new();
        for number in 0..1_000 {
            let stages = if number % 10 == 0 { talking } else { busy };
            let id = api.add_call(&format!("c{number}"), stages);
            followers.push((watchers.follow(&id, RECORD).unwrap(), id));
        }
        let mut longest = 0.0_f64;
        for (number, (follower, id)) in followers.iter_mut().enumerate().step_by(10) {
            sleep_until(api.start + Duration::from_secs_f64(20.0 + number as f64 / 13.0)).await;
            let end = api.elapsed_seconds();
            api.add_call(
                id.as_str(),
                CallStages { talking: end - 10.0, extracting: 0.0, ..talking },
            );
            watchers.record_event(id, None);
            assert_eq!(follower.finished().await.state, WatchStatus::Finished);
            longest = longest.max(api.elapsed_seconds() - end);
        }
        let most = api.max_requests_per_second();
        println!("a webhook among 1,000 live calls, latency {latency} ms: {longest:.3} s at most");
        assert!(longest < 0.3, "{longest}");
        assert!(most <= 20, "{most}");
    }
}

/// Follows two hundred calls, whose conversations go on, with their transcripts.
fn follow_two_hundred(api: &Arc<FakeApi>, watchers: &Watchers) -> Vec<(Follower, CallId)> {
    let talking = CallStages { talking: 9_000.0, ..CallStages::three_minutes() };
    let follow = |number: u32| {
        let id = api.add_call(&format!("c{number}"), talking);
        (watchers.follow(&id, WITH_TRANSCRIPT).unwrap(), id)
    };
    (0..200).map(follow).collect()
}

#[tokio::test(start_paused = true)]
async fn a_webhook_is_prompt_while_transcripts_use_the_whole_limit() {
    let api = FakeApi::new(10);
    let watchers = Watchers::new(api.clone(), WatchSettings::default());
    let followers = follow_two_hundred(&api, &watchers);
    let mut longest = 0.0_f64;
    for (number, (_, id)) in followers.iter().enumerate().take(20) {
        // Each at another moment of the second within which the limit applies.
        let at = 40.0 + number as f64 * 3.05;
        sleep_until(api.start + Duration::from_secs_f64(at)).await;
        let records = api.count_requests(RequestKind::Record);
        watchers.record_event(id, None);
        while api.count_requests(RequestKind::Record) == records {
            sleep(Duration::from_millis(5)).await;
        }
        longest = longest.max(api.elapsed_seconds() - at);
    }
    println!("a webhook among 200 transcripts: polled after {longest:.3} s at most");
    assert!(longest < 0.1, "{longest}");
}

#[tokio::test(start_paused = true)]
async fn requests_in_flight_to_a_slow_api_are_limited() {
    let api = FakeApi::new(10);
    let watchers = Watchers::new(api.clone(), WatchSettings::default());
    let _followers = follow_two_hundred(&api, &watchers);
    sleep(Duration::from_secs(40)).await;
    api.set_latency(Duration::from_secs(60));
    let before = api.total_requests();
    sleep(Duration::from_secs(30)).await;
    assert_eq!(api.total_requests() - before, 32);
}
