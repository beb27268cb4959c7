//! What every ledger must do, whatever it is kept in. Each implementation's tests run [`all`].

use std::future::Future;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use super::*;
use crate::dialing::call_outcome::CallOutcome;
use crate::dialing::limits::{
    DAY, HOUR, Limit, LimitReached, MAX_CALL_DURATION, OrderKind, WindowUsage,
};
use callingbox::E164;

/// Noon of some day; every test moves on from here.
pub(super) fn noon() -> Timestamp {
    "2026-03-01T12:00:00Z".parse().unwrap()
}

pub(super) fn minutes(minutes: i64) -> SignedDuration {
    SignedDuration::from_mins(minutes)
}

/// An account that no other test uses.
pub(super) fn account() -> AccountRef {
    AccountRef::new(DispatchId::new().to_string().as_bytes(), "https://api.example")
}

pub(super) fn number(last: u32) -> E164 {
    E164::parse(&format!("+1415555{last:04}")).unwrap()
}

/// An intent to call `to`, told apart from others to the same number by `instructions`.
pub(super) fn intent(account: &AccountRef, to: u32, instructions: &str) -> NewIntent {
    let to = number(to);
    let arguments = json!({"agent_id": "agt_1", "to": to.as_str(), "instructions": instructions});
    NewIntent {
        dispatch_id: DispatchId::new(),
        kind: OrderKind::Call,
        account_id: account.id().clone(),
        fingerprint: Fingerprint::new(account.id(), OrderKind::Call, &arguments),
        idempotency_key: None,
        callee: Some(Callee::new(account, &to)),
        agent_id: Some("agt_1".to_owned()),
        rule: "default".to_owned(),
        confirmed_by: ConfirmedBy::User,
        hold: MilliCents::from_cents(300),
    }
}

pub(super) fn keyed(mut intent: NewIntent, key: &str) -> NewIntent {
    intent.idempotency_key = Some(IdempotencyKey::parse(key).unwrap());
    intent
}

pub(super) fn terms(now: Timestamp) -> BeginConstraints {
    BeginConstraints {
        now,
        lease_expires_at: now + minutes(2),
        repeats_since: now - minutes(10),
        allow_repeat: false,
        limits: CallLimits::default(),
    }
}

async fn begun(ledger: &dyn Ledger, intent: NewIntent, terms: BeginConstraints) -> DispatchRecord {
    match ledger.begin(intent, terms).await.unwrap() {
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
    let mut terms = terms(at);
    terms.allow_repeat = true;
    let record = begun(ledger, intent(account, to, text), terms).await;
    let id = format!("call_{}", record.dispatch_id);
    ledger.record_placed(account.id(), record.dispatch_id, &id).await.unwrap()
}

/// Runs everything. `open` opens one more handle on the same ledger, as another process would.
pub(super) async fn all<F, Fut>(open: F)
where
    F: Fn() -> Fut,
    Fut: Future<Output = Arc<dyn Ledger>>,
{
    let ledger = open().await;
    let ledger = ledger.as_ref();
    a_life(ledger).await;
    weaker_facts_never_replace_stronger_ones(ledger).await;
    repetitions(ledger).await;
    idempotency_keys(ledger).await;
    leases(ledger).await;
    counting(ledger).await;
    spending(ledger).await;
    limits_refuse(ledger).await;
    looking(ledger).await;
    tokens(ledger).await;
    listing(ledger).await;
    outlives_its_process(&open).await;
    identical_requests_at_one_instant(&open).await;
    limits_at_one_instant(&open).await;
    one_takes_over(&open).await;
    assert_eq!(ledger.secret().await.unwrap(), open().await.secret().await.unwrap());
    assert_ne!(ledger.secret().await.unwrap(), [0; 32]);
}

async fn a_life(ledger: &dyn Ledger) {
    let account = account();
    let asked = keyed(intent(&account, 100, "hello"), "key-1");
    let record = begun(ledger, asked.clone(), terms(noon())).await;
    assert_eq!(
        record,
        DispatchRecord {
            dispatch_id: asked.dispatch_id,
            kind: OrderKind::Call,
            account_id: account.id().clone(),
            fingerprint: asked.fingerprint,
            idempotency_key: asked.idempotency_key,
            callee: Some(Callee {
                masked: "+141******00".into(),
                hash: account.hash(&number(100))
            }),
            agent_id: Some("agt_1".into()),
            rule: "default".into(),
            confirmed_by: ConfirmedBy::User,
            created_at: noon(),
            lease_expires_at: noon() + minutes(2),
            generation: 1,
            hold: MilliCents(300_000),
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
        Some(DispatchRecord { state, ..record.clone() })
    };
    let cost = Some(MilliCents(7_500));
    let finish =
        |outcome, cost| ledger.record_end(account.id(), "call_1", CallEnd { outcome, cost });
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
            .record_end(account.id(), "call_2", CallEnd { outcome: CallOutcome::Busy, cost: None })
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

async fn weaker_facts_never_replace_stronger_ones(ledger: &dyn Ledger) {
    let account = account();
    let id = begun(ledger, intent(&account, 100, "x"), terms(noon())).await.dispatch_id;
    let unknown = || ledger.record_unknown(account.id(), id, noon());
    let not_placed = |reason| ledger.record_not_placed(account.id(), id, reason);
    let placed = |call| ledger.record_placed(account.id(), id, call);
    let refused = DispatchState::NotPlaced { reason: "refused ".into() };
    assert_eq!(unknown().await.unwrap().state, DispatchState::Unknown);
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
    let later = terms(noon() + minutes(1));
    let long = begun(ledger, intent(&account, 100, "long"), later).await.dispatch_id;
    let kept =
        ledger.record_not_placed(account.id(), long, &"é".repeat(1_000)).await.unwrap().state;
    assert_eq!(kept, DispatchState::NotPlaced { reason: "é".repeat(MAX_REASON) });
    // Two dispatches of one call, as an API that folds repetitions would answer: the id is kept twice.
    ledger.record_placed(account.id(), long, "call_w").await.unwrap();
    let found = ledger.find_by_remote_id(account.id(), "call_w").await.unwrap();
    assert_eq!(found.map(|record| record.dispatch_id), Some(long));
}

async fn repetitions(ledger: &dyn Ledger) {
    let account = account();
    let ask = |at| ledger.begin(intent(&account, 100, "same"), terms(at));
    let again = |at| {
        ledger.begin(
            intent(&account, 100, "same"),
            BeginConstraints { allow_repeat: true, ..terms(at) },
        )
    };
    let first = begun(ledger, intent(&account, 100, "same"), terms(noon())).await;
    assert_eq!(
        ask(noon()).await.unwrap(),
        BeginResult::Earlier(EarlierDispatch::InFlight(first.clone()))
    );
    assert_eq!(
        again(noon()).await.unwrap(),
        BeginResult::Earlier(EarlierDispatch::InFlight(first.clone()))
    );
    // The owner has died: of any age, and even if a repetition is wanted.
    assert_eq!(
        ask(noon() + minutes(2)).await.unwrap(),
        BeginResult::Earlier(EarlierDispatch::Unresolved(first.clone()))
    );
    assert_eq!(
        again(noon() + minutes(50_000)).await.unwrap(),
        BeginResult::Earlier(EarlierDispatch::Unresolved(first.clone()))
    );
    // An unknown one has no owner from the start.
    let first = ledger.record_unknown(account.id(), first.dispatch_id, noon()).await.unwrap();
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
        .record_end(account.id(), "call_r", CallEnd { outcome: CallOutcome::NoAnswer, cost: None })
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        ask(noon() + minutes(9)).await.unwrap(),
        BeginResult::Earlier(EarlierDispatch::Duplicate(first))
    );
    // Another request, another account, after the window, on purpose: all begin.
    begun(ledger, intent(&account, 100, "other"), terms(noon())).await;
    begun(ledger, intent(&self::account(), 100, "same"), terms(noon())).await;
    let BeginResult::Begun(second) = again(noon() + minutes(9)).await.unwrap() else { panic!() };
    ledger.record_not_placed(account.id(), second.dispatch_id, "refused").await.unwrap();
    // What was not placed stands in nobody's way; the window ends exactly where it ends.
    let BeginResult::Begun(third) = ask(noon() + minutes(10)).await.unwrap() else { panic!() };
    let third = ledger.record_placed(account.id(), third.dispatch_id, "call_s").await.unwrap();
    assert_eq!(
        ask(noon() + minutes(19)).await.unwrap(),
        BeginResult::Earlier(EarlierDispatch::Duplicate(third))
    );
    assert!(matches!(ask(noon() + minutes(20)).await.unwrap(), BeginResult::Begun(_)));
}

async fn idempotency_keys(ledger: &dyn Ledger) {
    let account = account();
    let ask = |text, at| {
        let terms = BeginConstraints { allow_repeat: true, ..terms(at) };
        ledger.begin(keyed(intent(&account, 100, text), "key"), terms)
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
    // The key speaks louder than `allow_repeat`, and for longer than the window.
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
    begun(ledger, keyed(intent(&stranger, 100, "one"), "key"), terms(noon())).await;
}

async fn leases(ledger: &dyn Ledger) {
    let account = account();
    let first = begun(ledger, intent(&account, 100, "x"), terms(noon())).await;
    let id = first.dispatch_id;
    let renew = |generation, until| ledger.renew_lease(account.id(), id, generation, until);
    let take = |at| ledger.take_over(account.id(), id, at, at + minutes(2));
    assert!(renew(1, noon() + minutes(3)).await.unwrap());
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
    // The one who was away too long may not go on; the new one may.
    assert!(!renew(1, noon() + minutes(9)).await.unwrap());
    assert!(renew(2, noon() + minutes(6)).await.unwrap());
    assert_eq!(take(noon() + minutes(5)).await.unwrap(), None);
    ledger.record_unknown(account.id(), id, noon() + minutes(5)).await.unwrap();
    let again = take(noon() + minutes(5)).await.unwrap().unwrap();
    assert_eq!((again.generation, again.state), (3, DispatchState::Unknown));
    ledger.record_placed(account.id(), id, "call_l").await.unwrap();
    assert!(!renew(3, noon() + minutes(9)).await.unwrap());
    assert_eq!(take(noon() + minutes(60)).await.unwrap(), None);
}

async fn counting(ledger: &dyn Ledger) {
    let account = account();
    let limits = CallLimits {
        per_hour: Some(2),
        per_day: Some(3),
        per_destination_per_hour: Some(1),
        per_destination_per_day: Some(9),
        ..CallLimits::default()
    };
    let hash = account.hash(&number(1));
    let usage = |at| ledger.measure_usage(account.id(), Some(&hash), &limits, MilliCents::ZERO, at);
    assert_eq!(usage(noon()).await.unwrap(), Usage::default());
    dialed(ledger, &account, 1, "a", noon()).await;
    dialed(ledger, &account, 2, "b", noon() + minutes(10)).await;
    dialed(ledger, &account, 2, "c", noon() + minutes(20)).await;
    let dead = begun(ledger, intent(&account, 1, "d"), terms(noon() + minutes(21))).await;
    let refused = begun(ledger, intent(&account, 1, "e"), terms(noon() + minutes(22))).await;
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
            spend_frees_at: None,
            purchases: used(0, None),
        }
    );
    // One hour after the first, to the millisecond, it has left; the dead intent is no call in progress.
    let after = usage(noon() + HOUR).await.unwrap();
    assert_eq!((after.hour.count, after.destination_hour.count, after.concurrent), (3, 1, 3));
    let just = usage(noon() + HOUR - SignedDuration::from_millis(1)).await.unwrap();
    assert_eq!((just.hour.count, just.destination_hour.count), (4, 2));
    // A call whose end was never learned lets go of its slot.
    let forgotten = usage(noon() + MAX_CALL_DURATION).await.unwrap();
    assert_eq!((forgotten.day.count, forgotten.concurrent), (4, 2));
    // One of which nobody knows may be ringing, for as long as a call can last.
    ledger.record_unknown(account.id(), dead.dispatch_id, noon()).await.unwrap();
    assert_eq!(usage(noon() + HOUR).await.unwrap().concurrent, 4);
    assert_eq!(usage(noon() + MAX_CALL_DURATION + minutes(21)).await.unwrap().concurrent, 0);
    let end = usage(noon() + DAY + minutes(20)).await.unwrap();
    assert_eq!((end.day, end.spent), (used(1, None), MilliCents(300_000)));
    let nobody = ledger
        .measure_usage(account.id(), None, &limits, MilliCents::ZERO, noon() + minutes(22))
        .await
        .unwrap();
    assert_eq!((nobody.destination_day, nobody.day.count), (WindowUsage::default(), 4));
}

async fn spending(ledger: &dyn Ledger) {
    let account = account();
    let limits = CallLimits {
        spend_per_day: Some(MilliCents::from_cents(700)),
        purchases_per_day: Some(1),
        ..CallLimits::default()
    };
    let usage = |hold| {
        ledger.measure_usage(
            account.id(),
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
    let bought = begun(ledger, purchase, terms(noon() + minutes(2))).await;
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
            CallEnd { outcome: CallOutcome::Completed, cost: Some(MilliCents(7_500)) },
        )
        .await
        .unwrap();
    assert_eq!(usage(300).await.unwrap().spent, MilliCents(407_500));
    assert_eq!(usage(300).await.unwrap().spend_frees_at, Some(noon() + DAY));
    assert_eq!(usage(301).await.unwrap().spend_frees_at, Some(noon() + minutes(1) + DAY));
    assert_eq!(usage(290).await.unwrap().spend_frees_at, None);
}

async fn limits_refuse(ledger: &dyn Ledger) {
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
        let answer =
            ledger.begin(asked.clone(), BeginConstraints { limits, ..terms(after) }).await.unwrap();
        match reached {
            Some((limit, until)) => {
                assert_eq!(
                    answer,
                    BeginResult::LimitReached(LimitReached { limit, until }),
                    "{limits:?}"
                );
                assert_eq!(ledger.find(account.id(), asked.dispatch_id).await.unwrap(), None);
            }
            None => assert!(matches!(answer, BeginResult::Begun(_)), "{limits:?}: {answer:?}"),
        }
    }
}

/// A look finds what stands in the way, in the same order as beginning does, and begins nothing.
async fn looking(ledger: &dyn Ledger) {
    let account = account();
    let look = async |asked: NewIntent| {
        ledger.find_earlier(DispatchLookup::from_intent(&asked, &terms(noon()))).await.unwrap()
    };
    let asked = || keyed(intent(&account, 1, "look"), "look");
    assert_eq!(look(asked()).await, None);
    let record = begun(ledger, asked(), terms(noon())).await;
    assert_eq!(look(asked()).await, Some(EarlierDispatch::InFlight(record.clone())));
    let unknown = ledger.record_unknown(account.id(), record.dispatch_id, noon()).await.unwrap();
    assert_eq!(look(asked()).await, Some(EarlierDispatch::Unresolved(unknown)));
    let placed = ledger.record_placed(account.id(), record.dispatch_id, "call_look").await.unwrap();
    assert_eq!(look(asked()).await, Some(EarlierDispatch::Duplicate(placed.clone())));
    let again = BeginConstraints { allow_repeat: true, ..terms(noon()) };
    let unkeyed = intent(&account, 1, "look");
    assert_eq!(
        ledger.find_earlier(DispatchLookup::from_intent(&unkeyed, &again)).await.unwrap(),
        None
    );
    let other = keyed(intent(&account, 2, "other"), "look");
    assert_eq!(look(other).await, Some(EarlierDispatch::KeyConflict(placed.clone())));
    assert_eq!(look(intent(&account, 2, "other")).await, None);
    let listed = ledger.list_records(RecordFilter {
        account_id: Some(account.id().clone()),
        since: None,
        status: None,
        before: None,
        limit: 10,
    });
    assert_eq!(listed.await.unwrap(), [placed], "looking wrote nothing");
}

async fn tokens(ledger: &dyn Ledger) {
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
    assert!(redeem(&stranger, "t1", noon() + minutes(4)).await);
    assert!(!redeem(&account, "t3", expiry).await);
    // Whoever comes after the expiry cannot use one that was purged either.
    assert!(!redeem(&account, "t1", expiry + minutes(60)).await);
}

async fn listing(ledger: &dyn Ledger) {
    let account = account();
    let mut made = Vec::new();
    for n in 0..5 {
        // Two at each instant, so that time alone does not order them.
        let at = noon() + minutes(i64::from(n) / 2);
        made.push(dialed(ledger, &account, n, "list", at).await);
    }
    let busy = made[1].state.id().unwrap().to_owned();
    made[1] = ledger
        .record_end(account.id(), &busy, CallEnd { outcome: CallOutcome::Busy, cost: None })
        .await
        .unwrap()
        .unwrap();
    made.sort_by_key(|record| std::cmp::Reverse(RecordCursor::from(record)));
    let filter = RecordFilter {
        account_id: Some(account.id().clone()),
        since: None,
        status: None,
        before: None,
        limit: 100,
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
    let mut told = 0;
    for status in DispatchStatus::all() {
        let these = list(&RecordFilter { status: Some(status), ..filter.clone() }).await.unwrap();
        let such = made.iter().filter(|record| record.state.status() == status);
        assert_eq!(these, such.cloned().collect::<Vec<_>>(), "{status:?}");
        told += usize::from(!these.is_empty());
    }
    assert!(told >= 2, "{made:?}");
    let everyone = list(&RecordFilter { account_id: None, ..filter.clone() }).await.unwrap();
    assert!(made.iter().all(|record| everyone.contains(record)));
    assert!(
        everyone.len() > made.len()
            && everyone.is_sorted_by_key(|r| std::cmp::Reverse(RecordCursor::from(r)))
    );
    let stranger = RecordFilter { account_id: Some(self::account().id().clone()), ..filter };
    assert_eq!(list(&stranger).await.unwrap(), []);
}

async fn outlives_its_process<F, Fut>(open: &F)
where
    F: Fn() -> Fut,
    Fut: Future<Output = Arc<dyn Ledger>>,
{
    let account = account();
    let (dead, done) = {
        let ledger = open().await;
        let dead = begun(ledger.as_ref(), intent(&account, 1, "dead"), terms(noon())).await;
        (dead, dialed(ledger.as_ref(), &account, 2, "done", noon()).await)
    };
    let ledger = open().await;
    let ask = |text, to, at| ledger.begin(intent(&account, to, text), terms(at));
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

/// Runs `each` 32 times at once, over four handles.
async fn concurrent<F, Fut, T, E>(open: &F, each: impl Fn(Arc<dyn Ledger>, u32) -> E) -> Vec<T>
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

async fn identical_requests_at_one_instant<F, Fut>(open: &F)
where
    F: Fn() -> Fut,
    Fut: Future<Output = Arc<dyn Ledger>>,
{
    let account = account();
    let answers = concurrent(open, |ledger, _| {
        let intent = intent(&account, 1, "same");
        async move { ledger.begin(intent, terms(noon())).await.unwrap() }
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

async fn limits_at_one_instant<F, Fut>(open: &F)
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
                ledger.begin(intent, BeginConstraints { limits, ..terms(noon()) }).await.unwrap()
            }
        })
        .await;
        let begun = answers.iter().filter(|answer| matches!(answer, BeginResult::Begun(_))).count();
        let refused =
            answers.iter().filter(|answer| matches!(answer, BeginResult::LimitReached(_))).count();
        assert_eq!((begun, refused), (5, 27), "{limits:?}");
    }
}

async fn one_takes_over<F, Fut>(open: &F)
where
    F: Fn() -> Fut,
    Fut: Future<Output = Arc<dyn Ledger>>,
{
    let account = account();
    let ledger = open().await;
    let dead = begun(ledger.as_ref(), intent(&account, 1, "x"), terms(noon())).await.dispatch_id;
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
