//! Measures usage, within the transaction of its caller: reads the orders of the last day, and counts them.

use jiff::{SignedDuration, Timestamp};
use rusqlite::{Connection, params};

use super::rows::{to_integer, to_timestamp};
use crate::dialing::caller::CallerName;
use crate::dialing::ledger::{AccountId, DestinationHash};
use crate::dialing::limits::{CallLimits, CallerLimits, DAY, HOUR, ScopeUsage, Usage, WindowUsage};
use callingbox::MilliCents;

/// An order that was or may have been placed within the last day. No call is in progress for as long as that.
struct RecentOrder {
    created_at: i64,
    is_call: bool,
    is_of_caller: bool,
    is_to_callee: bool,
    amount: i64,
    is_unknown: bool,
    in_progress_until: Option<i64>,
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
    let orders: Vec<RecentOrder> = db
        .prepare_cached(
            "SELECT created_at, kind = 'call', caller = ?3, coalesce(callee_hash = ?4, FALSE), amount, \
             state = 'unknown', in_progress_until FROM dispatch \
             WHERE account_id = ?1 AND created_at > ?2 AND state <> 'not_placed' ORDER BY created_at",
        )?
        .query_map(params![account, window_start(now, DAY), caller, callee], |row| {
            Ok(RecentOrder {
                created_at: row.get(0)?,
                is_call: row.get(1)?,
                is_of_caller: row.get(2)?,
                is_to_callee: row.get(3)?,
                amount: row.get(4)?,
                is_unknown: row.get(5)?,
                in_progress_until: row.get(6)?,
            })
        })?
        .collect::<rusqlite::Result<_>>()?;
    let to_callee = || orders.iter().filter(|order| order.is_call && order.is_to_callee);
    let purchases = orders.iter().filter(|order| !order.is_call);
    let of_account: Vec<_> = orders.iter().collect();
    let account = measure_scope(&of_account, &limits.account_wide(), hold, now);
    // Mostly no limit of a caller is set.
    let caller = match limits.per_caller == CallerLimits::default() {
        true => ScopeUsage::default(),
        false => {
            let of_caller: Vec<_> = orders.iter().filter(|order| order.is_of_caller).collect();
            measure_scope(&of_caller, &limits.per_caller, hold, now)
        }
    };
    Ok(Usage {
        hour: account.hour,
        day: account.day,
        destination_hour: count_window(to_callee(), HOUR, limits.per_destination_per_hour, now),
        destination_day: count_window(to_callee(), DAY, limits.per_destination_per_day, now),
        concurrent: account.concurrent,
        unknown: account.unknown,
        concurrent_frees_at: account.concurrent_frees_at,
        spent: account.spent,
        spend_frees_at: account.spend_frees_at,
        purchases: count_window(purchases, DAY, limits.purchases_per_day, now),
        caller,
    })
}

/// The first instant of a window that ends now, in milliseconds.
pub(super) fn window_start(now: Timestamp, window: SignedDuration) -> i64 {
    now.as_millisecond().saturating_sub(i64::try_from(window.as_millis()).unwrap_or(i64::MAX))
}

/// `orders` are the oldest first.
fn measure_scope(
    orders: &[&RecentOrder],
    limits: &CallerLimits,
    hold: MilliCents,
    now: Timestamp,
) -> ScopeUsage {
    let calls = || orders.iter().copied().filter(|order| order.is_call);
    let is_in_progress =
        |order: &&RecentOrder| order.in_progress_until > Some(now.as_millisecond());
    let mut running: Vec<_> = calls().filter(is_in_progress).collect();
    running.sort_by_key(|call| call.in_progress_until);
    let unknown = running.iter().filter(|call| call.is_unknown).count();
    let max_running = limits.concurrent.filter(|max| *max > 0 && unknown > 0);
    let first_to_end = max_running
        .and_then(|max| running.get(running.len().checked_sub(max as usize)?))
        .and_then(|call| call.in_progress_until);

    let spent = orders.iter().fold(0, |sum: i64, order| sum.saturating_add(order.amount));
    let excess = limits
        .spend_per_day
        .map_or(0, |max| spent.saturating_add(to_integer(hold)).saturating_sub(to_integer(max)));
    // The hold fits as soon as the oldest amounts that make up the excess are a day old. A hold greater than the whole
    // limit never fits.
    let mut freed: i64 = 0;
    let last_to_free = orders.iter().filter(|_| excess > 0).find(|order| {
        freed = freed.saturating_add(order.amount);
        freed >= excess
    });
    ScopeUsage {
        hour: count_window(calls(), HOUR, limits.per_hour, now),
        day: count_window(calls(), DAY, limits.per_day, now),
        concurrent: to_count(running.len()),
        unknown: to_count(unknown),
        concurrent_frees_at: first_to_end.map(to_timestamp),
        spent: MilliCents(u64::try_from(spent).unwrap_or(0)),
        spend_frees_at: last_to_free.and_then(|order| leaves_at(order, DAY)),
    }
}

/// How many of these orders, the oldest first, are within the window.
fn count_window<'a>(
    orders: impl DoubleEndedIterator<Item = &'a RecentOrder>,
    window: SignedDuration,
    max: Option<u32>,
    now: Timestamp,
) -> WindowUsage {
    let since = window_start(now, window);
    let newest: Vec<_> = orders.rev().take_while(|order| order.created_at > since).collect();
    // There are fewer than `max` as soon as the `max`th newest has left the window.
    let last_to_leave =
        max.and_then(|max| max.checked_sub(1)).and_then(|index| newest.get(index as usize));
    WindowUsage {
        count: to_count(newest.len()),
        frees_at: last_to_leave.and_then(|order| leaves_at(order, window)),
    }
}

/// When an order leaves a window.
fn leaves_at(order: &RecentOrder, window: SignedDuration) -> Option<Timestamp> {
    to_timestamp(order.created_at).checked_add(window).ok()
}

fn to_count(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}
