//! The ledger in Redis or Valkey, shared by several machines.
//!
//! Whatever must be one step is one Lua script; a record's later changes are compare-and-set on the
//! whole record, so that the rules of its life stay in one place. All keys of a account carry the hash
//! tag `{account}` and lie in one slot of a cluster.
//!
//! How durable an intent is, the server decides: run it with `appendonly yes` and `appendfsync always`
//! for the promise that a file gives (<https://redis.io/docs/latest/operate/oss_and_stack/management/persistence/>),
//! and with `maxmemory-policy noeviction`.
//!
//! A command whose answer is lost is not sent again by the connection. Should a cluster's client do so,
//! a second `begin` finds its own dispatch and is answered as the first.

use std::fmt;

use async_trait::async_trait;
use jiff::Timestamp;
use redis::{AsyncCommands, RedisError, Script, ScriptInvocation};
use serde::{Deserialize, Serialize};

use super::record::truncate_to_millis;
use super::{
    AccountId, BeginConstraints, BeginResult, DestinationHash, DispatchId, DispatchLookup,
    DispatchRecord, EarlierDispatch, IdempotencyKey, KEY_LIFETIME, Ledger, LedgerError, MAX_PAGE,
    NewIntent, RecordCursor, RecordFilter, truncate_reason,
};
use crate::dialing::Environment;
use crate::dialing::call_outcome::CallEnd;
use crate::dialing::limits::{CallLimits, OrderKind, Usage, WindowUsage};
use crate::state::{self, RedisConnection};
use callingbox::MilliCents;

/// The layout of the keys; a newer one is refused.
const VERSION: i64 = 1;
/// How often a change of one record is tried when others change it at the same time.
const TRIES: u32 = 64;
/// Records read in one round trip, at most.
const BATCH: isize = 200;

/// A ledger on a server.
#[derive(Clone)]
pub struct RedisLedger {
    connection: RedisConnection,
    prefix: String,
    environment: Environment,
    secret: [u8; 32],
}

impl fmt::Debug for RedisLedger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RedisLedger({}, {})", self.prefix, self.environment)
    }
}

/// A record as it is stored, with its instants as the scripts read them.
#[derive(Serialize, Deserialize)]
struct Stored {
    created_ms: i64,
    lease_expires_ms: i64,
    record: DispatchRecord,
}

impl RedisLedger {
    /// The ledger over this connection. All keys begin with `prefix`; one prefix belongs to one world.
    ///
    /// # Errors
    /// [`LedgerError`] when the server cannot be reached, or the keys under the prefix are of a newer
    /// version or of the other world.
    pub async fn open(
        mut connection: RedisConnection,
        prefix: &str,
        environment: Environment,
    ) -> Result<Self, LedgerError> {
        let meta = format!("{prefix}:meta");
        let secret: Vec<u8> = rand::random::<[u8; 32]>().to_vec();
        let _: () = connection.hset_nx(&meta, "environment", environment.as_str()).await?;
        let _: () = connection.hset_nx(&meta, "version", VERSION).await?;
        let _: () = connection.hset_nx(&meta, "secret", secret).await?;
        let version: i64 = connection.hget(&meta, "version").await?;
        let found: String = connection.hget(&meta, "environment").await?;
        let secret: Vec<u8> = connection.hget(&meta, "secret").await?;
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
        let secret =
            secret.try_into().map_err(|_| LedgerError::Damaged("its secret".to_owned()))?;
        Ok(Self { connection, prefix: prefix.to_owned(), environment, secret })
    }

    fn key(&self, account: &AccountId, rest: &str) -> String {
        format!("{}:{{{}}}:{rest}", self.prefix, account.as_str())
    }

    async fn invoke<T: redis::FromRedisValue>(
        &self,
        account: &AccountId,
        body: &str,
        arguments: impl FnOnce(&mut ScriptInvocation<'_>),
    ) -> Result<T, LedgerError> {
        let script = Script::new(&format!("{}\n{body}", include_str!("common.lua")));
        let mut invocation = script.prepare_invoke();
        invocation.key(self.key(account, ""));
        arguments(&mut invocation);
        Ok(invocation.invoke_async(&mut self.connection.clone()).await?)
    }

    async fn raw(
        &self,
        account: &AccountId,
        dispatch: &str,
    ) -> Result<Option<String>, LedgerError> {
        Ok(self.connection.clone().get(self.key(account, &format!("d:{dispatch}"))).await?)
    }

    /// Changes a record by compare-and-set. `change` says whether anything is to be written.
    async fn change(
        &self,
        account: &AccountId,
        dispatch: DispatchId,
        change: impl Fn(&mut DispatchRecord) -> Result<bool, LedgerError> + Send + Sync,
    ) -> Result<(DispatchRecord, bool), LedgerError> {
        for _ in 0..TRIES {
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

    /// The records with these ids, in their order.
    async fn records(
        &self,
        account: &AccountId,
        ids: &[String],
    ) -> Result<Vec<DispatchRecord>, LedgerError> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let keys: Vec<_> = ids.iter().map(|id| self.key(account, &format!("d:{id}"))).collect();
        let found: Vec<Option<String>> = self.connection.clone().mget(keys).await?;
        found.iter().flatten().map(|raw| read(raw)).collect()
    }

    async fn accounts(&self) -> Result<Vec<AccountId>, LedgerError> {
        let accounts: Vec<String> =
            self.connection.clone().smembers(format!("{}:accounts", self.prefix)).await?;
        Ok(accounts.into_iter().map(AccountId).collect())
    }

    async fn list_account(
        &self,
        account: &AccountId,
        filter: &RecordFilter,
    ) -> Result<Vec<DispatchRecord>, LedgerError> {
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
        // Mostly as many fit as are wanted; where few do, it is not to take many round trips.
        let mut batch = isize::try_from(wanted).unwrap_or(BATCH).min(BATCH);
        while found.len() < wanted {
            let ids: Vec<String> = self
                .connection
                .clone()
                .zrevrangebyscore_limit(self.key(account, "all"), &newest, &oldest, offset, batch)
                .await?;
            if ids.is_empty() {
                break;
            }
            offset += batch;
            batch = BATCH;
            let fits = |record: &DispatchRecord| {
                filter.before.is_none_or(|before| RecordCursor::from(record) < before)
                    && filter.status.is_none_or(|status| record.state.status() == status)
            };
            found.extend(self.records(account, &ids).await?.into_iter().filter(fits));
            // What came meanwhile moved the others on, so that some are read twice.
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

fn read(raw: &str) -> Result<DispatchRecord, LedgerError> {
    serde_json::from_str::<Stored>(raw)
        .map(|stored| stored.record)
        .map_err(|error| LedgerError::Damaged(error.to_string()))
}

fn write(record: &DispatchRecord) -> Result<String, LedgerError> {
    serde_json::to_string(&Stored {
        created_ms: record.created_at.as_millisecond(),
        lease_expires_ms: record.lease_expires_at.as_millisecond(),
        record: record.clone(),
    })
    .map_err(|error| LedgerError::Storage(error.to_string()))
}

/// After which millisecond a key counts.
fn key_since(now: Timestamp) -> i64 {
    now.as_millisecond().saturating_sub(KEY_LIFETIME.as_secs().saturating_mul(1_000))
}

fn damaged(what: &str) -> LedgerError {
    LedgerError::Damaged(format!("its answer to {what}"))
}

/// The earlier one that a script found, and how it stands in the way.
fn earlier(how: &str, raw: &str, now: Timestamp) -> Result<Option<EarlierDispatch>, LedgerError> {
    match how {
        "conflict" => Ok(Some(EarlierDispatch::KeyConflict(read(raw)?))),
        "same" => Ok(read(raw)?.into_earlier(now)),
        _ => Err(damaged("a look for an earlier one")),
    }
}

/// The limits as the scripts take them.
fn numbers(limits: &CallLimits) -> Vec<i64> {
    let count = |max: Option<u32>| max.map_or(-1, i64::from);
    vec![
        count(limits.per_hour),
        count(limits.per_day),
        count(limits.per_destination_per_hour),
        count(limits.per_destination_per_day),
        count(limits.concurrent),
        limits.spend_per_day.map_or(-1, |max| i64::try_from(max.0).unwrap_or(i64::MAX)),
        count(limits.purchases_per_day),
    ]
}

/// The usage as the scripts answer it.
fn usage(numbers: &[String]) -> Result<Usage, LedgerError> {
    let damaged = || LedgerError::Damaged("its usage".to_owned());
    let numbers: Vec<i64> =
        numbers.iter().map(|n| n.parse().map_err(|_| damaged())).collect::<Result<_, _>>()?;
    let [
        hour,
        hour_at,
        day,
        day_at,
        to_hour,
        to_hour_at,
        to_day,
        to_day_at,
        concurrent,
        spent,
        spend_at,
        bought,
        bought_at,
    ] = numbers.try_into().map_err(|_| damaged())?;
    let count = |n: i64| u32::try_from(n).unwrap_or(u32::MAX);
    let at = |ms: i64| if ms < 0 { None } else { Timestamp::from_millisecond(ms).ok() };
    let used = |n, ms| WindowUsage { count: count(n), frees_at: at(ms) };
    Ok(Usage {
        hour: used(hour, hour_at),
        day: used(day, day_at),
        destination_hour: used(to_hour, to_hour_at),
        destination_day: used(to_day, to_day_at),
        concurrent: count(concurrent),
        spent: MilliCents(u64::try_from(spent).unwrap_or(0)),
        spend_frees_at: at(spend_at),
        purchases: used(bought, bought_at),
    })
}

#[async_trait]
impl Ledger for RedisLedger {
    async fn find_earlier(
        &self,
        lookup: DispatchLookup,
    ) -> Result<Option<EarlierDispatch>, LedgerError> {
        let look =
            "return earlier(ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4]), ARGV[5]) or {}";
        let answer: Vec<String> = self
            .invoke(&lookup.account_id, look, |script| {
                script
                    .arg(lookup.fingerprint.as_str())
                    .arg(lookup.idempotency_key.as_ref().map_or("", IdempotencyKey::as_str))
                    .arg(key_since(lookup.now))
                    .arg(lookup.repeats_since.as_millisecond())
                    .arg(u8::from(lookup.allow_repeat));
            })
            .await?;
        match answer.as_slice() {
            [] => Ok(None),
            [how, raw] => earlier(how, raw, lookup.now),
            _ => Err(damaged("look")),
        }
    }

    async fn begin(
        &self,
        intent: NewIntent,
        terms: BeginConstraints,
    ) -> Result<BeginResult, LedgerError> {
        let record = DispatchRecord::from_intent(intent, &terms);
        let raw = write(&record)?;
        let accounts = format!("{}:accounts", self.prefix);
        let _: () = self.connection.clone().sadd(accounts, record.account_id.as_str()).await?;
        let answer: Vec<String> = self
            .invoke(&record.account_id, include_str!("begin.lua"), |script| {
                script
                    .arg(record.dispatch_id.to_string())
                    .arg(raw)
                    .arg(record.fingerprint.as_str())
                    .arg(record.idempotency_key.as_ref().map_or("", IdempotencyKey::as_str))
                    .arg(record.callee.as_ref().map_or("", |callee| callee.hash.as_str()))
                    .arg(record.kind.as_str())
                    .arg(terms.now.as_millisecond())
                    .arg(key_since(terms.now))
                    .arg(terms.repeats_since.as_millisecond())
                    .arg(u8::from(terms.allow_repeat))
                    .arg(record.hold.0)
                    .arg(numbers(&terms.limits));
            })
            .await?;
        let odd = || damaged("begin");
        match answer.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
            ["begun", raw] => Ok(BeginResult::Begun(read(raw)?)),
            ["same", raw] if read(raw)? == record => Ok(BeginResult::Begun(record)),
            [how, raw] => earlier(how, raw, terms.now)?.map(BeginResult::Earlier).ok_or_else(odd),
            ["limit", ..] => {
                let usage = usage(answer.get(1..).unwrap_or_default())?;
                terms
                    .limits
                    .check_all(record.kind, &usage, record.hold)
                    .map(BeginResult::LimitReached)
                    .ok_or_else(odd)
            }
            _ => Err(odd()),
        }
    }

    async fn renew_lease(
        &self,
        account: &AccountId,
        dispatch: DispatchId,
        generation: u32,
        lease_expires_at: Timestamp,
    ) -> Result<bool, LedgerError> {
        Ok(self
            .change(
                account,
                dispatch,
                |record| Ok(record.renew_lease(generation, lease_expires_at)),
            )
            .await?
            .1)
    }

    async fn take_over(
        &self,
        account: &AccountId,
        dispatch: DispatchId,
        now: Timestamp,
        lease_expires_at: Timestamp,
    ) -> Result<Option<DispatchRecord>, LedgerError> {
        let (record, taken) = self
            .change(account, dispatch, |record| Ok(record.take_over(now, lease_expires_at)))
            .await?;
        Ok(taken.then_some(record))
    }

    async fn record_placed(
        &self,
        account: &AccountId,
        dispatch: DispatchId,
        id: &str,
    ) -> Result<DispatchRecord, LedgerError> {
        Ok(self.change(account, dispatch, |record| record.set_placed(id.to_owned())).await?.0)
    }

    async fn record_not_placed(
        &self,
        account: &AccountId,
        dispatch: DispatchId,
        reason: &str,
    ) -> Result<DispatchRecord, LedgerError> {
        Ok(self
            .change(account, dispatch, |record| Ok(record.set_not_placed(truncate_reason(reason))))
            .await?
            .0)
    }

    async fn record_unknown(
        &self,
        account: &AccountId,
        dispatch: DispatchId,
        now: Timestamp,
    ) -> Result<DispatchRecord, LedgerError> {
        Ok(self.change(account, dispatch, |record| Ok(record.set_unknown(now))).await?.0)
    }

    async fn record_end(
        &self,
        account: &AccountId,
        id: &str,
        end: CallEnd,
    ) -> Result<Option<DispatchRecord>, LedgerError> {
        let Some(found) = self.find_by_remote_id(account, id).await? else { return Ok(None) };
        let change = self.change(account, found.dispatch_id, |record| Ok(record.set_end(end)));
        Ok(Some(change.await?.0))
    }

    async fn measure_usage(
        &self,
        account: &AccountId,
        callee: Option<&DestinationHash>,
        limits: &CallLimits,
        hold: MilliCents,
        now: Timestamp,
    ) -> Result<Usage, LedgerError> {
        let body = "local limits = {} for at = 5, 11 do limits[at - 4] = tonumber(ARGV[at]) end \
                    local numbers = usage(ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4]), limits) \
                    return numbers";
        let answer: Vec<String> = self
            .invoke(account, body, |script| {
                script
                    .arg(OrderKind::Call.as_str())
                    .arg(callee.map_or("", DestinationHash::as_str))
                    .arg(now.as_millisecond())
                    .arg(hold.0)
                    .arg(numbers(limits));
            })
            .await?;
        self::usage(&answer)
    }

    async fn is_known_destination(
        &self,
        account: &AccountId,
        callee: &DestinationHash,
    ) -> Result<bool, LedgerError> {
        let key = self.key(account, &format!("known:{}", callee.as_str()));
        Ok(self.connection.clone().exists(key).await?)
    }

    async fn list_unresolved(
        &self,
        account: &AccountId,
    ) -> Result<Vec<DispatchRecord>, LedgerError> {
        let last = isize::try_from(MAX_PAGE).unwrap_or(isize::MAX) - 1;
        let ids: Vec<String> =
            self.connection.clone().zrange(self.key(account, "open"), 0, last).await?;
        self.records(account, &ids).await
    }

    async fn find(
        &self,
        account: &AccountId,
        dispatch: DispatchId,
    ) -> Result<Option<DispatchRecord>, LedgerError> {
        self.raw(account, &dispatch.to_string()).await?.map(|raw| read(&raw)).transpose()
    }

    async fn find_by_remote_id(
        &self,
        account: &AccountId,
        id: &str,
    ) -> Result<Option<DispatchRecord>, LedgerError> {
        let dispatch: Option<String> =
            self.connection.clone().get(self.key(account, &format!("id:{id}"))).await?;
        let Some(dispatch) = dispatch else { return Ok(None) };
        self.raw(account, &dispatch).await?.map(|raw| read(&raw)).transpose()
    }

    async fn list_records(&self, filter: RecordFilter) -> Result<Vec<DispatchRecord>, LedgerError> {
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
    ) -> Result<bool, LedgerError> {
        if now >= expires_at {
            return Ok(false);
        }
        // The server forgets it some time after it has expired, whatever the clocks disagree about.
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

    async fn secret(&self) -> Result<[u8; 32], LedgerError> {
        Ok(self.secret)
    }
}

#[cfg(test)]
mod tests;
