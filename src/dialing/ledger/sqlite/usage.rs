//! Counting what has been used, within whatever transaction it is asked in.

use jiff::{SignedDuration, Timestamp};
use rusqlite::{Connection, OptionalExtension, params};

use super::rows::{instant, integer};
use crate::dialing::ledger::{AccountId, DestinationHash};
use crate::dialing::limits::{CallLimits, DAY, HOUR, MAX_CALL_DURATION, Usage, WindowUsage};
use callingbox::MilliCents;

/// The account's usage at `now`.
pub(super) fn usage(
    db: &Connection,
    account: &AccountId,
    callee: Option<&DestinationHash>,
    limits: &CallLimits,
    hold: MilliCents,
    now: Timestamp,
) -> rusqlite::Result<Usage> {
    let count = |callee, window, max| used(db, account, "call", callee, now, window, max);
    let of_callee = |window, max| match callee {
        Some(callee) => count(Some(callee), window, max),
        None => Ok(WindowUsage::default()),
    };
    let (spent, spend_frees_at) = spent(db, account, limits, hold, now)?;
    Ok(Usage {
        hour: count(None, HOUR, limits.per_hour)?,
        day: count(None, DAY, limits.per_day)?,
        destination_hour: of_callee(HOUR, limits.per_destination_per_hour)?,
        destination_day: of_callee(DAY, limits.per_destination_per_day)?,
        concurrent: concurrent(db, account, now)?,
        spent,
        spend_frees_at,
        purchases: used(db, account, "purchase", None, now, DAY, limits.purchases_per_day)?,
    })
}

/// The first instant of a window that ends now, in milliseconds.
pub(super) fn before(now: Timestamp, window: SignedDuration) -> i64 {
    now.as_millisecond().saturating_sub(i64::try_from(window.as_millis()).unwrap_or(i64::MAX))
}

fn used(
    db: &Connection,
    account: &AccountId,
    kind: &str,
    callee: Option<&DestinationHash>,
    now: Timestamp,
    window: SignedDuration,
    max: Option<u32>,
) -> rusqlite::Result<WindowUsage> {
    // Two statements rather than one with an `OR`, so that each has its index.
    let which = if callee.is_some() { "callee_hash = ?3" } else { "?3 IS NULL" };
    let orders = format!(
        "FROM dispatch WHERE account_id = ?1 AND created_at > ?2 AND {which} \
         AND kind = '{kind}' AND state <> 'not_placed'"
    );
    let since = before(now, window);
    let callee = callee.map(DestinationHash::as_str);
    let count: u32 = db
        .prepare_cached(&format!("SELECT count(*) {orders}"))?
        .query_row(params![account.as_str(), since, callee], |row| row.get(0))?;
    // There are fewer than `max` as soon as the `max`th newest has left the window.
    let frees_at = match max {
        Some(max) if max > 0 && count >= max => db
            .prepare_cached(&format!(
                "SELECT created_at {orders} ORDER BY created_at DESC LIMIT 1 OFFSET ?4"
            ))?
            .query_row(params![account.as_str(), since, callee, max - 1], |row| row.get(0))
            .optional()?
            .and_then(|at: i64| instant(at).checked_add(window).ok()),
        _ => None,
    };
    Ok(WindowUsage { count, frees_at })
}

fn concurrent(db: &Connection, account: &AccountId, now: Timestamp) -> rusqlite::Result<u32> {
    db.prepare_cached(
        "SELECT count(*) FROM dispatch WHERE account_id = ?1 AND kind = 'call' AND ( \
         (state IN ('placed', 'unknown') AND created_at > ?2) OR (state = 'intent' AND lease_expires_at > ?3))",
    )?
    .query_row(params![account.as_str(), before(now, MAX_CALL_DURATION), now.as_millisecond()], |row| {
        row.get(0)
    })
}

fn spent(
    db: &Connection,
    account: &AccountId,
    limits: &CallLimits,
    hold: MilliCents,
    now: Timestamp,
) -> rusqlite::Result<(MilliCents, Option<Timestamp>)> {
    const SPENDING: &str = "SELECT created_at, coalesce(cost_milli_cents, hold_milli_cents) AS amount FROM dispatch \
                            WHERE account_id = ?1 AND created_at > ?2 AND state <> 'not_placed'";
    let since = before(now, DAY);
    let spent: i64 = db
        .prepare_cached(&format!("SELECT coalesce(sum(amount), 0) FROM ({SPENDING})"))?
        .query_row(params![account.as_str(), since], |row| row.get(0))?;
    let excess = limits
        .spend_per_day
        .map_or(0, |max| spent.saturating_add(integer(hold)).saturating_sub(integer(max)));
    // It fits as soon as the oldest amounts that make up the excess are a day old; a hold greater
    // than the whole limit never does, and no row answers.
    let frees_at = if excess > 0 {
        db.prepare_cached(&format!(
            "SELECT created_at FROM (SELECT created_at, sum(amount) OVER (ORDER BY created_at) AS freed \
             FROM ({SPENDING})) WHERE freed >= ?3 ORDER BY created_at LIMIT 1"
        ))?
        .query_row(params![account.as_str(), since, excess], |row| row.get(0))
        .optional()?
        .and_then(|at: i64| instant(at).checked_add(DAY).ok())
    } else {
        None
    };
    Ok((MilliCents(u64::try_from(spent).unwrap_or(0)), frees_at))
}
