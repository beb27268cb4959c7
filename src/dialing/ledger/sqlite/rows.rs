//! Converts records to rows and back.

use std::str::FromStr;

use jiff::Timestamp;
use rusqlite::types::Type;
use rusqlite::{Connection, Row, named_params};

use crate::dialing::call_outcome::CallOutcome;
use crate::dialing::caller::CallerName;
use crate::dialing::ledger::ids::{AccountId, DestinationHash, Fingerprint};
use crate::dialing::ledger::{
    Attempt, BatchId, Callee, ConfirmedBy, DispatchId, DispatchRecord, DispatchState,
    IdempotencyKey,
};
use crate::dialing::limits::OrderKind;
use callingbox::MilliCents;

/// An amount as SQLite's signed integer, which no price exceeds.
pub(super) fn to_integer(amount: MilliCents) -> i64 {
    i64::try_from(amount.0).unwrap_or(i64::MAX)
}

fn to_amount(stored: i64) -> MilliCents {
    MilliCents(u64::try_from(stored).unwrap_or(0))
}

/// A stored time.
pub(super) fn to_timestamp(stored: i64) -> Timestamp {
    Timestamp::from_millisecond(stored).unwrap_or(Timestamp::MAX)
}

/// Writes a new record, which is an intent.
pub(super) fn insert(db: &Connection, record: &DispatchRecord) -> rusqlite::Result<()> {
    db.prepare_cached(
        "INSERT INTO dispatch (dispatch_id, kind, account_id, caller, fingerprint, arguments, idempotency_key, \
         callee_masked, callee_hash, agent_id, batch_id, batch_row, attempt, batch_generation, rule, confirmed_by, created_at, written_at, lease_expires_at, \
         generation, hold_milli_cents, state, in_progress_until) \
         VALUES (:dispatch_id, :kind, :account_id, :caller, :fingerprint, :arguments, :idempotency_key, \
         :callee_masked, :callee_hash, :agent_id, :batch_id, :batch_row, :attempt, :batch_generation, :rule, :confirmed_by, :created_at, :written_at, :lease_expires_at, \
         :generation, :hold_milli_cents, :state, :in_progress_until)",
    )?
    .execute(named_params! {
        ":dispatch_id": record.dispatch_id.to_string(),
        ":kind": record.kind.as_str(),
        ":account_id": record.account_id.as_str(),
        ":caller": record.caller.as_str(),
        ":fingerprint": record.fingerprint.as_str(),
        ":arguments": serde_json::to_string(&record.arguments).map_err(to_sql_error)?,
        ":idempotency_key": record.idempotency_key.as_ref().map(IdempotencyKey::as_str),
        ":callee_masked": record.callee.as_ref().map(|callee| callee.masked.as_str()),
        ":callee_hash": record.callee.as_ref().map(|callee| callee.hash.as_str()),
        ":agent_id": record.agent_id,
        ":batch_id": record.attempt.as_ref().map(|attempt| attempt.batch_id.as_str()),
        ":batch_row": record.attempt.as_ref().map(|attempt| attempt.row),
        ":attempt": record.attempt.as_ref().map(|attempt| attempt.attempt),
        ":batch_generation": record.attempt.as_ref().map(|attempt| attempt.generation),
        ":rule": record.rule,
        ":confirmed_by": record.confirmed_by.as_str(),
        ":created_at": record.created_at.as_millisecond(),
        ":written_at": record.written_at.as_millisecond(),
        ":lease_expires_at": record.lease_expires_at.as_millisecond(),
        ":generation": record.generation,
        ":hold_milli_cents": to_integer(record.hold),
        ":state": record.state.as_str(),
        ":in_progress_until": in_progress_until(record),
    })?;
    Ok(())
}

fn in_progress_until(record: &DispatchRecord) -> Option<i64> {
    record.in_progress_until().map(Timestamp::as_millisecond)
}

fn to_sql_error(error: serde_json::Error) -> rusqlite::Error {
    rusqlite::Error::ToSqlConversionFailure(error.into())
}

/// Writes what changes in a record's life: state, lease, generation.
pub(super) fn update(db: &Connection, record: &DispatchRecord) -> rusqlite::Result<()> {
    let absent_since = match &record.state {
        DispatchState::Unknown { absent_since } => absent_since.map(Timestamp::as_millisecond),
        _ => None,
    };
    let (reason, outcome, cost) = match &record.state {
        DispatchState::NotPlaced { reason } => (Some(reason), None, None),
        DispatchState::Finished { outcome, cost, .. } => {
            (None, Some(outcome.as_str()), cost.map(to_integer))
        }
        DispatchState::Intent | DispatchState::Unknown { .. } | DispatchState::Placed { .. } => {
            (None, None, None)
        }
    };
    db.prepare_cached(
        "UPDATE dispatch SET state = :state, absent_since = :absent_since, in_progress_until = :in_progress_until, \
         reason = :reason, remote_id = :remote_id, outcome = :outcome, cost_milli_cents = :cost_milli_cents, \
         lease_expires_at = :lease_expires_at, generation = :generation, result_read = :result_read \
         WHERE dispatch_id = :dispatch_id",
    )?
    .execute(named_params! {
        ":state": record.state.as_str(),
        ":absent_since": absent_since,
        ":in_progress_until": in_progress_until(record),
        ":reason": reason,
        ":remote_id": record.state.id(),
        ":outcome": outcome,
        ":cost_milli_cents": cost,
        ":lease_expires_at": record.lease_expires_at.as_millisecond(),
        ":generation": record.generation,
        ":result_read": record.is_result_read,
        ":dispatch_id": record.dispatch_id.to_string(),
    })?;
    Ok(())
}

/// The record in a row of `SELECT * FROM dispatch`.
pub(super) fn record(row: &Row<'_>) -> rusqlite::Result<DispatchRecord> {
    let text = |column: &str| row.get::<_, Option<String>>(column);
    let needed = |column: &str| row.get::<_, String>(column);
    let state = match needed("state")?.as_str() {
        "intent" => DispatchState::Intent,
        "unknown" => DispatchState::Unknown {
            absent_since: row.get::<_, Option<i64>>("absent_since")?.map(to_timestamp),
        },
        "not_placed" => DispatchState::NotPlaced { reason: text("reason")?.unwrap_or_default() },
        "placed" => DispatchState::Placed { id: needed("remote_id")? },
        "finished" => DispatchState::Finished {
            id: needed("remote_id")?,
            outcome: CallOutcome::from_stored(&needed("outcome")?)
                .ok_or_else(|| damaged("outcome"))?,
            cost: row.get::<_, Option<i64>>("cost_milli_cents")?.map(to_amount),
        },
        _ => return Err(damaged("state")),
    };
    let callee = match (text("callee_masked")?, text("callee_hash")?) {
        (Some(masked), Some(hash)) => Some(Callee { masked, hash: DestinationHash(hash) }),
        _ => None,
    };
    let attempt = match text("batch_id")? {
        Some(batch_id) => Some(Attempt {
            batch_id: BatchId::parse(&batch_id).map_err(|_| damaged("batch_id"))?,
            row: row.get("batch_row")?,
            attempt: row.get("attempt")?,
            generation: row.get("batch_generation")?,
        }),
        None => None,
    };
    Ok(DispatchRecord {
        dispatch_id: DispatchId::from_str(&needed("dispatch_id")?)
            .map_err(|_| damaged("dispatch_id"))?,
        kind: match needed("kind")?.as_str() {
            "call" => OrderKind::Call,
            "purchase" => OrderKind::Purchase,
            _ => return Err(damaged("kind")),
        },
        account_id: AccountId(needed("account_id")?),
        caller: CallerName::from_text(&needed("caller")?),
        fingerprint: Fingerprint(needed("fingerprint")?),
        arguments: serde_json::from_str(&needed("arguments")?).map_err(|_| damaged("arguments"))?,
        idempotency_key: text("idempotency_key")?
            .map(|key| IdempotencyKey::parse(&key))
            .transpose()
            .map_err(|_| damaged("idempotency_key"))?,
        callee,
        agent_id: text("agent_id")?,
        rule: needed("rule")?,
        confirmed_by: ConfirmedBy::from_stored(&needed("confirmed_by")?)
            .ok_or_else(|| damaged("confirmed_by"))?,
        created_at: to_timestamp(row.get("created_at")?),
        written_at: to_timestamp(row.get("written_at")?),
        lease_expires_at: to_timestamp(row.get("lease_expires_at")?),
        generation: row.get("generation")?,
        hold: to_amount(row.get("hold_milli_cents")?),
        attempt,
        is_result_read: row.get("result_read")?,
        state,
    })
}

pub(super) fn damaged(column: &str) -> rusqlite::Error {
    let message = format!("a record has an unreadable {column}");
    rusqlite::Error::FromSqlConversionFailure(0, Type::Text, message.into())
}
