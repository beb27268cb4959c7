//! How many calls, and how much money: the limits as plain numbers, what has been used of them, and
//! the one function that compares the two.
//!
//! The policy asks it before a human is bothered; the ledger asks it again inside its transaction, so
//! that a limit holds when several processes begin at the same instant. It reads no clock and knows
//! neither rules nor storage.
//!
//! A "day" is the last 24 hours and an "hour" the last 60 minutes, both rolling: there is no midnight
//! at which a model could spend two days' allowance in a minute, and no time zone to argue about.

use std::fmt;

use jiff::{SignedDuration, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use callingbox::MilliCents;

/// The rolling hour.
pub const HOUR: SignedDuration = SignedDuration::from_hours(1);
/// The rolling day.
pub const DAY: SignedDuration = SignedDuration::from_hours(24);
/// No call lasts longer. A call whose end, or whose beginning, was never learned stops counting as "in
/// progress" after this time, so that one lost answer cannot hold a slot for ever.
pub const MAX_CALL_DURATION: SignedDuration = SignedDuration::from_hours(2);

/// The greatest numbers allowed; `None` is no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallLimits {
    /// Calls in a rolling hour.
    pub per_hour: Option<u32>,
    /// Calls in a rolling day.
    pub per_day: Option<u32>,
    /// Calls to one destination in a rolling hour.
    pub per_destination_per_hour: Option<u32>,
    /// Calls to one destination in a rolling day.
    pub per_destination_per_day: Option<u32>,
    /// Calls in progress at one time.
    pub concurrent: Option<u32>,
    /// Money in a rolling day: billed amounts, and holds where no amount is known yet.
    pub spend_per_day: Option<MilliCents>,
}

/// Which limit.
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
    /// Calls in progress at one time.
    Concurrent,
    /// Money in a rolling day.
    SpendPerDay,
}

impl Limit {
    /// Every limit, in the order in which they are compared and reported.
    pub const ALL: [Self; 6] = [
        Self::PerDestinationPerHour,
        Self::PerDestinationPerDay,
        Self::Concurrent,
        Self::PerHour,
        Self::PerDay,
        Self::SpendPerDay,
    ];

    /// The name in the policy file, under `[limits]`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::PerHour => "per_hour",
            Self::PerDay => "per_day",
            Self::PerDestinationPerHour => "per_destination_per_hour",
            Self::PerDestinationPerDay => "per_destination_per_day",
            Self::Concurrent => "concurrent",
            Self::SpendPerDay => "spend_per_day",
        }
    }

    /// The inverse of [`Limit::as_str`].
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|limit| limit.as_str() == name)
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What is to be begun, as far as limits care.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OrderKind {
    /// A telephone call: every limit applies.
    Call,
    /// The purchase of a number: only the money limit applies.
    Purchase,
}

impl OrderKind {
    /// `call` or `purchase`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Call => "call",
            Self::Purchase => "purchase",
        }
    }
}

/// One limit's consumption.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WindowUsage {
    /// How many there are.
    pub count: u32,
    /// When there will be fewer than the limit that was asked about; `None` while there are fewer
    /// already, and where nobody can say (calls in progress end when they end).
    pub frees_at: Option<Timestamp>,
}

/// What one account has used, measured against some [`CallLimits`].
///
/// Counted are the calls that rang or may have rung: everything but what is known not to have been
/// placed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Calls in the last hour.
    pub hour: WindowUsage,
    /// Calls in the last day.
    pub day: WindowUsage,
    /// Calls to this destination in the last hour.
    pub destination_hour: WindowUsage,
    /// Calls to this destination in the last day.
    pub destination_day: WindowUsage,
    /// Calls in progress, see [`MAX_CALL_DURATION`]. Intents count while their dispatch is alive.
    pub concurrent: u32,
    /// Billed amounts and holds of the last day.
    pub spent: MilliCents,
    /// When enough of it is a day old for one more hold to fit under the limit asked about; `None`
    /// when it fits already or never will.
    pub spend_frees_at: Option<Timestamp>,
}

/// A limit stands in the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LimitReached {
    /// Which.
    pub limit: Limit,
    /// When it becomes possible again, if that can be known.
    pub until: Option<Timestamp>,
}

impl CallLimits {
    /// Whether this one limit has room for one more, which will hold `hold`.
    #[must_use]
    pub fn reached(
        &self,
        limit: Limit,
        kind: OrderKind,
        usage: &Usage,
        hold: MilliCents,
    ) -> Option<LimitReached> {
        let (full, until) = match (limit, kind) {
            (Limit::SpendPerDay, _) => (
                self.spend_per_day.is_some_and(|max| usage.spent.saturating_add(hold) > max),
                usage.spend_frees_at,
            ),
            (_, OrderKind::Purchase) => return None,
            (Limit::PerHour, OrderKind::Call) => full(self.per_hour, usage.hour),
            (Limit::PerDay, OrderKind::Call) => full(self.per_day, usage.day),
            (Limit::PerDestinationPerHour, OrderKind::Call) => {
                full(self.per_destination_per_hour, usage.destination_hour)
            }
            (Limit::PerDestinationPerDay, OrderKind::Call) => {
                full(self.per_destination_per_day, usage.destination_day)
            }
            (Limit::Concurrent, OrderKind::Call) => {
                (self.concurrent.is_some_and(|max| usage.concurrent >= max), None)
            }
        };
        full.then_some(LimitReached { limit, until })
    }

    /// The limit that stands in the way the longest, if any does.
    #[must_use]
    pub fn check(&self, kind: OrderKind, usage: &Usage, hold: MilliCents) -> Option<LimitReached> {
        Limit::ALL
            .into_iter()
            .filter_map(|limit| self.reached(limit, kind, usage, hold))
            .max_by_key(|reached| reached.until)
    }
}

fn full(max: Option<u32>, used: WindowUsage) -> (bool, Option<Timestamp>) {
    (max.is_some_and(|max| used.count >= max), used.frees_at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_several_that_are_reached_the_one_that_lasts_longest_is_told() {
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
            let reached = limits.check(OrderKind::Call, &usage, MilliCents::ZERO);
            assert_eq!(reached, Some(LimitReached { limit, until }));
        }
    }
}
