//! The do-not-call list in the file.

use async_trait::async_trait;
use jiff::Timestamp;
use rusqlite::{Connection, params};

use super::SqliteLedger;
use super::rows::query_all;
use crate::dialing::ledger::ids::{AccountId, DestinationHash};
use crate::dialing::ledger::opt_out::{find_known, next_instant, tool_window_start};
use crate::dialing::ledger::{
    MAX_TOOL_OPT_OUTS, OptOut, OptOutLedger, OptOutRemoval, OptOutSource, RecordOptOutResult,
    Result, to_json,
};
use callingbox::E164;

/// Whether a number may be called: it is not on the list. A purchase has no number.
pub(super) fn may_call(
    db: &Connection,
    account: &AccountId,
    callee: Option<&DestinationHash>,
    now: Timestamp,
) -> rusqlite::Result<bool> {
    let Some(callee) = callee else { return Ok(true) };
    Ok(!list_of(db, account, callee)?.iter().any(|entry| entry.is_in_force(now)))
}

const BY_CALLEE: &str =
    "SELECT record FROM opt_out WHERE account_id = ?1 AND callee_hash = ?2 ORDER BY recorded_at";

fn list_of(
    db: &Connection,
    account: &AccountId,
    callee: &DestinationHash,
) -> rusqlite::Result<Vec<OptOut>> {
    query_all(db, BY_CALLEE, params![account, callee])
}

fn write(db: &Connection, entry: &OptOut) -> Result<()> {
    db.prepare_cached(
        "INSERT INTO opt_out (account_id, number, recorded_at, record) VALUES (?1, ?2, ?3, ?4) \
         ON CONFLICT (account_id, number, recorded_at) DO UPDATE SET record = ?4",
    )?
    .execute(params![
        entry.account_id,
        entry.number.as_str(),
        entry.recorded_at.as_millisecond(),
        to_json(entry)?,
    ])?;
    Ok(())
}

fn record(db: &Connection, mut opt_out: OptOut) -> Result<RecordOptOutResult> {
    let entries = list_of(db, &opt_out.account_id, &opt_out.callee)?;
    if let Some(known) = find_known(&entries, &opt_out) {
        return Ok(known);
    }
    if opt_out.source == OptOutSource::Tool {
        let recorded: u32 = db
            .prepare_cached(
                "SELECT count(*) FROM opt_out WHERE account_id = ?1 AND source = 'tool' AND recorded_at > ?2",
            )?
            .query_row(
                params![opt_out.account_id, tool_window_start(opt_out.recorded_at)],
                |row| row.get(0),
            )?;
        if recorded >= MAX_TOOL_OPT_OUTS {
            return Ok(RecordOptOutResult::LimitReached);
        }
    }
    opt_out.recorded_at = next_instant(&entries, opt_out.recorded_at);
    write(db, &opt_out)?;
    Ok(RecordOptOutResult::Recorded(opt_out))
}

#[async_trait]
impl OptOutLedger for SqliteLedger {
    async fn record_opt_out(&self, opt_out: OptOut) -> Result<RecordOptOutResult> {
        let new = opt_out.clone();
        // The result of a call is read many times. No other process must wait for that.
        let known =
            self.run(move |db| Ok(find_known(&list_of(db, &new.account_id, &new.callee)?, &new)));
        match known.await? {
            Some(known) => Ok(known),
            None => self.write(move |tx| record(tx, opt_out)).await,
        }
    }

    async fn remove_opt_out(
        &self,
        account: &AccountId,
        callee: &DestinationHash,
        now: Timestamp,
        reason: &str,
    ) -> Result<usize> {
        let (account, callee) = (account.clone(), callee.clone());
        let removal = OptOutRemoval::new(now, reason);
        self.write(move |tx| {
            let mut entries = list_of(tx, &account, &callee)?;
            let removed = removal.apply(&mut entries);
            entries.iter().try_for_each(|entry| write(tx, entry))?;
            Ok(removed)
        })
        .await
    }

    async fn list_opt_outs_of(
        &self,
        account: &AccountId,
        callee: &DestinationHash,
    ) -> Result<Vec<OptOut>> {
        self.find_all(BY_CALLEE, (account.clone(), callee.clone())).await
    }

    async fn are_opted_out(
        &self,
        account: &AccountId,
        callees: Vec<DestinationHash>,
        now: Timestamp,
    ) -> Result<Vec<bool>> {
        let account = account.clone();
        self.run(move |db| {
            let is_opted_out = |callee| may_call(db, &account, Some(callee), now).map(|may| !may);
            Ok(callees.iter().map(is_opted_out).collect::<rusqlite::Result<_>>()?)
        })
        .await
    }

    async fn list_opt_outs(
        &self,
        account: &AccountId,
        after: Option<&E164>,
        limit: u32,
    ) -> Result<Vec<OptOut>> {
        let numbers = "SELECT record FROM opt_out WHERE account_id = ?1 AND number IN (SELECT DISTINCT number \
                       FROM opt_out WHERE account_id = ?1 AND number > ?2 ORDER BY number LIMIT ?3) \
                       ORDER BY number, recorded_at";
        let after = after.map_or_else(String::new, |number| number.as_str().to_owned());
        self.find_all(numbers, (account.clone(), after, limit)).await
    }
}
