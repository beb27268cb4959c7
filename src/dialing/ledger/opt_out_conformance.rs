//! The tests of the do-not-call list that every ledger must pass.

use std::future::Future;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use super::conformance::{account, begun, constraints, intent, minutes, noon, number};
use super::*;
use crate::dialing::call_outcome::CallOutcome;

fn opt_out(account: &AccountRef, to: u32, source: OptOutSource, at: Timestamp) -> OptOut {
    OptOut::new(account, number(to), source, CallerName::local(), "said so", at)
}

async fn record(ledger: &dyn Ledger, entry: OptOut) -> RecordOptOutResult {
    ledger.record_opt_out(entry).await.unwrap()
}

pub(super) async fn test_opt_outs<F, Fut>(open: &F)
where
    F: Fn() -> Fut,
    Fut: Future<Output = Arc<dyn Ledger>>,
{
    let ledger = open().await;
    let ledger = ledger.as_ref();
    keep_an_entry(ledger).await;
    record_a_call_once(ledger).await;
    expire(ledger).await;
    limit_tools(ledger).await;
    list_numbers_in_order(ledger).await;
    belong_to_one_account(ledger).await;
    refuse_in_the_atomic_steps(ledger).await;
    list_calls_whose_result_was_not_read(ledger).await;
    hold_in_any_order(open).await;
}

async fn keep_an_entry(ledger: &dyn Ledger) {
    let account = account();
    let (id, callee) = (account.id(), account.hash(&number(1)));
    let entry = OptOut {
        remote_id: Some("call_1".to_owned()),
        expires_at: Some(noon() + minutes(60)),
        ..opt_out(&account, 1, OptOutSource::Call, noon())
    };
    assert_eq!(record(ledger, entry.clone()).await, RecordOptOutResult::Recorded(entry.clone()));
    assert_eq!(ledger.find_opt_out(id, &callee, noon()).await.unwrap(), Some(entry.clone()));
    assert_eq!(ledger.list_opt_outs_of(id, &callee).await.unwrap(), std::slice::from_ref(&entry));
    // A longer one is added, a shorter one is known.
    let longer = opt_out(&account, 1, OptOutSource::Terminal, noon());
    let RecordOptOutResult::Recorded(longer) = record(ledger, longer).await else {
        panic!("not recorded")
    };
    assert_eq!(longer.recorded_at, noon() + SignedDuration::from_millis(1));
    let again = opt_out(&account, 1, OptOutSource::Tool, noon() + minutes(1));
    assert_eq!(record(ledger, again).await, RecordOptOutResult::Known(longer.clone()));
    let known = ledger.list_opt_outs_of(id, &callee).await.unwrap();
    assert_eq!(known, [entry.clone(), longer.clone()]);
    // What was removed is kept, with the reason.
    let at = noon() + minutes(2);
    assert_eq!(ledger.remove_opt_out(id, &callee, at, "a mistake").await.unwrap(), 2);
    assert_eq!(ledger.remove_opt_out(id, &callee, at, "again").await.unwrap(), 0);
    assert_eq!(ledger.find_opt_out(id, &callee, at).await.unwrap(), None);
    let removal = Some(OptOutRemoval { removed_at: at, reason: "a mistake".to_owned() });
    let expected = [entry, longer].map(|entry| OptOut { removal: removal.clone(), ..entry });
    assert_eq!(ledger.list_opt_outs_of(id, &callee).await.unwrap(), expected);
    // A person may ask again.
    let later = opt_out(&account, 1, OptOutSource::Terminal, at + minutes(1));
    assert_eq!(record(ledger, later.clone()).await, RecordOptOutResult::Recorded(later));
}

/// The result of a call is read many times; what a person removed stays removed.
async fn record_a_call_once(ledger: &dyn Ledger) {
    let account = account();
    let (id, callee) = (account.id(), account.hash(&number(1)));
    let of_call = |call: &str, at| OptOut {
        remote_id: Some(call.to_owned()),
        ..opt_out(&account, 1, OptOutSource::Call, at)
    };
    record(ledger, of_call("call_1", noon())).await;
    ledger.remove_opt_out(id, &callee, noon() + minutes(1), "not at work only").await.unwrap();
    let again = record(ledger, of_call("call_1", noon() + minutes(2))).await;
    assert!(matches!(again, RecordOptOutResult::Removed(_)), "{again:?}");
    assert_eq!(ledger.find_opt_out(id, &callee, noon() + minutes(2)).await.unwrap(), None);
    let other = record(ledger, of_call("call_2", noon() + minutes(3))).await;
    assert!(matches!(other, RecordOptOutResult::Recorded(_)), "{other:?}");
}

async fn expire(ledger: &dyn Ledger) {
    let account = account();
    let end = noon() + minutes(60);
    let entry =
        OptOut { expires_at: Some(end), ..opt_out(&account, 1, OptOutSource::Terminal, noon()) };
    record(ledger, entry).await;
    let before = end - SignedDuration::from_millis(1);
    let refused = ledger.begin(intent(&account, 1, "x"), constraints(before)).await.unwrap();
    assert_eq!(refused, BeginResult::OptedOut);
    begun(ledger, intent(&account, 1, "x"), constraints(end)).await;
}

async fn limit_tools(ledger: &dyn Ledger) {
    let account = account();
    let at = |minute: u32| noon() + minutes(minute.into());
    for to in 0..MAX_TOOL_OPT_OUTS {
        let recorded = record(ledger, opt_out(&account, to, OptOutSource::Tool, at(to))).await;
        assert!(matches!(recorded, RecordOptOutResult::Recorded(_)), "{to}: {recorded:?}");
    }
    let next = |source, at| opt_out(&account, 900, source, at);
    let day = SignedDuration::from_hours(24);
    let before = next(OptOutSource::Tool, noon() + day - minutes(1));
    assert_eq!(record(ledger, before).await, RecordOptOutResult::LimitReached);
    let known = record(ledger, opt_out(&account, 3, OptOutSource::Tool, at(60))).await;
    assert!(matches!(known, RecordOptOutResult::Known(_)), "{known:?}");
    let other = record(ledger, opt_out(&account, 901, OptOutSource::Call, at(60))).await;
    assert!(matches!(other, RecordOptOutResult::Recorded(_)), "{other:?}");
    let free = record(ledger, next(OptOutSource::Tool, noon() + day)).await;
    assert!(matches!(free, RecordOptOutResult::Recorded(_)), "{free:?}");
}

async fn list_numbers_in_order(ledger: &dyn Ledger) {
    let account = account();
    for to in [5, 3, 4, 1, 2] {
        record(ledger, opt_out(&account, to, OptOutSource::Import, noon())).await;
    }
    ledger.remove_opt_out(account.id(), &account.hash(&number(3)), noon(), "no").await.unwrap();
    record(ledger, opt_out(&account, 3, OptOutSource::Import, noon() + minutes(1))).await;
    let (mut listed, mut after) = (Vec::new(), None);
    loop {
        let page = ledger.list_opt_outs(account.id(), after.as_ref(), 2).await.unwrap();
        let Some(last) = page.last() else { break };
        after = Some(last.number.clone());
        listed.push(page.into_iter().map(|entry| entry.number).collect::<Vec<_>>());
    }
    let pages = [vec![1, 2], vec![3, 3, 4], vec![5]];
    let pages = pages.map(|page| page.into_iter().map(number).collect::<Vec<_>>());
    assert_eq!(listed, pages);
}

async fn belong_to_one_account(ledger: &dyn Ledger) {
    let (account, other) = (account(), account());
    record(ledger, opt_out(&account, 1, OptOutSource::Terminal, noon())).await;
    assert_eq!(ledger.list_opt_outs(other.id(), None, 10).await.unwrap(), []);
    begun(ledger, intent(&other, 1, "x"), constraints(noon())).await;
    let hashes = vec![account.hash(&number(2)), account.hash(&number(1))];
    let are = ledger.are_opted_out(account.id(), hashes, noon()).await.unwrap();
    assert_eq!(are, [false, true]);
    let none = ledger.are_opted_out(account.id(), Vec::new(), noon()).await.unwrap();
    assert!(none.is_empty());
}

async fn refuse_in_the_atomic_steps(ledger: &dyn Ledger) {
    let account = account();
    let call = begun(ledger, intent(&account, 1, "x"), constraints(noon())).await;
    record(ledger, opt_out(&account, 1, OptOutSource::Call, noon())).await;
    let renew = |record: &DispatchRecord| {
        let (dispatch, until) = (record.dispatch_id, noon() + minutes(3));
        ledger.renew_lease(account.id(), dispatch, record.generation, noon().into(), until)
    };
    assert_eq!(renew(&call).await.unwrap(), LeaseRenewal::OptedOut);
    // An earlier call does not answer in its place, and a purchase has no number.
    let mut repeat = constraints(noon());
    repeat.allow_repeat = true;
    let refused = ledger.begin(intent(&account, 1, "y"), repeat).await.unwrap();
    assert_eq!(refused, BeginResult::OptedOut);
    let purchase = NewIntent {
        kind: crate::dialing::limits::OrderKind::Purchase,
        callee: None,
        agent_id: None,
        ..intent(&account, 1, "z")
    };
    let purchase = begun(ledger, purchase, constraints(noon())).await;
    assert_eq!(renew(&purchase).await.unwrap(), LeaseRenewal::Renewed);
}

async fn list_calls_whose_result_was_not_read(ledger: &dyn Ledger) {
    let account = account();
    let (id, callee) = (account.id(), account.hash(&number(1)));
    let mut calls = Vec::new();
    for text in ["open", "placed", "ended", "read"] {
        let record = begun(ledger, intent(&account, 1, text), constraints(noon())).await;
        if text != "open" {
            ledger.record_placed(id, record.dispatch_id, &format!("call_{text}")).await.unwrap();
        }
        if text == "ended" || text == "read" {
            let end = CallEnd {
                outcome: CallOutcome::Completed,
                cost: None,
                is_result_final: text == "read",
            };
            ledger.record_end(id, &format!("call_{text}"), end).await.unwrap();
        }
        calls.push(record.dispatch_id);
    }
    let unread = async |limit| {
        let records = ledger.list_unread_calls(id, &callee, limit).await.unwrap();
        let mut names: Vec<String> =
            records.iter().map(|record| record.state.id().unwrap().to_owned()).collect();
        names.sort();
        names
    };
    assert_eq!(unread(5).await, ["call_ended", "call_placed"]);
    assert_eq!(unread(1).await.len(), 1);
    // An end that is read once more without its result changes nothing, and the result is read once.
    let end =
        |is_result_final| CallEnd { outcome: CallOutcome::Completed, cost: None, is_result_final };
    ledger.record_end(id, "call_ended", end(true)).await.unwrap();
    ledger.record_end(id, "call_ended", end(false)).await.unwrap();
    assert_eq!(unread(5).await, ["call_placed"]);
}

/// A step of a process: two processes share the ledger, with two keys of one organization.
#[derive(Debug, Clone)]
enum Step {
    Begin {
        process: usize,
        to: u32,
        text: u32,
    },
    Renew {
        process: usize,
        call: usize,
    },
    TakeOver {
        process: usize,
        call: usize,
    },
    Place {
        process: usize,
        call: usize,
    },
    /// The result of a call, which asks not to be called again.
    Result {
        process: usize,
        call: usize,
        asks: bool,
    },
    OptOut {
        process: usize,
        to: u32,
        minutes: Option<i64>,
    },
    Remove {
        process: usize,
        to: u32,
    },
    Restart {
        process: usize,
    },
    ChangeKey {
        process: usize,
    },
    Wait(i64),
}

fn step() -> impl Strategy<Value = Step> {
    let (process, to, call) = (0..2_usize, 0..3_u32, 0..20_usize);
    prop_oneof![
        6 => (process.clone(), to.clone(), 0..4_u32)
            .prop_map(|(process, to, text)| Step::Begin { process, to, text }),
        6 => (process.clone(), call.clone()).prop_map(|(process, call)| Step::Renew { process, call }),
        1 => (process.clone(), call.clone())
            .prop_map(|(process, call)| Step::TakeOver { process, call }),
        2 => (process.clone(), call.clone()).prop_map(|(process, call)| Step::Place { process, call }),
        2 => (process.clone(), call, any::<bool>())
            .prop_map(|(process, call, asks)| Step::Result { process, call, asks }),
        2 => (process.clone(), to.clone(), proptest::option::of(0..30_i64))
            .prop_map(|(process, to, minutes)| Step::OptOut { process, to, minutes }),
        1 => (process.clone(), to).prop_map(|(process, to)| Step::Remove { process, to }),
        1 => process.clone().prop_map(|process| Step::Restart { process }),
        1 => process.prop_map(|process| Step::ChangeKey { process }),
        2 => (1..12_i64).prop_map(Step::Wait),
    ]
}

#[derive(Debug, Default)]
struct Tally {
    begun: u32,
    renewed: u32,
    refused: u32,
    withheld: u32,
}

/// After an opt-out was recorded, and until it is removed or expires, no call to its number begins and no request leaves.
async fn hold_in_any_order<F, Fut>(open: &F)
where
    F: Fn() -> Fut,
    Fut: Future<Output = Arc<dyn Ledger>>,
{
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[25; 32]);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let steps = proptest::collection::vec(step(), 30..60);
    let mut tally = Tally::default();
    for _ in 0..48 {
        let steps = steps.new_tree(&mut runner).unwrap().current();
        run(open, &steps, &mut tally).await;
    }
    let Tally { begun, renewed, refused, withheld } = tally;
    assert!(begun > 50 && renewed > 30 && refused > 50 && withheld > 20, "{tally:?}");
}

async fn run<F, Fut>(open: &F, steps: &[Step], tally: &mut Tally)
where
    F: Fn() -> Fut,
    Fut: Future<Output = Arc<dyn Ledger>>,
{
    let organization = DispatchId::new().to_string();
    // The account of the organization, whatever key is used.
    let of_key = |key: &str| {
        let key = callingbox::ApiKey::new(key.to_owned()).unwrap();
        let secret = LedgerSecret::new([1; 32]);
        KeyRef::new(key, &callingbox::BaseUrl::default())
            .organization_account(&secret, &organization)
    };
    let mut accounts = [of_key("sk_first"), of_key("sk_second")];
    let mut handles = [open().await, open().await];
    let mut now = noon();
    let mut holds_until = [None::<Timestamp>; 3];
    let mut calls: Vec<(DispatchRecord, u32)> = Vec::new();
    for (index, step) in steps.iter().enumerate() {
        let context = format!("step {index}, {step:?} of {steps:?}");
        let is_listed = |to: u32| holds_until[to as usize].is_some_and(|until| until > now);
        let pick = |call: usize| calls.get(call.checked_rem(calls.len())?).cloned();
        match *step {
            Step::Wait(time) => now += minutes(time),
            Step::Restart { process } => handles[process] = open().await,
            Step::ChangeKey { process } => accounts[process] = of_key(&format!("sk_{index}")),
            Step::Begin { process, to, text } => {
                let intent = intent(&accounts[process], to, &text.to_string());
                match handles[process].begin(intent, constraints(now)).await.unwrap() {
                    BeginResult::Begun(record) => {
                        assert!(!is_listed(to), "{context}");
                        tally.begun += 1;
                        calls.push((record, to));
                    }
                    BeginResult::OptedOut => {
                        assert!(is_listed(to), "{context}");
                        tally.refused += 1;
                    }
                    BeginResult::Earlier(_) => assert!(!is_listed(to), "{context}"),
                    other => panic!("{other:?}: {context}"),
                }
            }
            Step::Renew { process, call } => {
                let Some((record, to)) = pick(call) else { continue };
                let renewal = handles[process]
                    .renew_lease(
                        accounts[process].id(),
                        record.dispatch_id,
                        record.generation,
                        now.into(),
                        now + minutes(2),
                    )
                    .await
                    .unwrap();
                let forbidden = match is_listed(to) {
                    true => LeaseRenewal::Renewed,
                    false => LeaseRenewal::OptedOut,
                };
                assert_ne!(renewal, forbidden, "{context}");
                tally.withheld += u32::from(renewal == LeaseRenewal::OptedOut);
                tally.renewed += u32::from(renewal == LeaseRenewal::Renewed);
            }
            Step::TakeOver { process, call } => {
                let Some((record, to)) = pick(call) else { continue };
                let taken = handles[process]
                    .take_over(accounts[process].id(), record.dispatch_id, now, now + minutes(2))
                    .await
                    .unwrap();
                calls.extend(taken.map(|record| (record, to)));
            }
            Step::Place { process, call } => {
                let Some((record, _)) = pick(call) else { continue };
                let id = format!("call_{}", record.dispatch_id);
                let account = accounts[process].id();
                handles[process].record_placed(account, record.dispatch_id, &id).await.unwrap();
            }
            Step::Result { process, call, asks } => {
                let Some((record, to)) = pick(call) else { continue };
                let id = format!("call_{}", record.dispatch_id);
                let end =
                    CallEnd { outcome: CallOutcome::Completed, cost: None, is_result_final: true };
                if asks {
                    let entry = OptOut {
                        remote_id: Some(id.clone()),
                        ..opt_out(&accounts[process], to, OptOutSource::Call, now)
                    };
                    match handles[process].record_opt_out(entry).await.unwrap() {
                        RecordOptOutResult::Removed(_) => {}
                        _ => holds_until[to as usize] = Some(Timestamp::MAX),
                    }
                }
                handles[process].record_end(accounts[process].id(), &id, end).await.unwrap();
            }
            Step::OptOut { process, to, minutes: time } => {
                let expires_at = time.map(|time| now + minutes(time));
                let entry = OptOut {
                    expires_at,
                    ..opt_out(&accounts[process], to, OptOutSource::Terminal, now)
                };
                handles[process].record_opt_out(entry).await.unwrap();
                let until = expires_at.unwrap_or(Timestamp::MAX);
                let held = &mut holds_until[to as usize];
                *held = Some(held.map_or(until, |held| held.max(until)));
            }
            Step::Remove { process, to } => {
                let account = &accounts[process];
                let callee = account.hash(&number(to));
                let removed =
                    handles[process].remove_opt_out(account.id(), &callee, now, "no").await;
                assert_eq!(removed.unwrap() > 0, is_listed(to), "{context}");
                holds_until[to as usize] = None;
            }
        }
    }
}
