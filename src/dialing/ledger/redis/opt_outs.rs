//! The do-not-call list on the server. What is decided here, a script writes only if the entries of the number have not
//! changed meanwhile.

use async_trait::async_trait;
use jiff::Timestamp;
use redis::AsyncCommands;
use serde::{Deserialize, Serialize};

use super::{MAX_ATTEMPTS, RedisLedger};
use crate::dialing::ledger::ids::{AccountId, DestinationHash};
use crate::dialing::ledger::opt_out::{find_known, next_instant, tool_window_start};
use crate::dialing::ledger::{
    LedgerError, MAX_TOOL_OPT_OUTS, OptOut, OptOutLedger, OptOutRemoval, OptOutSource,
    RecordOptOutResult, Result, from_json, to_json,
};
use callingbox::E164;

/// The hash of the account's numbers and their entries, and the set of what tools recorded.
const LIST: &str = "opt_out";
/// The numbers themselves in their order, each with the hash under which its entries are.
const NUMBERS: &str = "opt_out_numbers";

/// The entries of one number as they are stored, with the instant that the scripts read.
#[derive(Serialize, Deserialize, Default)]
struct StoredOptOuts {
    /// Until when the number must not be called; absent if it may be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    holds_until_ms: Option<i64>,
    entries: Vec<OptOut>,
}

fn read(raw: Option<&str>) -> Result<Vec<OptOut>> {
    let Some(raw) = raw else { return Ok(Vec::new()) };
    Ok(from_json::<StoredOptOuts>(raw)?.entries)
}

fn write(entries: Vec<OptOut>) -> Result<String> {
    let holds_until = entries.iter().filter_map(OptOut::holds_until).max();
    to_json(&StoredOptOuts { holds_until_ms: holds_until.map(Timestamp::as_millisecond), entries })
}

/// What a script answers.
enum Written {
    Done,
    Changed,
    LimitReached,
}

impl RedisLedger {
    async fn raw_opt_outs(
        &self,
        account: &AccountId,
        callee: &DestinationHash,
    ) -> Result<Option<String>> {
        Ok(self.connection.clone().hget(self.key(account, LIST), callee.as_str()).await?)
    }

    /// The entries of each of these numbers.
    async fn read_numbers(
        &self,
        account: &AccountId,
        hashes: &[&str],
    ) -> Result<Vec<Option<String>>> {
        if hashes.is_empty() {
            return Ok(Vec::new());
        }
        // HGET answers one field differently from several.
        Ok(redis::cmd("HMGET")
            .arg(self.key(account, LIST))
            .arg(hashes)
            .query_async(&mut self.connection.clone())
            .await?)
    }

    /// Writes the entries of a number if they have not changed. `recorded` is the new one.
    async fn write_opt_outs(
        &self,
        account: &AccountId,
        callee: &DestinationHash,
        before: &str,
        after: Vec<OptOut>,
        recorded: Option<&OptOut>,
    ) -> Result<Written> {
        let number = after.first().map_or(String::new(), |entry| {
            format!("{} {}", entry.number.as_str(), callee.as_str())
        });
        let tool = recorded.filter(|entry| entry.source == OptOutSource::Tool);
        let after = write(after)?;
        let answer: i64 = self
            .invoke(account, include_str!("write_opt_outs.lua"), |script| {
                script.arg(callee.as_str()).arg(before).arg(after).arg(number);
                let instant = |entry: &OptOut| entry.recorded_at.as_millisecond();
                script.arg(tool.map_or_else(String::new, |entry| instant(entry).to_string()));
                script.arg(tool.map_or(0, |entry| tool_window_start(entry.recorded_at)));
                script.arg(MAX_TOOL_OPT_OUTS);
            })
            .await?;
        match answer {
            0 => Ok(Written::Changed),
            1 => Ok(Written::Done),
            2 => Ok(Written::LimitReached),
            _ => Err(super::damaged("the change of an opt-out")),
        }
    }
}

#[async_trait]
impl OptOutLedger for RedisLedger {
    async fn record_opt_out(&self, mut opt_out: OptOut) -> Result<RecordOptOutResult> {
        let (account, callee) = (opt_out.account_id.clone(), opt_out.callee.clone());
        for _ in 0..MAX_ATTEMPTS {
            let before = self.raw_opt_outs(&account, &callee).await?;
            let mut entries = read(before.as_deref())?;
            if let Some(known) = find_known(&entries, &opt_out) {
                return Ok(known);
            }
            opt_out.recorded_at = next_instant(&entries, opt_out.recorded_at);
            entries.push(opt_out.clone());
            let before = before.unwrap_or_default();
            let write = self.write_opt_outs(&account, &callee, &before, entries, Some(&opt_out));
            match write.await? {
                Written::Done => return Ok(RecordOptOutResult::Recorded(opt_out)),
                Written::LimitReached => return Ok(RecordOptOutResult::LimitReached),
                Written::Changed => {}
            }
        }
        Err(LedgerError::Locked)
    }

    async fn remove_opt_out(
        &self,
        account: &AccountId,
        callee: &DestinationHash,
        now: Timestamp,
        reason: &str,
    ) -> Result<usize> {
        let removal = OptOutRemoval::new(now, reason);
        for _ in 0..MAX_ATTEMPTS {
            let Some(before) = self.raw_opt_outs(account, callee).await? else { return Ok(0) };
            let mut entries = read(Some(&before))?;
            let removed = removal.apply(&mut entries);
            if removed == 0 {
                return Ok(0);
            }
            match self.write_opt_outs(account, callee, &before, entries, None).await? {
                Written::Done => return Ok(removed),
                Written::Changed | Written::LimitReached => {}
            }
        }
        Err(LedgerError::Locked)
    }

    async fn list_opt_outs_of(
        &self,
        account: &AccountId,
        callee: &DestinationHash,
    ) -> Result<Vec<OptOut>> {
        read(self.raw_opt_outs(account, callee).await?.as_deref())
    }

    async fn are_opted_out(
        &self,
        account: &AccountId,
        callees: Vec<DestinationHash>,
        now: Timestamp,
    ) -> Result<Vec<bool>> {
        let hashes: Vec<&str> = callees.iter().map(DestinationHash::as_str).collect();
        let is_listed = |raw: Option<String>| {
            let entries = read(raw.as_deref())?;
            Ok(entries.iter().any(|entry| entry.is_in_force(now)))
        };
        self.read_numbers(account, &hashes).await?.into_iter().map(is_listed).collect()
    }

    async fn list_opt_outs(
        &self,
        account: &AccountId,
        after: Option<&E164>,
        limit: u32,
    ) -> Result<Vec<OptOut>> {
        let mut connection = self.connection.clone();
        // A member is the number, a space and its hash: `!` is the character after the space.
        let from = after.map_or_else(|| "-".to_owned(), |number| format!("({}!", number.as_str()));
        let limit = isize::try_from(limit).unwrap_or(isize::MAX);
        let members: Vec<String> =
            connection.zrangebylex_limit(self.key(account, NUMBERS), from, "+", 0, limit).await?;
        let hashes: Vec<&str> =
            members.iter().filter_map(|member| Some(member.split_once(' ')?.1)).collect();
        let mut found = Vec::new();
        for raw in &self.read_numbers(account, &hashes).await? {
            found.extend(read(raw.as_deref())?);
        }
        Ok(found)
    }
}
