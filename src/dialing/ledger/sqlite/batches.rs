//! Batches and their rows in the file.

use async_trait::async_trait;
use jiff::Timestamp;
use rusqlite::{Connection, Row, Transaction, params};

use super::SqliteLedger;
use super::rows::{query_all, query_one};
use crate::dialing::clock::ClockReading;
use crate::dialing::ledger::{
    AccountId, Attempt, AttemptStop, BatchChange, BatchId, BatchLedger, BatchLookup, BatchRecord,
    BatchState, CreateBatchResult, DestinationHash, DispatchId, DispatchRecord, MAX_PAGE, MAX_SAME,
    Result, RowRecord, RowState, to_json,
};

const BY_BATCH: &str = "SELECT record FROM batch WHERE batch_id = ?1 AND account_id = ?2";

fn find_batch(
    db: &Connection,
    account: &AccountId,
    batch: &BatchId,
) -> rusqlite::Result<Option<BatchRecord>> {
    query_one(db, BY_BATCH, params![batch, account])
}

fn write_batch(db: &Connection, batch: &BatchRecord) -> Result<()> {
    db.prepare_cached(
        "INSERT INTO batch (batch_id, created_at, erase_at, record) VALUES (?1, ?2, ?3, ?4) \
         ON CONFLICT (batch_id) DO UPDATE SET erase_at = ?3, record = ?4",
    )?
    .execute(params![
        batch.batch_id,
        batch.created_at.as_millisecond(),
        batch.erase_at.map(Timestamp::as_millisecond),
        to_json(batch)?,
    ])?;
    Ok(())
}

pub(super) fn write_row(
    db: &Connection,
    account: &AccountId,
    batch: &BatchId,
    row: &RowRecord,
) -> Result<()> {
    db.prepare_cached(
        "INSERT INTO batch_row (batch_id, batch_row, account_id, record) VALUES (?1, ?2, ?3, ?4) \
         ON CONFLICT (batch_id, batch_row) DO UPDATE SET record = ?4",
    )?
    .execute(params![batch, row.row, account, to_json(row)?])?;
    Ok(())
}

fn list_rows(db: &Connection, batch: &BatchId) -> rusqlite::Result<Vec<RowRecord>> {
    let rows = "SELECT record FROM batch_row WHERE batch_id = ?1 ORDER BY batch_row";
    query_all(db, rows, [batch])
}

/// The unfinished batch in which a number waits, other than `except`; of one agent, or of any.
pub(super) fn find_waiting(
    db: &Connection,
    account: &AccountId,
    callee: &DestinationHash,
    agent: Option<&str>,
    except: Option<&BatchId>,
) -> rusqlite::Result<Option<BatchId>> {
    let batch: Option<BatchRecord> = query_one(
        db,
        "SELECT b.record FROM batch_row AS r JOIN batch AS b USING (batch_id) \
         WHERE r.account_id = ?1 AND r.callee_hash = ?2 AND r.state IN ('waiting', 'calling') \
         AND b.state IN ('running', 'paused', 'interrupted') AND (?3 IS NULL OR b.agent_id = ?3) \
         AND b.batch_id IS NOT ?4 LIMIT 1",
        params![account, callee, agent, except],
    )?;
    Ok(batch.map(|batch| batch.batch_id))
}

fn find_row(db: &Connection, batch: &BatchId, row: u32) -> rusqlite::Result<Option<RowRecord>> {
    let found = "SELECT record FROM batch_row WHERE batch_id = ?1 AND batch_row = ?2";
    query_one(db, found, params![batch, row])
}

/// Whether an attempt may be sent.
pub(super) fn check_attempt(
    db: &Connection,
    account: &AccountId,
    attempt: &Attempt,
    now: ClockReading,
) -> Result<Result<(), AttemptStop>> {
    let batch = find_batch(db, account, &attempt.batch_id)?;
    Ok(attempt.check(batch.as_ref(), now))
}

/// The row of an attempt once it has begun, if it may begin.
pub(super) fn claim_attempt(
    db: &Connection,
    account: &AccountId,
    attempt: &Attempt,
    dispatch: DispatchId,
    now: ClockReading,
) -> Result<Result<RowRecord, AttemptStop>> {
    if let Err(stop) = check_attempt(db, account, attempt, now)? {
        return Ok(Err(stop));
    }
    let row = find_row(db, &attempt.batch_id, attempt.row)?;
    let earlier: Vec<DispatchRecord> = query_all(
        db,
        "SELECT record FROM dispatch WHERE batch_id = ?1 AND batch_row = ?2",
        params![attempt.batch_id, attempt.row],
    )?;
    Ok(attempt.claim(dispatch, row.as_ref(), &earlier))
}

fn create(
    tx: &Transaction<'_>,
    batch: BatchRecord,
    rows: &[RowRecord],
    lookup: BatchLookup,
) -> Result<CreateBatchResult> {
    let account = &batch.account_id;
    let same_key: Option<BatchRecord> = query_one(
        tx,
        "SELECT record FROM batch WHERE account_id = ?1 AND idempotency_key = ?2 ORDER BY created_at DESC LIMIT 1",
        params![account, batch.idempotency_key],
    )?;
    if let Some(answer) = same_key.and_then(|earlier| lookup.answer_of_key(&batch, earlier)) {
        return Ok(answer);
    }
    let same: Vec<BatchRecord> = query_all(
        tx,
        "SELECT record FROM batch WHERE account_id = ?1 AND fingerprint = ?2 ORDER BY created_at DESC LIMIT ?3",
        params![account, batch.fingerprint, MAX_SAME],
    )?;
    if let Some(answer) = same.into_iter().find_map(|earlier| lookup.answer_of_list(earlier)) {
        return Ok(answer);
    }
    write_batch(tx, &batch)?;
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
) -> Result<Option<(BatchRecord, bool)>> {
    let Some(mut batch) = find_batch(tx, account, id)? else { return Ok(None) };
    let rows = if change.concerns_rows() { list_rows(tx, id)? } else { Vec::new() };
    let is_changed = batch.apply(change, &rows);
    if is_changed {
        write_batch(tx, &batch)?;
        for row in rows {
            follow(tx, &batch, &row, row.clone())?;
        }
    }
    Ok(Some((batch, is_changed)))
}

/// Writes a row as it follows its batch, if that is not as it was before.
fn follow(
    tx: &Transaction<'_>,
    batch: &BatchRecord,
    before: &RowRecord,
    mut row: RowRecord,
) -> Result<()> {
    let (account, id) = (&batch.account_id, &batch.batch_id);
    let other = match row.state {
        RowState::Waiting => find_waiting(tx, account, &row.callee.hash, None, Some(id))?,
        _ => None,
    };
    row.follow(batch, other.as_ref());
    if row == *before { Ok(()) } else { write_row(tx, account, id, &row) }
}

fn update(
    tx: &Transaction<'_>,
    account: &AccountId,
    id: &BatchId,
    generation: u32,
    report: RowRecord,
) -> Result<bool> {
    let batch = find_batch(tx, account, id)?.filter(|batch| batch.generation == generation);
    let Some((batch, before)) = batch.zip(find_row(tx, id, report.row)?) else { return Ok(false) };
    follow(tx, &batch, &before, before.with_report(report))?;
    Ok(true)
}

/// Erases the people of a batch, if it is finished.
fn erase(tx: &Transaction<'_>, mut batch: BatchRecord) -> Result<bool> {
    let is_erased = batch.erase();
    if is_erased {
        write_batch(tx, &batch)?;
        for mut row in list_rows(tx, &batch.batch_id)? {
            row.erase();
            write_row(tx, &batch.account_id, &batch.batch_id, &row)?;
        }
    }
    Ok(is_erased)
}

/// Removes erased records from the write-ahead log too. While another process reads, it stays there until a later
/// checkpoint.
fn truncate_log(db: &Connection) -> rusqlite::Result<()> {
    let is_busy = |row: &Row<'_>| row.get::<_, bool>(0);
    if db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", (), is_busy)? {
        tracing::warn!("another process reads the ledger; its log keeps erased people for a while");
    }
    Ok(())
}

#[async_trait]
impl BatchLedger for SqliteLedger {
    async fn create_batch(
        &self,
        batch: BatchRecord,
        rows: Vec<RowRecord>,
        lookup: BatchLookup,
    ) -> Result<CreateBatchResult> {
        self.write(move |tx| create(tx, batch, &rows, lookup)).await
    }

    async fn change_batch(
        &self,
        account: &AccountId,
        batch: &BatchId,
        to: BatchChange,
    ) -> Result<Option<(BatchRecord, bool)>> {
        let (account, batch) = (account.clone(), batch.clone());
        self.write(move |tx| change(tx, &account, &batch, to)).await
    }

    async fn update_row(
        &self,
        account: &AccountId,
        batch: &BatchId,
        generation: u32,
        row: RowRecord,
    ) -> Result<bool> {
        let (account, batch) = (account.clone(), batch.clone());
        self.write(move |tx| update(tx, &account, &batch, generation, row)).await
    }

    async fn find_batch(
        &self,
        account: &AccountId,
        batch: &BatchId,
    ) -> Result<Option<BatchRecord>> {
        self.find_one(BY_BATCH, (batch.clone(), account.clone())).await
    }

    async fn list_batches(&self, account: &AccountId, limit: u32) -> Result<Vec<BatchRecord>> {
        let newest = "SELECT record FROM batch WHERE account_id = ?1 ORDER BY created_at DESC, batch_id DESC LIMIT ?2";
        self.find_all(newest, (account.clone(), limit.min(MAX_PAGE))).await
    }

    async fn list_rows(&self, account: &AccountId, batch: &BatchId) -> Result<Vec<RowRecord>> {
        let rows = "SELECT record FROM batch_row WHERE batch_id = ?1 AND account_id = ?2 ORDER BY batch_row";
        self.find_all(rows, (batch.clone(), account.clone())).await
    }

    async fn erase_expired(&self, account: &AccountId, now: Timestamp) -> Result<()> {
        let account = account.clone();
        let expired = move |db: &Connection| -> rusqlite::Result<Vec<BatchRecord>> {
            let expired = "SELECT record FROM batch WHERE account_id = ?1 AND erase_at <= ?2";
            query_all(db, expired, params![account, now.as_millisecond()])
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
                        .execute([&batch.batch_id])?;
                } else {
                    erase(tx, batch)?;
                }
            }
            Ok(())
        })
        .await?;
        self.run(|db| Ok(truncate_log(db)?)).await
    }

    async fn forget_batch(&self, account: &AccountId, batch: &BatchId) -> Result<bool> {
        let (account, batch) = (account.clone(), batch.clone());
        let erase = self.write(move |tx| match find_batch(tx, &account, &batch)? {
            Some(batch) => erase(tx, batch),
            None => Ok(false),
        });
        let is_erased = erase.await?;
        if is_erased {
            self.run(|db| Ok(truncate_log(db)?)).await?;
        }
        Ok(is_erased)
    }
}
