//! The ledger in an SQLite file, shared by all processes of one user on one machine.
//!
//! One thread owns the connection and reads its work from a bounded queue. Every change is one `BEGIN IMMEDIATE`
//! transaction, so that processes take turns. The file is in WAL mode with `synchronous=FULL`, so that a committed
//! intent survives a power cut. Not for network file systems, whose locks are not good enough for WAL
//! (<https://www.sqlite.org/wal.html>); several machines share [`super::redis`] instead.

mod batches;
mod open;
mod opt_outs;
mod rows;
mod usage;

use std::fmt;
use std::path::PathBuf;

use async_trait::async_trait;
use jiff::Timestamp;
use rusqlite::{
    Connection, ErrorCode, OptionalExtension, Params, Transaction, TransactionBehavior, params,
};
use serde::de::DeserializeOwned;
use tokio::sync::{mpsc, oneshot};

use self::open::LedgerFile;
use self::rows::{query_all, query_one, write_dispatch};
use super::{
    AccountId, BeginConstraints, BeginResult, DestinationHash, DispatchId, DispatchLookup,
    DispatchRecord, EarlierDispatch, KEY_LIFETIME, KeyHash, LeaseRenewal, Ledger, LedgerError,
    LedgerSecret, MAX_PAGE, NewIntent, RecordChange, RecordFilter, Result,
};
use crate::dialing::Environment;
use crate::dialing::caller::CallerName;
use crate::dialing::clock::ClockReading;
use crate::dialing::limits::{CallLimits, Usage};
use callingbox::MilliCents;

/// How many jobs wait for the thread. Each takes milliseconds, and a caller who finds the queue full waits.
const MAX_QUEUED_JOBS: usize = 64;

type Job = Box<dyn FnOnce(Result<&mut Connection>) + Send>;

/// A ledger in a file.
pub struct SqliteLedger {
    path: PathBuf,
    environment: Environment,
    jobs: mpsc::Sender<Job>,
}

impl fmt::Debug for SqliteLedger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SqliteLedger({}, {})", self.path.display(), self.environment)
    }
}

impl SqliteLedger {
    /// Opens the file, or creates it for its owner alone.
    ///
    /// # Errors
    /// The file cannot be opened or written, is of a newer version, belongs to the other environment, or is not a
    /// ledger.
    pub async fn open(path: impl Into<PathBuf>, environment: Environment) -> Result<Self> {
        let path = path.into();
        let (jobs, mut queue) = mpsc::channel::<Job>(MAX_QUEUED_JOBS);
        let (opened, opening) = oneshot::channel();
        let mut file = LedgerFile::new(path.clone(), environment);
        std::thread::Builder::new()
            .name("ledger".to_owned())
            .spawn(move || {
                let result = file.connection().map(|_| ());
                let is_open = result.is_ok();
                let _ = opened.send(result);
                while is_open && let Some(job) = queue.blocking_recv() {
                    job(file.connection());
                }
            })
            .map_err(|error| LedgerError::Open { path: path.clone(), reason: error.to_string() })?;
        opening.await.map_err(|_| stopped())??;
        Ok(Self { path, environment, jobs })
    }

    /// Runs one transaction on the thread. An error rolls it back.
    async fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Transaction<'_>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.run(move |db| {
            let tx = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let result = work(&tx)?;
            tx.commit()?;
            Ok(result)
        })
        .await
    }

    /// The record of the first row.
    async fn find_one<T: DeserializeOwned + Send + 'static>(
        &self,
        sql: &'static str,
        values: impl Params + Send + 'static,
    ) -> Result<Option<T>> {
        self.run(move |db| Ok(query_one(db, sql, values)?)).await
    }

    /// The records of all rows.
    async fn find_all<T: DeserializeOwned + Send + 'static>(
        &self,
        sql: &'static str,
        values: impl Params + Send + 'static,
    ) -> Result<Vec<T>> {
        self.run(move |db| Ok(query_all(db, sql, values)?)).await
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Connection) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (sender, receiver) = oneshot::channel();
        let job: Job = Box::new(move |db| {
            let _ = sender.send(db.and_then(work));
        });
        self.jobs.send(job).await.map_err(|_| stopped())?;
        receiver.await.map_err(|_| stopped())?
    }
}

fn stopped() -> LedgerError {
    LedgerError::Storage("its thread has stopped".to_owned())
}

impl From<rusqlite::Error> for LedgerError {
    fn from(error: rusqlite::Error) -> Self {
        match error {
            error if open::is_busy(&error) => Self::Locked,
            error if error.sqlite_error_code() == Some(ErrorCode::DiskFull) => Self::Full,
            error if error.sqlite_error_code() == Some(ErrorCode::DatabaseCorrupt) => {
                Self::Damaged(error.to_string())
            }
            rusqlite::Error::FromSqlConversionFailure(_, _, what) => {
                Self::Damaged(what.to_string())
            }
            error => Self::Storage(error.to_string()),
        }
    }
}

const BY_DISPATCH: &str = "SELECT record FROM dispatch WHERE dispatch_id = ?1 AND account_id = ?2";

fn find_by_dispatch(
    db: &Connection,
    account: &AccountId,
    dispatch: DispatchId,
) -> Result<DispatchRecord> {
    query_one(db, BY_DISPATCH, params![dispatch, account])?
        .ok_or(LedgerError::NoSuchDispatch(dispatch))
}

fn find_earlier(db: &Connection, lookup: &DispatchLookup) -> Result<Option<EarlierDispatch>> {
    let account = &lookup.account_id;
    if lookup.attempt.is_some() {
        let open: Option<DispatchRecord> = query_one(
            db,
            "SELECT record FROM dispatch WHERE account_id = ?1 AND callee_hash = ?2 AND kind = 'call' \
             AND state IN ('intent', 'unknown') ORDER BY created_at DESC, dispatch_id DESC LIMIT 1",
            params![account, lookup.pair.as_ref().map(|(_, callee)| callee)],
        )?;
        return match open.and_then(|record| record.into_earlier(lookup.now.machine)) {
            Some(earlier) => Ok(Some(earlier)),
            None => find_similar(db, lookup),
        };
    }
    let since = usage::window_start(lookup.now.dialing, KEY_LIFETIME);
    let same_key: Option<DispatchRecord> = query_one(
        db,
        "SELECT record FROM dispatch WHERE account_id = ?1 AND idempotency_key = ?2 AND created_at > ?3 \
         ORDER BY created_at DESC, dispatch_id DESC LIMIT 1",
        params![account, lookup.idempotency_key, since],
    )?;
    if let Some(record) = same_key {
        if record.fingerprint != lookup.fingerprint {
            return Ok(Some(EarlierDispatch::KeyConflict(record)));
        }
        if let Some(earlier) = record.into_earlier(lookup.now.machine) {
            return Ok(Some(earlier));
        }
    }
    let same: Option<DispatchRecord> = query_one(
        db,
        "SELECT record FROM dispatch WHERE account_id = ?1 AND fingerprint = ?2 AND (state IN ('intent', 'unknown') \
         OR (NOT ?3 AND created_at > ?4 AND state IN ('placed', 'finished'))) \
         ORDER BY state IN ('intent', 'unknown') DESC, created_at DESC, dispatch_id DESC LIMIT 1",
        params![
            account,
            lookup.fingerprint,
            lookup.allow_repeat,
            lookup.repeats_since.as_millisecond()
        ],
    )?;
    if let Some(earlier) = same.and_then(|record| record.into_earlier(lookup.now.machine)) {
        return Ok(Some(earlier));
    }
    find_similar(db, lookup)
}

/// A call by the same agent to the same number in whatever words, or an unfinished batch in which the number waits.
fn find_similar(db: &Connection, lookup: &DispatchLookup) -> Result<Option<EarlierDispatch>> {
    let Some((agent, callee)) = lookup.pair.as_ref().filter(|_| lookup.is_blocked_by_pair()) else {
        return Ok(None);
    };
    let account = &lookup.account_id;
    let similar: Option<DispatchRecord> = query_one(
        db,
        "SELECT record FROM dispatch WHERE account_id = ?1 AND callee_hash = ?2 AND created_at > ?3 \
         AND agent_id = ?4 AND kind = 'call' AND state <> 'not_placed' \
         ORDER BY created_at DESC, dispatch_id DESC LIMIT 1",
        params![account, callee, lookup.repeats_since.as_millisecond(), agent],
    )?;
    Ok(match similar {
        // Another process wrote it after the search for an identical order.
        Some(record) if record.fingerprint == lookup.fingerprint => {
            record.into_earlier(lookup.now.machine)
        }
        Some(record) => Some(EarlierDispatch::SimilarCall(record)),
        None if lookup.attempt.is_some() => None,
        None => batches::find_waiting(db, account, callee, Some(agent), None)?
            .map(EarlierDispatch::WaitsInBatch),
    })
}

fn begin(
    db: &Connection,
    intent: NewIntent,
    constraints: &BeginConstraints,
) -> Result<BeginResult> {
    let row = match &intent.attempt {
        None => None,
        Some(attempt) => {
            let (account, dispatch) = (&intent.account_id, intent.dispatch_id);
            match batches::claim_attempt(db, account, attempt, dispatch, constraints.now)? {
                Ok(row) => Some(row),
                Err(stop) => return Ok(BeginResult::Stopped(stop)),
            }
        }
    };
    let callee = intent.callee.as_ref().map(|callee| &callee.hash);
    if !opt_outs::may_call(db, &intent.account_id, callee, constraints.now.dialing)? {
        return Ok(BeginResult::OptedOut);
    }
    if let Some(earlier) = find_earlier(db, &DispatchLookup::from_intent(&intent, constraints))? {
        return Ok(BeginResult::Earlier(earlier));
    }
    let NewIntent { account_id, caller, hold, .. } = &intent;
    let usage = usage::measure_usage(
        db,
        account_id,
        caller,
        callee,
        &constraints.limits,
        *hold,
        constraints.now.dialing,
    )?;
    if let Some(reached) = constraints.limits.check_all(intent.kind, &usage, intent.hold) {
        return Ok(BeginResult::LimitReached(reached));
    }
    let record = DispatchRecord::from_intent(intent, constraints);
    write_dispatch(db, &record)?;
    if let Some((attempt, row)) = record.attempt.as_ref().zip(row) {
        batches::write_row(db, &record.account_id, &attempt.batch_id, &row)?;
    }
    Ok(BeginResult::Begun(record))
}

#[async_trait]
impl Ledger for SqliteLedger {
    async fn find_earlier(&self, lookup: DispatchLookup) -> Result<Option<EarlierDispatch>> {
        self.run(move |db| find_earlier(db, &lookup)).await
    }

    async fn begin(&self, intent: NewIntent, constraints: BeginConstraints) -> Result<BeginResult> {
        self.write(move |tx| begin(tx, intent, &constraints)).await
    }

    async fn renew_lease(
        &self,
        account: &AccountId,
        dispatch: DispatchId,
        generation: u32,
        now: ClockReading,
        lease_expires_at: Timestamp,
    ) -> Result<LeaseRenewal> {
        let account = account.clone();
        self.write(move |tx| {
            let mut record = find_by_dispatch(tx, &account, dispatch)?;
            if let Some(attempt) = &record.attempt
                && let Err(stop) = batches::check_attempt(tx, &account, attempt, now)?
            {
                return Ok(LeaseRenewal::Stopped(stop));
            }
            if !record.renew_lease(generation, lease_expires_at) {
                return Ok(LeaseRenewal::Lost);
            }
            let callee = record.callee.as_ref().map(|callee| &callee.hash);
            if !opt_outs::may_call(tx, &account, callee, now.dialing)? {
                return Ok(LeaseRenewal::OptedOut);
            }
            write_dispatch(tx, &record)?;
            Ok(LeaseRenewal::Renewed)
        })
        .await
    }

    async fn change(
        &self,
        account: &AccountId,
        dispatch: DispatchId,
        change: RecordChange,
    ) -> Result<(DispatchRecord, bool)> {
        let account = account.clone();
        self.write(move |tx| {
            let mut record = find_by_dispatch(tx, &account, dispatch)?;
            let is_changed = change(&mut record)?;
            if is_changed {
                write_dispatch(tx, &record)?;
            }
            Ok((record, is_changed))
        })
        .await
    }

    async fn measure_usage(
        &self,
        account: &AccountId,
        caller: &CallerName,
        callee: Option<&DestinationHash>,
        limits: &CallLimits,
        hold: MilliCents,
        now: Timestamp,
    ) -> Result<Usage> {
        let (account, caller, callee) = (account.clone(), caller.clone(), callee.cloned());
        let limits = *limits;
        self.run(move |db| {
            let callee = callee.as_ref();
            Ok(usage::measure_usage(db, &account, &caller, callee, &limits, hold, now)?)
        })
        .await
    }

    async fn is_known_destination(
        &self,
        account: &AccountId,
        callee: &DestinationHash,
    ) -> Result<bool> {
        let (account, callee) = (account.clone(), callee.clone());
        self.run(move |db| {
            Ok(db
                .prepare_cached(
                    "SELECT EXISTS (SELECT 1 FROM dispatch WHERE account_id = ?1 AND callee_hash = ?2 \
                     AND state IN ('placed', 'finished'))",
                )?
                .query_row(params![account.as_str(), callee.as_str()], |row| row.get(0))?)
        })
        .await
    }

    async fn list_unresolved(&self, account: &AccountId) -> Result<Vec<DispatchRecord>> {
        let unresolved = "SELECT record FROM dispatch WHERE account_id = ?1 AND state IN ('intent', 'unknown') \
                          ORDER BY created_at, dispatch_id LIMIT ?2";
        self.find_all(unresolved, (account.clone(), MAX_PAGE)).await
    }

    async fn find(
        &self,
        account: &AccountId,
        dispatch: DispatchId,
    ) -> Result<Option<DispatchRecord>> {
        self.find_one(BY_DISPATCH, (dispatch, account.clone())).await
    }

    async fn find_by_remote_id(
        &self,
        account: &AccountId,
        id: &str,
    ) -> Result<Option<DispatchRecord>> {
        let newest = "SELECT record FROM dispatch WHERE account_id = ?1 AND remote_id = ?2 \
                      ORDER BY created_at DESC LIMIT 1";
        self.find_one(newest, (account.clone(), id.to_owned())).await
    }

    async fn list_unread_calls(
        &self,
        account: &AccountId,
        callee: &DestinationHash,
        limit: u32,
    ) -> Result<Vec<DispatchRecord>> {
        let unread = "SELECT record FROM dispatch WHERE account_id = ?1 AND callee_hash = ?2 AND kind = 'call' \
                      AND state IN ('placed', 'finished') AND NOT result_read \
                      ORDER BY created_at DESC, dispatch_id DESC LIMIT ?3";
        self.find_all(unread, (account.clone(), callee.clone(), limit)).await
    }

    async fn list_records(&self, filter: RecordFilter) -> Result<Vec<DispatchRecord>> {
        let page = "SELECT record FROM dispatch WHERE (?1 IS NULL OR account_id = ?1) \
                    AND (?2 IS NULL OR created_at >= ?2) AND (?3 IS NULL OR coalesce(outcome, state) = ?3) \
                    AND (?4 IS NULL OR (created_at, dispatch_id) < (?4, ?5)) AND (?6 IS NULL OR caller = ?6) \
                    AND (?7 IS NULL OR batch_id = ?7) \
                    ORDER BY created_at DESC, dispatch_id DESC LIMIT ?8";
        let RecordFilter { account_id, since, status, caller, batch_id, before, limit } = filter;
        let values = (
            account_id,
            since.map(Timestamp::as_millisecond),
            status,
            before.map(|cursor| cursor.created_at.as_millisecond()),
            before.map(|cursor| cursor.dispatch_id),
            caller,
            batch_id,
            limit.min(MAX_PAGE),
        );
        self.find_all(page, values).await
    }

    async fn redeem_token(
        &self,
        account: &AccountId,
        token_id: &str,
        expires_at: Timestamp,
        now: Timestamp,
    ) -> Result<bool> {
        if now >= expires_at {
            return Ok(false);
        }
        let (account, token) = (account.clone(), token_id.to_owned());
        self.write(move |tx| {
            tx.prepare_cached("DELETE FROM used_token WHERE expires_at <= ?1")?
                .execute([now.as_millisecond()])?;
            let written = tx
                .prepare_cached(
                    "INSERT OR IGNORE INTO used_token (account_id, token_id, expires_at) VALUES (?1, ?2, ?3)",
                )?
                .execute(params![account, token, expires_at.as_millisecond()])?;
            Ok(written == 1)
        })
        .await
    }

    async fn is_token_redeemed(
        &self,
        account: &AccountId,
        token_id: &str,
        now: Timestamp,
    ) -> Result<bool> {
        let (account, token) = (account.clone(), token_id.to_owned());
        self.run(move |db| {
            let found = db
                .prepare_cached(
                    "SELECT 1 FROM used_token WHERE account_id = ?1 AND token_id = ?2 AND expires_at > ?3",
                )?
                .exists(params![account, token, now.as_millisecond()])?;
            Ok(found)
        })
        .await
    }

    async fn find_account_of_key(&self, key: &KeyHash) -> Result<Option<AccountId>> {
        let key = key.clone();
        self.run(move |db| {
            let account = db
                .prepare_cached("SELECT account_id FROM api_key WHERE key_hash = ?1")?
                .query_row([key], |row| row.get(0))
                .optional()?;
            Ok(account.map(AccountId))
        })
        .await
    }

    async fn record_account_of_key(&self, key: &KeyHash, account: &AccountId) -> Result<()> {
        let (key, account) = (key.clone(), account.clone());
        self.write(move |tx| {
            tx.prepare_cached(
                "INSERT OR REPLACE INTO api_key (key_hash, account_id) VALUES (?1, ?2)",
            )?
            .execute(params![key, account])?;
            Ok(())
        })
        .await
    }

    async fn secret(&self) -> Result<LedgerSecret> {
        self.run(|db| {
            let read = "SELECT value FROM meta WHERE name = 'secret'";
            Ok(LedgerSecret::new(db.prepare_cached(read)?.query_row((), |row| row.get(0))?))
        })
        .await
    }
}

#[cfg(test)]
mod tests;
