//! The ledger in Redis or Valkey, shared by several machines.
//!
//! Each atomic step is one Lua script. A record's later changes are compare-and-set on the whole record, so that the
//! rules of its life are in one place.
//!
//! The layout of the keys, version 3. `PREFIX:meta` is a hash of version, environment and secret; `PREFIX:3:accounts` the
//! set of accounts; `PREFIX:3:api_key:HASH` the account of an API key. All other keys begin with `PREFIX:3:{ACCOUNT}:`,
//! whose hash tag puts an account into one slot of a cluster.
//!
//! | Key | Type | Content |
//! |---|---|---|
//! | `d:DISPATCH` | string | the record as JSON |
//! | `all`, `open` | sorted set, by creation | dispatches: all, and those in the state intent or unknown |
//! | `fp:FINGERPRINT`, `to:CALLEE`, `known:CALLEE`, `pair:CALLEE:AGENT` | the same | dispatches that may exist: of an order, to a number, placed to a number, by an agent to a number |
//! | `calls`, `purchases`, `spend` | the same | calls, purchases, and both, that may exist |
//! | `open_to:CALLEE` | the same | calls to a number in the state intent or unknown |
//! | `running`, `unknown` | sorted set, by the end | calls that count as in progress until then; those with an unknown result |
//! | `caller:CALLER:calls`, `…:spend`, `…:running`, `…:unknown` | the same | those of one caller |
//! | `amount` | hash | the cost or the hold of each dispatch |
//! | `key:KEY`, `id:ID` | string | the dispatch of an idempotency key, of a call or of a number |
//! | `token:TOKEN` | string that expires | a confirmation token that was used |
//! | `batch:BATCH` | string | a batch as JSON |
//! | `batches`, `batch_erase` | sorted set | batches by creation, and by the instant of their erasure |
//! | `batch_fp:FINGERPRINT` | sorted set, by creation | the batches of a list |
//! | `batch_key:KEY` | string | the batch of an idempotency key |
//! | `rows:BATCH` | hash | the rows of a batch as JSON, by number |
//! | `row:BATCH:ROW` | sorted set, by creation | the dispatches of a row |
//! | `waits:CALLEE` | string | the unfinished batch in which a number waits or is called, and its agent |
//! | `opt_out` | hash | the numbers that are not called, by their hash, each with its entries as JSON |
//! | `opt_out_numbers` | sorted set, by name | the same numbers, each with its hash |
//! | `opt_out_by_tool` | sorted set, by creation | the entries of the last day that tools recorded |
//!
//! The server decides how durable an intent is: run it with `appendonly yes` and `appendfsync always` for the promise
//! that a file gives (<https://redis.io/docs/latest/operate/oss_and_stack/management/persistence/>), and with
//! `maxmemory-policy noeviction`.
//!
//! The connection does not repeat a command whose answer is lost. Should the client of a cluster do so, a second `begin`
//! finds its own dispatch and is answered like the first.

mod batches;
mod opt_outs;

use std::fmt;

use async_trait::async_trait;
use jiff::Timestamp;
use redis::{AsyncCommands, RedisError, Script, ScriptInvocation};
use serde::{Deserialize, Serialize};

use super::record::truncate_to_millis;
use super::{
    AccountId, BatchId, BeginConstraints, BeginResult, DestinationHash, DispatchId, DispatchLookup,
    DispatchRecord, EarlierDispatch, IdempotencyKey, KEY_LIFETIME, KeyHash, LeaseRenewal, Ledger,
    LedgerError, LedgerSecret, MAX_PAGE, NewIntent, RecordChange, RecordCursor, RecordFilter,
    Result, from_json, to_json,
};
use crate::dialing::Environment;
use crate::dialing::caller::CallerName;
use crate::dialing::clock::ClockReading;
use crate::dialing::limits::{CallLimits, OrderKind, Usage};
use crate::state::{self, RedisConnection};
use callingbox::MilliCents;

/// The layout of the keys; a newer one is refused.
const VERSION: i64 = 3;
/// How often a change of one record is attempted while others change it.
const MAX_ATTEMPTS: u32 = 64;
/// The most records that one round trip reads.
const MAX_READ: isize = 200;

/// A ledger on a server.
#[derive(Clone)]
pub struct RedisLedger {
    connection: RedisConnection,
    prefix: String,
    environment: Environment,
}

impl fmt::Debug for RedisLedger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RedisLedger({}, {})", self.prefix, self.environment)
    }
}

/// A record as it is stored, with its times as the scripts read them.
#[derive(Serialize, Deserialize)]
struct Stored {
    created_ms: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    in_progress_until_ms: Option<i64>,
    record: DispatchRecord,
}

impl RedisLedger {
    /// The ledger over this connection. All keys begin with `prefix`; one prefix belongs to one environment.
    ///
    /// # Errors
    /// The server cannot be reached, or the keys under the prefix are of a newer version or of the other environment.
    pub async fn open(
        mut connection: RedisConnection,
        prefix: &str,
        environment: Environment,
    ) -> Result<Self> {
        let meta = format!("{prefix}:meta");
        let _: () = connection.hset_nx(&meta, "environment", environment.as_str()).await?;
        let _: () = connection.hset_nx(&meta, "version", VERSION).await?;
        let version: i64 = connection.hget(&meta, "version").await?;
        let found: String = connection.hget(&meta, "environment").await?;
        if version > VERSION {
            return Err(LedgerError::Newer { found: version, supported: VERSION });
        }
        if found != environment.as_str() {
            let other = if environment == Environment::Live {
                Environment::Sandbox
            } else {
                Environment::Live
            };
            return Err(LedgerError::WrongEnvironment { found: other, wanted: environment });
        }
        if version < VERSION {
            let _: () = connection.hset(&meta, "version", VERSION).await?;
            tracing::warn!(
                prefix,
                "the ledger in Redis had the layout of an unreleased version; its keys are left as they are, and a new \
                 ledger begins, which does not know the calls in the old one"
            );
        }
        let ledger = Self { connection, prefix: prefix.to_owned(), environment };
        ledger.secret().await?;
        Ok(ledger)
    }

    fn key(&self, account: &AccountId, rest: &str) -> String {
        format!("{}:{VERSION}:{{{}}}:{rest}", self.prefix, account.as_str())
    }

    fn api_key(&self, key: &KeyHash) -> String {
        format!("{}:{VERSION}:api_key:{}", self.prefix, key.as_str())
    }

    async fn invoke<T: redis::FromRedisValue>(
        &self,
        account: &AccountId,
        body: &str,
        arguments: impl FnOnce(&mut ScriptInvocation<'_>),
    ) -> Result<T> {
        let library = concat!(include_str!("header.lua"), "\n", include_str!("common.lua"));
        let script = Script::new(&format!("{library}\n{body}"));
        let mut invocation = script.prepare_invoke();
        invocation.key(self.key(account, ""));
        arguments(&mut invocation);
        Ok(invocation.invoke_async(&mut self.connection.clone()).await?)
    }

    async fn raw(&self, account: &AccountId, dispatch: &str) -> Result<Option<String>> {
        Ok(self.connection.clone().get(self.key(account, &format!("d:{dispatch}"))).await?)
    }

    /// The values of these keys, in their order.
    async fn get_all(&self, keys: Vec<String>) -> Result<Vec<Option<String>>> {
        // The server refuses to read no key.
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        Ok(self.connection.clone().mget(keys).await?)
    }

    /// The records with these ids, in their order.
    async fn records(&self, account: &AccountId, ids: &[String]) -> Result<Vec<DispatchRecord>> {
        let keys = ids.iter().map(|id| self.key(account, &format!("d:{id}"))).collect();
        self.get_all(keys).await?.iter().flatten().map(|raw| read(raw)).collect()
    }

    async fn accounts(&self) -> Result<Vec<AccountId>> {
        let accounts: Vec<String> =
            self.connection.clone().smembers(format!("{}:{VERSION}:accounts", self.prefix)).await?;
        Ok(accounts.into_iter().map(AccountId).collect())
    }

    async fn list_account(
        &self,
        account: &AccountId,
        filter: &RecordFilter,
    ) -> Result<Vec<DispatchRecord>> {
        let wanted = usize::try_from(filter.limit.min(MAX_PAGE)).unwrap_or(usize::MAX);
        let newest = filter
            .before
            .map_or("+inf".to_owned(), |cursor| cursor.created_at.as_millisecond().to_string());
        // A time between two milliseconds begins with the next one.
        let oldest = filter.since.map_or("-inf".to_owned(), |since| {
            let whole = truncate_to_millis(since);
            (whole.as_millisecond() + i64::from(whole < since)).to_string()
        });
        let (mut found, mut offset) = (Vec::new(), 0);
        // Usually every record matches. Where few do, the number of round trips must not grow.
        let mut count = isize::try_from(wanted).unwrap_or(MAX_READ).min(MAX_READ);
        while found.len() < wanted {
            let ids: Vec<String> = self
                .connection
                .clone()
                .zrevrangebyscore_limit(self.key(account, "all"), &newest, &oldest, offset, count)
                .await?;
            if ids.is_empty() {
                break;
            }
            offset += count;
            count = MAX_READ;
            let fits = |record: &DispatchRecord| {
                filter.before.is_none_or(|before| RecordCursor::from(record) < before)
                    && filter.status.is_none_or(|status| record.state.as_str() == status)
                    && filter.caller.as_ref().is_none_or(|caller| record.caller == *caller)
                    && filter.batch_id.as_ref().is_none_or(|batch_id| {
                        record.attempt.as_ref().is_some_and(|attempt| attempt.batch_id == *batch_id)
                    })
            };
            found.extend(self.records(account, &ids).await?.into_iter().filter(fits));
            // Records that were added meanwhile moved the others on, so some are read twice.
            found.sort_by_key(|record| std::cmp::Reverse(RecordCursor::from(record)));
            found.dedup_by_key(|record| record.dispatch_id);
        }
        found.truncate(wanted);
        Ok(found)
    }
}

impl From<RedisError> for LedgerError {
    fn from(error: RedisError) -> Self {
        Self::Server(state::describe_error(&error))
    }
}

fn read(raw: &str) -> Result<DispatchRecord> {
    Ok(from_json::<Stored>(raw)?.record)
}

fn write(record: &DispatchRecord) -> Result<String> {
    to_json(&Stored {
        created_ms: record.created_at.as_millisecond(),
        in_progress_until_ms: record.in_progress_until().map(Timestamp::as_millisecond),
        record: record.clone(),
    })
}

/// After which millisecond a key counts.
fn key_since(now: Timestamp) -> i64 {
    now.as_millisecond().saturating_sub(KEY_LIFETIME.as_secs().saturating_mul(1_000))
}

fn damaged(what: &str) -> LedgerError {
    LedgerError::Damaged(format!("its answer to {what}"))
}

/// The earlier dispatch that a script found, and how it blocks the new one.
fn read_earlier(how: &str, raw: &str, now: Timestamp) -> Result<Option<EarlierDispatch>> {
    match how {
        "conflict" => Ok(Some(EarlierDispatch::KeyConflict(read(raw)?))),
        "similar" => Ok(Some(EarlierDispatch::SimilarCall(read(raw)?))),
        "waits" => BatchId::parse(raw)
            .map(|batch| Some(EarlierDispatch::WaitsInBatch(batch)))
            .map_err(|_| damaged("the search for an earlier dispatch")),
        "same" => Ok(read(raw)?.into_earlier(now)),
        _ => Err(damaged("the search for an earlier dispatch")),
    }
}

/// The result of the script that begins this record.
fn read_begun(
    answer: &[String],
    record: DispatchRecord,
    constraints: &BeginConstraints,
) -> Result<BeginResult> {
    let unexpected = || damaged("begin");
    match answer.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["opted_out"] => Ok(BeginResult::OptedOut),
        ["begun", raw] => Ok(BeginResult::Begun(read(raw)?)),
        ["same", raw] if read(raw)? == record => Ok(BeginResult::Begun(record)),
        ["limit", usage] => constraints
            .limits
            .check_all(record.kind, &from_json(usage)?, record.hold)
            .map(BeginResult::LimitReached)
            .ok_or_else(unexpected),
        [how, raw] => read_earlier(how, raw, constraints.now.machine)?
            .map(BeginResult::Earlier)
            .ok_or_else(unexpected),
        _ => Err(unexpected()),
    }
}

#[async_trait]
impl Ledger for RedisLedger {
    async fn find_earlier(&self, lookup: DispatchLookup) -> Result<Option<EarlierDispatch>> {
        let pair = lookup.pair.as_ref();
        let pair =
            pair.map_or_else(String::new, |(agent, callee)| format!("{}:{agent}", callee.as_str()));
        let find = "return find_earlier(ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4]), ARGV[5], ARGV[6], ARGV[7]) or {}";
        let answer: Vec<String> = self
            .invoke(&lookup.account_id, find, |script| {
                script
                    .arg(lookup.fingerprint.as_str())
                    .arg(lookup.idempotency_key.as_ref().map_or("", IdempotencyKey::as_str))
                    .arg(key_since(lookup.now.dialing))
                    .arg(lookup.repeats_since.as_millisecond())
                    .arg(u8::from(lookup.allow_repeat))
                    .arg(pair)
                    .arg(lookup.attempt.map_or_else(String::new, |attempt| attempt.to_string()));
            })
            .await?;
        match answer.as_slice() {
            [] => Ok(None),
            [how, raw] => read_earlier(how, raw, lookup.now.machine),
            _ => Err(damaged("the search for an earlier dispatch")),
        }
    }

    async fn begin(&self, intent: NewIntent, constraints: BeginConstraints) -> Result<BeginResult> {
        let record = DispatchRecord::from_intent(intent, &constraints);
        let (account, raw) = (&record.account_id, write(&record)?);
        let limits = to_json(&constraints.limits)?;
        let accounts = format!("{}:{VERSION}:accounts", self.prefix);
        let _: () = self.connection.clone().sadd(accounts, account.as_str()).await?;
        for _ in 0..MAX_ATTEMPTS {
            let claim = match &record.attempt {
                None => None,
                Some(attempt) => {
                    let (dispatch, now) = (record.dispatch_id, constraints.now);
                    match self.claim_attempt(account, attempt, dispatch, now).await? {
                        Ok(claim) => Some(claim),
                        Err(stop) => {
                            // The row is this dispatch's own if the script was run twice.
                            let own = self.find(account, dispatch).await?;
                            let is_begun = own.is_some_and(|own| own == record);
                            return Ok(match is_begun {
                                true => BeginResult::Begun(record),
                                false => BeginResult::Stopped(stop),
                            });
                        }
                    }
                }
            };
            let answer: Vec<String> = self
                .invoke(account, include_str!("begin.lua"), |script| {
                    script
                        .arg(record.dispatch_id.to_string())
                        .arg(&raw)
                        .arg(key_since(constraints.now.dialing))
                        .arg(constraints.repeats_since.as_millisecond())
                        .arg(u8::from(constraints.allow_repeat))
                        .arg(&limits);
                    if let Some(claim) = &claim {
                        script.arg(&claim.batch).arg(&claim.before).arg(&claim.after);
                        for (id, raw) in &claim.earlier {
                            script.arg(id).arg(raw);
                        }
                    }
                })
                .await?;
            if answer != ["changed"] {
                return read_begun(&answer, record, &constraints);
            }
        }
        Err(LedgerError::Locked)
    }

    async fn renew_lease(
        &self,
        account: &AccountId,
        dispatch: DispatchId,
        generation: u32,
        now: ClockReading,
        lease_expires_at: Timestamp,
    ) -> Result<LeaseRenewal> {
        let id = dispatch.to_string();
        for _ in 0..MAX_ATTEMPTS {
            let before =
                self.raw(account, &id).await?.ok_or(LedgerError::NoSuchDispatch(dispatch))?;
            let mut record = read(&before)?;
            let batch = match &record.attempt {
                None => None,
                Some(attempt) => match self.check_attempt(account, attempt, now).await? {
                    Ok(batch) => Some(batch),
                    Err(stop) => return Ok(LeaseRenewal::Stopped(stop)),
                },
            };
            if !record.renew_lease(generation, lease_expires_at) {
                return Ok(LeaseRenewal::Lost);
            }
            let after = write(&record)?;
            let answer: i64 = self
                .invoke(account, include_str!("renew.lua"), |script| {
                    script.arg(&id).arg(&before).arg(&after).arg(now.dialing.as_millisecond());
                    script.arg(batch);
                })
                .await?;
            match answer {
                0 => {}
                1 => return Ok(LeaseRenewal::Renewed),
                2 => return Ok(LeaseRenewal::OptedOut),
                _ => return Err(damaged("the renewal of a lease")),
            }
        }
        Err(LedgerError::Locked)
    }

    async fn change(
        &self,
        account: &AccountId,
        dispatch: DispatchId,
        change: RecordChange,
    ) -> Result<(DispatchRecord, bool)> {
        for _ in 0..MAX_ATTEMPTS {
            let before = self
                .raw(account, &dispatch.to_string())
                .await?
                .ok_or(LedgerError::NoSuchDispatch(dispatch))?;
            let mut record = read(&before)?;
            if !change(&mut record)? {
                return Ok((record, false));
            }
            let after = write(&record)?;
            let swap = "if redis.call('GET', P .. 'd:' .. ARGV[1]) ~= ARGV[2] then return 0 end \
                        store(ARGV[1], ARGV[3]) return 1";
            let swapped: bool = self
                .invoke(account, swap, |script| {
                    script.arg(dispatch.to_string()).arg(before).arg(after);
                })
                .await?;
            if swapped {
                return Ok((record, true));
            }
        }
        Err(LedgerError::Locked)
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
        let body = "local limits = cjson.decode(ARGV[6]) \
                    return cjson.encode((measure_usage(ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4]), \
                    tonumber(ARGV[5]), limits)))";
        let limits = to_json(limits)?;
        let usage: String = self
            .invoke(account, body, |script| {
                script
                    .arg(OrderKind::Call.as_str())
                    .arg(caller.as_str())
                    .arg(callee.map_or("", DestinationHash::as_str))
                    .arg(now.as_millisecond())
                    .arg(hold.0)
                    .arg(limits);
            })
            .await?;
        from_json(&usage)
    }

    async fn is_known_destination(
        &self,
        account: &AccountId,
        callee: &DestinationHash,
    ) -> Result<bool> {
        let key = self.key(account, &format!("known:{}", callee.as_str()));
        Ok(self.connection.clone().exists(key).await?)
    }

    async fn list_unresolved(&self, account: &AccountId) -> Result<Vec<DispatchRecord>> {
        let last = isize::try_from(MAX_PAGE).unwrap_or(isize::MAX) - 1;
        let ids: Vec<String> =
            self.connection.clone().zrange(self.key(account, "open"), 0, last).await?;
        self.records(account, &ids).await
    }

    async fn find(
        &self,
        account: &AccountId,
        dispatch: DispatchId,
    ) -> Result<Option<DispatchRecord>> {
        self.raw(account, &dispatch.to_string()).await?.map(|raw| read(&raw)).transpose()
    }

    async fn find_by_remote_id(
        &self,
        account: &AccountId,
        id: &str,
    ) -> Result<Option<DispatchRecord>> {
        let dispatch: Option<String> =
            self.connection.clone().get(self.key(account, &format!("id:{id}"))).await?;
        let Some(dispatch) = dispatch else { return Ok(None) };
        self.raw(account, &dispatch).await?.map(|raw| read(&raw)).transpose()
    }

    async fn list_unread_calls(
        &self,
        account: &AccountId,
        callee: &DestinationHash,
        limit: u32,
    ) -> Result<Vec<DispatchRecord>> {
        let key = self.key(account, &format!("to:{}", callee.as_str()));
        let ids: Vec<String> = self.connection.clone().zrevrange(key, 0, MAX_READ - 1).await?;
        let records = self.records(account, &ids).await?.into_iter();
        let is_unread =
            |record: &DispatchRecord| record.state.id().is_some() && !record.is_result_read;
        Ok(records.filter(is_unread).take(limit as usize).collect())
    }

    async fn list_records(&self, filter: RecordFilter) -> Result<Vec<DispatchRecord>> {
        let accounts = match &filter.account_id {
            Some(account) => vec![account.clone()],
            None => self.accounts().await?,
        };
        let mut found = Vec::new();
        for account in &accounts {
            found.extend(self.list_account(account, &filter).await?);
        }
        found.sort_by_key(|record| std::cmp::Reverse(RecordCursor::from(record)));
        found.truncate(usize::try_from(filter.limit.min(MAX_PAGE)).unwrap_or(usize::MAX));
        Ok(found)
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
        // The server keeps it longer than it is valid, in case the clocks differ.
        let seconds = expires_at.as_second().saturating_sub(now.as_second()).saturating_add(3_600);
        let answer: Option<String> = redis::cmd("SET")
            .arg(self.key(account, &format!("token:{token_id}")))
            .arg(1)
            .arg("NX")
            .arg("EX")
            .arg(seconds)
            .query_async(&mut self.connection.clone())
            .await?;
        Ok(answer.is_some())
    }

    async fn is_token_redeemed(
        &self,
        account: &AccountId,
        token_id: &str,
        _now: Timestamp,
    ) -> Result<bool> {
        let key = self.key(account, &format!("token:{token_id}"));
        Ok(self.connection.clone().exists(key).await?)
    }

    async fn find_account_of_key(&self, key: &KeyHash) -> Result<Option<AccountId>> {
        let account: Option<String> = self.connection.clone().get(self.api_key(key)).await?;
        Ok(account.map(AccountId))
    }

    async fn record_account_of_key(&self, key: &KeyHash, account: &AccountId) -> Result<()> {
        Ok(self.connection.clone().set(self.api_key(key), account.as_str()).await?)
    }

    async fn server_time(&self) -> Result<Option<Timestamp>> {
        let (seconds, micros): (i64, i64) =
            redis::cmd("TIME").query_async(&mut self.connection.clone()).await?;
        Ok(Timestamp::from_microsecond(seconds.saturating_mul(1_000_000).saturating_add(micros))
            .ok())
    }

    async fn secret(&self) -> Result<LedgerSecret> {
        let (meta, mut connection) = (format!("{}:meta", self.prefix), self.connection.clone());
        let mut secret: Option<Vec<u8>> = connection.hget(&meta, "secret").await?;
        if secret.is_none() {
            let new: Vec<u8> = rand::random::<[u8; 32]>().to_vec();
            let _: () = connection.hset_nx(&meta, "secret", new).await?;
            secret = connection.hget(&meta, "secret").await?;
        }
        let secret = secret.and_then(|secret| secret.try_into().ok());
        secret.map(LedgerSecret::new).ok_or_else(|| LedgerError::Damaged("its secret".to_owned()))
    }
}

#[cfg(test)]
mod tests;
