//! Measures usage, within the transaction of its caller.

use jiff::{SignedDuration, Timestamp};
use rusqlite::{Connection, OptionalExtension, params};

use super::rows::{to_integer, to_timestamp};
use crate::dialing::caller::CallerName;
use crate::dialing::ledger::{AccountId, DestinationHash};
use crate::dialing::limits::{
    CallLimits, CallerLimits, DAY, HOUR, OrderKind, ScopeUsage, Usage, WindowUsage,
};
use callingbox::MilliCents;

/// What is counted: all dispatches of the account, those of one caller, or those to one destination. Each has an index of
/// its own, so each has statements of its own. The third parameter of every statement is the name or the hash.
#[derive(Clone, Copy)]
enum Scope<'a> {
    Account,
    Caller(&'a CallerName),
    Destination(&'a DestinationHash),
}

impl Scope<'_> {
    fn condition(self) -> &'static str {
        match self {
            Self::Account => "?3 IS NULL",
            Self::Caller(_) => "caller = ?3",
            Self::Destination(_) => "callee_hash = ?3",
        }
    }

    fn value(&self) -> Option<&str> {
        match self {
            Self::Account => None,
            Self::Caller(caller) => Some(caller.as_str()),
            Self::Destination(callee) => Some(callee.as_str()),
        }
    }
}

/// The account's usage at `now`, and that of the caller.
pub(super) fn measure_usage(
    db: &Connection,
    account: &AccountId,
    caller: &CallerName,
    callee: Option<&DestinationHash>,
    limits: &CallLimits,
    hold: MilliCents,
    now: Timestamp,
) -> rusqlite::Result<Usage> {
    let meter = Meter { db, account, hold, now };
    let to_callee = |window, max| match callee {
        Some(callee) => meter.count(OrderKind::Call, Scope::Destination(callee), window, max),
        None => Ok(WindowUsage::default()),
    };
    let purchases =
        meter.count(OrderKind::Purchase, Scope::Account, DAY, limits.purchases_per_day)?;
    let ScopeUsage { hour, day, concurrent, unknown, concurrent_frees_at, spent, spend_frees_at } =
        meter.measure_scope(Scope::Account, &limits.account_wide())?;
    // Mostly no limit of a caller is set.
    let caller = match limits.per_caller == CallerLimits::default() {
        true => ScopeUsage::default(),
        false => meter.measure_scope(Scope::Caller(caller), &limits.per_caller)?,
    };
    Ok(Usage {
        hour,
        day,
        destination_hour: to_callee(HOUR, limits.per_destination_per_hour)?,
        destination_day: to_callee(DAY, limits.per_destination_per_day)?,
        concurrent,
        unknown,
        concurrent_frees_at,
        spent,
        spend_frees_at,
        purchases,
        caller,
    })
}

/// The first instant of a window that ends now, in milliseconds.
pub(super) fn window_start(now: Timestamp, window: SignedDuration) -> i64 {
    now.as_millisecond().saturating_sub(i64::try_from(window.as_millis()).unwrap_or(i64::MAX))
}

struct Meter<'a> {
    db: &'a Connection,
    account: &'a AccountId,
    hold: MilliCents,
    now: Timestamp,
}

impl Meter<'_> {
    fn measure_scope(
        &self,
        scope: Scope<'_>,
        limits: &CallerLimits,
    ) -> rusqlite::Result<ScopeUsage> {
        let (spent, spend_frees_at) = self.sum_spending(scope, limits.spend_per_day)?;
        let in_progress = self.count_in_progress(scope, limits.concurrent)?;
        Ok(ScopeUsage {
            hour: self.count(OrderKind::Call, scope, HOUR, limits.per_hour)?,
            day: self.count(OrderKind::Call, scope, DAY, limits.per_day)?,
            spent,
            spend_frees_at,
            ..in_progress
        })
    }

    fn count(
        &self,
        kind: OrderKind,
        scope: Scope<'_>,
        window: SignedDuration,
        max: Option<u32>,
    ) -> rusqlite::Result<WindowUsage> {
        let orders = format!(
            "FROM dispatch WHERE account_id = ?1 AND created_at > ?2 AND {} \
             AND kind = '{}' AND state <> 'not_placed'",
            scope.condition(),
            kind.as_str()
        );
        let (account, since) = (self.account, window_start(self.now, window));
        let count: u32 = self
            .db
            .prepare_cached(&format!("SELECT count(*) {orders}"))?
            .query_row(params![account, since, scope.value()], |row| row.get(0))?;
        // There are fewer than `max` as soon as the `max`th newest has left the window.
        let frees_at = match max {
            Some(max) if max > 0 && count >= max => self
                .db
                .prepare_cached(&format!(
                    "SELECT created_at {orders} ORDER BY created_at DESC LIMIT 1 OFFSET ?4"
                ))?
                .query_row(params![account, since, scope.value(), max - 1], |row| row.get(0))
                .optional()?
                .and_then(|created_at| to_timestamp(created_at).checked_add(window).ok()),
            _ => None,
        };
        Ok(WindowUsage { count, frees_at })
    }

    fn count_in_progress(
        &self,
        scope: Scope<'_>,
        max: Option<u32>,
    ) -> rusqlite::Result<ScopeUsage> {
        let calls = format!(
            "FROM dispatch WHERE account_id = ?1 AND in_progress_until > ?2 AND {}",
            scope.condition()
        );
        let (account, now) = (self.account, self.now.as_millisecond());
        let (concurrent, unknown): (u32, u32) = self
            .db
            .prepare_cached(&format!(
                "SELECT count(*), count(*) FILTER (WHERE state = 'unknown') {calls}"
            ))?
            .query_row(params![account, now, scope.value()], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })?;
        let concurrent_frees_at = match max {
            Some(max) if max > 0 && concurrent >= max && unknown > 0 => self
                .db
                .prepare_cached(&format!(
                    "SELECT in_progress_until {calls} ORDER BY in_progress_until LIMIT 1 OFFSET ?4"
                ))?
                .query_row(params![account, now, scope.value(), concurrent - max], |row| row.get(0))
                .optional()?
                .map(to_timestamp),
            _ => None,
        };
        Ok(ScopeUsage { concurrent, unknown, concurrent_frees_at, ..ScopeUsage::default() })
    }

    fn sum_spending(
        &self,
        scope: Scope<'_>,
        max: Option<MilliCents>,
    ) -> rusqlite::Result<(MilliCents, Option<Timestamp>)> {
        let spending = format!(
            "FROM dispatch WHERE account_id = ?1 AND created_at > ?2 AND {} AND state <> 'not_placed'",
            scope.condition()
        );
        let (account, since) = (self.account, window_start(self.now, DAY));
        let spent: i64 = self
            .db
            .prepare_cached(&format!("SELECT coalesce(sum(amount), 0) {spending}"))?
            .query_row(params![account, since, scope.value()], |row| row.get(0))?;
        let excess = max.map_or(0, |max| {
            spent.saturating_add(to_integer(self.hold)).saturating_sub(to_integer(max))
        });
        // The hold fits as soon as the oldest amounts that make up the excess are a day old. A hold greater than the
        // whole limit never fits, and the statement returns no row.
        let frees_at = if excess > 0 {
            self.db
                .prepare_cached(&format!(
                    "SELECT created_at FROM (SELECT created_at, sum(amount) OVER (ORDER BY created_at) AS freed \
                     {spending}) WHERE freed >= ?4 ORDER BY created_at LIMIT 1"
                ))?
                .query_row(params![account, since, scope.value(), excess], |row| row.get(0))
                .optional()?
                .and_then(|created_at| to_timestamp(created_at).checked_add(DAY).ok())
        } else {
            None
        };
        Ok((MilliCents(u64::try_from(spent).unwrap_or(0)), frees_at))
    }
}
