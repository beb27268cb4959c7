//! The tests of batches that every ledger must pass: one process holds a batch, an attempt is dialed at most once, nothing
//! begins after the end, and nobody's name outlives its time.

use std::future::Future;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Map, json};

use super::conformance::{account, begun, concurrent, constraints, intent, minutes, noon, number};
use super::*;
use crate::dialing::call_outcome::CallOutcome;
use crate::dialing::caller::CallerName;
use crate::dialing::limits::{Limit, LimitReached, OrderKind};
use callingbox::CallId;

const AGENT: &str = "agt_batch";
/// The name of each person.
pub(super) const NAME: &str = "Zoë Ångström";

/// Runs everything. `open` opens one more handle on the same ledger, as another process would.
pub(super) async fn test_batches<F, Fut>(open: &F)
where
    F: Fn() -> Fut,
    Fut: Future<Output = Arc<dyn Ledger>>,
{
    let ledger = open().await;
    let ledger = ledger.as_ref();
    keep_a_list(ledger).await;
    recognize_a_list(ledger).await;
    recognize_a_list_by_when_it_began(ledger).await;
    honor_the_key_of_a_list(ledger).await;
    create_one_of_identical_lists(open).await;
    call_a_number_in_one_batch(ledger).await;
    start_a_number_in_one_batch(open).await;
    refuse_a_call_to_a_waiting_number(ledger).await;
    claim_an_attempt(ledger).await;
    claim_nothing_that_may_not_begin(ledger).await;
    claim_an_attempt_once(ledger).await;
    claim_an_attempt_once_concurrently(open).await;
    wait_for_open_calls(ledger).await;
    withhold_requests_that_may_not_be_sent(ledger).await;
    belong_to_one_process(ledger).await;
    resume_once_concurrently(open).await;
    end_each_row(ledger).await;
    keep_the_fields_of_the_ledger(ledger).await;
    erase_in_time(ledger).await;
    list_newest_first(ledger).await;
    dial_each_attempt_at_most_once(open).await;
}

/// The machine's clock is a day behind the dialing clock, so that neither can be taken for the other.
fn clock(dialing: Timestamp) -> ClockReading {
    ClockReading { dialing, machine: dialing - minutes(24 * 60) }
}

fn machine(dialing: Timestamp) -> Timestamp {
    clock(dialing).machine
}

/// A list that `agt_batch` is to call between noon and two o'clock.
fn asked(account: &AccountRef, list: &str) -> BatchRecord {
    BatchRecord {
        batch_id: BatchId::new(),
        account_id: account.id().clone(),
        caller: CallerName::local(),
        fingerprint: Fingerprint::new(account, OrderKind::Call, &json!(list)),
        idempotency_key: None,
        agent_id: AGENT.to_owned(),
        task: Some(BatchTask {
            from_number: Some(number(9_000)),
            instructions: Some("Confirm {name}'s appointment at {time}.".to_owned()),
            webhook_url: None,
            retry: RetryPolicy { max_attempts: 2, after_minutes: 5, on: vec![CallOutcome::Busy] },
            stop_when: Some(StopCondition {
                field: "free".to_owned(),
                equals: json!(1.0),
                count: 1,
            }),
            allow_repeat: false,
            metadata_source: Default::default(),
        }),
        size: 1,
        state: BatchState::Asked,
        pause: None,
        confirmed_by: None,
        covered: String::new(),
        created_at: noon(),
        start_at: noon(),
        end_by: noon() + minutes(120),
        started_at: None,
        ended_at: None,
        erase_at: Some(machine(noon()) + ASKED_LIFETIME),
        lease_expires_at: machine(noon()),
        generation: 0,
    }
}

/// One waiting row for each number.
fn rows(account: &AccountRef, numbers: &[u32]) -> Vec<RowRecord> {
    let row = |(index, to): (usize, &u32)| RowRecord {
        row: u32::try_from(index).unwrap() + 1,
        callee: Callee::new(account, &number(*to)),
        number: Some(number(*to)),
        person: Some(Person {
            name: Some(NAME.to_owned()),
            context: Some(Map::from_iter([("time".to_owned(), json!(["9:30", 1e300, {}]))])),
            metadata: Some(Map::from_iter([("\"\\\u{0}é".to_owned(), json!(-0.0))])),
        }),
        state: RowState::Waiting,
        reason: None,
        asked_by: Some("default".to_owned()),
        attempts: 0,
        due_at: Some(noon()),
        dispatch_id: None,
        call_id: None,
        outcome: None,
    };
    numbers.iter().enumerate().map(row).collect()
}

fn lookup(at: Timestamp) -> BatchLookup {
    BatchLookup { now: clock(at), repeats_since: at - minutes(10), allow_repeat: false }
}

async fn create(ledger: &dyn Ledger, batch: &BatchRecord, at: Timestamp) -> CreateBatchResult {
    ledger.create_batch(batch.clone(), Vec::new(), lookup(at)).await.unwrap()
}

fn start_at(at: Timestamp) -> BatchStart {
    BatchStart {
        now: clock(at),
        lease_expires_at: machine(at) + minutes(2),
        confirmed_by: ConfirmedBy::User,
        covered: "all of it".to_owned(),
    }
}

fn renew(generation: u32, at: Timestamp, pause: Option<PauseReason>) -> BatchChange {
    let lease_expires_at = machine(at) + minutes(2);
    BatchChange::Renew { generation, now: machine(at), lease_expires_at, pause }
}

fn cancel(at: Timestamp) -> BatchChange {
    BatchChange::Cancel { now: clock(at), erase_at: machine(at) + minutes(30 * 24 * 60) }
}

fn end(generation: u32, at: Timestamp) -> BatchChange {
    let erase_at = machine(at) + minutes(30 * 24 * 60);
    BatchChange::End { generation, now: clock(at), erase_at }
}

/// A batch in a ledger.
#[derive(Clone)]
struct Batch<'a> {
    ledger: &'a dyn Ledger,
    account: AccountRef,
    id: BatchId,
}

impl<'a> Batch<'a> {
    /// A list that was written at noon.
    async fn asked(ledger: &'a dyn Ledger, account: &AccountRef, numbers: &[u32]) -> Self {
        let batch = asked(account, &DispatchId::new().to_string());
        let id = batch.batch_id.clone();
        let rows = rows(account, numbers);
        let created = ledger.create_batch(batch, rows, lookup(noon())).await.unwrap();
        assert_eq!(created, CreateBatchResult::Created);
        Self { ledger, account: account.clone(), id }
    }

    /// One that was started at noon, and runs in the process of generation 1 until two minutes later.
    async fn started(ledger: &'a dyn Ledger, account: &AccountRef, numbers: &[u32]) -> Self {
        let batch = Self::asked(ledger, account, numbers).await;
        assert!(batch.change(BatchChange::Start(start_at(noon()))).await);
        batch
    }

    async fn change(&self, change: BatchChange) -> bool {
        let changed = self.ledger.change_batch(self.account.id(), &self.id, change).await.unwrap();
        let (record, is_changed) = changed.expect("the batch exists");
        assert_eq!(record, self.record().await);
        is_changed
    }

    async fn record(&self) -> BatchRecord {
        self.ledger.find_batch(self.account.id(), &self.id).await.unwrap().unwrap()
    }

    async fn rows(&self) -> Vec<RowRecord> {
        self.ledger.list_rows(self.account.id(), &self.id).await.unwrap()
    }

    async fn row(&self, row: u32) -> RowRecord {
        self.rows().await.into_iter().find(|found| found.row == row).unwrap()
    }

    async fn states(&self) -> Vec<RowState> {
        self.rows().await.into_iter().map(|row| row.state).collect()
    }

    async fn update(&self, generation: u32, row: RowRecord) -> bool {
        self.ledger.update_row(self.account.id(), &self.id, generation, row).await.unwrap()
    }

    /// Changes what the process of generation 1 knows of a row.
    async fn set(&self, row: u32, change: impl FnOnce(&mut RowRecord)) {
        let mut record = self.row(row).await;
        change(&mut record);
        assert!(self.update(1, record).await);
    }

    /// The call of an attempt of a row to this number.
    fn attempt(&self, generation: u32, to: u32, row: u32, attempt: u32) -> NewIntent {
        let batch_id = self.id.clone();
        NewIntent {
            agent_id: Some(AGENT.to_owned()),
            attempt: Some(Attempt { batch_id, row, attempt, generation }),
            ..intent(&self.account, to, "batch")
        }
    }

    async fn claim(&self, intent: NewIntent, at: Timestamp) -> BeginResult {
        self.ledger.begin(intent, claim_at(at)).await.unwrap()
    }

    async fn claimed(&self, intent: NewIntent, at: Timestamp) -> DispatchRecord {
        begun(self.ledger, intent, claim_at(at)).await
    }

    async fn renew_lease(&self, record: &DispatchRecord, at: Timestamp) -> LeaseRenewal {
        let (account, until) = (self.account.id(), machine(at) + minutes(2));
        let renewal = self.ledger.renew_lease(
            account,
            record.dispatch_id,
            record.generation,
            clock(at),
            until,
        );
        renewal.await.unwrap()
    }
}

fn claim_at(at: Timestamp) -> BeginConstraints {
    BeginConstraints {
        now: clock(at),
        lease_expires_at: machine(at) + minutes(2),
        ..constraints(at)
    }
}

fn stopped(stop: AttemptStop) -> BeginResult {
    BeginResult::Stopped(stop)
}

async fn keep_a_list(ledger: &dyn Ledger) {
    let (account, stranger) = (account(), account());
    let (batch, rows) = (asked(&account, "kept"), rows(&account, &[1, 2, 3]));
    let created = ledger.create_batch(batch.clone(), rows.clone(), lookup(noon())).await.unwrap();
    assert_eq!(created, CreateBatchResult::Created);
    let id = &batch.batch_id;
    assert_eq!(ledger.find_batch(account.id(), id).await.unwrap().as_ref(), Some(&batch));
    assert_eq!(ledger.list_rows(account.id(), id).await.unwrap(), rows);
    let start = BatchStart { confirmed_by: ConfirmedBy::Card, ..start_at(noon() + minutes(1)) };
    let started = BatchRecord {
        state: BatchState::Running,
        confirmed_by: Some(ConfirmedBy::Card),
        covered: "all of it".to_owned(),
        started_at: Some(noon() + minutes(1)),
        erase_at: None,
        lease_expires_at: machine(noon()) + minutes(3),
        generation: 1,
        ..batch.clone()
    };
    let change = |account: &AccountRef, id: &BatchId| {
        let change = BatchChange::Start(start.clone());
        let (account, id) = (account.id().clone(), id.clone());
        async move { ledger.change_batch(&account, &id, change).await.unwrap() }
    };
    assert_eq!(change(&account, id).await, Some((started.clone(), true)));
    assert_eq!(ledger.find_batch(account.id(), id).await.unwrap(), Some(started.clone()));
    assert_eq!(ledger.list_rows(account.id(), id).await.unwrap(), rows);
    // It starts once.
    assert_eq!(change(&account, id).await, Some((started, false)));
    // What is not there, and what belongs to another account.
    for (account, id) in [(&account, &BatchId::new()), (&stranger, id)] {
        assert_eq!(change(account, id).await, None);
        assert_eq!(ledger.find_batch(account.id(), id).await.unwrap(), None);
        assert!(!ledger.update_row(account.id(), id, 1, rows[0].clone()).await.unwrap());
        assert!(!ledger.forget_batch(account.id(), id).await.unwrap());
    }
    assert_eq!(ledger.list_batches(stranger.id(), 10).await.unwrap(), []);
    assert_eq!(ledger.list_rows(account.id(), &BatchId::new()).await.unwrap(), []);
    assert_eq!(ledger.list_rows(stranger.id(), id).await.unwrap(), []);
}

async fn recognize_a_list(ledger: &dyn Ledger) {
    let account = account();
    let first = asked(&account, "list");
    assert_eq!(create(ledger, &first, noon()).await, CreateBatchResult::Created);
    let again = || asked(&account, "list");
    let duplicate = |batch: &BatchRecord| CreateBatchResult::Duplicate(batch.clone());
    assert_eq!(create(ledger, &again(), noon()).await, duplicate(&first));
    // An asked list answers even if a repetition is wanted: nobody was called yet.
    let on_purpose = |at| BatchLookup { allow_repeat: true, ..lookup(at) };
    let repeat = async |batch: BatchRecord, at| {
        ledger.create_batch(batch, Vec::new(), on_purpose(at)).await.unwrap()
    };
    assert_eq!(repeat(again(), noon()).await, duplicate(&first));
    // Another list, and another account.
    assert_eq!(create(ledger, &asked(&account, "other"), noon()).await, CreateBatchResult::Created);
    let stranger = self::account();
    let of_stranger = asked(&stranger, "list");
    assert_eq!(create(ledger, &of_stranger, noon()).await, CreateBatchResult::Created);
    // Nobody confirmed it in time.
    let lapsed = noon() + ASKED_LIFETIME;
    let just = lapsed - SignedDuration::from_millis(1);
    assert_eq!(create(ledger, &again(), just).await, duplicate(&first));
    let written_at = |at| BatchRecord {
        created_at: at,
        erase_at: Some(machine(at) + ASKED_LIFETIME),
        ..again()
    };
    let second = written_at(lapsed);
    assert_eq!(create(ledger, &second, lapsed).await, CreateBatchResult::Created);
    let (id, start) = (&first.batch_id, BatchChange::Start(start_at(lapsed)));
    let too_late = ledger.change_batch(account.id(), id, start.clone()).await.unwrap();
    assert_eq!(too_late, Some((first, false)));
    // It is unfinished, however long.
    let (second, _) =
        ledger.change_batch(account.id(), &second.batch_id, start).await.unwrap().unwrap();
    let days = noon() + minutes(5 * 24 * 60);
    assert_eq!(create(ledger, &again(), days).await, duplicate(&second));
    let third = written_at(days);
    assert_eq!(repeat(third.clone(), days).await, CreateBatchResult::Created);
    assert_eq!(create(ledger, &again(), days).await, duplicate(&third));
}

/// Ten minutes count from when a list began to be called, and not from when it was written.
async fn recognize_a_list_by_when_it_began(ledger: &dyn Ledger) {
    let at = |minute| noon() + minutes(minute);
    // When the list is started, may begin and is finished, and until when it answers.
    for (started, start, finished, until) in [
        (Some(14), 0, 15, 24),
        (Some(1), 60, 70, 70),
        (Some(1), 60, 2, 12),
        // A list that was declined called nobody.
        (None, 0, 2, 0),
    ] {
        let account = account();
        let list = || asked(&account, "list");
        let first = BatchRecord { start_at: at(start), ..list() };
        assert_eq!(create(ledger, &first, noon()).await, CreateBatchResult::Created);
        let change = async |change| {
            let changed = ledger.change_batch(account.id(), &first.batch_id, change).await.unwrap();
            let (batch, is_changed) = changed.unwrap();
            assert!(is_changed);
            batch
        };
        if let Some(started) = started {
            change(BatchChange::Start(start_at(at(started)))).await;
        }
        let first = change(cancel(at(finished))).await;
        assert_eq!(first.ended_at, Some(at(finished)));
        let just = SignedDuration::from_millis(1);
        if started.is_some() {
            let answer = create(ledger, &list(), at(until) - just).await;
            assert_eq!(answer, CreateBatchResult::Duplicate(first.clone()), "{until}");
        }
        let answer = create(ledger, &list(), at(until.max(finished))).await;
        assert_eq!(answer, CreateBatchResult::Created, "{until}");
    }
}

async fn honor_the_key_of_a_list(ledger: &dyn Ledger) {
    let account = account();
    let with_key = |account: &AccountRef, list: &str, at: Timestamp| BatchRecord {
        idempotency_key: Some(IdempotencyKey::parse("key").unwrap()),
        created_at: at,
        erase_at: Some(machine(at) + ASKED_LIFETIME),
        ..asked(account, list)
    };
    let list = |list, at| with_key(&account, list, at);
    let lapsed = list("lapsed", noon());
    assert_eq!(create(ledger, &lapsed, noon()).await, CreateBatchResult::Created);
    let conflict = create(ledger, &list("first", noon()), noon()).await;
    assert_eq!(conflict, CreateBatchResult::KeyConflict(lapsed));
    let at = noon() + ASKED_LIFETIME;
    let first = list("first", at);
    assert_eq!(create(ledger, &first, at).await, CreateBatchResult::Created);
    let change = async |change| {
        let changed = ledger.change_batch(account.id(), &first.batch_id, change).await.unwrap();
        changed.unwrap().0
    };
    change(BatchChange::Start(start_at(at))).await;
    let first = change(cancel(at + minutes(1))).await;
    // For a day, longer than the list itself is recognized, and even if a repetition is wanted.
    let just = at + KEY_LIFETIME - SignedDuration::from_millis(1);
    let on_purpose = BatchLookup { allow_repeat: true, ..lookup(just) };
    let answer = ledger.create_batch(list("first", just), Vec::new(), on_purpose).await.unwrap();
    assert_eq!(answer, CreateBatchResult::Duplicate(first.clone()));
    let conflict = create(ledger, &list("second", just), just).await;
    assert_eq!(conflict, CreateBatchResult::KeyConflict(first));
    let without_key = BatchRecord { idempotency_key: None, ..list("second", just) };
    assert_eq!(create(ledger, &without_key, just).await, CreateBatchResult::Created);
    let stranger = self::account();
    let of_stranger = with_key(&stranger, "second", just);
    assert_eq!(create(ledger, &of_stranger, just).await, CreateBatchResult::Created);
    let day = at + KEY_LIFETIME;
    assert_eq!(create(ledger, &list("third", day), day).await, CreateBatchResult::Created);
}

async fn create_one_of_identical_lists<F, Fut>(open: &F)
where
    F: Fn() -> Fut,
    Fut: Future<Output = Arc<dyn Ledger>>,
{
    for key in [None, Some("key")] {
        let account = account();
        let answers = concurrent(open, |ledger, _| {
            let idempotency_key = key.map(|key| IdempotencyKey::parse(key).unwrap());
            let batch = BatchRecord { idempotency_key, ..asked(&account, "same") };
            let rows = rows(&account, &[1, 2]);
            async move {
                let answer = ledger.create_batch(batch.clone(), rows, lookup(noon())).await;
                (batch, answer.unwrap())
            }
        })
        .await;
        let is_created = |(_, answer): &&(_, _)| *answer == CreateBatchResult::Created;
        let (first, _) = answers.iter().find(is_created).unwrap().clone();
        let others = answers.into_iter().filter(|(batch, _)| batch.batch_id != first.batch_id);
        let others: Vec<_> = others.map(|(_, answer)| answer).collect();
        assert_eq!(others, vec![CreateBatchResult::Duplicate(first); 31]);
    }
    let account = account();
    let answers = concurrent(open, |ledger, n| {
        let idempotency_key = Some(IdempotencyKey::parse("key").unwrap());
        let batch = BatchRecord { idempotency_key, ..asked(&account, &n.to_string()) };
        async move { ledger.create_batch(batch, Vec::new(), lookup(noon())).await.unwrap() }
    })
    .await;
    let count = |is: fn(&CreateBatchResult) -> bool| answers.iter().filter(|a| is(a)).count();
    assert_eq!(count(|answer| *answer == CreateBatchResult::Created), 1);
    assert_eq!(count(|answer| matches!(answer, CreateBatchResult::KeyConflict(_))), 31);
}

async fn call_a_number_in_one_batch(ledger: &dyn Ledger) {
    let account = account();
    let first = Batch::started(ledger, &account, &[1, 2, 3]).await;
    let second = Batch::started(ledger, &account, &[4, 3, 2, 5]).await;
    let (waiting, refused) = (RowState::Waiting, RowState::Refused);
    assert_eq!(second.states().await, [waiting, refused, refused, waiting]);
    let row = second.row(2).await;
    assert!(row.reason.as_ref().unwrap().contains(first.id.as_str()), "{row:?}");
    assert_eq!((row.due_at, &row.number), (None, &Some(number(3))));
    assert_eq!(first.states().await, [waiting; 3]);
    // A list that waits for a yes holds no number; neither does another account's.
    Batch::asked(ledger, &account, &[6]).await;
    let third = Batch::started(ledger, &account, &[6]).await;
    assert_eq!(third.states().await, [waiting]);
    assert_eq!(Batch::started(ledger, &self::account(), &[1]).await.states().await, [waiting]);
    // A number is free once its row or its batch has ended, and not while a batch pauses or is interrupted.
    first.set(1, |row| row.state = RowState::Done).await;
    second.set(1, |row| row.state = RowState::Unknown).await;
    assert!(first.change(renew(1, noon(), Some(PauseReason::Clock))).await);
    assert!(second.change(BatchChange::Interrupt { generation: 1 }).await);
    let fourth = Batch::started(ledger, &account, &[1, 2, 4, 5, 6]).await;
    assert_eq!(fourth.states().await, [waiting, refused, waiting, refused, refused]);
    assert!(first.change(cancel(noon())).await);
    assert!(second.change(cancel(noon())).await);
    third.set(1, |row| row.state = RowState::Done).await;
    assert!(third.change(end(1, noon())).await);
    let fifth = Batch::started(ledger, &account, &[1, 2, 4, 5, 6]).await;
    assert_eq!(fifth.states().await, [refused, waiting, refused, waiting, waiting]);
    // A row that has ended cannot take a number back from the batch in which it waits now.
    fourth.set(2, |row| row.state = waiting).await;
    assert_eq!(fourth.row(2).await.state, refused);
}

async fn start_a_number_in_one_batch<F, Fut>(open: &F)
where
    F: Fn() -> Fut,
    Fut: Future<Output = Arc<dyn Ledger>>,
{
    let account = account();
    let states = concurrent(open, |ledger, n| {
        let account = account.clone();
        async move {
            let batch = Batch::started(ledger.as_ref(), &account, &[1_000, n]).await;
            batch.states().await
        }
    })
    .await;
    assert!(states.iter().all(|states| states[1] == RowState::Waiting));
    let waiting = states.iter().filter(|states| states[0] == RowState::Waiting).count();
    assert_eq!(waiting, 1, "{states:?}");
}

async fn refuse_a_call_to_a_waiting_number(ledger: &dyn Ledger) {
    let account = account();
    let words = |to, agent: &str| NewIntent {
        agent_id: Some(agent.to_owned()),
        ..intent(&account, to, &DispatchId::new().to_string())
    };
    let asked = Batch::asked(ledger, &account, &[1]).await;
    let first = begun(ledger, words(1, AGENT), claim_at(noon() - minutes(10))).await;
    ledger.record_not_placed(account.id(), first.dispatch_id, "refused").await.unwrap();
    assert!(asked.change(BatchChange::Start(start_at(noon()))).await);
    let batch = Batch::started(ledger, &account, &[2, 3, 4]).await;
    let waits = |batch: &Batch<'_>| EarlierDispatch::WaitsInBatch(batch.id.clone());
    for (to, batch) in [(1, &asked), (3, &batch)] {
        let call = words(to, AGENT);
        let lookup = DispatchLookup::from_intent(&call, &claim_at(noon()));
        assert_eq!(ledger.find_earlier(lookup).await.unwrap(), Some(waits(batch)));
        let refused = ledger.begin(call.clone(), claim_at(noon())).await.unwrap();
        assert_eq!(refused, BeginResult::Earlier(waits(batch)));
        assert_eq!(ledger.find(account.id(), call.dispatch_id).await.unwrap(), None);
    }
    begun(ledger, words(3, "agt_other"), claim_at(noon())).await;
    begun(ledger, words(5, AGENT), claim_at(noon())).await;
    let on_purpose = BeginConstraints { allow_repeat: true, ..claim_at(noon()) };
    begun(ledger, words(1, AGENT), on_purpose).await;
    // As long as the batch is not finished, and the row has not ended.
    assert!(batch.change(renew(1, noon(), Some(PauseReason::Credit))).await);
    let refused = ledger.begin(words(2, AGENT), claim_at(noon())).await.unwrap();
    assert_eq!(refused, BeginResult::Earlier(waits(&batch)));
    assert!(batch.change(BatchChange::Interrupt { generation: 1 }).await);
    let refused = ledger.begin(words(2, AGENT), claim_at(noon())).await.unwrap();
    assert_eq!(refused, BeginResult::Earlier(waits(&batch)));
    batch.set(1, |row| row.state = RowState::NotCalled).await;
    begun(ledger, words(2, AGENT), claim_at(noon())).await;
    let refused = ledger.begin(words(4, AGENT), claim_at(noon())).await.unwrap();
    assert_eq!(refused, BeginResult::Earlier(waits(&batch)));
    assert!(batch.change(cancel(noon())).await);
    begun(ledger, words(4, AGENT), claim_at(noon())).await;
}

async fn claim_an_attempt(ledger: &dyn Ledger) {
    let account = account();
    let batch = Batch::started(ledger, &account, &[1, 2]).await;
    batch.set(2, |row| row.reason = Some("08:00 there".to_owned())).await;
    let before = batch.row(2).await;
    let claim = batch.attempt(1, 2, 2, 1);
    let record = batch.claimed(claim.clone(), noon()).await;
    assert_eq!((&record.attempt, record.generation), (&claim.attempt, 1));
    assert_eq!((record.created_at, record.written_at), (noon(), machine(noon())));
    let found = ledger.find(account.id(), record.dispatch_id).await.unwrap();
    assert_eq!(found.as_ref(), Some(&record));
    let calling = RowRecord {
        state: RowState::Calling,
        reason: None,
        attempts: 1,
        due_at: None,
        dispatch_id: Some(record.dispatch_id),
        ..before
    };
    assert_eq!(batch.row(2).await, calling);
    assert_eq!(batch.row(1).await.state, RowState::Waiting);
    // The records of one batch among others.
    let other = Batch::started(ledger, &account, &[3]).await;
    other.claimed(other.attempt(1, 3, 1, 1), noon()).await;
    begun(ledger, intent(&account, 4, "no batch"), claim_at(noon())).await;
    let filter = RecordFilter { account_id: Some(account.id().clone()), ..RecordFilter::default() };
    let all = RecordFilter { limit: 10, ..filter };
    assert_eq!(ledger.list_records(all.clone()).await.unwrap().len(), 3);
    let of_batch = |id: &BatchId| RecordFilter { batch_id: Some(id.clone()), ..all.clone() };
    assert_eq!(ledger.list_records(of_batch(&batch.id)).await.unwrap(), [record]);
    assert_eq!(ledger.list_records(of_batch(&BatchId::new())).await.unwrap(), []);
}

async fn claim_nothing_that_may_not_begin(ledger: &dyn Ledger) {
    let account = account();
    let mut to = 0;
    // What is done with a batch at noon, by which generation and when an attempt is made, and why it does not begin.
    let stop = |stop| Some(stop);
    let (batch_stopped, window) = (AttemptStop::BatchStopped, AttemptStop::WindowClosed);
    let pause = |reason| vec![renew(1, noon(), Some(reason))];
    let lease = minutes(2);
    let (just, two) = (SignedDuration::from_millis(1), noon() + minutes(120));
    let until_two = |at| vec![BatchChange::Resume(start_at(at))];
    for (changes, generation, at, expected) in [
        (Vec::new(), 1, noon(), None),
        (Vec::new(), 0, noon(), stop(batch_stopped)),
        (Vec::new(), 2, noon(), stop(batch_stopped)),
        (Vec::new(), 1, noon() + lease - just, None),
        (Vec::new(), 1, noon() + lease, stop(batch_stopped)),
        (vec![renew(1, noon() + minutes(1), None)], 1, noon() + lease, None),
        (pause(PauseReason::Credit), 1, noon(), None),
        (pause(PauseReason::Api), 1, noon(), None),
        (pause(PauseReason::Clock), 1, noon(), stop(batch_stopped)),
        (pause(PauseReason::Key), 1, noon(), stop(batch_stopped)),
        (pause(PauseReason::Agent), 1, noon(), stop(batch_stopped)),
        (pause(PauseReason::Caller), 1, noon(), stop(batch_stopped)),
        ([pause(PauseReason::Clock), vec![renew(1, noon(), None)]].concat(), 1, noon(), None),
        (vec![BatchChange::Interrupt { generation: 1 }], 1, noon(), stop(batch_stopped)),
        (vec![cancel(noon())], 1, noon(), stop(batch_stopped)),
        (until_two(two - just), 2, two - just, None),
        (until_two(two - just), 2, two, stop(window)),
        (until_two(two - just), 1, two, stop(batch_stopped)),
    ] {
        to += 1;
        let batch = Batch::started(ledger, &account, &[to]).await;
        for change in &changes {
            assert!(batch.change(change.clone()).await, "{change:?}");
        }
        let before = batch.rows().await;
        let claim = batch.attempt(generation, to, 1, 1);
        let answer = batch.claim(claim.clone(), at).await;
        let context = format!("{changes:?}, generation {generation}, {at}: {answer:?}");
        match expected {
            None => assert!(matches!(answer, BeginResult::Begun(_)), "{context}"),
            Some(expected) => {
                assert_eq!(answer, stopped(expected), "{context}");
                assert_eq!(ledger.find(account.id(), claim.dispatch_id).await.unwrap(), None);
                assert_eq!(batch.rows().await, before);
            }
        }
    }
    let asked = Batch::asked(ledger, &account, &[1]).await;
    for generation in [0, 1] {
        let claim = asked.attempt(generation, 1, 1, 1);
        assert_eq!(asked.claim(claim, noon()).await, stopped(batch_stopped));
    }
    let ended = Batch::started(ledger, &account, &[100]).await;
    ended.set(1, |row| row.state = RowState::NotCalled).await;
    assert!(ended.change(end(1, noon())).await);
    assert_eq!(ended.claim(ended.attempt(1, 100, 1, 1), noon()).await, stopped(batch_stopped));
    let unknown = Batch { id: BatchId::new(), ..ended.clone() };
    assert_eq!(unknown.claim(unknown.attempt(1, 100, 1, 1), noon()).await, stopped(batch_stopped));
    // A limit refuses an attempt like any other call, and writes neither intent nor row.
    let batch = Batch::started(ledger, &account, &[101]).await;
    let limits = CallLimits { per_hour: Some(1), ..CallLimits::default() };
    let claim = batch.attempt(1, 101, 1, 1);
    let limited = BeginConstraints { limits, ..claim_at(noon()) };
    let answer = ledger.begin(claim.clone(), limited).await.unwrap();
    let BeginResult::LimitReached(LimitReached { limit: Limit::PerHour, .. }) = answer else {
        panic!("{answer:?}")
    };
    assert_eq!(batch.row(1).await.state, RowState::Waiting);
    batch.claimed(claim, noon()).await;
}

async fn claim_an_attempt_once(ledger: &dyn Ledger) {
    let account = account();
    let taken = stopped(AttemptStop::AttemptTaken);
    let batch = Batch::started(ledger, &account, &[1, 2]).await;
    let claim = async |attempt| batch.claim(batch.attempt(1, 1, 1, attempt), noon()).await;
    // The first is the first, and there is no such row.
    assert_eq!(claim(0).await, taken);
    assert_eq!(claim(2).await, taken);
    assert_eq!(batch.claim(batch.attempt(1, 1, 3, 1), noon()).await, taken);
    let set_back = async |attempts| {
        let waits = |row: &mut RowRecord| {
            (row.state, row.attempts, row.dispatch_id) = (RowState::Waiting, attempts, None);
        };
        batch.set(1, waits).await;
    };
    let first = batch.claimed(batch.attempt(1, 1, 1, 1), noon()).await;
    let id = first.dispatch_id;
    // While nobody knows whether it was dialed, and while it is in progress, nothing begins in its place or after it.
    let unproved = async |state: &str| {
        assert_eq!(claim(1).await, taken, "{state}");
        for attempts in [0, 1] {
            set_back(attempts).await;
            assert_eq!(claim(1).await, taken, "{state} {attempts}");
            assert_eq!(claim(2).await, taken, "{state} {attempts}");
        }
    };
    unproved("intent").await;
    ledger.record_unknown(account.id(), id, clock(noon()), true).await.unwrap();
    unproved("unknown").await;
    // It was proved that it was not placed.
    ledger.record_not_placed(account.id(), id, "refused").await.unwrap();
    assert_eq!(claim(1).await, taken, "the row was not set back");
    set_back(0).await;
    let second = batch.claimed(batch.attempt(1, 1, 1, 1), noon()).await;
    assert_eq!(batch.row(1).await.dispatch_id, Some(second.dispatch_id));
    unproved("intent again").await;
    ledger.record_placed(account.id(), second.dispatch_id, "call_second").await.unwrap();
    unproved("placed").await;
    // What really happened is recorded, even if it was thought impossible.
    let late = ledger.record_placed(account.id(), id, "call_first").await.unwrap();
    assert_eq!(late.state.id(), Some("call_first"));
    let busy = CallEnd { outcome: CallOutcome::Busy, cost: None, is_result_final: true };
    ledger.record_end(account.id(), "call_second", busy).await.unwrap();
    set_back(0).await;
    assert_eq!(claim(1).await, taken);
    set_back(1).await;
    assert_eq!(claim(2).await, taken, "the call that was found late is in progress");
    ledger.record_end(account.id(), "call_first", busy).await.unwrap();
    // The next one is no repetition of the first, which was made a moment ago.
    let next = batch.claimed(batch.attempt(1, 1, 1, 2), noon()).await;
    assert_eq!(batch.row(1).await.attempts, 2);
    // CallingBox could not place it, and this counts as an attempt.
    ledger.record_not_placed(account.id(), next.dispatch_id, "502").await.unwrap();
    set_back(0).await;
    assert_eq!(claim(1).await, taken);
    set_back(2).await;
    batch.claimed(batch.attempt(1, 1, 1, 3), noon()).await;
    let all = RecordFilter { batch_id: Some(batch.id.clone()), ..RecordFilter::default() };
    let all = RecordFilter { account_id: Some(account.id().clone()), limit: 10, ..all };
    assert_eq!(ledger.list_records(all).await.unwrap().len(), 4);
}

async fn claim_an_attempt_once_concurrently<F, Fut>(open: &F)
where
    F: Fn() -> Fut,
    Fut: Future<Output = Arc<dyn Ledger>>,
{
    let (account, ledger) = (account(), open().await);
    let batch = Batch::started(ledger.as_ref(), &account, &[1]).await;
    let answers = concurrent(open, |ledger, _| {
        let claim = batch.attempt(1, 1, 1, 1);
        async move { ledger.begin(claim, claim_at(noon())).await.unwrap() }
    })
    .await;
    let taken = stopped(AttemptStop::AttemptTaken);
    assert_eq!(answers.iter().filter(|answer| **answer == taken).count(), 31, "{answers:?}");
    assert_eq!(batch.row(1).await.state, RowState::Calling);
    // Claims, renewals and reports of the rows of one batch do not get in one another's way.
    let numbers: Vec<u32> = (0..32).collect();
    let batch = Batch::started(ledger.as_ref(), &self::account(), &numbers).await;
    let answers = concurrent(open, |ledger, n| {
        let (account, id) = (batch.account.clone(), batch.id.clone());
        let claim = batch.attempt(1, n, n + 1, 1);
        async move {
            let ledger = ledger.as_ref();
            let batch = Batch { ledger, account, id };
            let record = batch.claimed(claim, noon()).await;
            let renewal = renew(1, noon() + minutes(1), None);
            let renewed = ledger.change_batch(batch.account.id(), &batch.id, renewal).await;
            assert!(renewed.unwrap().unwrap().1);
            assert_eq!(batch.renew_lease(&record, noon()).await, LeaseRenewal::Renewed);
            batch.set(n + 1, |row| row.state = RowState::Done).await;
        }
    })
    .await;
    assert_eq!(answers.len(), 32);
    assert_eq!(batch.states().await, [RowState::Done; 32]);
}

async fn wait_for_open_calls(ledger: &dyn Ledger) {
    let account = account();
    let batch = Batch::started(ledger, &account, &[1, 2, 3]).await;
    let attempt = |to| batch.attempt(1, to, to, 1);
    // A call by whichever agent, whose result is open. Forty calls of others since then do not hide it.
    let other = begun(ledger, intent(&account, 1, "other"), claim_at(noon())).await;
    for n in 0..40 {
        let on_purpose = BeginConstraints { allow_repeat: true, ..claim_at(noon() + minutes(1)) };
        let call = begun(ledger, intent(&account, 1, &n.to_string()), on_purpose).await;
        ledger.record_placed(account.id(), call.dispatch_id, &format!("call_{n}")).await.unwrap();
    }
    let lookup = || DispatchLookup::from_intent(&attempt(1), &claim_at(noon() + minutes(1)));
    let in_flight = EarlierDispatch::InFlight(other.clone());
    let answer = batch.claim(attempt(1), noon() + minutes(1)).await;
    assert_eq!(answer, BeginResult::Earlier(in_flight.clone()));
    assert_eq!(ledger.find_earlier(lookup()).await.unwrap(), Some(in_flight));
    let unknown = ledger.record_unknown(account.id(), other.dispatch_id, clock(noon()), true);
    let unresolved = EarlierDispatch::Unresolved(unknown.await.unwrap());
    let on_purpose = BeginConstraints { allow_repeat: true, ..claim_at(noon() + minutes(1)) };
    let answer = ledger.begin(attempt(1), on_purpose).await.unwrap();
    assert_eq!(answer, BeginResult::Earlier(unresolved));
    assert_eq!(batch.row(1).await.state, RowState::Waiting);
    ledger.record_not_placed(account.id(), other.dispatch_id, "absent").await.unwrap();
    batch.claimed(attempt(1), noon() + minutes(1)).await;
    // A call by the same agent within the window is a repetition, unless it is wanted.
    let same = NewIntent { agent_id: Some(AGENT.to_owned()), ..intent(&account, 2, "words") };
    let on_purpose = BeginConstraints { allow_repeat: true, ..claim_at(noon()) };
    let same = begun(ledger, same, on_purpose).await;
    let same = ledger.record_placed(account.id(), same.dispatch_id, "call_same").await.unwrap();
    let similar = EarlierDispatch::SimilarCall(same);
    assert_eq!(batch.claim(attempt(2), noon()).await, BeginResult::Earlier(similar));
    assert_eq!(batch.row(2).await.state, RowState::Waiting);
    begun(ledger, attempt(2), on_purpose).await;
    // The same words to the same number by another agent are none, and neither is its own place in the list.
    let agent_id = Some("agt_other".to_owned());
    let words = NewIntent { agent_id, ..intent(&account, 3, "batch") };
    let placed = begun(ledger, words, claim_at(noon())).await;
    ledger.record_placed(account.id(), placed.dispatch_id, "call_words").await.unwrap();
    batch.claimed(attempt(3), noon()).await;
}

async fn withhold_requests_that_may_not_be_sent(ledger: &dyn Ledger) {
    let account = account();
    let (stopped, window) = (AttemptStop::BatchStopped, AttemptStop::WindowClosed);
    let (lease, just) = (minutes(2), SignedDuration::from_millis(1));
    let pause = |reason| Some(renew(1, noon(), Some(reason)));
    let two = noon() + minutes(120);
    let mut to = 0;
    for (change, at, expected) in [
        (None, noon(), LeaseRenewal::Renewed),
        (None, noon() + lease - just, LeaseRenewal::Renewed),
        (None, noon() + lease, LeaseRenewal::Stopped(stopped)),
        (Some(cancel(noon())), noon(), LeaseRenewal::Stopped(stopped)),
        (pause(PauseReason::Api), noon(), LeaseRenewal::Renewed),
        (pause(PauseReason::Clock), noon(), LeaseRenewal::Stopped(stopped)),
        (pause(PauseReason::Caller), noon(), LeaseRenewal::Stopped(stopped)),
        (Some(BatchChange::Interrupt { generation: 1 }), noon(), LeaseRenewal::Stopped(stopped)),
        (
            Some(BatchChange::Resume(start_at(noon() + lease))),
            noon() + lease,
            LeaseRenewal::Stopped(stopped),
        ),
    ] {
        to += 1;
        let batch = Batch::started(ledger, &account, &[to]).await;
        let record = batch.claimed(batch.attempt(1, to, 1, 1), noon()).await;
        if let Some(change) = change.clone() {
            assert!(batch.change(change).await);
        }
        assert_eq!(batch.renew_lease(&record, at).await, expected, "{change:?} {at}");
        let found = ledger.find(account.id(), record.dispatch_id).await.unwrap().unwrap();
        let renewed_at = if expected == LeaseRenewal::Renewed { at } else { noon() };
        assert_eq!(found.lease_expires_at, machine(renewed_at) + lease);
    }
    // The window ends by the dialing clock, whose jump the lease does not notice.
    let batch = Batch::started(ledger, &account, &[100]).await;
    let record = batch.claimed(batch.attempt(1, 100, 1, 1), noon()).await;
    for (dialing, expected) in
        [(two - just, LeaseRenewal::Renewed), (two, LeaseRenewal::Stopped(window))]
    {
        let now = ClockReading { dialing, machine: machine(noon()) };
        let until = machine(noon()) + lease;
        let renewal = ledger.renew_lease(account.id(), record.dispatch_id, 1, now, until);
        assert_eq!(renewal.await.unwrap(), expected);
    }
    // Another process has taken the dispatch over.
    let batch = Batch::started(ledger, &account, &[101]).await;
    let record = batch.claimed(batch.attempt(1, 101, 1, 1), noon()).await;
    assert!(batch.change(renew(1, noon() + minutes(1), None)).await);
    let later = machine(noon()) + lease;
    let taken = ledger.take_over(account.id(), record.dispatch_id, later, later + lease).await;
    assert_eq!(taken.unwrap().map(|taken| taken.generation), Some(2));
    assert_eq!(batch.renew_lease(&record, noon() + lease).await, LeaseRenewal::Lost);
}

async fn belong_to_one_process(ledger: &dyn Ledger) {
    let account = account();
    let lease = minutes(2);
    let resume = |at| BatchChange::Resume(start_at(at));
    // It is running, and its process is alive.
    let batch = Batch::started(ledger, &account, &[1]).await;
    let just = SignedDuration::from_millis(1);
    assert!(!batch.change(resume(noon() + lease - just)).await);
    assert!(batch.change(renew(1, noon() + minutes(1), None)).await);
    assert!(!batch.change(resume(noon() + lease)).await);
    // Its process is gone, and cannot come back by itself.
    let later = noon() + minutes(3);
    assert_eq!(batch.record().await.state_at(machine(later)), BatchState::Interrupted);
    assert!(!batch.change(renew(1, later, None)).await);
    let other = BatchStart {
        confirmed_by: ConfirmedBy::Terminal,
        covered: "what is left".to_owned(),
        ..start_at(later)
    };
    assert!(batch.change(BatchChange::Resume(other)).await);
    let record = batch.record().await;
    assert_eq!((record.state, record.generation), (BatchState::Running, 2));
    assert_eq!((record.started_at, record.covered.as_str()), (Some(noon()), "what is left"));
    assert_eq!(record.confirmed_by, Some(ConfirmedBy::Terminal));
    assert_eq!(record.lease_expires_at, machine(later) + lease);
    // The process that ran the batch before can change nothing, even if its lease has not expired.
    assert!(!batch.change(renew(1, noon(), None)).await);
    let row = batch.row(1).await;
    let done = RowRecord { state: RowState::Done, ..row.clone() };
    assert!(!batch.update(1, done.clone()).await);
    assert_eq!(batch.row(1).await, row);
    for change in [
        renew(1, later, None),
        renew(1, later, Some(PauseReason::Api)),
        BatchChange::Interrupt { generation: 1 },
    ] {
        assert!(!batch.change(change).await);
    }
    let claim = batch.claim(batch.attempt(1, 1, 1, 1), later).await;
    assert_eq!(claim, stopped(AttemptStop::BatchStopped));
    assert!(batch.update(2, done).await);
    assert!(!batch.change(end(1, later)).await);
    assert!(batch.change(end(2, later)).await);
    assert_eq!(batch.record().await.state, BatchState::Ended);
    // Which batch can be resumed, and which renewed.
    for (changes, is_resumable, is_renewable) in [
        (vec![BatchChange::Interrupt { generation: 1 }], true, false),
        (vec![renew(1, noon(), Some(PauseReason::Key))], true, true),
        (vec![cancel(noon())], false, false),
    ] {
        let batch = Batch::started(ledger, &self::account(), &[1]).await;
        for change in &changes {
            assert!(batch.change(change.clone()).await);
        }
        assert_eq!(batch.change(renew(1, noon(), None)).await, is_renewable, "{changes:?}");
        for change in changes.into_iter().filter(|_| is_renewable) {
            assert!(batch.change(change).await);
        }
        assert_eq!(batch.change(resume(noon())).await, is_resumable);
        assert_eq!(batch.record().await.pause, None);
    }
    // The machine's clock jumps. The process holds its lease by another one, and what it writes is by the machine's.
    for jump in [minutes(24 * 60), -minutes(24 * 60)] {
        let batch = Batch::started(ledger, &self::account(), &[1]).await;
        let jumped = noon() + jump;
        let renew = |now| BatchChange::Renew {
            generation: 1,
            now,
            lease_expires_at: machine(jumped) + lease,
            pause: None,
        };
        assert!(!batch.change(renew(machine(noon()) + lease)).await, "it was stopped");
        assert!(batch.change(renew(machine(noon()) + lease - just)).await);
        let record = batch.record().await;
        assert_eq!(record.lease_expires_at, machine(jumped) + lease);
        assert_eq!(record.state_at(machine(jumped) + lease - just), BatchState::Running);
        // What it does next is by the clock that has jumped.
        batch.claimed(batch.attempt(1, 1, 1, 1), jumped.min(noon())).await;
    }
    let asked = Batch::asked(ledger, &self::account(), &[1]).await;
    for change in [resume(noon()), renew(0, noon(), None), end(0, noon())] {
        assert!(!asked.change(change).await);
    }
}

async fn resume_once_concurrently<F, Fut>(open: &F)
where
    F: Fn() -> Fut,
    Fut: Future<Output = Arc<dyn Ledger>>,
{
    let (account, ledger) = (account(), open().await);
    let batch = Batch::started(ledger.as_ref(), &account, &[1]).await;
    assert!(batch.change(BatchChange::Interrupt { generation: 1 }).await);
    let answers = concurrent(open, |ledger, _| {
        let (account, id) = (account.id().clone(), batch.id.clone());
        async move {
            let resume = BatchChange::Resume(start_at(noon()));
            ledger.change_batch(&account, &id, resume).await.unwrap().unwrap()
        }
    })
    .await;
    assert_eq!(answers.iter().filter(|(_, is_changed)| *is_changed).count(), 1);
    assert!(answers.iter().all(|(batch, _)| batch.generation == 2));
}

async fn end_each_row(ledger: &dyn Ledger) {
    let account = account();
    let batch = Batch::started(ledger, &account, &[1, 2, 3, 4]).await;
    // One is called, one waits for its second attempt, one was refused, one was never called.
    batch.claimed(batch.attempt(1, 1, 1, 1), noon()).await;
    batch.set(2, |row| (row.attempts, row.outcome) = (1, Some(CallOutcome::Busy))).await;
    batch.set(3, |row| row.state = RowState::Refused).await;
    assert!(!batch.change(end(1, noon())).await, "rows are open");
    assert!(batch.change(cancel(noon() + minutes(1))).await);
    let record = batch.record().await;
    assert_eq!((record.state, record.ended_at), (BatchState::Canceled, Some(noon() + minutes(1))));
    let [calling, done] = [RowState::Calling, RowState::Done];
    let ended = [calling, done, RowState::Refused, RowState::NotCalled];
    assert_eq!(batch.states().await, ended);
    let row = batch.row(4).await;
    assert!(row.reason.is_some() && row.due_at.is_none(), "{row:?}");
    assert_eq!(batch.row(2).await.outcome, Some(CallOutcome::Busy));
    assert!(!batch.change(cancel(noon() + minutes(2))).await);
    assert!(!batch.change(end(1, noon() + minutes(2))).await);
    assert_eq!(batch.record().await, record);
    // The process learns the end of the call, or that its request was withheld, and no row waits again.
    batch.set(1, |row| (row.state, row.attempts) = (RowState::Waiting, 0)).await;
    batch.set(2, |row| row.state = RowState::Waiting).await;
    let ended = [RowState::NotCalled, done, RowState::Refused, RowState::NotCalled];
    assert_eq!(batch.states().await, ended);
    batch.set(1, |row| row.state = done).await;
    assert_eq!(batch.row(1).await.state, done);
    let batch = Batch::started(ledger, &account, &[5]).await;
    batch.set(1, |row| row.state = RowState::Unknown).await;
    assert!(batch.change(end(1, noon())).await);
    assert!(!batch.change(cancel(noon())).await);
}

/// Who is called, and by which dispatch, is not for the process that runs the batch to change.
async fn keep_the_fields_of_the_ledger(ledger: &dyn Ledger) {
    let account = account();
    let batch = Batch::started(ledger, &account, &[1]).await;
    let record = batch.claimed(batch.attempt(1, 1, 1, 1), noon()).await;
    let before = batch.row(1).await;
    let report = RowRecord {
        row: 1,
        callee: Callee::new(&account, &number(2)),
        number: Some(number(2)),
        person: None,
        state: RowState::Waiting,
        reason: Some("busy".to_owned()),
        asked_by: None,
        attempts: 1,
        due_at: Some(noon() + minutes(5)),
        dispatch_id: None,
        call_id: Some(CallId::new("call_1")),
        outcome: Some(CallOutcome::Busy),
    };
    assert!(batch.update(1, report.clone()).await);
    let expected = RowRecord {
        callee: before.callee,
        number: before.number,
        person: before.person,
        dispatch_id: Some(record.dispatch_id),
        ..report.clone()
    };
    assert_eq!(batch.row(1).await, expected);
    assert!(!batch.update(1, RowRecord { row: 2, ..report }).await, "there is no such row");
    assert_eq!(batch.rows().await.len(), 1);
}

async fn erase_in_time(ledger: &dyn Ledger) {
    let account = account();
    let just = SignedDuration::from_millis(1);
    let asked = Batch::asked(ledger, &account, &[1]).await;
    let running = Batch::started(ledger, &account, &[2]).await;
    let ended = Batch::started(ledger, &account, &[3]).await;
    let mut rows = ended.rows().await;
    rows[0].state = RowState::Done;
    ended.set(1, |row| row.state = RowState::Done).await;
    assert!(ended.change(end(1, noon())).await);
    let declined = Batch::asked(ledger, &account, &[4]).await;
    assert!(declined.change(cancel(noon())).await);
    let record = ended.record().await;
    let erase =
        async |at: Timestamp| ledger.erase_expired(account.id(), machine(at)).await.unwrap();
    // The list that nobody confirmed.
    let (list, month) = (noon() + ASKED_LIFETIME, noon() + minutes(30 * 24 * 60));
    erase(list - just).await;
    asked.record().await;
    assert!(declined.rows().await[0].person.is_some());
    ledger.erase_expired(self::account().id(), machine(month)).await.unwrap();
    erase(list).await;
    assert_eq!(ledger.find_batch(account.id(), &asked.id).await.unwrap(), None);
    assert_eq!(asked.rows().await, []);
    assert_eq!(ledger.list_batches(account.id(), 10).await.unwrap().len(), 3);
    let row = &declined.rows().await[0];
    assert_eq!((&row.number, &row.person), (&None, &None));
    // Whoever was called, a month after the end.
    erase(month - just).await;
    assert_eq!((ended.record().await, ended.rows().await), (record.clone(), rows.clone()));
    erase(month).await;
    (rows[0].number, rows[0].person) = (None, None);
    let erased = BatchRecord { task: None, erase_at: None, ..record };
    assert_eq!((ended.record().await, ended.rows().await), (erased.clone(), rows.clone()));
    assert!(rows[0].callee.masked.contains('*'));
    erase(month + month.duration_since(noon())).await;
    assert_eq!(ended.record().await, erased);
    // People who wait are not erased, and erased people do not come back with the end of a call.
    assert!(!ledger.forget_batch(account.id(), &running.id).await.unwrap());
    running.claimed(running.attempt(1, 2, 1, 1), noon()).await;
    let calling = running.row(1).await;
    assert!(calling.person.is_some() && running.record().await.task.is_some());
    assert!(running.change(cancel(noon())).await);
    assert!(ledger.forget_batch(account.id(), &running.id).await.unwrap());
    let done = RowRecord { state: RowState::Done, ..calling };
    assert!(running.update(1, done.clone()).await);
    let forgotten = RowRecord { number: None, person: None, ..done };
    assert_eq!(running.rows().await, [forgotten]);
    assert_eq!(running.record().await.task, None);
}

/// A batch of many people that has ended and may be erased.
pub(super) async fn write_ended_batch(ledger: &dyn Ledger) -> (AccountRef, BatchId) {
    let account = account();
    let numbers: Vec<u32> = (0..200).collect();
    let batch = Batch::started(ledger, &account, &numbers).await;
    for row in 1..=10 {
        batch.set(row, |row| row.reason = Some("busy".to_owned())).await;
    }
    assert!(batch.change(cancel(noon())).await);
    (account, batch.id)
}

async fn list_newest_first(ledger: &dyn Ledger) {
    let account = account();
    let mut batches = Vec::new();
    for n in 0..7 {
        // Two at each instant, so that time alone does not order them.
        let created_at = noon() + minutes(i64::from(n) / 2);
        let batch = BatchRecord { created_at, ..asked(&account, &n.to_string()) };
        assert_eq!(create(ledger, &batch, noon()).await, CreateBatchResult::Created);
        batches.push(batch);
    }
    batches.sort_by_key(|batch| std::cmp::Reverse((batch.created_at, batch.batch_id.clone())));
    for limit in [0, 1, 3, 7, 10] {
        let listed = ledger.list_batches(account.id(), limit).await.unwrap();
        let expected = batches.iter().take(usize::try_from(limit).unwrap()).cloned();
        assert_eq!(listed, expected.collect::<Vec<_>>(), "{limit}");
    }
}

/// A step of one of two processes, which both believe that they run the batch.
#[derive(Debug, Clone)]
enum Step {
    /// The dialing clock and the machine's clock go on, or jump.
    Wait {
        dialing: i64,
        machine: i64,
    },
    Resume(usize),
    Renew {
        process: usize,
        pause: Option<PauseReason>,
        /// Whether only the machine's clock went on since the process wrote its lease.
        has_jumped: bool,
    },
    Interrupt(usize),
    Cancel,
    End(usize),
    Claim {
        process: usize,
        row: u32,
        attempt: u32,
    },
    RenewLease {
        dispatch: usize,
    },
    TakeOver {
        dispatch: usize,
    },
    Result {
        dispatch: usize,
        result: &'static str,
    },
    /// The row waits again as before its last attempt, or gets the state.
    Report {
        process: usize,
        row: u32,
        sets_back: bool,
        state: RowState,
    },
    Forget,
}

fn any_step() -> impl Strategy<Value = Step> {
    let process = || prop_oneof![6 => Just(0_usize), 1 => Just(1)];
    let row = || 1..=2_u32;
    let dispatch = || 0..6_usize;
    let pause = prop::option::weighted(
        0.2,
        prop::sample::select(vec![PauseReason::Clock, PauseReason::Credit, PauseReason::Caller]),
    );
    let state = prop_oneof![
        12 => Just(RowState::Waiting),
        1 => Just(RowState::Calling),
        1 => Just(RowState::Done),
        1 => Just(RowState::Unknown),
    ];
    let result = prop_oneof![
        1 => Just("unknown"),
        4 => Just("not placed"),
        1 => Just("placed"),
        1 => Just("ended"),
    ];
    prop_oneof![
        9 => (-5..10_i64, prop_oneof![3 => Just(0), 1 => 1..4_i64]).prop_map(|(dialing, machine)| Step::Wait { dialing, machine }),
        8 => process().prop_map(Step::Resume),
        24 => (process(), pause, any::<bool>())
            .prop_map(|(process, pause, has_jumped)| Step::Renew { process, pause, has_jumped }),
        1 => process().prop_map(Step::Interrupt),
        1 => Just(Step::Cancel),
        1 => process().prop_map(Step::End),
        60 => (process(), row(), 1..=2_u32)
            .prop_map(|(process, row, attempt)| Step::Claim { process, row, attempt }),
        12 => dispatch().prop_map(|dispatch| Step::RenewLease { dispatch }),
        2 => dispatch().prop_map(|dispatch| Step::TakeOver { dispatch }),
        60 => (dispatch(), result).prop_map(|(dispatch, result)| Step::Result { dispatch, result }),
        60 => (process(), row(), any::<bool>(), state).prop_map(|(process, row, sets_back, state)| {
            Step::Report { process, row, sets_back, state }
        }),
        1 => Just(Step::Forget),
    ]
}

/// What happened in all runs, so that a test of which nothing remains is noticed.
#[derive(Debug, Default)]
struct Tally {
    begun: u32,
    begun_again: u32,
    begun_later: u32,
    stopped: u32,
    resumed: u32,
    renewed_after_jump: u32,
    withheld: u32,
}

/// Two processes do anything in any order: no attempt is dialed twice that was not proved not placed, and nothing begins or
/// is sent after the batch was canceled, resumed elsewhere or closed.
async fn dial_each_attempt_at_most_once<F, Fut>(open: &F)
where
    F: Fn() -> Fut,
    Fut: Future<Output = Arc<dyn Ledger>>,
{
    let handles = [open().await, open().await];
    let tally = parking_lot::Mutex::new(Tally::default());
    let config = Config { cases: 128, failure_persistence: None, ..Config::default() };
    tokio::task::block_in_place(|| {
        let runtime = tokio::runtime::Handle::current();
        let steps = prop::collection::vec(any_step(), 20..100);
        TestRunner::new(config)
            .run(&steps, |steps| {
                runtime.block_on(run_steps(&handles, &steps, &mut tally.lock()));
                Ok(())
            })
            .unwrap_or_else(|error| panic!("{error}"));
    });
    let tally = tally.into_inner();
    let Tally { begun, begun_again, begun_later, stopped, resumed, renewed_after_jump, withheld } =
        tally;
    for count in [begun, begun_again, begun_later, stopped, resumed, renewed_after_jump, withheld] {
        assert!(count > 0, "{tally:?}");
    }
}

async fn run_steps(handles: &[Arc<dyn Ledger>; 2], steps: &[Step], tally: &mut Tally) {
    let account = account();
    let batch = Batch::started(handles[0].as_ref(), &account, &[1, 2]).await;
    let end_by = batch.record().await.end_by;
    // What each process knows: its generation, and what it began.
    let mut generations = [1, 0];
    // When each wrote its lease, by the machine's clock.
    let mut written = [machine(noon()); 2];
    let mut begun: Vec<(usize, DispatchRecord)> = Vec::new();
    let mut now = clock(noon());
    let (mut is_canceled, mut newest) = (false, 1);
    for step in steps {
        let context = format!("{step:?} of {steps:?}");
        // The batch as the process of the step sees it.
        let of = |process: usize| Batch { ledger: handles[process].as_ref(), ..batch.clone() };
        let change = async |process: usize, change: BatchChange| {
            let changed = handles[process].change_batch(account.id(), &batch.id, change).await;
            let (record, is_changed) = changed.unwrap().unwrap();
            is_changed.then_some(record)
        };
        let lease_expires_at = now.machine + minutes(2);
        let erase_at = now.machine + minutes(60);
        let start = || BatchStart { now, lease_expires_at, ..start_at(noon()) };
        let before = batch.record().await;
        let may_dial = |process: usize| {
            !is_canceled
                && generations[process] == newest
                && now.dialing < end_by
                && now.machine < before.lease_expires_at
                && before.state != BatchState::Interrupted
                && !matches!(before.pause, Some(PauseReason::Clock | PauseReason::Caller))
        };
        match *step {
            Step::Wait { dialing, machine } => {
                now.dialing += minutes(dialing);
                now.machine += minutes(machine);
            }
            Step::Resume(process) => {
                if let Some(record) = change(process, BatchChange::Resume(start())).await {
                    assert!(record.generation > newest && !is_canceled, "{context}");
                    (generations[process], newest) = (record.generation, record.generation);
                    written[process] = now.machine;
                    tally.resumed += 1;
                }
            }
            Step::Renew { process, pause, has_jumped } => {
                let generation = generations[process];
                let lease_time = if has_jumped { written[process] } else { now.machine };
                let renewal =
                    BatchChange::Renew { generation, now: lease_time, lease_expires_at, pause };
                if change(process, renewal).await.is_some() {
                    assert!(generation == newest && !is_canceled, "{context}");
                    let looked_expired = before.lease_expires_at <= now.machine;
                    tally.renewed_after_jump += u32::from(looked_expired);
                    written[process] = now.machine;
                }
            }
            Step::Interrupt(process) => {
                let generation = generations[process];
                change(process, BatchChange::Interrupt { generation }).await;
            }
            Step::Cancel => {
                change(0, BatchChange::Cancel { now, erase_at }).await;
                is_canceled = true;
            }
            Step::End(process) => {
                let generation = generations[process];
                let end = BatchChange::End { generation, now, erase_at };
                if change(process, end).await.is_some() {
                    assert!(batch.rows().await.iter().all(|row| !row.state.is_open()), "{context}");
                    is_canceled = true;
                }
            }
            Step::Claim { process, row, attempt } => {
                let intent = of(process).attempt(generations[process], row, row, attempt);
                let constraints = BeginConstraints { now, lease_expires_at, ..claim_at(noon()) };
                match handles[process].begin(intent, constraints).await.unwrap() {
                    BeginResult::Begun(record) => {
                        assert!(may_dial(process), "{context}");
                        let mut earlier = 0;
                        for (_, other) in &begun {
                            let other = find(&batch, other).await;
                            let (before, that) = (other.attempt.unwrap(), &record.attempt);
                            if before.row != row {
                                continue;
                            }
                            earlier += 1;
                            let is_same = Some(before.attempt) == that.as_ref().map(|a| a.attempt);
                            let is_over = match other.state {
                                DispatchState::NotPlaced { .. } => true,
                                DispatchState::Finished { .. } => !is_same,
                                _ => false,
                            };
                            assert!(is_over, "{context}");
                            tally.begun_again += u32::from(is_same);
                        }
                        tally.begun += 1;
                        tally.begun_later += u32::from(earlier > 0 && attempt > 1);
                        begun.push((process, record));
                    }
                    BeginResult::Stopped(_) => tally.stopped += 1,
                    BeginResult::Earlier(_) | BeginResult::LimitReached(_) => {}
                    BeginResult::OptedOut => panic!("nobody opted out: {context}"),
                }
            }
            Step::RenewLease { dispatch } => {
                let Some((process, record)) = pick(&begun, dispatch) else { continue };
                let renewal = handles[*process].renew_lease(
                    account.id(),
                    record.dispatch_id,
                    record.generation,
                    now,
                    lease_expires_at,
                );
                let generation = record.attempt.as_ref().unwrap().generation;
                match renewal.await.unwrap() {
                    LeaseRenewal::Renewed => {
                        assert!(may_dial(*process) && generation == newest, "{context}");
                    }
                    LeaseRenewal::Lost | LeaseRenewal::Stopped(_) => tally.withheld += 1,
                    LeaseRenewal::OptedOut => panic!("nobody opted out: {context}"),
                }
            }
            Step::TakeOver { dispatch } => {
                let Some((_, record)) = pick(&begun, dispatch) else { continue };
                let (id, now) = (record.dispatch_id, now.machine);
                handles[1].take_over(account.id(), id, now, lease_expires_at).await.unwrap();
            }
            Step::Result { dispatch, result } => {
                let Some((process, record)) = pick(&begun, dispatch) else { continue };
                let (ledger, id) = (&handles[*process], record.dispatch_id);
                let call = format!("call_{id}");
                match result {
                    "unknown" => drop(ledger.record_unknown(account.id(), id, now, true).await),
                    "not placed" => drop(ledger.record_not_placed(account.id(), id, "no").await),
                    "placed" => drop(ledger.record_placed(account.id(), id, &call).await),
                    _ => {
                        let end = CallEnd {
                            outcome: CallOutcome::Busy,
                            cost: None,
                            is_result_final: true,
                        };
                        ledger.record_placed(account.id(), id, &call).await.unwrap();
                        ledger.record_end(account.id(), &call, end).await.unwrap();
                    }
                }
            }
            Step::Report { process, row, sets_back, state } => {
                let mut report = batch.row(row).await;
                if sets_back {
                    report.attempts = report.attempts.saturating_sub(1);
                }
                report.state = if sets_back { RowState::Waiting } else { state };
                let is_written = of(process).update(generations[process], report).await;
                assert_eq!(is_written, generations[process] == newest, "{context}");
            }
            Step::Forget => {
                let is_forgotten = handles[0].forget_batch(account.id(), &batch.id).await.unwrap();
                assert_eq!(is_forgotten, is_canceled, "{context}");
            }
        }
        if is_canceled {
            assert!(!batch.states().await.contains(&RowState::Waiting), "{context}");
        }
    }
    let all = RecordFilter { batch_id: Some(batch.id.clone()), ..RecordFilter::default() };
    let all = RecordFilter { account_id: Some(account.id().clone()), limit: MAX_PAGE, ..all };
    assert_eq!(batch.ledger.list_records(all).await.unwrap().len(), begun.len());
}

fn pick(begun: &[(usize, DispatchRecord)], dispatch: usize) -> Option<&(usize, DispatchRecord)> {
    begun.get(dispatch.checked_rem(begun.len())?)
}

async fn find(batch: &Batch<'_>, record: &DispatchRecord) -> DispatchRecord {
    batch.ledger.find(batch.account.id(), record.dispatch_id).await.unwrap().unwrap()
}
