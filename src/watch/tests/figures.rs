//! The figures that are promised: how many requests a wait costs, and how late its answer is.
//! Run with `--nocapture` to read them.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use rand::RngExt;
use tokio::time::{sleep, sleep_until};

use super::telephone::{Asked, Life, Telephone};
use crate::watch::{Follower, Settings, State, Want, Watchers};
use callingbox::CallId;

const RECORD: Want = Want { transcript: false };
const WITH_TRANSCRIPT: Want = Want { transcript: true };

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Follows one call to its end with so many waiters; the requests by kind, and the delay.
async fn follow(life: Life, waiters: usize, want: Want) -> (usize, usize, f64) {
    let telephone = Telephone::new(100);
    let id = telephone.add("c", life);
    let watchers = Watchers::new(telephone.clone(), Settings::default());
    let wait = async |number: usize| {
        sleep(Duration::from_millis(number as u64 * 37)).await;
        watchers.follow(&id, want).unwrap().finished().await
    };
    for last in join_all((0..waiters).map(wait)).await {
        assert_eq!(last.state, State::Finished);
        assert_eq!(last.call.as_deref(), telephone.record(&id, life.ready()).as_ref());
        let lines = if want.transcript { (life.talking / 4.0) as usize } else { 0 };
        assert_eq!((last.segments.len(), last.segments_final), (lines, want.transcript));
    }
    let delay = telephone.seconds() - life.ready();
    assert_eq!(telephone.count(Asked::List), 0);
    (telephone.count(Asked::Record), telephone.count(Asked::Transcript), delay)
}

#[tokio::test(start_paused = true)]
async fn what_one_call_costs_however_many_wait() {
    for (waiters, rounds) in [(1, 20), (100, 3)] {
        for (want, limit) in [(RECORD, 70), (WITH_TRANSCRIPT, 140)] {
            let mut totals = Vec::new();
            for _ in 0..rounds {
                let (records, transcripts, _) = follow(Life::three_minutes(), waiters, want).await;
                totals.push(records + transcripts);
            }
            let (least, most) = (totals.iter().min().unwrap(), totals.iter().max().unwrap());
            println!("3-minute call, {waiters} waiters, {want:?}: {least} to {most} requests");
            assert!(*most <= limit, "{most}");
            assert!(*least > 20, "{least}");
        }
    }
    let thirty = Life { talking: 1_800.0, ..Life::three_minutes() };
    let (records, transcripts, _) = follow(thirty, 1, WITH_TRANSCRIPT).await;
    println!("30-minute call, 1 waiter: {records} requests, and {transcripts} for its transcript");
    assert!(records <= 350 && transcripts <= 400, "{records} {transcripts}");
}

#[tokio::test(start_paused = true)]
async fn how_late_the_answer_is_by_polling() {
    let mut rng = rand::rng();
    let (mut with_result, mut without) = (Vec::new(), Vec::new());
    for _ in 0..500 {
        let life = Life {
            dialing: rng.random_range(3.0..30.0),
            talking: rng.random_range(5.0..400.0),
            extracting: rng.random_range(1.0..8.0),
            ..Life::three_minutes()
        };
        with_result.push(follow(life, 1, RECORD).await.2);
        without.push(follow(Life { extracting: 0.0, ..life }, 1, RECORD).await.2);
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
            let life = Life { talking, ..Life::three_minutes() };
            let telephone = Telephone::new(100);
            let id = telephone.add("c", life);
            let watchers = Watchers::new(telephone.clone(), Settings::default());
            let mut follower = watchers.follow(&id, RECORD).unwrap();
            // Ringing, answered, completed: each is told.
            for at in [1.0, life.dialing, life.ready()] {
                sleep_until(telephone.start + Duration::from_secs_f64(at)).await;
                watchers.wake(&id, telephone.record(&id, at).filter(|_| with_record));
            }
            assert_eq!(follower.finished().await.state, State::Finished);
            delays.push(telephone.seconds() - life.ready());
            assert!(telephone.total() <= 40, "{}", telephone.total());
        }
        let longest = delays.iter().copied().fold(0.0, f64::max);
        println!("longest delay after a webhook, record in it {with_record}: {longest:.3} s");
        assert!(longest < 0.3);
    }
}

/// A thousand calls of one account, each followed from `begins`; the delays of their answers.
async fn a_thousand(
    telephone: &Arc<Telephone>,
    want: Want,
    begins: impl Fn(u32) -> f64,
) -> Vec<f64> {
    let watchers = Watchers::new(telephone.clone(), Settings::default());
    let calls: Vec<(CallId, Life)> = (0..1_000)
        .map(|number| {
            let talking = 50.0 + f64::from(number * 7 % 50);
            let life = Life { begins: begins(number), talking, ..Life::three_minutes() };
            (telephone.add(&format!("c{number}"), life), life)
        })
        .collect();
    let wait = async |(id, life): &(CallId, Life)| {
        sleep_until(telephone.start + Duration::from_secs_f64(life.begins)).await;
        let last = watchers.follow(id, want).unwrap().finished().await;
        assert_eq!(last.state, State::Finished);
        assert_eq!(last.call.as_deref(), telephone.record(id, life.ready()).as_ref());
        assert_eq!(last.segments_final, want.transcript);
        telephone.seconds() - life.ready()
    };
    join_all(calls.iter().map(wait)).await
}

#[tokio::test(start_paused = true)]
async fn a_thousand_live_calls() {
    for (name, spread) in [("at once", 0.0), ("over a minute", 0.06)] {
        let telephone = Telephone::new(100);
        let delays = a_thousand(&telephone, RECORD, |number| f64::from(number) * spread).await;
        let most = telephone.most_in_a_second();
        let delay = median(delays);
        let (total, seconds) = (telephone.total(), telephone.seconds());
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
    let telephone = Telephone::new(100);
    let delays = a_thousand(&telephone, WITH_TRANSCRIPT, |number| f64::from(number) * 0.2).await;
    let most = telephone.most_in_a_second();
    let delay = median(delays);
    println!("1,000 calls with transcripts: at most {most} a second, median delay {delay:.2} s");
    assert!(most <= 20);
    assert!(delay < 5.0, "{delay}");
}

#[tokio::test(start_paused = true)]
async fn a_webhook_is_heeded_among_a_thousand_live_calls() {
    for latency in [10, 100] {
        let telephone = Telephone::new(latency);
        // They are being extracted, which is when they are looked at most.
        let busy = Life { begins: 0.0, dialing: 1.0, talking: 1.0, extracting: 9_000.0 };
        let talking = Life { talking: 9_000.0, ..Life::three_minutes() };
        let watchers = Watchers::new(telephone.clone(), Settings::default());
        let mut followers = Vec::new();
        for number in 0..1_000 {
            let life = if number % 10 == 0 { talking } else { busy };
            let id = telephone.add(&format!("c{number}"), life);
            followers.push((watchers.follow(&id, RECORD).unwrap(), id));
        }
        let mut longest = 0.0_f64;
        for (number, (follower, id)) in followers.iter_mut().enumerate().step_by(10) {
            sleep_until(telephone.start + Duration::from_secs_f64(20.0 + number as f64 / 13.0))
                .await;
            let end = telephone.seconds();
            telephone.add(id.as_str(), Life { talking: end - 10.0, extracting: 0.0, ..talking });
            watchers.wake(id, None);
            assert_eq!(follower.finished().await.state, State::Finished);
            longest = longest.max(telephone.seconds() - end);
        }
        let most = telephone.most_in_a_second();
        println!("a webhook among 1,000 live calls, latency {latency} ms: {longest:.3} s at most");
        assert!(longest < 0.3, "{longest}");
        assert!(most <= 20, "{most}");
    }
}

/// Two hundred calls in the midst of their conversations, whose transcripts are wanted.
fn two_hundred(telephone: &Arc<Telephone>, watchers: &Watchers) -> Vec<(Follower, CallId)> {
    let talking = Life { talking: 9_000.0, ..Life::three_minutes() };
    let follow = |number: u32| {
        let id = telephone.add(&format!("c{number}"), talking);
        (watchers.follow(&id, WITH_TRANSCRIPT).unwrap(), id)
    };
    (0..200).map(follow).collect()
}

#[tokio::test(start_paused = true)]
async fn a_webhook_is_heeded_while_transcripts_take_all_that_is_left() {
    let telephone = Telephone::new(10);
    let watchers = Watchers::new(telephone.clone(), Settings::default());
    let followers = two_hundred(&telephone, &watchers);
    let mut longest = 0.0_f64;
    for (number, (_, id)) in followers.iter().enumerate().take(20) {
        // Each at another moment of the second for which the others have to wait.
        let at = 40.0 + number as f64 * 3.05;
        sleep_until(telephone.start + Duration::from_secs_f64(at)).await;
        let records = telephone.count(Asked::Record);
        watchers.wake(id, None);
        while telephone.count(Asked::Record) == records {
            sleep(Duration::from_millis(5)).await;
        }
        longest = longest.max(telephone.seconds() - at);
    }
    println!("a webhook among 200 transcripts: asked for after {longest:.3} s at most");
    assert!(longest < 0.1, "{longest}");
}

#[tokio::test(start_paused = true)]
async fn an_api_that_grew_slow_is_asked_for_so_many_at_a_time_and_no_more() {
    let telephone = Telephone::new(10);
    let watchers = Watchers::new(telephone.clone(), Settings::default());
    let _followers = two_hundred(&telephone, &watchers);
    sleep(Duration::from_secs(40)).await;
    telephone.slow_down(Duration::from_secs(60));
    let before = telephone.total();
    sleep(Duration::from_secs(30)).await;
    assert_eq!(telephone.total() - before, 32);
}
