//! Batches and their rows on the server. What is decided here, a script writes only if nothing that the decision depends
//! on has changed meanwhile.

use async_trait::async_trait;
use jiff::Timestamp;
use redis::AsyncCommands;
use serde::de::DeserializeOwned;

use super::{MAX_ATTEMPTS, RedisLedger};
use crate::dialing::clock::ClockReading;
use crate::dialing::ledger::{
    AccountId, Attempt, AttemptStop, BatchChange, BatchId, BatchLedger, BatchLookup, BatchRecord,
    BatchState, CreateBatchResult, DispatchId, DispatchRecord, IdempotencyKey, LedgerError,
    MAX_PAGE, MAX_SAME, Result, RowRecord, from_json, to_json,
};

/// A record with the text that was read, by which a script sees whether it has changed.
pub(super) struct RawRecord<T> {
    raw: String,
    record: T,
}

fn read<T: DeserializeOwned>(raw: String) -> Result<RawRecord<T>> {
    let record = from_json(&raw)?;
    Ok(RawRecord { raw, record })
}

/// What a script compares and writes for one row: its number, its text before and after, the key of where its number
/// waits, and what that key holds before and after; the empty text is none.
struct RowChange {
    row: u32,
    before: String,
    after: String,
    waits: String,
    waits_before: String,
    waits_after: String,
}

/// An attempt that may begin, as the script that begins it compares and writes it.
pub(super) struct Claim {
    pub(super) batch: String,
    pub(super) before: String,
    pub(super) after: String,
    /// The dispatches of the row's attempts and their records.
    pub(super) earlier: Vec<(String, String)>,
}

impl RedisLedger {
    fn batch_key(&self, account: &AccountId, batch: &str) -> String {
        self.key(account, &format!("batch:{batch}"))
    }

    fn rows_key(&self, account: &AccountId, batch: &BatchId) -> String {
        self.key(account, &format!("rows:{batch}"))
    }

    async fn read_batch(
        &self,
        account: &AccountId,
        batch: &str,
    ) -> Result<Option<RawRecord<BatchRecord>>> {
        let key = self.batch_key(account, batch);
        let raw: Option<String> = self.connection.clone().get(key).await?;
        raw.map(read).transpose()
    }

    async fn read_row(
        &self,
        account: &AccountId,
        batch: &BatchId,
        row: u32,
    ) -> Result<Option<RawRecord<RowRecord>>> {
        let key = self.rows_key(account, batch);
        let raw: Option<String> = self.connection.clone().hget(key, row).await?;
        raw.map(read).transpose()
    }

    /// All rows in their order.
    async fn read_rows(
        &self,
        account: &AccountId,
        batch: &BatchId,
    ) -> Result<Vec<RawRecord<RowRecord>>> {
        let key = self.rows_key(account, batch);
        let raw: Vec<String> = self.connection.clone().hvals(key).await?;
        let mut rows: Vec<RawRecord<RowRecord>> =
            raw.into_iter().map(read).collect::<Result<_, _>>()?;
        rows.sort_by_key(|row| row.record.row);
        Ok(rows)
    }

    /// The batches with these ids, in their order.
    async fn read_batches(&self, account: &AccountId, ids: &[String]) -> Result<Vec<BatchRecord>> {
        let keys = ids.iter().map(|id| self.batch_key(account, id)).collect();
        self.get_all(keys).await?.into_iter().flatten().map(|raw| Ok(read(raw)?.record)).collect()
    }

    /// Whether an attempt may be sent, and its batch as it was read.
    pub(super) async fn check_attempt(
        &self,
        account: &AccountId,
        attempt: &Attempt,
        now: ClockReading,
    ) -> Result<Result<String, AttemptStop>> {
        let batch = self.read_batch(account, attempt.batch_id.as_str()).await?;
        let checked = attempt.check(batch.as_ref().map(|batch| &batch.record), now);
        Ok(checked.map(|()| batch.map(|batch| batch.raw).unwrap_or_default()))
    }

    /// How an attempt begins, if it may.
    pub(super) async fn claim_attempt(
        &self,
        account: &AccountId,
        attempt: &Attempt,
        dispatch: DispatchId,
        now: ClockReading,
    ) -> Result<Result<Claim, AttemptStop>> {
        let batch = match self.check_attempt(account, attempt, now).await? {
            Ok(batch) => batch,
            Err(stop) => return Ok(Err(stop)),
        };
        let row = self.read_row(account, &attempt.batch_id, attempt.row).await?;
        let name = format!("row:{}:{}", attempt.batch_id, attempt.row);
        let mut connection = self.connection.clone();
        let ids: Vec<String> = connection.zrange(self.key(account, &name), 0, -1).await?;
        let mut earlier = Vec::with_capacity(ids.len());
        for id in ids {
            let raw = self.raw(account, &id).await?.unwrap_or_default();
            earlier.push((id, raw));
        }
        let records: Vec<DispatchRecord> =
            earlier.iter().map(|(_, raw)| super::read(raw)).collect::<Result<_, _>>()?;
        Ok(match attempt.claim(dispatch, row.as_ref().map(|row| &row.record), &records) {
            Ok(after) => Ok(Claim {
                batch,
                before: row.map(|row| row.raw).unwrap_or_default(),
                after: to_json(&after)?,
                earlier,
            }),
            Err(stop) => Err(stop),
        })
    }

    /// What holds where the numbers of these rows wait.
    async fn read_waits(
        &self,
        account: &AccountId,
        rows: &[RawRecord<RowRecord>],
    ) -> Result<Vec<(String, String)>> {
        let name =
            |row: &RawRecord<RowRecord>| format!("waits:{}", row.record.callee.hash.as_str());
        let names: Vec<String> = rows.iter().map(name).collect();
        let keys = names.iter().map(|name| self.key(account, name)).collect();
        let held = self.get_all(keys).await?;
        Ok(names.into_iter().zip(held.into_iter().map(Option::unwrap_or_default)).collect())
    }

    /// How these rows change with their batch, after `report` has changed each.
    async fn change_rows(
        &self,
        batch: &BatchRecord,
        rows: Vec<RawRecord<RowRecord>>,
        report: impl Fn(&RowRecord) -> RowRecord + Send + Sync,
    ) -> Result<Vec<RowChange>> {
        let waits = self.read_waits(&batch.account_id, &rows).await?;
        let mut changes = Vec::with_capacity(rows.len());
        for (row, (waits, held)) in rows.into_iter().zip(waits) {
            // A number waits in one unfinished batch, and the key says in which.
            let holder = held.split_once(':').and_then(|(id, _)| BatchId::parse(id).ok());
            let other = holder.as_ref().filter(|holder| **holder != batch.batch_id);
            let mut after = report(&row.record);
            after.follow(batch, other);
            let waits_here = batch.state.is_unfinished() && after.state.is_open();
            let waits_after = match (other, waits_here) {
                (Some(_), _) => held.clone(),
                (None, true) => format!("{}:{}", batch.batch_id, batch.agent_id),
                (None, false) => String::new(),
            };
            let change = RowChange {
                row: row.record.row,
                after: if after == row.record { row.raw.clone() } else { to_json(&after)? },
                before: row.raw,
                waits,
                waits_before: held,
                waits_after,
            };
            changes.push(change);
        }
        Ok(changes)
    }

    /// Writes a batch and its rows. Returns `false` if anything has changed meanwhile: decide again.
    async fn swap(&self, before: &str, after: &BatchRecord, rows: &[RowChange]) -> Result<bool> {
        let raw = to_json(after)?;
        self.invoke(&after.account_id, include_str!("change_batch.lua"), |script| {
            script.arg(after.batch_id.as_str()).arg(before).arg(raw).arg(encode_erase(after));
            for row in rows {
                script.arg(row.row).arg(&row.before).arg(&row.after);
                script.arg(&row.waits).arg(&row.waits_before).arg(&row.waits_after);
            }
        })
        .await
    }

    /// Erases the people of a batch, if it is finished.
    async fn erase(&self, account: &AccountId, id: &BatchId) -> Result<bool> {
        for _ in 0..MAX_ATTEMPTS {
            let Some(mut batch) = self.read_batch(account, id.as_str()).await? else {
                return Ok(false);
            };
            if !batch.record.erase() {
                return Ok(false);
            }
            let rows = self.read_rows(account, id).await?;
            let erase = |row: &RowRecord| {
                let mut row = row.clone();
                row.erase();
                row
            };
            let rows = self.change_rows(&batch.record, rows, erase).await?;
            if self.swap(&batch.raw, &batch.record, &rows).await? {
                return Ok(true);
            }
        }
        Err(LedgerError::Locked)
    }

    /// Removes an unconfirmed list, unless it has changed.
    async fn delete(&self, batch: &RawRecord<BatchRecord>) -> Result<()> {
        let delete = "local id = ARGV[1] \
                      if redis.call('GET', P .. 'batch:' .. id) ~= ARGV[2] then return 0 end \
                      redis.call('DEL', P .. 'batch:' .. id, P .. 'rows:' .. id) \
                      redis.call('ZREM', P .. 'batches', id) redis.call('ZREM', P .. 'batch_erase', id) \
                      redis.call('ZREM', P .. 'batch_fp:' .. ARGV[3], id) \
                      local key = P .. 'batch_key:' .. ARGV[4] \
                      if ARGV[4] ~= '' and redis.call('GET', key) == id then redis.call('DEL', key) end return 1";
        let RawRecord { raw, record } = batch;
        let _: i64 = self
            .invoke(&record.account_id, delete, |script| {
                script
                    .arg(record.batch_id.as_str())
                    .arg(raw)
                    .arg(record.fingerprint.as_str())
                    .arg(record.idempotency_key.as_ref().map_or("", IdempotencyKey::as_str));
            })
            .await?;
        Ok(())
    }
}

/// When a batch is erased, as the scripts read it.
fn encode_erase(batch: &BatchRecord) -> String {
    batch.erase_at.map_or_else(String::new, |at| at.as_millisecond().to_string())
}

#[async_trait]
impl BatchLedger for RedisLedger {
    async fn create_batch(
        &self,
        batch: BatchRecord,
        rows: Vec<RowRecord>,
        lookup: BatchLookup,
    ) -> Result<CreateBatchResult> {
        let account = &batch.account_id;
        let key = batch.idempotency_key.as_ref().map_or("", IdempotencyKey::as_str);
        let raw = to_json(&batch)?;
        let rows: Vec<(u32, String)> =
            rows.iter().map(|row| Ok((row.row, to_json(row)?))).collect::<Result<_>>()?;
        for _ in 0..MAX_ATTEMPTS {
            let mut connection = self.connection.clone();
            let of_key: Option<String> = match key {
                "" => None,
                key => connection.get(self.key(account, &format!("batch_key:{key}"))).await?,
            };
            let with_key = match &of_key {
                Some(id) => self.read_batch(account, id).await?,
                None => None,
            };
            if let Some(answer) =
                with_key.and_then(|with_key| lookup.answer_of_key(&batch, with_key.record))
            {
                return Ok(answer);
            }
            let same_list = self.key(account, &format!("batch_fp:{}", batch.fingerprint.as_str()));
            let last = isize::try_from(MAX_SAME).unwrap_or(isize::MAX) - 1;
            let same: Vec<String> = connection.zrevrange(same_list, 0, last).await?;
            let mut earlier = self.read_batches(account, &same).await?.into_iter();
            if let Some(answer) = earlier.find_map(|earlier| lookup.answer_of_list(earlier)) {
                return Ok(answer);
            }
            let is_created: bool = self
                .invoke(account, include_str!("create_batch.lua"), |script| {
                    script
                        .arg(batch.batch_id.as_str())
                        .arg(&raw)
                        .arg(batch.fingerprint.as_str())
                        .arg(key)
                        .arg(batch.created_at.as_millisecond())
                        .arg(encode_erase(&batch))
                        .arg(MAX_SAME)
                        .arg(same.join(" "))
                        .arg(of_key.as_deref().unwrap_or_default());
                    for (row, raw) in &rows {
                        script.arg(row).arg(raw);
                    }
                })
                .await?;
            if is_created {
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
    ) -> Result<Option<(BatchRecord, bool)>> {
        for _ in 0..MAX_ATTEMPTS {
            let Some(RawRecord { raw: before, record: mut batch }) =
                self.read_batch(account, id.as_str()).await?
            else {
                return Ok(None);
            };
            let rows = match change.concerns_rows() {
                true => self.read_rows(account, id).await?,
                false => Vec::new(),
            };
            let records: Vec<RowRecord> = rows.iter().map(|row| row.record.clone()).collect();
            if !batch.apply(change.clone(), &records) {
                return Ok(Some((batch, false)));
            }
            let rows = self.change_rows(&batch, rows, RowRecord::clone).await?;
            if self.swap(&before, &batch, &rows).await? {
                return Ok(Some((batch, true)));
            }
        }
        Err(LedgerError::Locked)
    }

    async fn update_row(
        &self,
        account: &AccountId,
        id: &BatchId,
        generation: u32,
        row: RowRecord,
    ) -> Result<bool> {
        for _ in 0..MAX_ATTEMPTS {
            let batch = self.read_batch(account, id.as_str()).await?;
            let batch = batch.filter(|batch| batch.record.generation == generation);
            let before = self.read_row(account, id, row.row).await?;
            let Some((batch, before)) = batch.zip(before) else { return Ok(false) };
            let report = |before: &RowRecord| before.with_report(row.clone());
            let rows = self.change_rows(&batch.record, vec![before], report).await?;
            if self.swap(&batch.raw, &batch.record, &rows).await? {
                return Ok(true);
            }
        }
        Err(LedgerError::Locked)
    }

    async fn find_batch(
        &self,
        account: &AccountId,
        batch: &BatchId,
    ) -> Result<Option<BatchRecord>> {
        Ok(self.read_batch(account, batch.as_str()).await?.map(|batch| batch.record))
    }

    async fn list_batches(&self, account: &AccountId, limit: u32) -> Result<Vec<BatchRecord>> {
        let limit = isize::try_from(limit.min(MAX_PAGE)).unwrap_or(isize::MAX);
        let newest = self.key(account, "batches");
        let ids: Vec<String> = self
            .connection
            .clone()
            .zrevrangebyscore_limit(newest, "+inf", "-inf", 0, limit)
            .await?;
        self.read_batches(account, &ids).await
    }

    async fn list_rows(&self, account: &AccountId, batch: &BatchId) -> Result<Vec<RowRecord>> {
        let rows = self.read_rows(account, batch).await?;
        Ok(rows.into_iter().map(|row| row.record).collect())
    }

    async fn erase_expired(&self, account: &AccountId, now: Timestamp) -> Result<()> {
        let key = self.key(account, "batch_erase");
        let ids: Vec<String> =
            self.connection.clone().zrangebyscore(key, "-inf", now.as_millisecond()).await?;
        for id in ids {
            let Some(batch) = self.read_batch(account, &id).await? else { continue };
            match batch.record.state {
                BatchState::Asked => self.delete(&batch).await?,
                _ => {
                    self.erase(account, &batch.record.batch_id).await?;
                }
            }
        }
        Ok(())
    }

    async fn forget_batch(&self, account: &AccountId, batch: &BatchId) -> Result<bool> {
        self.erase(account, batch).await
    }
}
