//! When to look at a call again: one pure function. No clock, no I/O, no randomness of its own.
//!
//! The wait is a small part of how long the call has been in its stage, so that a short call is
//! answered quickly and a long one costs little: 3.2 s in the first six minutes of a conversation, 5 s
//! at ten, 10 s from twenty on. Once a webhook has told of this call, looking is only the safety net.

use std::time::Duration;

use super::progress::Progress;

/// What is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Look {
    /// The call's record.
    Record,
    /// What was said so far.
    Transcript,
}

/// What the decision depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// How far the call is.
    pub progress: Progress,
    /// How long it has been there, as seen from here.
    pub lasted: Duration,
    /// Whether webhooks tell of this call.
    pub told: bool,
    /// How many looks in a row have failed.
    pub failures: u32,
    /// What the last answer's `Retry-After` asked for.
    pub retry_after: Option<Duration>,
}

/// The longest wait after failures of our own choosing.
pub const BACKOFF_CEILING: Duration = Duration::from_secs(30);

/// The longest `Retry-After` that is honored: no wait is allowed to last longer than an hour.
pub const RETRY_AFTER_CEILING: Duration = Duration::from_secs(3_600);

/// How long to wait until the next look. `jitter` is a random number from 0 to 1: it moves the wait
/// by up to a tenth either way, and is added whole, as seconds, to a `Retry-After`.
///
/// Nothing when there is nothing to look for: a finished record, a transcript before the
/// conversation.
#[must_use]
pub fn next_look(look: Look, moment: &Moment, jitter: f64) -> Option<Duration> {
    let jitter = if jitter.is_finite() { jitter.clamp(0.0, 1.0) } else { 1.0 };
    let lasted = moment.lasted.as_secs_f64();
    let seconds = match (look, moment.progress) {
        (Look::Record, Progress::Finished) => return None,
        (Look::Record, Progress::Extracting) if moment.told => 5.0,
        (Look::Record, Progress::Extracting) => (lasted / 8.0).clamp(1.0, 5.0),
        (Look::Record, _) if moment.told => 20.0,
        (Look::Record, Progress::Dialing) => (lasted / 15.0).clamp(1.5, 10.0),
        (Look::Record, Progress::Talking) => (lasted / 120.0).clamp(3.2, 10.0),
        (Look::Record, Progress::Unknown) => (lasted / 15.0).clamp(2.0, 10.0),
        (Look::Transcript, Progress::Dialing) => return None,
        (Look::Transcript, Progress::Talking) => (lasted / 120.0).clamp(3.0, 10.0),
        (Look::Transcript, Progress::Unknown) => 10.0,
        // The last one, repeated only while it fails.
        (Look::Transcript, Progress::Extracting | Progress::Finished) => 0.7,
    };
    let doublings = moment.failures.min(10);
    let regular = Duration::from_secs_f64(seconds);
    let backed_off = if moment.failures == 0 {
        regular
    } else {
        regular.saturating_mul(1 << doublings).min(BACKOFF_CEILING)
    };
    let wait = backed_off.mul_f64(0.9 + jitter / 5.0);
    Some(match moment.retry_after {
        Some(asked) => wait.max(asked.min(RETRY_AFTER_CEILING) + Duration::from_secs_f64(jitter)),
        None => wait,
    })
}

#[cfg(test)]
mod tests {
    use super::Look::{Record, Transcript};
    use super::Progress::{Dialing, Extracting, Finished, Talking, Unknown};
    use super::*;

    fn moment(progress: Progress, lasted: u64) -> Moment {
        Moment {
            progress,
            lasted: Duration::from_secs(lasted),
            told: false,
            failures: 0,
            retry_after: None,
        }
    }

    #[test]
    fn the_wait_by_stage_and_age() {
        let table = [
            // what, stage, lasted (s), a webhook told, wait (ms)
            (Record, Dialing, 0, false, Some(1_500)),
            (Record, Dialing, 18, false, Some(1_500)),
            (Record, Dialing, 45, false, Some(3_000)),
            (Record, Dialing, 9_999, false, Some(10_000)),
            (Record, Dialing, 0, true, Some(20_000)),
            (Record, Talking, 0, false, Some(3_200)),
            (Record, Talking, 180, false, Some(3_200)),
            (Record, Talking, 600, false, Some(5_000)),
            (Record, Talking, 1_200, false, Some(10_000)),
            (Record, Talking, u64::MAX, false, Some(10_000)),
            (Record, Talking, 600, true, Some(20_000)),
            (Record, Extracting, 0, false, Some(1_000)),
            (Record, Extracting, 16, false, Some(2_000)),
            (Record, Extracting, 110, false, Some(5_000)),
            (Record, Extracting, 0, true, Some(5_000)),
            (Record, Unknown, 0, false, Some(2_000)),
            (Record, Unknown, 9_999, false, Some(10_000)),
            (Record, Unknown, 0, true, Some(20_000)),
            (Record, Finished, 0, false, None),
            (Transcript, Dialing, 0, false, None),
            (Transcript, Talking, 0, false, Some(3_000)),
            (Transcript, Talking, 0, true, Some(3_000)),
            (Transcript, Talking, 9_999, false, Some(10_000)),
            (Transcript, Unknown, 0, false, Some(10_000)),
            (Transcript, Extracting, 0, false, Some(700)),
            (Transcript, Finished, 0, false, Some(700)),
        ];
        for (look, progress, lasted, told, expected) in table {
            let moment = Moment { told, ..moment(progress, lasted) };
            let wait = next_look(look, &moment, 0.5);
            assert_eq!(wait, expected.map(Duration::from_millis), "{look:?} {moment:?}");
        }
    }

    #[test]
    fn trouble_and_what_the_api_asks_for() {
        let table = [
            // failures, Retry-After (s), jitter, wait (ms)
            (0, None, 0.0, 2_880),
            (0, None, 1.0, 3_520),
            (0, None, f64::NAN, 3_520),
            (0, None, -7.0, 2_880),
            (1, None, 0.5, 6_400),
            (2, None, 0.5, 12_800),
            (3, None, 0.5, 25_600),
            (4, None, 0.5, 30_000),
            (u32::MAX, None, 1.0, 33_000),
            (1, Some(0), 0.5, 6_400),
            (1, Some(20), 0.0, 20_000),
            (1, Some(20), 1.0, 21_000),
            (1, Some(u64::MAX), 0.0, 3_600_000),
        ];
        for (failures, retry_after, jitter, expected) in table {
            let retry_after = retry_after.map(Duration::from_secs);
            let moment = Moment { failures, retry_after, ..moment(Talking, 0) };
            let wait = next_look(Record, &moment, jitter).unwrap();
            assert_eq!(wait.as_millis(), expected, "{moment:?} {jitter}");
        }
    }

    /// Counts the looks that the schedule alone makes at a call that goes through `stages`.
    fn looks(look: Look, stages: &[(Progress, f64)], jitter: f64) -> usize {
        let (mut count, mut late) = (0, 0.0);
        for (progress, length) in stages {
            let mut at = late;
            while at < *length {
                count += 1;
                let lasted = Duration::from_secs_f64(at);
                let moment = Moment { lasted, ..moment(*progress, 0) };
                let Some(wait) = next_look(look, &moment, jitter) else { break };
                at += wait.as_secs_f64();
            }
            late = (at - length).max(0.0);
        }
        count
    }

    #[test]
    fn what_a_call_costs() {
        let three = [(Dialing, 10.0), (Talking, 180.0), (Extracting, 5.0), (Finished, 1.0)];
        let thirty = [(Dialing, 10.0), (Talking, 1_800.0), (Extracting, 5.0), (Finished, 1.0)];
        let figures = |jitter| {
            [
                looks(Record, &three, jitter),
                looks(Transcript, &three[1..2], jitter),
                looks(Record, &thirty, jitter),
                looks(Transcript, &thirty[1..2], jitter),
            ]
        };
        assert_eq!(figures(0.5), [68, 60, 325, 326]);
    }
}
