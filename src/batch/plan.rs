//! How long a batch takes under the limits in force, how many people it reaches before its end, and what it costs. A
//! plan is an estimate: it places no call and reserves nothing. Pure: times, usage and limits are arguments.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use jiff::{SignedDuration, Timestamp};

use crate::dialing::limits::{CallLimits, DAY, HOUR, Limit, Usage};
use crate::dialing::order::{CALL_HOLD, call_price};
use callingbox::MilliCents;

/// How long a call is expected to be connected, in seconds.
const EXPECTED_SECONDS: u64 = 90;
/// How long a call is expected to occupy a slot, with ringing and extraction.
const EXPECTED_CALL: SignedDuration = SignedDuration::from_secs(120);
/// How many calls run at the same time where no limit says otherwise.
const DEFAULT_CONCURRENT: u32 = 10;

/// What is planned.
pub(super) struct PlanInput<'a> {
    pub start_at: Timestamp,
    pub end_by: Timestamp,
    pub limits: &'a CallLimits,
    pub usage: &'a Usage,
    /// How many results are missing until the batch ends early.
    pub missing_results: Option<u32>,
    pub max_attempts: u32,
    /// For each row that waits: the end of the quiet hours at a time, if it is within them.
    pub quiet_until: &'a dyn Fn(usize, Timestamp) -> Option<Option<Timestamp>>,
    pub rows: usize,
}

/// The estimate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// How many people are reached before the end.
    pub reached: usize,
    pub unreached: usize,
    /// What keeps the first of the others from being reached.
    pub bottleneck: Option<Bottleneck>,
    /// When the last call that fits is expected to end.
    pub finishes_at: Timestamp,
    /// Each attempt at its hold.
    pub max_cost: MilliCents,
    /// One attempt each, of usual length.
    pub expected_cost: MilliCents,
    /// How many people have an hour in the window in which they may be called.
    pub callable: usize,
}

/// What delays a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bottleneck {
    Limit(Limit),
    QuietHours,
    /// Calls one after the other, or as many as run at the same time.
    Duration,
}

struct WindowLimit {
    limit: Limit,
    length: SignedDuration,
    max: usize,
    used: usize,
}

pub(super) fn make_plan(input: &PlanInput<'_>) -> Plan {
    let PlanInput { start_at, end_by, limits, usage, .. } = *input;
    let add = |at: Timestamp, duration| at.checked_add(duration).unwrap_or(Timestamp::MAX);
    let window = |limit, length, max: Option<u32>, used: u32| {
        max.map(|max| WindowLimit { limit, length, max: max as usize, used: used as usize })
    };
    let windows: Vec<WindowLimit> = [
        window(Limit::PerHour, HOUR, limits.per_hour, usage.hour.count),
        window(Limit::PerDay, DAY, limits.per_day, usage.day.count),
        window(Limit::CallerPerHour, HOUR, limits.per_caller.per_hour, usage.caller.hour.count),
        window(Limit::CallerPerDay, DAY, limits.per_caller.per_day, usage.caller.day.count),
    ]
    .into_iter()
    .flatten()
    .collect();
    let (slots, slot_limit) = count_slots(input);
    let affordable: Vec<(usize, Limit)> =
        money_limits(input).map(|(rest, limit)| (count_affordable(rest), limit)).collect();
    let mut ends: BinaryHeap<Reverse<Timestamp>> = BinaryHeap::new();
    let mut starts: Vec<Timestamp> = Vec::new();
    let mut plan = Plan {
        reached: 0,
        unreached: 0,
        bottleneck: None,
        finishes_at: start_at,
        max_cost: CALL_HOLD.saturating_mul(input.rows as u64 * u64::from(input.max_attempts)),
        expected_cost: call_price(EXPECTED_SECONDS * input.rows as u64),
        callable: 0,
    };
    for row in 0..input.rows {
        let mut at = start_at;
        let mut cause = None;
        let mut delay = |at: &mut Timestamp, to: Timestamp, by: Bottleneck| {
            if to > *at {
                *at = to;
                cause = Some(by);
            }
        };
        if let Some(until) = (input.quiet_until)(row, at) {
            delay(&mut at, until.unwrap_or(Timestamp::MAX), Bottleneck::QuietHours);
        }
        if at < end_by {
            plan.callable += 1;
        }
        if ends.len() >= slots
            && let Some(Reverse(free)) = ends.peek()
        {
            delay(&mut at, *free, slot_limit.map_or(Bottleneck::Duration, Bottleneck::Limit));
        }
        for window in &windows {
            // Earlier calls count as if they were placed just before the start.
            let placed = window.used + starts.len();
            if window.max == 0 {
                delay(&mut at, Timestamp::MAX, Bottleneck::Limit(window.limit));
            } else if placed >= window.max {
                let oldest = placed - window.max;
                let oldest = oldest
                    .checked_sub(window.used)
                    .map_or(start_at, |index| starts.get(index).copied().unwrap_or(start_at));
                delay(&mut at, add(oldest, window.length), Bottleneck::Limit(window.limit));
            }
        }
        for (affordable, limit) in &affordable {
            if starts.len() >= *affordable {
                delay(&mut at, add(start_at, DAY), Bottleneck::Limit(*limit));
            }
        }
        if let Some(until) = (input.quiet_until)(row, at) {
            delay(&mut at, until.unwrap_or(Timestamp::MAX), Bottleneck::QuietHours);
        }
        if at >= end_by {
            plan.unreached += 1;
            plan.bottleneck = plan.bottleneck.or(cause);
            continue;
        }
        if ends.len() >= slots {
            ends.pop();
        }
        let end = add(at, EXPECTED_CALL);
        ends.push(Reverse(end));
        let position = starts.partition_point(|earlier| *earlier <= at);
        starts.insert(position, at);
        plan.reached += 1;
        plan.finishes_at = plan.finishes_at.max(end);
    }
    plan
}

/// How many calls run at the same time, and the limit that says so.
fn count_slots(input: &PlanInput<'_>) -> (usize, Option<Limit>) {
    let slots = max_concurrent(input.limits, input.missing_results);
    let holds = money_limits(input).map(|(rest, limit)| {
        let holds = rest.map_or(0, |rest| rest.0 / CALL_HOLD.0);
        (usize::try_from(holds).unwrap_or(usize::MAX).max(1), Some(limit))
    });
    std::iter::once(slots).chain(holds).min_by_key(|(max, _)| *max).unwrap_or(slots)
}

/// The limits of money, with the rest of each (`None`: more was spent).
fn money_limits(input: &PlanInput<'_>) -> impl Iterator<Item = (Option<MilliCents>, Limit)> {
    let PlanInput { limits, usage, .. } = *input;
    [
        (limits.spend_per_day, usage.spent, Limit::SpendPerDay),
        (limits.per_caller.spend_per_day, usage.caller.spent, Limit::CallerSpendPerDay),
    ]
    .into_iter()
    .filter_map(|(max, spent, limit)| Some((max?.0.checked_sub(spent.0).map(MilliCents), limit)))
}

/// How many calls of a batch may run at the same time, and the limit that says so. No more run than results are missing for an
/// early end.
pub(super) fn max_concurrent(
    limits: &CallLimits,
    missing_results: Option<u32>,
) -> (usize, Option<Limit>) {
    let account_wide = match limits.concurrent {
        Some(max) => (max, Some(Limit::Concurrent)),
        None => (DEFAULT_CONCURRENT, None),
    };
    let caller = limits.per_caller.concurrent.map(|max| (max, Some(Limit::CallerConcurrent)));
    let missing = missing_results.map(|missing| (missing, None));
    let (max, limit) = [Some(account_wide), caller, missing]
        .into_iter()
        .flatten()
        .min_by_key(|(max, _)| *max)
        .unwrap_or(account_wide);
    (max.max(1) as usize, limit)
}

/// How many calls of usual cost the rest of a day's money covers. A call needs room for its hold when it starts.
fn count_affordable(rest: Option<MilliCents>) -> usize {
    let rest = rest.and_then(|rest| rest.0.checked_sub(CALL_HOLD.0));
    let calls = rest.map_or(0, |rest| rest / call_price(EXPECTED_SECONDS).0 + 1);
    usize::try_from(calls).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialing::limits::CallerLimits;
    use crate::dialing::policy::Policy;

    fn plan(rows: usize, limits: &CallLimits, usage: &Usage, hours: i64) -> Plan {
        let start_at: Timestamp = "2026-11-02T15:00:00Z".parse().unwrap();
        make_plan(&PlanInput {
            start_at,
            end_by: start_at + SignedDuration::from_hours(hours),
            limits,
            usage,
            missing_results: None,
            max_attempts: 1,
            quiet_until: &|_, _| None,
            rows,
        })
    }

    #[test]
    fn with_the_shipped_limits_80_of_100_people_fit_into_four_hours() {
        let limits = Policy::default().enforced_limits();
        let made = plan(100, &limits, &Usage::default(), 4);
        assert_eq!((made.reached, made.unreached), (80, 20));
        assert_eq!(made.bottleneck, Some(Bottleneck::Limit(Limit::PerHour)));
        assert_eq!(made.max_cost, MilliCents(30_000_000));
        assert_eq!(made.expected_cost, MilliCents(750_000));
        assert_eq!(made.finishes_at.to_string(), "2026-11-02T18:08:00Z");
        let six = plan(100, &limits, &Usage::default(), 6);
        assert_eq!((six.reached, six.bottleneck), (100, None));
    }

    #[test]
    fn the_money_of_a_day_and_earlier_calls_count() {
        let spend = |spend_per_day| CallLimits { spend_per_day, ..CallLimits::default() };
        let made = plan(100, &spend(Some(MilliCents::from_cents(500))), &Usage::default(), 4);
        // $2.00 beside the hold of the last one, at $0.075 each.
        assert_eq!(
            (made.reached, made.bottleneck),
            (27, Some(Bottleneck::Limit(Limit::SpendPerDay)))
        );
        let hour = CallLimits { per_hour: Some(20), ..CallLimits::default() };
        let mut usage = Usage::default();
        usage.hour.count = 15;
        assert_eq!(plan(30, &hour, &usage, 1).reached, 5);
        let none = CallLimits { per_hour: Some(0), ..CallLimits::default() };
        assert_eq!(plan(3, &none, &Usage::default(), 4).reached, 0);
    }

    #[test]
    fn the_limits_of_the_caller_count_too() {
        let per_caller = CallerLimits {
            spend_per_day: Some(MilliCents::from_cents(500)),
            ..CallerLimits::default()
        };
        let limits = CallLimits { per_caller, ..CallLimits::default() };
        let made = plan(100, &limits, &Usage::default(), 4);
        let spend = Some(Bottleneck::Limit(Limit::CallerSpendPerDay));
        assert_eq!((made.reached, made.bottleneck), (27, spend));
    }

    #[test]
    fn as_many_calls_run_as_the_lowest_limit_allows() {
        let limits = |concurrent, caller| {
            let per_caller = CallerLimits { concurrent: caller, ..CallerLimits::default() };
            CallLimits { concurrent, per_caller, ..CallLimits::default() }
        };
        for (concurrent, caller, missing, expected) in [
            (None, None, None, (10, None)),
            (Some(50), None, None, (50, Some(Limit::Concurrent))),
            (Some(50), Some(3), None, (3, Some(Limit::CallerConcurrent))),
            (Some(50), Some(3), Some(2), (2, None)),
            (Some(0), None, None, (1, Some(Limit::Concurrent))),
        ] {
            assert_eq!(max_concurrent(&limits(concurrent, caller), missing), expected);
        }
    }

    #[test]
    fn people_in_quiet_hours_wait() {
        let start_at: Timestamp = "2026-11-02T15:00:00Z".parse().unwrap();
        let seven = start_at + SignedDuration::from_hours(2);
        let made = make_plan(&PlanInput {
            start_at,
            end_by: start_at + SignedDuration::from_hours(3),
            limits: &CallLimits::default(),
            usage: &Usage::default(),
            missing_results: Some(1),
            max_attempts: 2,
            quiet_until: &|row, at| match row {
                0 => Some(None),
                1 if at < seven => Some(Some(seven)),
                _ => None,
            },
            rows: 3,
        });
        assert_eq!((made.reached, made.unreached, made.callable), (2, 1, 2));
        assert_eq!(made.bottleneck, Some(Bottleneck::QuietHours));
        assert_eq!(made.finishes_at, seven + EXPECTED_CALL + EXPECTED_CALL);
        assert_eq!(made.max_cost, CALL_HOLD.saturating_mul(6));
    }
}
