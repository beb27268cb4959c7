//! Batches and their rows in the file. A batch and a row are JSON beside the columns that are searched.

use async_trait::async_trait;
use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::SqliteLedger;
use super::rows::damaged;
use super::usage::window_start;
use crate::dialing::clock::ClockReading;
use crate::dialing::ledger::{
    AccountId, BatchLedger, DestinationHash, IdempotencyKey, KEY_LIFETIME, LedgerError, MAX_PAGE,
};
use crate::dialing::ledger::{
    Attempt, AttemptStop, BatchChange, BatchId, BatchLookup, BatchRecord, BatchState,
    CreateBatchResult, RowRecord, RowState,
};

/// The states of a batch whose rows may still be called.
const UNFINISHED: &str = "('running', 'paused', 'interrupted')";

fn to_json(value: &impl Serialize) -> Result<String, LedgerError> {
    serde_json::to_string(value).map_err(|error| LedgerError::Storage(error.to_string()))
}

fn from_json<T: DeserializeOwned>(row: &Row<'_>) -> rusqlite::Result<T> {
    let record: String = row.get("record")?;
    serde_json::from_str(&record).map_err(|_| damaged("record"))
}

fn query_batch(
    db: &Connection,
    sql: &str,
    values: impl rusqlite::Params,
) -> rusqlite::Result<Option<BatchRecord>> {
    db.prepare_cached(sql)?.query_row(values, from_json).optional()
}

pub(super) fn find_batch(
    db: &Connection,
    account: &AccountId,
    batch: &BatchId,
) -> rusqlite::Result<Option<BatchRecord>> {
    query_batch(
        db,
        "SELECT record FROM batch WHERE batch_id = ?1 AND account_id = ?2",
        params![batch.as_str(), account.as_str()],
    )
}

fn write_batch(db: &Connection, batch: &BatchRecord) -> Result<(), LedgerError> {
    db.prepare_cached(
        "INSERT INTO batch (batch_id, account_id, agent_id, state, fingerprint, idempotency_key, created_at, erase_at, \
         record) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9) \
         ON CONFLICT (batch_id) DO UPDATE SET state = ?4, erase_at = ?8, record = ?9",
    )?
    .execute(params![
        batch.batch_id.as_str(),
        batch.account_id.as_str(),
        batch.agent_id,
        batch.state.as_str(),
        batch.fingerprint.as_str(),
        batch.idempotency_key.as_ref().map(IdempotencyKey::as_str),
        batch.created_at.as_millisecond(),
        batch.erase_at.map(Timestamp::as_millisecond),
        to_json(batch)?,
    ])?;
    Ok(())
}

fn write_row(
    db: &Connection,
    account: &AccountId,
    batch: &BatchId,
    row: &RowRecord,
) -> Result<(), LedgerError> {
    db.prepare_cached(
        "INSERT INTO batch_row (batch_id, batch_row, account_id, callee_hash, state, record) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT (batch_id, batch_row) DO UPDATE SET state = ?5, record = ?6",
    )?
    .execute(params![
        batch.as_str(),
        row.row,
        account.as_str(),
        row.callee.hash.as_str(),
        row.state.as_str(),
        to_json(row)?,
    ])?;
    Ok(())
}

fn list_rows(db: &Connection, batch: &BatchId) -> rusqlite::Result<Vec<RowRecord>> {
    db.prepare_cached("SELECT record FROM batch_row WHERE batch_id = ?1 ORDER BY batch_row")?
        .query_map([batch.as_str()], from_json)?
        .collect()
}

/// The unfinished batch in which a number waits, other than `except`; of one agent, or of any.
pub(super) fn find_waiting(
    db: &Connection,
    account: &AccountId,
    callee: &DestinationHash,
    agent: Option<&str>,
    except: Option<&BatchId>,
) -> rusqlite::Result<Option<BatchId>> {
    let found: Option<String> = db
        .prepare_cached(&format!(
            "SELECT b.batch_id FROM batch_row AS r JOIN batch AS b USING (batch_id) \
             WHERE r.account_id = ?1 AND r.callee_hash = ?2 AND r.state IN ('waiting', 'calling') \
             AND b.state IN {UNFINISHED} AND (?3 IS NULL OR b.agent_id = ?3) AND b.batch_id IS NOT ?4 LIMIT 1"
        ))?
        .query_row(
            params![account.as_str(), callee.as_str(), agent, except.map(BatchId::as_str)],
            |row| row.get(0),
        )
        .optional()?;
    found.map(|id| BatchId::parse(&id).map_err(|_| damaged("batch_id"))).transpose()
}

/// Why an attempt may not begin or be sent; `None` if it may.
pub(super) fn check_attempt(
    db: &Connection,
    account: &AccountId,
    attempt: &Attempt,
    now: ClockReading,
) -> Result<Option<AttemptStop>, LedgerError> {
    Ok(match find_batch(db, account, &attempt.batch_id)? {
        None => Some(AttemptStop::BatchStopped),
        Some(batch) => batch.attempt_stop(attempt.generation, now),
    })
}

/// The row that waits for this attempt, if it does.
pub(super) fn find_waiting_row(
    db: &Connection,
    attempt: &Attempt,
) -> Result<Option<RowRecord>, LedgerError> {
    let row: Option<RowRecord> = db
        .prepare_cached("SELECT record FROM batch_row WHERE batch_id = ?1 AND batch_row = ?2")?
        .query_row(params![attempt.batch_id.as_str(), attempt.row], from_json)
        .optional()?;
    Ok(row.filter(|row| {
        row.state == RowState::Waiting && row.attempts.checked_add(1) == Some(attempt.attempt)
    }))
}

/// Writes the row of an attempt with its intent.
pub(super) fn write_attempt_row(
    db: &Connection,
    account: &AccountId,
    attempt: &Attempt,
    row: &RowRecord,
) -> Result<(), LedgerError> {
    write_row(db, account, &attempt.batch_id, row)
}

fn create(
    tx: &Transaction<'_>,
    batch: &BatchRecord,
    rows: &[RowRecord],
    lookup: BatchLookup,
) -> Result<CreateBatchResult, LedgerError> {
    let account = batch.account_id.as_str();
    if let Some(key) = &batch.idempotency_key {
        let earlier = query_batch(
            tx,
            "SELECT record FROM batch WHERE account_id = ?1 AND idempotency_key = ?2 AND created_at > ?3 \
             AND (state <> 'asked' OR erase_at > ?4) ORDER BY created_at DESC LIMIT 1",
            params![
                account,
                key.as_str(),
                window_start(lookup.now.dialing, KEY_LIFETIME),
                lookup.now.machine.as_millisecond()
            ],
        )?;
        match earlier {
            Some(earlier) if earlier.fingerprint != batch.fingerprint => {
                return Ok(CreateBatchResult::KeyConflict(earlier));
            }
            Some(earlier) => return Ok(CreateBatchResult::Duplicate(earlier)),
            None => {}
        }
    }
    let same: Vec<BatchRecord> = tx
        .prepare_cached(
            "SELECT record FROM batch WHERE account_id = ?1 AND fingerprint = ?2 ORDER BY created_at DESC LIMIT 32",
        )?
        .query_map(params![account, batch.fingerprint.as_str()], from_json)?
        .collect::<rusqlite::Result<_>>()?;
    if let Some(earlier) = same.into_iter().find(|earlier| lookup.is_answered_by(earlier)) {
        return Ok(CreateBatchResult::Duplicate(earlier));
    }
    write_batch(tx, batch)?;
    for row in rows {
        write_row(tx, &batch.account_id, &batch.batch_id, row)?;
    }
    Ok(CreateBatchResult::Created)
}

fn change(
    tx: &Transaction<'_>,
    account: &AccountId,
    id: &BatchId,
    change: BatchChange,
) -> Result<Option<(BatchRecord, bool)>, LedgerError> {
    let Some(mut batch) = find_batch(tx, account, id)? else { return Ok(None) };
    let starts = matches!(change, BatchChange::Start(_));
    let is_changed = batch.apply(change);
    if is_changed {
        write_batch(tx, &batch)?;
    }
    if is_changed && starts {
        for mut row in list_rows(tx, id)?.into_iter().filter(|row| row.state == RowState::Waiting) {
            if let Some(other) = find_waiting(tx, account, &row.callee.hash, None, Some(id))? {
                row.refuse_for_batch(&other);
                write_row(tx, account, id, &row)?;
            }
        }
    }
    Ok(Some((batch, is_changed)))
}

/// Erases the people of a batch that [`BatchChange::Forget`] fits.
fn forget(tx: &Transaction<'_>, mut batch: BatchRecord) -> Result<bool, LedgerError> {
    let is_forgotten = batch.apply(BatchChange::Forget);
    if is_forgotten {
        write_batch(tx, &batch)?;
        for mut row in list_rows(tx, &batch.batch_id)? {
            row.erase();
            write_row(tx, &batch.account_id, &batch.batch_id, &row)?;
        }
    }
    Ok(is_forgotten)
}

#[async_trait]
impl BatchLedger for SqliteLedger {
    async fn create_batch(
        &self,
        batch: BatchRecord,
        rows: Vec<RowRecord>,
        lookup: BatchLookup,
    ) -> Result<CreateBatchResult, LedgerError> {
        self.write(move |tx| create(tx, &batch, &rows, lookup)).await
    }

    async fn change_batch(
        &self,
        account: &AccountId,
        batch: &BatchId,
        to: BatchChange,
    ) -> Result<Option<(BatchRecord, bool)>, LedgerError> {
        let (account, batch) = (account.clone(), batch.clone());
        self.write(move |tx| change(tx, &account, &batch, to)).await
    }

    async fn update_row(
        &self,
        account: &AccountId,
        batch: &BatchId,
        generation: u32,
        row: RowRecord,
    ) -> Result<bool, LedgerError> {
        let (account, batch) = (account.clone(), batch.clone());
        self.write(move |tx| {
            let found = find_batch(tx, &account, &batch)?;
            let is_held = found.is_some_and(|found| found.generation == generation);
            if is_held {
                write_row(tx, &account, &batch, &row)?;
            }
            Ok(is_held)
        })
        .await
    }

    async fn find_batch(
        &self,
        account: &AccountId,
        batch: &BatchId,
    ) -> Result<Option<BatchRecord>, LedgerError> {
        let (account, batch) = (account.clone(), batch.clone());
        self.run(move |db| Ok(find_batch(db, &account, &batch)?)).await
    }

    async fn list_batches(
        &self,
        account: &AccountId,
        limit: u32,
    ) -> Result<Vec<BatchRecord>, LedgerError> {
        let account = account.clone();
        self.run(move |db| {
            let batches = db
                .prepare_cached(
                    "SELECT record FROM batch WHERE account_id = ?1 ORDER BY created_at DESC, batch_id DESC LIMIT ?2",
                )?
                .query_map(params![account.as_str(), limit.min(MAX_PAGE)], from_json)?
                .collect::<rusqlite::Result<_>>()?;
            Ok(batches)
        })
        .await
    }

    async fn list_rows(
        &self,
        account: &AccountId,
        batch: &BatchId,
    ) -> Result<Vec<RowRecord>, LedgerError> {
        let (account, batch) = (account.clone(), batch.clone());
        self.run(move |db| match find_batch(db, &account, &batch)? {
            Some(_) => Ok(list_rows(db, &batch)?),
            None => Ok(Vec::new()),
        })
        .await
    }

    async fn erase_expired(&self, account: &AccountId, now: Timestamp) -> Result<(), LedgerError> {
        let account = account.clone();
        let expired = move |db: &Connection| -> rusqlite::Result<Vec<BatchRecord>> {
            db.prepare_cached("SELECT record FROM batch WHERE account_id = ?1 AND erase_at <= ?2")?
                .query_map(params![account.as_str(), now.as_millisecond()], from_json)?
                .collect()
        };
        let find = expired.clone();
        // Mostly there is nothing to erase, and no other process must wait for that.
        if self.run(move |db| Ok(find(db)?.is_empty())).await? {
            return Ok(());
        }
        self.write(move |tx| {
            for batch in expired(tx)? {
                if batch.state == BatchState::Asked {
                    tx.prepare_cached("DELETE FROM batch WHERE batch_id = ?1")?
                        .execute([batch.batch_id.as_str()])?;
                } else {
                    forget(tx, batch)?;
                }
            }
            Ok(())
        })
        .await
    }

    async fn forget_batch(
        &self,
        account: &AccountId,
        batch: &BatchId,
    ) -> Result<bool, LedgerError> {
        let (account, batch) = (account.clone(), batch.clone());
        self.write(move |tx| match find_batch(tx, &account, &batch)? {
            Some(batch) => forget(tx, batch),
            None => Ok(false),
        })
        .await
    }
}
