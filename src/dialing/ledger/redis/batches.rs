//! Batches and their rows on the server. What is decided here, a script writes only if nothing has changed meanwhile.

use async_trait::async_trait;
use jiff::Timestamp;
use redis::AsyncCommands;
use serde::{Deserialize, Serialize};

use super::{MAX_ATTEMPTS, RedisLedger, damaged, key_since};
use crate::dialing::ledger::{
    AccountId, BatchLedger, DestinationHash, IdempotencyKey, LedgerError, MAX_PAGE,
};
use crate::dialing::ledger::{
    AttemptStop, BatchChange, BatchId, BatchLookup, BatchRecord, BatchState, CreateBatchResult,
    RowRecord, RowState,
};

/// How many earlier batches with the same list are looked at.
const MAX_SAME: isize = 32;

/// A batch as it is stored, with what the scripts read.
#[derive(Serialize, Deserialize)]
struct StoredBatch {
    state: BatchState,
    generation: u32,
    lease_ms: i64,
    end_by_ms: i64,
    agent_id: String,
    record: BatchRecord,
}

/// A row as it is stored, with what the scripts read.
#[derive(Serialize, Deserialize)]
struct StoredRow {
    state: RowState,
    attempts: u32,
    callee: DestinationHash,
    record: RowRecord,
}

fn to_json(value: &impl Serialize) -> Result<String, LedgerError> {
    serde_json::to_string(value).map_err(|error| LedgerError::Storage(error.to_string()))
}

fn read_batch(raw: &str) -> Result<BatchRecord, LedgerError> {
    serde_json::from_str::<StoredBatch>(raw)
        .map(|stored| stored.record)
        .map_err(|error| LedgerError::Damaged(error.to_string()))
}

fn write_batch(batch: &BatchRecord) -> Result<String, LedgerError> {
    to_json(&StoredBatch {
        state: batch.state,
        generation: batch.generation,
        lease_ms: batch.lease_expires_at.as_millisecond(),
        end_by_ms: batch.end_by.as_millisecond(),
        agent_id: batch.agent_id.clone(),
        record: batch.clone(),
    })
}

fn read_row(raw: &str) -> Result<RowRecord, LedgerError> {
    serde_json::from_str::<StoredRow>(raw)
        .map(|stored| stored.record)
        .map_err(|error| LedgerError::Damaged(error.to_string()))
}

/// A row as it is stored.
pub(super) fn write_row(row: &RowRecord) -> Result<String, LedgerError> {
    to_json(&StoredRow {
        state: row.state,
        attempts: row.attempts,
        callee: row.callee.hash.clone(),
        record: row.clone(),
    })
}

/// Why a script stopped an attempt.
pub(super) fn read_stop(why: &str) -> Result<AttemptStop, LedgerError> {
    match why {
        "batch" => Ok(AttemptStop::BatchStopped),
        "window" => Ok(AttemptStop::WindowClosed),
        "attempt" => Ok(AttemptStop::AttemptTaken),
        _ => Err(damaged("an attempt")),
    }
}

fn encode_erase(batch: &BatchRecord) -> String {
    batch.erase_at.map_or_else(String::new, |at| at.as_millisecond().to_string())
}

impl RedisLedger {
    async fn raw_batch(
        &self,
        account: &AccountId,
        batch: &str,
    ) -> Result<Option<String>, LedgerError> {
        Ok(self.connection.clone().get(self.key(account, &format!("batch:{batch}"))).await?)
    }

    pub(super) async fn find_row(
        &self,
        account: &AccountId,
        batch: &BatchId,
        row: u32,
    ) -> Result<Option<RowRecord>, LedgerError> {
        let key = self.key(account, &format!("rows:{batch}"));
        let raw: Option<String> = self.connection.clone().hget(key, row).await?;
        raw.map(|raw| read_row(&raw)).transpose()
    }

    /// The unfinished batch in which a number waits, other than this one.
    async fn find_waiting(
        &self,
        account: &AccountId,
        callee: &DestinationHash,
        except: &BatchId,
    ) -> Result<Option<BatchId>, LedgerError> {
        let key = self.key(account, &format!("waits:{}", callee.as_str()));
        let other: Option<String> = self.connection.clone().get(key).await?;
        let Some(other) = other.filter(|other| other != except.as_str()) else { return Ok(None) };
        let other =
            self.raw_batch(account, &other).await?.map(|raw| read_batch(&raw)).transpose()?;
        Ok(other.filter(|other| other.state.is_unfinished()).map(|other| other.batch_id))
    }

    /// The rows that are refused if this batch starts now, and the numbers that wait from then on.
    async fn divide_rows(
        &self,
        account: &AccountId,
        batch: &BatchId,
    ) -> Result<(Vec<RowRecord>, Vec<DestinationHash>), LedgerError> {
        let (mut refused, mut waiting) = (Vec::new(), Vec::new());
        let rows = self.list_rows(account, batch).await?;
        for mut row in rows.into_iter().filter(|row| row.state == RowState::Waiting) {
            match self.find_waiting(account, &row.callee.hash, batch).await? {
                Some(other) => {
                    row.refuse_for_batch(&other);
                    refused.push(row);
                }
                None => waiting.push(row.callee.hash),
            }
        }
        Ok((refused, waiting))
    }

    async fn forget(&self, account: &AccountId, batch: &BatchId) -> Result<bool, LedgerError> {
        match self.change_batch(account, batch, BatchChange::Forget).await? {
            Some((_, true)) => {
                // No row of a finished batch changes anymore.
                for mut row in self.list_rows(account, batch).await? {
                    row.erase();
                    let key = self.key(account, &format!("rows:{batch}"));
                    let _: () =
                        self.connection.clone().hset(key, row.row, write_row(&row)?).await?;
                }
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    async fn delete_batch(&self, batch: &BatchRecord) -> Result<(), LedgerError> {
        let delete = "local id = ARGV[1] \
                      redis.call('DEL', P .. 'batch:' .. id, P .. 'rows:' .. id) \
                      redis.call('ZREM', P .. 'batches', id) redis.call('ZREM', P .. 'batch_erase', id) \
                      redis.call('ZREM', P .. 'batch_fp:' .. ARGV[2], id) \
                      local key = P .. 'batch_key:' .. ARGV[3] \
                      if ARGV[3] ~= '' and redis.call('GET', key) == id then redis.call('DEL', key) end return 1";
        let _: i64 = self
            .invoke(&batch.account_id, delete, |script| {
                script
                    .arg(batch.batch_id.as_str())
                    .arg(batch.fingerprint.as_str())
                    .arg(batch.idempotency_key.as_ref().map_or("", IdempotencyKey::as_str));
            })
            .await?;
        Ok(())
    }
}

#[async_trait]
impl BatchLedger for RedisLedger {
    async fn create_batch(
        &self,
        batch: BatchRecord,
        rows: Vec<RowRecord>,
        lookup: BatchLookup,
    ) -> Result<CreateBatchResult, LedgerError> {
        let account = &batch.account_id;
        let key = batch.idempotency_key.as_ref().map_or("", IdempotencyKey::as_str);
        let rows: Vec<(u32, String)> = rows
            .iter()
            .map(|row| Ok((row.row, write_row(row)?)))
            .collect::<Result<_, LedgerError>>()?;
        for _ in 0..MAX_ATTEMPTS {
            let mut connection = self.connection.clone();
            let of_key: Option<String> = match key {
                "" => None,
                key => connection.get(self.key(account, &format!("batch_key:{key}"))).await?,
            };
            if let Some(id) = &of_key
                && let Some(raw) = self.raw_batch(account, id).await?
            {
                let earlier = read_batch(&raw)?;
                let is_recent = earlier.created_at.as_millisecond() > key_since(lookup.now.dialing);
                let is_gone =
                    earlier.state == BatchState::Asked && earlier.is_erasable(lookup.now.machine);
                match is_recent && !is_gone {
                    true if earlier.fingerprint != batch.fingerprint => {
                        return Ok(CreateBatchResult::KeyConflict(earlier));
                    }
                    true => return Ok(CreateBatchResult::Duplicate(earlier)),
                    false => {}
                }
            }
            let same_key = self.key(account, &format!("batch_fp:{}", batch.fingerprint.as_str()));
            let same: Vec<String> = connection.zrevrange(same_key, 0, MAX_SAME - 1).await?;
            for id in &same {
                if let Some(raw) = self.raw_batch(account, id).await? {
                    let earlier = read_batch(&raw)?;
                    if lookup.is_answered_by(&earlier) {
                        return Ok(CreateBatchResult::Duplicate(earlier));
                    }
                }
            }
            let raw = write_batch(&batch)?;
            let created: bool = self
                .invoke(account, include_str!("create_batch.lua"), |script| {
                    script
                        .arg(batch.batch_id.as_str())
                        .arg(&raw)
                        .arg(batch.fingerprint.as_str())
                        .arg(key)
                        .arg(batch.created_at.as_millisecond())
                        .arg(encode_erase(&batch))
                        .arg(same.first().map_or("", String::as_str))
                        .arg(of_key.as_deref().unwrap_or_default());
                    for (row, raw) in &rows {
                        script.arg(row).arg(raw);
                    }
                })
                .await?;
            if created {
                return Ok(CreateBatchResult::Created);
            }
        }
        Err(LedgerError::Locked)
    }

    async fn change_batch(
        &self,
        account: &AccountId,
        id: &BatchId,
        change: BatchChange,
    ) -> Result<Option<(BatchRecord, bool)>, LedgerError> {
        for _ in 0..MAX_ATTEMPTS {
            let Some(before) = self.raw_batch(account, id.as_str()).await? else {
                return Ok(None);
            };
            let mut batch = read_batch(&before)?;
            if !batch.apply(change.clone()) {
                return Ok(Some((batch, false)));
            }
            let (refused, waiting) = match &change {
                BatchChange::Start(_) => self.divide_rows(account, id).await?,
                _ => Default::default(),
            };
            let (after, waiting) = (write_batch(&batch)?, to_json(&waiting)?);
            let refused: Vec<(u32, String)> = refused
                .iter()
                .map(|row| Ok((row.row, write_row(row)?)))
                .collect::<Result<_, LedgerError>>()?;
            let is_changed: bool = self
                .invoke(account, include_str!("change_batch.lua"), |script| {
                    script
                        .arg(id.as_str())
                        .arg(&before)
                        .arg(&after)
                        .arg(encode_erase(&batch))
                        .arg(&waiting);
                    for (row, raw) in &refused {
                        script.arg(row).arg(raw);
                    }
                })
                .await?;
            if is_changed {
                return Ok(Some((batch, true)));
            }
        }
        Err(LedgerError::Locked)
    }

    async fn update_row(
        &self,
        account: &AccountId,
        batch: &BatchId,
        generation: u32,
        row: RowRecord,
    ) -> Result<bool, LedgerError> {
        let update = "local batch = find_batch(ARGV[1]) \
                      if not batch or batch.generation ~= tonumber(ARGV[2]) then return 0 end \
                      write_row(ARGV[1], ARGV[3], ARGV[4]) return 1";
        let raw = write_row(&row)?;
        self.invoke(account, update, |script| {
            script.arg(batch.as_str()).arg(generation).arg(row.row).arg(raw);
        })
        .await
    }

    async fn find_batch(
        &self,
        account: &AccountId,
        batch: &BatchId,
    ) -> Result<Option<BatchRecord>, LedgerError> {
        self.raw_batch(account, batch.as_str()).await?.map(|raw| read_batch(&raw)).transpose()
    }

    async fn list_batches(
        &self,
        account: &AccountId,
        limit: u32,
    ) -> Result<Vec<BatchRecord>, LedgerError> {
        let last = isize::try_from(limit.min(MAX_PAGE)).unwrap_or(isize::MAX) - 1;
        let ids: Vec<String> =
            self.connection.clone().zrevrange(self.key(account, "batches"), 0, last).await?;
        let mut batches = Vec::new();
        for id in ids {
            if let Some(raw) = self.raw_batch(account, &id).await? {
                batches.push(read_batch(&raw)?);
            }
        }
        Ok(batches)
    }

    async fn list_rows(
        &self,
        account: &AccountId,
        batch: &BatchId,
    ) -> Result<Vec<RowRecord>, LedgerError> {
        let key = self.key(account, &format!("rows:{batch}"));
        let raw: Vec<String> = self.connection.clone().hvals(key).await?;
        let mut rows: Vec<RowRecord> =
            raw.iter().map(|raw| read_row(raw)).collect::<Result<_, _>>()?;
        rows.sort_by_key(|row| row.row);
        Ok(rows)
    }

    async fn erase_expired(&self, account: &AccountId, now: Timestamp) -> Result<(), LedgerError> {
        let key = self.key(account, "batch_erase");
        let ids: Vec<String> =
            self.connection.clone().zrangebyscore(key, "-inf", now.as_millisecond()).await?;
        for id in ids {
            match self.raw_batch(account, &id).await?.map(|raw| read_batch(&raw)).transpose()? {
                Some(batch) if batch.state == BatchState::Asked => {
                    self.delete_batch(&batch).await?;
                }
                Some(batch) => {
                    self.forget(account, &batch.batch_id).await?;
                }
                None => {}
            }
        }
        Ok(())
    }

    async fn forget_batch(
        &self,
        account: &AccountId,
        batch: &BatchId,
    ) -> Result<bool, LedgerError> {
        self.forget(account, batch).await
    }
}
