//! The limits on calls and money as plain numbers, the usage that they are compared with, and the comparison.
//!
//! The policy compares them before the user is asked. The ledger compares them again inside its transaction, so that
//! a limit holds even if several processes begin concurrently. This file knows no clock, no rules and no storage.
//!
//! A day is the last 24 hours and an hour the last 60 minutes: there is no midnight at which a model could spend the
//! allowance of two days, and no time zone to choose.

use std::fmt;

use jiff::fmt::serde::timestamp::millisecond;
use jiff::{SignedDuration, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_with::skip_serializing_none;

use callingbox::MilliCents;

pub const HOUR: SignedDuration = SignedDuration::from_hours(1);
pub const DAY: SignedDuration = SignedDuration::from_hours(24);
/// No call lasts longer. A call whose result or end was never learned stops counting as in progress after this time, so
/// that a lost answer does not occupy a slot forever.
pub const MAX_CALL_DURATION: SignedDuration = SignedDuration::from_hours(2);
/// How long a call with an unknown result counts as in progress after a complete search has not found it.
pub const MAX_UNKNOWN_AFTER_SEARCH: SignedDuration = SignedDuration::from_mins(10);

/// The limits of an account; `None` is no limit.
#[skip_serializing_none]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct CallLimits {
    /// Calls in a rolling hour.
    pub per_hour: Option<u32>,
    /// Calls in a rolling day.
    pub per_day: Option<u32>,
    /// Calls to one destination in a rolling hour.
    pub per_destination_per_hour: Option<u32>,
    /// Calls to one destination in a rolling day.
    pub per_destination_per_day: Option<u32>,
    /// Calls in progress.
    pub concurrent: Option<u32>,
    /// Money in a rolling day: billed amounts, and the holds of calls that are not billed yet.
    pub spend_per_day: Option<MilliCents>,
    /// Numbers bought in a rolling day.
    pub purchases_per_day: Option<u32>,
    /// The limits of each caller.
    pub per_caller: CallerLimits,
}

/// The limits of one caller of an account; `None` is no limit.
#[skip_serializing_none]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct CallerLimits {
    /// The caller's calls in a rolling hour.
    pub per_hour: Option<u32>,
    /// The caller's calls in a rolling day.
    pub per_day: Option<u32>,
    /// The caller's calls in progress.
    pub concurrent: Option<u32>,
    /// The caller's money in a rolling day.
    pub spend_per_day: Option<MilliCents>,
}

/// Names a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Limit {
    /// Calls in a rolling hour.
    PerHour,
    /// Calls in a rolling day.
    PerDay,
    /// Calls to one destination in a rolling hour.
    PerDestinationPerHour,
    /// Calls to one destination in a rolling day.
    PerDestinationPerDay,
    /// Calls in progress.
    Concurrent,
    /// Money in a rolling day.
    SpendPerDay,
    /// Numbers bought in a rolling day.
    PurchasesPerDay,
    /// One caller's calls in a rolling hour.
    #[serde(rename = "per_caller.per_hour")]
    CallerPerHour,
    /// One caller's calls in a rolling day.
    #[serde(rename = "per_caller.per_day")]
    CallerPerDay,
    /// One caller's calls in progress.
    #[serde(rename = "per_caller.concurrent")]
    CallerConcurrent,
    /// One caller's money in a rolling day.
    #[serde(rename = "per_caller.spend_per_day")]
    CallerSpendPerDay,
}

impl Limit {
    /// Whether the end of a call may free it: a place among the calls in progress, or the rest of a hold.
    #[must_use]
    pub const fn is_freed_by_ends(self) -> bool {
        matches!(
            self,
            Self::Concurrent | Self::SpendPerDay | Self::CallerConcurrent | Self::CallerSpendPerDay
        )
    }

    /// Whether it counts the calls to one destination.
    #[must_use]
    pub const fn is_per_destination(self) -> bool {
        matches!(self, Self::PerDestinationPerHour | Self::PerDestinationPerDay)
    }

    /// All limits, in the order in which they are compared and reported.
    pub const ALL: [Self; 11] = [
        Self::PerDestinationPerHour,
        Self::PerDestinationPerDay,
        Self::Concurrent,
        Self::PerHour,
        Self::PerDay,
        Self::SpendPerDay,
        Self::PurchasesPerDay,
        Self::CallerConcurrent,
        Self::CallerPerHour,
        Self::CallerPerDay,
        Self::CallerSpendPerDay,
    ];
}

/// The key in the calling rules, under `[limits]`.
impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}

/// Whether an order is a call or a purchase.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OrderKind {
    /// A phone call, to which every limit applies.
    Call,
    /// The purchase of a number, to which only the limits on purchases and money apply.
    Purchase,
}

impl OrderKind {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Call => "call",
            Self::Purchase => "purchase",
        }
    }
}

/// The calls within a window.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct WindowUsage {
    pub count: u32,
    /// When the count falls below the limit; `None` if it is below, or if that time is not known.
    #[serde(with = "millisecond::optional")]
    pub frees_at: Option<Timestamp>,
}

/// The usage of an account, measured against some [`CallLimits`]. Every call counts that was or may have been placed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Usage {
    /// Calls in the last hour.
    pub hour: WindowUsage,
    /// Calls in the last day.
    pub day: WindowUsage,
    /// Calls to this destination in the last hour.
    pub destination_hour: WindowUsage,
    /// Calls to this destination in the last day.
    pub destination_day: WindowUsage,
    pub concurrent: u32,
    /// How many of the calls in progress have an unknown result.
    pub unknown: u32,
    /// When enough calls stop counting as in progress, at the latest; known only if some have an unknown result.
    #[serde(with = "millisecond::optional")]
    pub concurrent_frees_at: Option<Timestamp>,
    /// The billed amounts and the holds of the last day.
    pub spent: MilliCents,
    /// When one more hold fits under the limit; `None` if it fits now or never will.
    #[serde(with = "millisecond::optional")]
    pub spend_frees_at: Option<Timestamp>,
    /// Numbers bought in the last day.
    pub purchases: WindowUsage,
    /// The usage of the caller alone.
    pub caller: ScopeUsage,
}

/// The usage of an account as a whole, or of one of its callers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct ScopeUsage {
    pub hour: WindowUsage,
    pub day: WindowUsage,
    pub concurrent: u32,
    pub unknown: u32,
    #[serde(with = "millisecond::optional")]
    pub concurrent_frees_at: Option<Timestamp>,
    pub spent: MilliCents,
    #[serde(with = "millisecond::optional")]
    pub spend_frees_at: Option<Timestamp>,
}

impl Usage {
    /// Adds the purchases of another account, which has no calls.
    pub(super) fn add_purchases(&mut self, other: &Self) {
        self.purchases.count += other.purchases.count;
        self.spent = self.spent.saturating_add(other.spent);
        self.caller.spent = self.caller.spent.saturating_add(other.caller.spent);
    }
}

/// The limit that an order would exceed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LimitReached {
    pub limit: Limit,
    /// When the order becomes possible, if that is known.
    pub until: Option<Timestamp>,
    /// How many of the calls that occupy the limit have an unknown result.
    pub unknown: u32,
}

impl CallLimits {
    /// The limits of the account that each caller may have too.
    #[must_use]
    pub fn account_wide(&self) -> CallerLimits {
        let Self { per_hour, per_day, concurrent, spend_per_day, .. } = *self;
        CallerLimits { per_hour, per_day, concurrent, spend_per_day }
    }

    /// Checks whether one more order, with this hold, would exceed the limit.
    #[must_use]
    pub fn check_limit(
        &self,
        limit: Limit,
        kind: OrderKind,
        usage: &Usage,
        hold: MilliCents,
    ) -> Option<LimitReached> {
        let Usage { caller, .. } = usage;
        let per_caller = &self.per_caller;
        let check_money = |max: Option<MilliCents>, spent: MilliCents, frees_at| {
            (max.is_some_and(|max| spent.saturating_add(hold) > max), frees_at)
        };
        let check_running =
            |max: Option<u32>, count, frees_at| (max.is_some_and(|max| count >= max), frees_at);
        let (is_reached, until) = match (limit, kind) {
            (Limit::SpendPerDay, _) => {
                check_money(self.spend_per_day, usage.spent, usage.spend_frees_at)
            }
            (Limit::CallerSpendPerDay, _) => {
                check_money(per_caller.spend_per_day, caller.spent, caller.spend_frees_at)
            }
            (Limit::PurchasesPerDay, OrderKind::Purchase) => {
                check_count(self.purchases_per_day, usage.purchases)
            }
            (Limit::PurchasesPerDay, OrderKind::Call) | (_, OrderKind::Purchase) => return None,
            (Limit::CallerPerHour, OrderKind::Call) => {
                check_count(per_caller.per_hour, caller.hour)
            }
            (Limit::CallerPerDay, OrderKind::Call) => check_count(per_caller.per_day, caller.day),
            (Limit::CallerConcurrent, OrderKind::Call) => {
                check_running(per_caller.concurrent, caller.concurrent, caller.concurrent_frees_at)
            }
            (Limit::PerHour, OrderKind::Call) => check_count(self.per_hour, usage.hour),
            (Limit::PerDay, OrderKind::Call) => check_count(self.per_day, usage.day),
            (Limit::PerDestinationPerHour, OrderKind::Call) => {
                check_count(self.per_destination_per_hour, usage.destination_hour)
            }
            (Limit::PerDestinationPerDay, OrderKind::Call) => {
                check_count(self.per_destination_per_day, usage.destination_day)
            }
            (Limit::Concurrent, OrderKind::Call) => {
                check_running(self.concurrent, usage.concurrent, usage.concurrent_frees_at)
            }
        };
        let unknown = match limit {
            Limit::Concurrent => usage.unknown,
            Limit::CallerConcurrent => caller.unknown,
            _ => 0,
        };
        is_reached.then_some(LimitReached { limit, until, unknown })
    }

    /// Checks all limits. Of several that the order would exceed, returns the one that lasts longest.
    #[must_use]
    pub fn check_all(
        &self,
        kind: OrderKind,
        usage: &Usage,
        hold: MilliCents,
    ) -> Option<LimitReached> {
        Limit::ALL
            .into_iter()
            .filter_map(|limit| self.check_limit(limit, kind, usage, hold))
            .max_by_key(|reached| reached.until)
    }
}

/// `1 call`, `20 calls`.
pub(super) fn count_calls(count: u32) -> String {
    format!("{count} call{}", if count == 1 { "" } else { "s" })
}

fn check_count(max: Option<u32>, used: WindowUsage) -> (bool, Option<Timestamp>) {
    (max.is_some_and(|max| used.count >= max), used.frees_at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_several_reached_limits_the_one_that_lasts_longest_is_reported() {
        let at = |second| Timestamp::from_second(second).ok();
        let used = |second| WindowUsage { count: 1, frees_at: at(second) };
        let limits = CallLimits {
            per_hour: Some(1),
            per_day: Some(1),
            per_destination_per_hour: Some(1),
            concurrent: Some(1),
            ..CallLimits::default()
        };
        for (hour, day, destination, limit, until) in [
            (10, 30, 20, Limit::PerDay, at(30)),
            (30, 20, 10, Limit::PerHour, at(30)),
            (20, 10, 30, Limit::PerDestinationPerHour, at(30)),
        ] {
            let usage = Usage {
                hour: used(hour),
                day: used(day),
                destination_hour: used(destination),
                concurrent: 1,
                ..Usage::default()
            };
            let reached = limits.check_all(OrderKind::Call, &usage, MilliCents::ZERO);
            assert_eq!(reached, Some(LimitReached { limit, until, unknown: 0 }));
        }
    }
}
