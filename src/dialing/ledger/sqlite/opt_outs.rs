//! The do-not-call list in the file.

use async_trait::async_trait;
use jiff::Timestamp;
use rusqlite::{Connection, Row, named_params, params};

use super::SqliteLedger;
use super::rows::{damaged, to_timestamp};
use crate::dialing::caller::CallerName;
use crate::dialing::ledger::ids::{AccountId, DestinationHash};
use crate::dialing::ledger::opt_out::{find_known, next_instant, tool_window_start};
use crate::dialing::ledger::{
    LedgerError, MAX_TOOL_OPT_OUTS, OptOut, OptOutLedger, OptOutRemoval, OptOutSource,
    RecordOptOutResult, truncate_reason,
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
    let is_listed = db
        .prepare_cached(
            "SELECT 1 FROM opt_out WHERE account_id = ?1 AND callee_hash = ?2 AND removed_at IS NULL \
             AND (expires_at IS NULL OR expires_at > ?3)",
        )?
        .exists(params![account.as_str(), callee.as_str(), now.as_millisecond()])?;
    Ok(!is_listed)
}

fn read(row: &Row<'_>) -> rusqlite::Result<OptOut> {
    let time = |name| Ok::<_, rusqlite::Error>(row.get::<_, Option<i64>>(name)?.map(to_timestamp));
    let source: String = row.get("source")?;
    let number: String = row.get("number")?;
    let caller: String = row.get("caller")?;
    let reason: Option<String> = row.get("removal_reason")?;
    Ok(OptOut {
        account_id: AccountId(row.get("account_id")?),
        number: E164::parse(&number).map_err(|_| damaged("number"))?,
        callee: DestinationHash(row.get("callee_hash")?),
        recorded_at: to_timestamp(row.get("recorded_at")?),
        source: OptOutSource::from_stored(&source).ok_or_else(|| damaged("source"))?,
        remote_id: row.get("remote_id")?,
        caller: CallerName::from_text(&caller),
        reason: row.get("reason")?,
        expires_at: time("expires_at")?,
        removal: time("removed_at")?
            .zip(reason)
            .map(|(removed_at, reason)| OptOutRemoval { removed_at, reason }),
    })
}

fn list_of(
    db: &Connection,
    account: &AccountId,
    callee: &DestinationHash,
) -> rusqlite::Result<Vec<OptOut>> {
    db.prepare_cached(
        "SELECT * FROM opt_out WHERE account_id = ?1 AND callee_hash = ?2 ORDER BY recorded_at",
    )?
    .query_map(params![account.as_str(), callee.as_str()], read)?
    .collect()
}

fn record(db: &Connection, mut opt_out: OptOut) -> Result<RecordOptOutResult, LedgerError> {
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
                params![opt_out.account_id.as_str(), tool_window_start(opt_out.recorded_at)],
                |row| row.get(0),
            )?;
        if recorded >= MAX_TOOL_OPT_OUTS {
            return Ok(RecordOptOutResult::LimitReached);
        }
    }
    opt_out.recorded_at = next_instant(&entries, opt_out.recorded_at);
    db.prepare_cached(
        "INSERT INTO opt_out (account_id, number, callee_hash, recorded_at, source, remote_id, caller, reason, \
         expires_at) VALUES (:account_id, :number, :callee_hash, :recorded_at, :source, :remote_id, :caller, :reason, \
         :expires_at)",
    )?
    .execute(named_params! {
        ":account_id": opt_out.account_id.as_str(),
        ":number": opt_out.number.as_str(),
        ":callee_hash": opt_out.callee.as_str(),
        ":recorded_at": opt_out.recorded_at.as_millisecond(),
        ":source": opt_out.source.as_str(),
        ":remote_id": opt_out.remote_id,
        ":caller": opt_out.caller.as_str(),
        ":reason": opt_out.reason,
        ":expires_at": opt_out.expires_at.map(Timestamp::as_millisecond),
    })?;
    Ok(RecordOptOutResult::Recorded(opt_out))
}

#[async_trait]
impl OptOutLedger for SqliteLedger {
    async fn record_opt_out(&self, opt_out: OptOut) -> Result<RecordOptOutResult, LedgerError> {
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
    ) -> Result<usize, LedgerError> {
        let (account, callee, reason) = (account.clone(), callee.clone(), truncate_reason(reason));
        self.write(move |tx| {
            let removed = tx
                .prepare_cached(
                    "UPDATE opt_out SET removed_at = ?3, removal_reason = ?4 WHERE account_id = ?1 \
                     AND callee_hash = ?2 AND removed_at IS NULL AND (expires_at IS NULL OR expires_at > ?3)",
                )?
                .execute(params![account.as_str(), callee.as_str(), now.as_millisecond(), reason])?;
            Ok(removed)
        })
        .await
    }

    async fn list_opt_outs_of(
        &self,
        account: &AccountId,
        callee: &DestinationHash,
    ) -> Result<Vec<OptOut>, LedgerError> {
        let (account, callee) = (account.clone(), callee.clone());
        self.run(move |db| Ok(list_of(db, &account, &callee)?)).await
    }

    async fn are_opted_out(
        &self,
        account: &AccountId,
        callees: Vec<DestinationHash>,
        now: Timestamp,
    ) -> Result<Vec<bool>, LedgerError> {
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
    ) -> Result<Vec<OptOut>, LedgerError> {
        let account = account.clone();
        let after = after.map_or_else(String::new, |number| number.as_str().to_owned());
        self.run(move |db| {
            let entries: rusqlite::Result<Vec<OptOut>> = db
                .prepare_cached(
                    "SELECT * FROM opt_out WHERE account_id = ?1 AND number IN (SELECT DISTINCT number FROM opt_out \
                     WHERE account_id = ?1 AND number > ?2 ORDER BY number LIMIT ?3) ORDER BY number, recorded_at",
                )?
                .query_map(params![account.as_str(), after, limit], read)?
                .collect();
            Ok(entries?)
        })
        .await
    }
}
