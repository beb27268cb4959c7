//! Reads and writes rows. A record is the JSON in the column `record`, from which SQLite fills most other columns.

use jiff::Timestamp;
use rusqlite::types::{ToSqlOutput, Type};
use rusqlite::{Connection, OptionalExtension, Params, Row, ToSql, params};
use serde::de::DeserializeOwned;

use crate::dialing::caller::CallerName;
use crate::dialing::ledger::{
    AccountId, BatchId, DestinationHash, DispatchId, DispatchRecord, Fingerprint, IdempotencyKey,
    KeyHash, Result, describe_unreadable, to_json,
};
use callingbox::MilliCents;

macro_rules! impl_to_sql {
    ($($id:ty),*) => {
        $(impl ToSql for $id {
            fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
                self.as_str().to_sql()
            }
        })*
    };
}
impl_to_sql!(AccountId, BatchId, CallerName, DestinationHash, Fingerprint, IdempotencyKey, KeyHash);

impl ToSql for DispatchId {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(self.to_string().into())
    }
}

/// An amount as SQLite's signed integer, which no price exceeds.
pub(super) fn to_integer(amount: MilliCents) -> i64 {
    i64::try_from(amount.0).unwrap_or(i64::MAX)
}

/// A stored time.
pub(super) fn to_timestamp(stored: i64) -> Timestamp {
    Timestamp::from_millisecond(stored).unwrap_or(Timestamp::MAX)
}

/// The record of the first row.
pub(super) fn query_one<T: DeserializeOwned>(
    db: &Connection,
    sql: &str,
    values: impl Params,
) -> rusqlite::Result<Option<T>> {
    db.prepare_cached(sql)?.query_row(values, read_record).optional()
}

/// The records of all rows.
pub(super) fn query_all<T: DeserializeOwned>(
    db: &Connection,
    sql: &str,
    values: impl Params,
) -> rusqlite::Result<Vec<T>> {
    db.prepare_cached(sql)?.query_map(values, read_record)?.collect()
}

fn read_record<T: DeserializeOwned>(row: &Row<'_>) -> rusqlite::Result<T> {
    let record: String = row.get("record")?;
    serde_json::from_str(&record).map_err(|error| {
        let reason = describe_unreadable(&error).into();
        rusqlite::Error::FromSqlConversionFailure(0, Type::Text, reason)
    })
}

/// Writes a record, new or changed.
pub(super) fn write_dispatch(db: &Connection, record: &DispatchRecord) -> Result<()> {
    db.prepare_cached(
        "INSERT INTO dispatch (dispatch_id, created_at, in_progress_until, record) VALUES (?1, ?2, ?3, ?4) \
         ON CONFLICT (dispatch_id) DO UPDATE SET in_progress_until = ?3, record = ?4",
    )?
    .execute(params![
        record.dispatch_id,
        record.created_at.as_millisecond(),
        record.in_progress_until().map(Timestamp::as_millisecond),
        to_json(record)?,
    ])?;
    Ok(())
}
