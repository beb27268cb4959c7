//! The tests that every ledger must pass. Each implementation runs [`test_ledger`].

use std::future::Future;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use super::*;
use crate::dialing::call_outcome::CallOutcome;
use crate::dialing::caller::CallerName;
use crate::dialing::limits::{
    CallerLimits, DAY, HOUR, Limit, LimitReached, MAX_CALL_DURATION, MAX_UNKNOWN_AFTER_SEARCH,
    OrderKind, WindowUsage,
};
use callingbox::{ApiKey, BaseUrl, E164};

/// Noon of some day. Every test moves the time on from here.
pub(super) fn noon() -> Timestamp {
    "2026-03-01T12:00:00Z".parse().unwrap()
}

pub(super) fn minutes(minutes: i64) -> SignedDuration {
    SignedDuration::from_mins(minutes)
}

/// An account that no other test uses.
pub(super) fn account() -> AccountRef {
    account_of(&DispatchId::new().to_string())
}

/// The account of an organization. The ledgers do not read the secret, so it may be any.
pub(super) fn account_of(organization: &str) -> AccountRef {
    let key = ApiKey::new("sk_test".to_owned()).unwrap();
    let secret = LedgerSecret::new([1; 32]);
    KeyRef::new(key, &BaseUrl::default()).organization_account(&secret, organization)
}

pub(super) fn number(last: u32) -> E164 {
    E164::parse(&format!("+1415555{last:04}")).unwrap()
}

/// An intent to call `to`. `instructions` distinguish it from others to the same number, and so does the agent, so that
/// they do not conflict.
pub(super) fn intent(account: &AccountRef, to: u32, instructions: &str) -> NewIntent {
    let to = number(to);
    let arguments = json!({"agent_id": "agt_1", "to": to.as_str(), "instructions": instructions});
    let hashes = ArgumentHashes::new(account, arguments.as_object().unwrap());
    NewIntent {
        dispatch_id: DispatchId::new(),
        kind: OrderKind::Call,
        account_id: account.id().clone(),
        caller: CallerName::local(),
        fingerprint: Fingerprint::new(account, OrderKind::Call, &arguments),
        arguments: hashes,
        idempotency_key: None,
        callee: Some(Callee::new(account, &to)),
        agent_id: Some(format!("agt_{instructions}")),
        rule: "default".to_owned(),
        confirmed_by: ConfirmedBy::User,
        hold: MilliCents::from_cents(300),
        attempt: None,
    }
}

pub(super) fn with_key(mut intent: NewIntent, key: &str) -> NewIntent {
    intent.idempotency_key = Some(IdempotencyKey::parse(key).unwrap());
    intent
}

pub(super) fn constraints(now: Timestamp) -> BeginConstraints {
    BeginConstraints {
        now: now.into(),
        lease_expires_at: now + minutes(2),
        repeats_since: now - minutes(10),
        allow_repeat: false,
        limits: CallLimits::default(),
    }
}

pub(super) async fn begun(
    ledger: &dyn Ledger,
    intent: NewIntent,
    constraints: BeginConstraints,
) -> DispatchRecord {
    match ledger.begin(intent, constraints).await.unwrap() {
        BeginResult::Begun(record) => record,
        other => panic!("not begun: {other:?}"),
    }
}

/// Begins and places a call whose id is its dispatch's.
async fn dialed(
    ledger: &dyn Ledger,
    account: &AccountRef,
    to: u32,
    text: &str,
    at: Timestamp,
) -> DispatchRecord {
    let mut constraints = constraints(at);
    constraints.allow_repeat = true;
    let record = begun(ledger, intent(account, to, text), constraints).await;
    let id = format!("call_{}", record.dispatch_id);
    ledger.record_placed(account.id(), record.dispatch_id, &id).await.unwrap()
}

/// Runs everything. `open` opens one more handle on the same ledger, as another process would.
pub(super) async fn test_ledger<F, Fut>(open: F)
where
    F: Fn() -> Fut,
    Fut: Future<Output = Arc<dyn Ledger>>,
{
    let ledger = open().await;
    let ledger = ledger.as_ref();
    record_a_life(ledger).await;
    keep_stronger_facts(ledger).await;
    recognize_repetitions(ledger).await;
    honor_idempotency_keys(ledger).await;
    give_leases(ledger).await;
    count_calls(ledger).await;
    count_money(ledger).await;
    refuse_above_limits(ledger).await;
    look_up_without_writing(ledger).await;
    redeem_tokens_once(ledger).await;
    list_pages(ledger).await;
    outlive_a_process(&open).await;
    begin_one_of_identical_orders(&open).await;
    hold_limits_concurrently(&open).await;
    give_a_lease_to_one(&open).await;
    name_similar_calls(ledger).await;
    release_unknown_calls(ledger).await;
    limit_each_caller(ledger).await;
    remember_accounts_of_keys(ledger).await;
    batch_conformance::test_batches(&open).await;
    opt_out_conformance::test_opt_outs(&open).await;
    assert_eq!(ledger.secret().await.unwrap(), open().await.secret().await.unwrap());
    assert_ne!(ledger.secret().await.unwrap(), LedgerSecret::new([0; 32]));
}

/// The same agent and number with other arguments conflict within the window, whatever became of the first.
async fn name_similar_calls(ledger: &dyn Ledger) {
    let account = account();
    let begin = |intent, constraints| ledger.begin(intent, constraints);
    let words = |account: &AccountRef, to, text| {
        let agent_id = Some("agt_1".to_owned());
        NewIntent { agent_id, ..intent(account, to, text) }
    };
    let other = || words(&account, 100, "other words");
    let first = begun(ledger, words(&account, 100, "words"), constraints(noon())).await;
    let similar = |record: &DispatchRecord| {
        BeginResult::Earlier(EarlierDispatch::SimilarCall(record.clone()))
    };
    let later = noon() + minutes(9);
    assert_eq!(begin(other(), constraints(later)).await.unwrap(), similar(&first));
    let unknown =
        ledger.record_unknown(account.id(), first.dispatch_id, noon().into(), false).await.unwrap();
    assert_eq!(begin(other(), constraints(later)).await.unwrap(), similar(&unknown));
    let lookup = DispatchLookup::from_intent(&other(), &constraints(later));
    let found = ledger.find_earlier(lookup).await.unwrap();
    assert_eq!(found, Some(EarlierDispatch::SimilarCall(unknown)));
    let placed = ledger.record_placed(account.id(), first.dispatch_id, "call_first").await.unwrap();
    assert_eq!(begin(other(), constraints(later)).await.unwrap(), similar(&placed));
    // Another agent, another number, another account, on purpose, and after the window: all begin.
    let agent =
        NewIntent { agent_id: Some("agt_2".to_owned()), ..words(&account, 100, "more words") };
    begun(ledger, agent, constraints(later)).await;
    begun(ledger, words(&account, 101, "other words"), constraints(later)).await;
    begun(ledger, words(&self::account(), 100, "other words"), constraints(later)).await;
    let on_purpose = BeginConstraints { allow_repeat: true, ..constraints(later) };
    let second = begun(ledger, words(&account, 100, "on purpose"), on_purpose).await;
    // The newest is named, and one that was not placed blocks nothing.
    assert_eq!(begin(other(), constraints(later)).await.unwrap(), similar(&second));
    ledger.record_not_placed(account.id(), second.dispatch_id, "refused").await.unwrap();
    assert_eq!(begin(other(), constraints(later)).await.unwrap(), similar(&placed));
    begun(ledger, other(), constraints(noon() + minutes(10))).await;
}

/// A call with an unknown result counts as in progress for ten minutes after a complete search.
async fn release_unknown_calls(ledger: &dyn Ledger) {
    let (account, caller) = (account(), CallerName::local());
    let limits = CallLimits { concurrent: Some(2), ..CallLimits::default() };
    let usage = async |now| {
        let usage = ledger
            .measure_usage(account.id(), &caller, None, &limits, MilliCents::ZERO, now)
            .await
            .unwrap();
        (usage.concurrent, usage.unknown, usage.concurrent_frees_at)
    };
    let mut records = Vec::new();
    for number in 0..3 {
        let record = begun(ledger, intent(&account, number, "x"), constraints(noon())).await;
        records.push(record.dispatch_id);
    }
    let record_unknown = async |index: usize, now: Timestamp, is_absent| {
        ledger.record_unknown(account.id(), records[index], now.into(), is_absent).await.unwrap()
    };
    ledger.record_placed(account.id(), records[0], "call_running").await.unwrap();
    assert_eq!(usage(noon() + minutes(1)).await, (3, 0, None), "running calls have no known end");
    record_unknown(1, noon() + minutes(1), false).await;
    let searched = record_unknown(2, noon() + minutes(1), true).await;
    let absent_since = Some(noon() + minutes(1));
    assert_eq!(searched.state, DispatchState::Unknown { absent_since });
    // Two of the three must stop counting.
    assert_eq!(usage(noon() + minutes(2)).await, (3, 2, Some(noon() + MAX_CALL_DURATION)));
    record_unknown(1, noon() + minutes(3), true).await;
    let second = noon() + minutes(3) + MAX_UNKNOWN_AFTER_SEARCH;
    assert_eq!(usage(noon() + minutes(4)).await, (3, 2, Some(second)));
    // A later search does not prolong it.
    record_unknown(2, noon() + minutes(5), true).await;
    record_unknown(2, noon() + minutes(6), false).await;
    let first = noon() + minutes(1) + MAX_UNKNOWN_AFTER_SEARCH;
    let just = SignedDuration::from_millis(1);
    assert_eq!(usage(first - just).await, (3, 2, Some(second)));
    assert_eq!(usage(first).await, (2, 1, Some(second)));
    assert_eq!(usage(second).await, (1, 0, None));
    let full = CallLimits { concurrent: Some(2), ..CallLimits::default() };
    let now = noon() + minutes(8);
    let refused = ledger
        .begin(intent(&account, 9, "x"), BeginConstraints { limits: full, ..constraints(now) })
        .await;
    let reached = LimitReached { limit: Limit::Concurrent, until: Some(second), unknown: 2 };
    assert_eq!(refused.unwrap(), BeginResult::LimitReached(reached));
    // The record keeps blocking an identical order all the same.
    let identical = ledger.begin(intent(&account, 2, "x"), constraints(second)).await.unwrap();
    assert!(matches!(identical, BeginResult::Earlier(EarlierDispatch::Unresolved(_))));
}

async fn limit_each_caller(ledger: &dyn Ledger) {
    let none = CallerLimits::default();
    let money = Some(MilliCents::from_cents(599));
    for (per_caller, limit, until) in [
        (CallerLimits { per_hour: Some(1), ..none }, Limit::CallerPerHour, Some(noon() + HOUR)),
        (CallerLimits { per_day: Some(1), ..none }, Limit::CallerPerDay, Some(noon() + DAY)),
        (CallerLimits { concurrent: Some(1), ..none }, Limit::CallerConcurrent, None),
        (
            CallerLimits { spend_per_day: money, ..none },
            Limit::CallerSpendPerDay,
            Some(noon() + DAY),
        ),
    ] {
        let account = account();
        let limits = CallLimits { per_caller, ..CallLimits::default() };
        let begin = async |to, caller: &str| {
            let caller = CallerName::from_token_name(caller);
            let intent = NewIntent { caller, ..intent(&account, to, "each") };
            ledger.begin(intent, BeginConstraints { limits, ..constraints(noon()) }).await.unwrap()
        };
        assert!(matches!(begin(1, "a").await, BeginResult::Begun(_)));
        let reached = BeginResult::LimitReached(LimitReached { limit, until, unknown: 0 });
        assert_eq!(begin(2, "a").await, reached, "{limit}");
        // Another caller is not affected; the name of one is not the prefix of another.
        assert!(matches!(begin(2, "b").await, BeginResult::Begun(_)), "{limit}");
        assert!(matches!(begin(3, "a:calls").await, BeginResult::Begun(_)), "{limit}");
        let filter = RecordFilter {
            account_id: Some(account.id().clone()),
            caller: Some(CallerName::from_token_name("a")),
            limit: 10,
            ..RecordFilter::default()
        };
        assert_eq!(ledger.list_records(filter).await.unwrap().len(), 1);
    }
}

async fn remember_accounts_of_keys(ledger: &dyn Ledger) {
    let (account, secret) = (account(), ledger.secret().await.unwrap());
    let key =
        |key: String| KeyRef::new(ApiKey::new(key).unwrap(), &BaseUrl::default()).hash(&secret);
    let (first, second) = (DispatchId::new().to_string(), DispatchId::new().to_string());
    let (first, second) = (key(format!("sk_{first}")), key(format!("sk_{second}")));
    assert_eq!(ledger.find_account_of_key(&first).await.unwrap(), None);
    for key in [&first, &second, &first] {
        ledger.record_account_of_key(key, account.id()).await.unwrap();
        let found = ledger.find_account_of_key(key).await.unwrap();
        assert_eq!(found.as_ref(), Some(account.id()));
    }
}

async fn record_a_life(ledger: &dyn Ledger) {
    let account = account();
    let asked = with_key(intent(&account, 100, "hello"), "key-1");
    let record = begun(ledger, asked.clone(), constraints(noon())).await;
    assert_eq!(
        record,
        DispatchRecord {
            dispatch_id: asked.dispatch_id,
            kind: OrderKind::Call,
            account_id: account.id().clone(),
            caller: CallerName::local(),
            fingerprint: asked.fingerprint,
            arguments: asked.arguments,
            idempotency_key: asked.idempotency_key,
            callee: Some(Callee {
                masked: "+141******00".into(),
                hash: account.hash(&number(100))
            }),
            agent_id: Some("agt_hello".into()),
            rule: "default".into(),
            confirmed_by: ConfirmedBy::User,
            created_at: noon(),
            written_at: noon(),
            lease_expires_at: noon() + minutes(2),
            generation: 1,
            hold: MilliCents(300_000),
            attempt: None,
            is_result_read: false,
            state: DispatchState::Intent,
        }
    );
    let find = || async { ledger.find(account.id(), record.dispatch_id).await.unwrap().unwrap() };
    assert_eq!(find().await, record);
    assert_eq!(ledger.list_unresolved(account.id()).await.unwrap(), std::slice::from_ref(&record));
    let hash = account.hash(&number(100));
    assert!(!ledger.is_known_destination(account.id(), &hash).await.unwrap());

    let placed =
        DispatchRecord { state: DispatchState::Placed { id: "call_1".into() }, ..record.clone() };
    assert_eq!(
        ledger.record_placed(account.id(), record.dispatch_id, "call_1").await.unwrap(),
        placed
    );
    assert_eq!(find().await, placed);
    assert_eq!(ledger.list_unresolved(account.id()).await.unwrap(), []);
    assert!(ledger.is_known_destination(account.id(), &hash).await.unwrap());
    assert_eq!(ledger.find_by_remote_id(account.id(), "call_1").await.unwrap(), Some(placed));

    let ended = |outcome, cost| {
        let state = DispatchState::Finished { id: "call_1".into(), outcome, cost };
        Some(DispatchRecord { state, is_result_read: true, ..record.clone() })
    };
    let cost = Some(MilliCents(7_500));
    let finish = |outcome, cost| {
        ledger.record_end(account.id(), "call_1", CallEnd { outcome, cost, is_result_final: true })
    };
    assert_eq!(
        finish(CallOutcome::Completed, None).await.unwrap(),
        ended(CallOutcome::Completed, None)
    );
    assert_eq!(
        finish(CallOutcome::Completed, cost).await.unwrap(),
        ended(CallOutcome::Completed, cost)
    );
    assert_eq!(
        finish(CallOutcome::Voicemail, None).await.unwrap(),
        ended(CallOutcome::Voicemail, cost)
    );
    assert_eq!(Some(find().await), ended(CallOutcome::Voicemail, cost));

    assert_eq!(
        ledger
            .record_end(
                account.id(),
                "call_2",
                CallEnd { outcome: CallOutcome::Busy, cost: None, is_result_final: true }
            )
            .await
            .unwrap(),
        None
    );
    assert_eq!(ledger.find_by_remote_id(account.id(), "call_2").await.unwrap(), None);
    let stranger = self::account();
    assert_eq!(ledger.find_by_remote_id(stranger.id(), "call_1").await.unwrap(), None);
    assert_eq!(ledger.find(stranger.id(), record.dispatch_id).await.unwrap(), None);
    let error =
        ledger.record_placed(stranger.id(), record.dispatch_id, "call_1").await.unwrap_err();
    assert!(matches!(error, LedgerError::NoSuchDispatch(id) if id == record.dispatch_id));
}

async fn keep_stronger_facts(ledger: &dyn Ledger) {
    let account = account();
    let id = begun(ledger, intent(&account, 100, "x"), constraints(noon())).await.dispatch_id;
    let unknown = || ledger.record_unknown(account.id(), id, noon().into(), false);
    let not_placed = |reason| ledger.record_not_placed(account.id(), id, reason);
    let placed = |call| ledger.record_placed(account.id(), id, call);
    let refused = DispatchState::NotPlaced { reason: "refused".into() };
    assert_eq!(unknown().await.unwrap().state, DispatchState::Unknown { absent_since: None });
    assert_eq!(not_placed("refused\n").await.unwrap().state, refused);
    assert_eq!(unknown().await.unwrap().state, refused);
    assert_eq!(not_placed("again").await.unwrap().state, refused);
    // Evidence of a call outweighs the belief that there was none.
    let called = DispatchState::Placed { id: "call_w".into() };
    assert_eq!(placed("call_w").await.unwrap().state, called);
    for after in [unknown().await, not_placed("no").await, placed("call_w").await] {
        assert_eq!(after.unwrap().state, called);
    }
    let twice = placed("call_x").await.unwrap_err();
    assert!(matches!(twice, LedgerError::PlacedTwice { recorded, .. } if recorded == "call_w"));
    let later = constraints(noon() + minutes(1));
    let long = begun(ledger, intent(&account, 100, "long"), later).await.dispatch_id;
    let kept =
        ledger.record_not_placed(account.id(), long, &"é".repeat(1_000)).await.unwrap().state;
    let reason = format!("{}…", "é".repeat(MAX_REASON - 1));
    assert_eq!(kept, DispatchState::NotPlaced { reason });
    // Two dispatches of one call, as an API that folds repetitions would answer: the id is kept twice.
    ledger.record_placed(account.id(), long, "call_w").await.unwrap();
    let found = ledger.find_by_remote_id(account.id(), "call_w").await.unwrap();
    assert_eq!(found.map(|record| record.dispatch_id), Some(long));
}

async fn recognize_repetitions(ledger: &dyn Ledger) {
    let account = account();
    let ask = |at| ledger.begin(intent(&account, 100, "same"), constraints(at));
    let again = |at| {
        ledger.begin(
            intent(&account, 100, "same"),
            BeginConstraints { allow_repeat: true, ..constraints(at) },
        )
    };
    let first = begun(ledger, intent(&account, 100, "same"), constraints(noon())).await;
    assert_eq!(
        ask(noon()).await.unwrap(),
        BeginResult::Earlier(EarlierDispatch::InFlight(first.clone()))
    );
    assert_eq!(
        again(noon()).await.unwrap(),
        BeginResult::Earlier(EarlierDispatch::InFlight(first.clone()))
    );
    // Its process has died: it blocks at any age, and even if a repetition is wanted.
    assert_eq!(
        ask(noon() + minutes(2)).await.unwrap(),
        BeginResult::Earlier(EarlierDispatch::Unresolved(first.clone()))
    );
    assert_eq!(
        again(noon() + minutes(50_000)).await.unwrap(),
        BeginResult::Earlier(EarlierDispatch::Unresolved(first.clone()))
    );
    // An unknown one has no lease from the start.
    let first =
        ledger.record_unknown(account.id(), first.dispatch_id, noon().into(), false).await.unwrap();
    assert_eq!(
        ask(noon()).await.unwrap(),
        BeginResult::Earlier(EarlierDispatch::Unresolved(first.clone()))
    );
    let first = ledger.record_placed(account.id(), first.dispatch_id, "call_r").await.unwrap();
    assert_eq!(
        ask(noon() + minutes(9)).await.unwrap(),
        BeginResult::Earlier(EarlierDispatch::Duplicate(first.clone()))
    );
    let first = ledger
        .record_end(
            account.id(),
            "call_r",
            CallEnd { outcome: CallOutcome::NoAnswer, cost: None, is_result_final: true },
        )
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        ask(noon() + minutes(9)).await.unwrap(),
        BeginResult::Earlier(EarlierDispatch::Duplicate(first))
    );
    // Another request, another account, after the window, on purpose: all begin.
    begun(ledger, intent(&account, 100, "other"), constraints(noon())).await;
    begun(ledger, intent(&self::account(), 100, "same"), constraints(noon())).await;
    let BeginResult::Begun(second) = again(noon() + minutes(9)).await.unwrap() else { panic!() };
    ledger.record_not_placed(account.id(), second.dispatch_id, "refused").await.unwrap();
    // An order that was not placed blocks nothing. The end of the window is not part of it.
    let BeginResult::Begun(third) = ask(noon() + minutes(10)).await.unwrap() else { panic!() };
    let third = ledger.record_placed(account.id(), third.dispatch_id, "call_s").await.unwrap();
    assert_eq!(
        ask(noon() + minutes(19)).await.unwrap(),
        BeginResult::Earlier(EarlierDispatch::Duplicate(third))
    );
    assert!(matches!(ask(noon() + minutes(20)).await.unwrap(), BeginResult::Begun(_)));
}

async fn honor_idempotency_keys(ledger: &dyn Ledger) {
    let account = account();
    let ask = |text, at| {
        let constraints = BeginConstraints { allow_repeat: true, ..constraints(at) };
        ledger.begin(with_key(intent(&account, 100, text), "key"), constraints)
    };
    let BeginResult::Begun(first) = ask("one", noon()).await.unwrap() else { panic!() };
    assert_eq!(
        ask("one", noon()).await.unwrap(),
        BeginResult::Earlier(EarlierDispatch::InFlight(first.clone()))
    );
    assert_eq!(
        ask("two", noon()).await.unwrap(),
        BeginResult::Earlier(EarlierDispatch::KeyConflict(first.clone()))
    );
    let refused =
        ledger.record_not_placed(account.id(), first.dispatch_id, "refused").await.unwrap();
    assert_eq!(
        ask("two", noon()).await.unwrap(),
        BeginResult::Earlier(EarlierDispatch::KeyConflict(refused))
    );
    let BeginResult::Begun(next) = ask("one", noon() + minutes(1)).await.unwrap() else { panic!() };
    let next = ledger.record_placed(account.id(), next.dispatch_id, "call_k").await.unwrap();
    // The key overrules `allow_repeat`, and for longer than the window.
    let later = noon() + minutes(24 * 60);
    assert_eq!(
        ask("one", later).await.unwrap(),
        BeginResult::Earlier(EarlierDispatch::Duplicate(next.clone()))
    );
    assert_eq!(
        ask("two", later).await.unwrap(),
        BeginResult::Earlier(EarlierDispatch::KeyConflict(next))
    );
    assert!(matches!(ask("two", later + minutes(1)).await.unwrap(), BeginResult::Begun(_)));
    // Another account's key is another key.
    let stranger = self::account();
    begun(ledger, with_key(intent(&stranger, 100, "one"), "key"), constraints(noon())).await;
}

async fn give_leases(ledger: &dyn Ledger) {
    let account = account();
    let first = begun(ledger, intent(&account, 100, "x"), constraints(noon())).await;
    let id = first.dispatch_id;
    let renew = |generation, until: Timestamp| {
        ledger.renew_lease(account.id(), id, generation, until.into(), until)
    };
    let take = |at| ledger.take_over(account.id(), id, at, at + minutes(2));
    assert_eq!(renew(1, noon() + minutes(3)).await.unwrap(), LeaseRenewal::Renewed);
    assert_eq!(take(noon() + minutes(2)).await.unwrap(), None);
    let taken = take(noon() + minutes(3)).await.unwrap();
    assert_eq!(
        taken,
        Some(DispatchRecord {
            generation: 2,
            lease_expires_at: noon() + minutes(5),
            ..first.clone()
        })
    );
    // The process whose lease expired may not go on; the new one may.
    assert_eq!(renew(1, noon() + minutes(9)).await.unwrap(), LeaseRenewal::Lost);
    assert_eq!(renew(2, noon() + minutes(6)).await.unwrap(), LeaseRenewal::Renewed);
    assert_eq!(take(noon() + minutes(5)).await.unwrap(), None);
    ledger.record_unknown(account.id(), id, (noon() + minutes(5)).into(), false).await.unwrap();
    let again = take(noon() + minutes(5)).await.unwrap().unwrap();
    assert_eq!((again.generation, again.state), (3, DispatchState::Unknown { absent_since: None }));
    ledger.record_placed(account.id(), id, "call_l").await.unwrap();
    assert_eq!(renew(3, noon() + minutes(9)).await.unwrap(), LeaseRenewal::Lost);
    assert_eq!(take(noon() + minutes(60)).await.unwrap(), None);
}

async fn count_calls(ledger: &dyn Ledger) {
    let account = account();
    let limits = CallLimits {
        per_hour: Some(2),
        per_day: Some(3),
        per_destination_per_hour: Some(1),
        per_destination_per_day: Some(9),
        ..CallLimits::default()
    };
    let (hash, caller) = (account.hash(&number(1)), CallerName::local());
    let usage = |at| {
        ledger.measure_usage(account.id(), &caller, Some(&hash), &limits, MilliCents::ZERO, at)
    };
    assert_eq!(usage(noon()).await.unwrap(), Usage::default());
    dialed(ledger, &account, 1, "a", noon()).await;
    dialed(ledger, &account, 2, "b", noon() + minutes(10)).await;
    dialed(ledger, &account, 2, "c", noon() + minutes(20)).await;
    let dead = begun(ledger, intent(&account, 1, "d"), constraints(noon() + minutes(21))).await;
    let refused = begun(ledger, intent(&account, 1, "e"), constraints(noon() + minutes(22))).await;
    ledger.record_not_placed(account.id(), refused.dispatch_id, "no").await.unwrap();
    dialed(ledger, &self::account(), 1, "f", noon() + minutes(22)).await;
    let used = |count, frees_at: Option<Timestamp>| WindowUsage { count, frees_at };
    let spent = MilliCents(4 * 300_000);
    assert_eq!(
        usage(noon() + minutes(22)).await.unwrap(),
        Usage {
            // Two must leave the hour before a limit of two has room: the second newest counts.
            hour: used(4, Some(noon() + minutes(20) + HOUR)),
            day: used(4, Some(noon() + minutes(10) + DAY)),
            destination_hour: used(2, Some(noon() + minutes(21) + HOUR)),
            destination_day: used(2, None),
            concurrent: 4,
            spent,
            ..Usage::default()
        }
    );
    // One hour after the first, to the millisecond, it has left; the dead intent is no call in progress.
    let after = usage(noon() + HOUR).await.unwrap();
    assert_eq!((after.hour.count, after.destination_hour.count, after.concurrent), (3, 1, 3));
    let just = usage(noon() + HOUR - SignedDuration::from_millis(1)).await.unwrap();
    assert_eq!((just.hour.count, just.destination_hour.count), (4, 2));
    // A call whose end was never learned frees its slot.
    let forgotten = usage(noon() + MAX_CALL_DURATION).await.unwrap();
    assert_eq!((forgotten.day.count, forgotten.concurrent), (4, 2));
    // One with an unknown result may be ringing, for as long as a call can last.
    ledger.record_unknown(account.id(), dead.dispatch_id, noon().into(), false).await.unwrap();
    assert_eq!(usage(noon() + HOUR).await.unwrap().concurrent, 4);
    assert_eq!(usage(noon() + MAX_CALL_DURATION + minutes(21)).await.unwrap().concurrent, 0);
    let end = usage(noon() + DAY + minutes(20)).await.unwrap();
    assert_eq!((end.day, end.spent), (used(1, None), MilliCents(300_000)));
    let no_destination = ledger
        .measure_usage(account.id(), &caller, None, &limits, MilliCents::ZERO, noon() + minutes(22))
        .await
        .unwrap();
    assert_eq!(
        (no_destination.destination_day, no_destination.day.count),
        (WindowUsage::default(), 4)
    );
}

async fn count_money(ledger: &dyn Ledger) {
    let account = account();
    let limits = CallLimits {
        spend_per_day: Some(MilliCents::from_cents(700)),
        purchases_per_day: Some(1),
        ..CallLimits::default()
    };
    let caller = CallerName::local();
    let usage = |hold| {
        ledger.measure_usage(
            account.id(),
            &caller,
            None,
            &limits,
            MilliCents::from_cents(hold),
            noon() + minutes(9),
        )
    };
    let first = dialed(ledger, &account, 1, "a", noon()).await;
    dialed(ledger, &account, 2, "b", noon() + minutes(1)).await;
    let mut purchase = intent(&account, 3, "c");
    purchase.kind = OrderKind::Purchase;
    purchase.callee = None;
    purchase.agent_id = None;
    purchase.hold = MilliCents::from_cents(100);
    let bought = begun(ledger, purchase, constraints(noon() + minutes(2))).await;
    ledger.record_placed(account.id(), bought.dispatch_id, "num_1").await.unwrap();
    let found = ledger.find_by_remote_id(account.id(), "num_1").await.unwrap().unwrap();
    assert_eq!((found.kind, found.callee, found.agent_id), (OrderKind::Purchase, None, None));
    for (hold, frees_at) in [
        (0, None),
        (300, Some(noon() + DAY)),
        (301, Some(noon() + minutes(1) + DAY)),
        (700, Some(noon() + minutes(2) + DAY)),
        (701, None),
    ] {
        let usage = usage(hold).await.unwrap();
        assert_eq!(usage.spent, MilliCents::from_cents(700));
        assert_eq!(usage.spend_frees_at, frees_at, "{hold}");
        // A purchase is no call.
        assert_eq!((usage.day.count, usage.concurrent), (2, 2));
        let frees_at = Some(noon() + minutes(2) + DAY);
        assert_eq!(usage.purchases, WindowUsage { count: 1, frees_at });
    }
    // The bill replaces the hold.
    let id = first.state.id().unwrap();
    ledger
        .record_end(
            account.id(),
            id,
            CallEnd {
                outcome: CallOutcome::Completed,
                cost: Some(MilliCents(7_500)),
                is_result_final: true,
            },
        )
        .await
        .unwrap();
    assert_eq!(usage(300).await.unwrap().spent, MilliCents(407_500));
    assert_eq!(usage(300).await.unwrap().spend_frees_at, Some(noon() + DAY));
    assert_eq!(usage(301).await.unwrap().spend_frees_at, Some(noon() + minutes(1) + DAY));
    assert_eq!(usage(290).await.unwrap().spend_frees_at, None);
}

async fn refuse_above_limits(ledger: &dyn Ledger) {
    let none = CallLimits::default();
    let after = noon() + minutes(5);
    let money = Some(MilliCents::from_cents(599));
    for (limits, to, reached) in [
        (CallLimits { per_hour: Some(1), ..none }, 2, Some((Limit::PerHour, Some(noon() + HOUR)))),
        (CallLimits { per_day: Some(1), ..none }, 2, Some((Limit::PerDay, Some(noon() + DAY)))),
        (
            CallLimits { per_hour: Some(1), per_day: Some(1), concurrent: Some(1), ..none },
            2,
            Some((Limit::PerDay, Some(noon() + DAY))),
        ),
        (
            CallLimits { per_destination_per_hour: Some(1), ..none },
            1,
            Some((Limit::PerDestinationPerHour, Some(noon() + HOUR))),
        ),
        (
            CallLimits { per_destination_per_day: Some(1), ..none },
            1,
            Some((Limit::PerDestinationPerDay, Some(noon() + DAY))),
        ),
        (CallLimits { per_destination_per_day: Some(1), ..none }, 2, None),
        (CallLimits { concurrent: Some(1), ..none }, 2, Some((Limit::Concurrent, None))),
        (
            CallLimits { spend_per_day: money, ..none },
            2,
            Some((Limit::SpendPerDay, Some(noon() + DAY))),
        ),
        (CallLimits { per_hour: Some(0), ..none }, 2, Some((Limit::PerHour, None))),
        (CallLimits { per_hour: Some(2), per_day: Some(2), concurrent: Some(2), ..none }, 2, None),
    ] {
        let account = account();
        dialed(ledger, &account, 1, "first", noon()).await;
        let asked = intent(&account, to, "second");
        let answer = ledger
            .begin(asked.clone(), BeginConstraints { limits, ..constraints(after) })
            .await
            .unwrap();
        match reached {
            Some((limit, until)) => {
                assert_eq!(
                    answer,
                    BeginResult::LimitReached(LimitReached { limit, until, unknown: 0 }),
                    "{limits:?}"
                );
                assert_eq!(ledger.find(account.id(), asked.dispatch_id).await.unwrap(), None);
            }
            None => assert!(matches!(answer, BeginResult::Begun(_)), "{limits:?}: {answer:?}"),
        }
    }
}

/// A look-up finds what blocks an order, in the same order as beginning does, and writes nothing.
async fn look_up_without_writing(ledger: &dyn Ledger) {
    let account = account();
    let look = async |asked: NewIntent| {
        ledger
            .find_earlier(DispatchLookup::from_intent(&asked, &constraints(noon())))
            .await
            .unwrap()
    };
    let asked = || with_key(intent(&account, 1, "look"), "look");
    assert_eq!(look(asked()).await, None);
    let record = begun(ledger, asked(), constraints(noon())).await;
    assert_eq!(look(asked()).await, Some(EarlierDispatch::InFlight(record.clone())));
    let unknown = ledger
        .record_unknown(account.id(), record.dispatch_id, noon().into(), false)
        .await
        .unwrap();
    assert_eq!(look(asked()).await, Some(EarlierDispatch::Unresolved(unknown)));
    let placed = ledger.record_placed(account.id(), record.dispatch_id, "call_look").await.unwrap();
    assert_eq!(look(asked()).await, Some(EarlierDispatch::Duplicate(placed.clone())));
    let again = BeginConstraints { allow_repeat: true, ..constraints(noon()) };
    let unkeyed = intent(&account, 1, "look");
    assert_eq!(
        ledger.find_earlier(DispatchLookup::from_intent(&unkeyed, &again)).await.unwrap(),
        None
    );
    let other = with_key(intent(&account, 2, "other"), "look");
    assert_eq!(look(other).await, Some(EarlierDispatch::KeyConflict(placed.clone())));
    assert_eq!(look(intent(&account, 2, "other")).await, None);
    let listed = ledger.list_records(RecordFilter {
        account_id: Some(account.id().clone()),
        limit: 10,
        ..RecordFilter::default()
    });
    assert_eq!(listed.await.unwrap(), [placed], "looking wrote nothing");
}

async fn redeem_tokens_once(ledger: &dyn Ledger) {
    let (account, stranger) = (account(), account());
    let expiry = noon() + minutes(5);
    let redeem = |account: &AccountRef, token: &'static str, now| {
        let account = account.id().clone();
        async move { ledger.redeem_token(&account, token, expiry, now).await.unwrap() }
    };
    assert!(redeem(&account, "t1", noon()).await);
    assert!(!redeem(&account, "t1", noon()).await);
    assert!(!redeem(&account, "t1", noon() + minutes(4)).await);
    assert!(redeem(&account, "t2", noon() + minutes(4)).await);
    let is_redeemed = |account: &AccountRef, token: &'static str| {
        let account = account.id().clone();
        async move { ledger.is_token_redeemed(&account, token, noon() + minutes(4)).await.unwrap() }
    };
    assert!(is_redeemed(&account, "t1").await);
    assert!(!is_redeemed(&account, "t3").await && !is_redeemed(&stranger, "t1").await);
    assert!(redeem(&stranger, "t1", noon() + minutes(4)).await);
    assert!(!redeem(&account, "t3", expiry).await);
    // After the expiry, one that was purged cannot be used either.
    assert!(!redeem(&account, "t1", expiry + minutes(60)).await);
}

async fn list_pages(ledger: &dyn Ledger) {
    let account = account();
    let mut made = Vec::new();
    for n in 0..5 {
        // Two at each instant, so that time alone does not order them.
        let at = noon() + minutes(i64::from(n) / 2);
        made.push(dialed(ledger, &account, n, "list", at).await);
    }
    let busy = made[1].state.id().unwrap().to_owned();
    made[1] = ledger
        .record_end(
            account.id(),
            &busy,
            CallEnd { outcome: CallOutcome::Busy, cost: None, is_result_final: true },
        )
        .await
        .unwrap()
        .unwrap();
    made.sort_by_key(|record| std::cmp::Reverse(RecordCursor::from(record)));
    let filter = RecordFilter {
        account_id: Some(account.id().clone()),
        limit: 100,
        ..RecordFilter::default()
    };
    let list = |filter: &RecordFilter| ledger.list_records(filter.clone());
    assert_eq!(list(&filter).await.unwrap(), made);
    let (mut paged, mut page) = (Vec::new(), RecordFilter { limit: 2, ..filter.clone() });
    loop {
        let found = list(&page).await.unwrap();
        let Some(last) = found.last() else { break };
        page.before = Some(RecordCursor::from(last));
        paged.extend(found);
    }
    assert_eq!(paged, made);
    let since = RecordFilter { since: Some(noon() + minutes(2)), ..filter.clone() };
    assert_eq!(list(&since).await.unwrap(), made[..1]);
    let mut statuses = 0;
    for status in DispatchState::words() {
        let these = list(&RecordFilter { status: Some(status), ..filter.clone() }).await.unwrap();
        let such = made.iter().filter(|record| record.state.as_str() == status);
        assert_eq!(these, such.cloned().collect::<Vec<_>>(), "{status}");
        statuses += usize::from(!these.is_empty());
    }
    assert!(statuses >= 2, "{made:?}");
    let everyone = list(&RecordFilter { account_id: None, ..filter.clone() }).await.unwrap();
    assert!(made.iter().all(|record| everyone.contains(record)));
    assert!(
        everyone.len() > made.len()
            && everyone.is_sorted_by_key(|r| std::cmp::Reverse(RecordCursor::from(r)))
    );
    let stranger = RecordFilter { account_id: Some(self::account().id().clone()), ..filter };
    assert_eq!(list(&stranger).await.unwrap(), []);
}

async fn outlive_a_process<F, Fut>(open: &F)
where
    F: Fn() -> Fut,
    Fut: Future<Output = Arc<dyn Ledger>>,
{
    let account = account();
    let (dead, done) = {
        let ledger = open().await;
        let dead = begun(ledger.as_ref(), intent(&account, 1, "dead"), constraints(noon())).await;
        (dead, dialed(ledger.as_ref(), &account, 2, "done", noon()).await)
    };
    let ledger = open().await;
    let ask = |text, to, at| ledger.begin(intent(&account, to, text), constraints(at));
    assert_eq!(ledger.list_unresolved(account.id()).await.unwrap(), std::slice::from_ref(&dead));
    assert_eq!(
        ask("done", 2, noon()).await.unwrap(),
        BeginResult::Earlier(EarlierDispatch::Duplicate(done))
    );
    assert_eq!(
        ask("dead", 1, noon()).await.unwrap(),
        BeginResult::Earlier(EarlierDispatch::InFlight(dead.clone()))
    );
    let later = noon() + minutes(2);
    assert_eq!(
        ask("dead", 1, later).await.unwrap(),
        BeginResult::Earlier(EarlierDispatch::Unresolved(dead.clone()))
    );
    let taken = ledger.take_over(account.id(), dead.dispatch_id, later, later + minutes(2)).await;
    let taken = taken.unwrap().unwrap();
    assert_eq!(
        ask("dead", 1, later).await.unwrap(),
        BeginResult::Earlier(EarlierDispatch::InFlight(taken))
    );
    ledger.record_not_placed(account.id(), dead.dispatch_id, "searched for, absent").await.unwrap();
    assert!(matches!(ask("dead", 1, later).await.unwrap(), BeginResult::Begun(_)));
}

/// Runs `each` 32 times concurrently, over four handles.
pub(super) async fn concurrent<F, Fut, T, E>(
    open: &F,
    each: impl Fn(Arc<dyn Ledger>, u32) -> E,
) -> Vec<T>
where
    F: Fn() -> Fut,
    Fut: Future<Output = Arc<dyn Ledger>>,
    E: Future<Output = T> + Send + 'static,
    T: Send + 'static,
{
    let handles = [open().await, open().await, open().await, open().await];
    let tasks: Vec<_> = (0..32)
        .map(|n| tokio::spawn(each(Arc::clone(&handles[n as usize % handles.len()]), n)))
        .collect();
    futures::future::join_all(tasks).await.into_iter().map(Result::unwrap).collect()
}

async fn begin_one_of_identical_orders<F, Fut>(open: &F)
where
    F: Fn() -> Fut,
    Fut: Future<Output = Arc<dyn Ledger>>,
{
    let account = account();
    let answers = concurrent(open, |ledger, _| {
        let intent = intent(&account, 1, "same");
        async move { ledger.begin(intent, constraints(noon())).await.unwrap() }
    })
    .await;
    let first = answers.iter().find_map(|answer| match answer {
        BeginResult::Begun(record) => Some(record.clone()),
        _ => None,
    });
    let others = answers.into_iter().filter(|answer| !matches!(answer, BeginResult::Begun(_)));
    assert_eq!(
        others.collect::<Vec<_>>(),
        vec![BeginResult::Earlier(EarlierDispatch::InFlight(first.unwrap())); 31]
    );
}

async fn hold_limits_concurrently<F, Fut>(open: &F)
where
    F: Fn() -> Fut,
    Fut: Future<Output = Arc<dyn Ledger>>,
{
    for limits in [
        CallLimits { concurrent: Some(5), ..CallLimits::default() },
        CallLimits { per_hour: Some(5), ..CallLimits::default() },
        CallLimits { spend_per_day: Some(MilliCents::from_cents(1_799)), ..CallLimits::default() },
    ] {
        let account = account();
        let answers = concurrent(open, |ledger, n| {
            let intent = intent(&account, n, "each");
            async move {
                ledger
                    .begin(intent, BeginConstraints { limits, ..constraints(noon()) })
                    .await
                    .unwrap()
            }
        })
        .await;
        let begun = answers.iter().filter(|answer| matches!(answer, BeginResult::Begun(_))).count();
        let refused =
            answers.iter().filter(|answer| matches!(answer, BeginResult::LimitReached(_))).count();
        assert_eq!((begun, refused), (5, 27), "{limits:?}");
    }
}

async fn give_a_lease_to_one<F, Fut>(open: &F)
where
    F: Fn() -> Fut,
    Fut: Future<Output = Arc<dyn Ledger>>,
{
    let account = account();
    let ledger = open().await;
    let dead =
        begun(ledger.as_ref(), intent(&account, 1, "x"), constraints(noon())).await.dispatch_id;
    let later = noon() + minutes(2);
    let taken = concurrent(open, |ledger, _| {
        let account = account.id().clone();
        async move { ledger.take_over(&account, dead, later, later + minutes(2)).await.unwrap() }
    })
    .await;
    assert_eq!(taken.into_iter().flatten().map(|r| r.generation).collect::<Vec<_>>(), [2]);
    let token = concurrent(open, |ledger, _| {
        let account = account.id().clone();
        async move { ledger.redeem_token(&account, "t", later, noon()).await.unwrap() }
    })
    .await;
    assert_eq!(token.into_iter().filter(|won| *won).count(), 1);
}
