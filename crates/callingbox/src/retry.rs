//! When a request is repeated: a function from a failed attempt to a decision. It has no clock and no I/O.

use std::time::Duration;

use crate::error::{AttemptOutcome, Phase};

/// A failed attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FailedAttempt {
    /// Whether a second request has no further effect.
    pub(crate) idempotent: bool,
    /// How it failed.
    pub(crate) outcome: AttemptOutcome,
    /// Which attempt it was, from 1.
    pub(crate) number: u32,
    /// The wait that the response asked for.
    pub(crate) retry_after: Option<Duration>,
    /// The time until the deadline of all attempts.
    pub(crate) remaining: Duration,
}

/// How often a request is repeated, and how long to wait before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    /// The largest number of attempts, the first one included.
    pub max_attempts: u32,
    /// The longest wait before the second attempt. It doubles for each further one.
    pub base: Duration,
    /// The longest wait that the API did not ask for.
    pub ceiling: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self { max_attempts: 4, base: Duration::from_millis(500), ceiling: Duration::from_secs(8) }
    }
}

impl RetryPolicy {
    /// No request is repeated.
    pub const NEVER: Self = Self { max_attempts: 1, base: Duration::ZERO, ceiling: Duration::ZERO };
}

/// The wait before another attempt; `None` if none is made. `jitter` is a random number from 0 to 1.
///
/// A request that is not idempotent is only repeated if it was certainly not sent (the host was not found, no connection
/// was made) or if the response says that nothing was done (429). A 503 does not say so, with or without `Retry-After`:
/// proxies send it too, about a slow server that has the request already. The wait is exponential with full jitter. A
/// `Retry-After` is respected in full, with a jitter of at most `base` so that many clients do not return at the same
/// time. A wait that would pass the deadline does not start.
pub(crate) fn wait_before_retry(
    attempt: &FailedAttempt,
    policy: &RetryPolicy,
    jitter: f64,
) -> Option<Duration> {
    if attempt.number >= policy.max_attempts || !is_repeatable(attempt) {
        return None;
    }
    let doublings = attempt.number.saturating_sub(1).min(16);
    let backoff = policy.base.saturating_mul(1 << doublings).min(policy.ceiling);
    let jitter = if jitter.is_finite() { jitter.clamp(0.0, 1.0) } else { 1.0 };
    let wait = match attempt.retry_after {
        Some(asked) => asked.saturating_add(policy.base.mul_f64(jitter)),
        None => backoff.mul_f64(jitter),
    };
    (wait < attempt.remaining).then_some(wait)
}

/// Whether the outcome allows another attempt.
fn is_repeatable(attempt: &FailedAttempt) -> bool {
    match (attempt.idempotent, attempt.outcome) {
        (_, AttemptOutcome::Final | AttemptOutcome::Transport(Phase::Tls)) => false,
        (
            _,
            AttemptOutcome::Status(429) | AttemptOutcome::Transport(Phase::Dns | Phase::Connect),
        ) => true,
        (false, AttemptOutcome::Status(_) | AttemptOutcome::Transport(_)) => false,
        (true, AttemptOutcome::Status(status)) => matches!(status, 500 | 502..=504),
        (true, AttemptOutcome::Transport(_)) => true,
    }
}

/// Reads a `Retry-After` header: whole seconds or an HTTP date (RFC 9110 section 10.2.3).
pub(crate) fn parse_retry_after(value: &str, now: jiff::Timestamp) -> Option<Duration> {
    let value = value.trim();
    if !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit()) {
        return Some(Duration::from_secs(value.parse().unwrap_or(u64::MAX)));
    }
    let time = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(value).ok()?;
    Some(Duration::try_from(time.duration_since(now)).unwrap_or(Duration::ZERO))
}

#[cfg(test)]
mod tests {
    use super::AttemptOutcome::{Final, Status, Transport};
    use super::*;

    const POLICY: RetryPolicy = RetryPolicy {
        max_attempts: 4,
        base: Duration::from_millis(500),
        ceiling: Duration::from_secs(8),
    };

    fn first(idempotent: bool, outcome: AttemptOutcome, retry_after: Option<u64>) -> FailedAttempt {
        FailedAttempt {
            idempotent,
            outcome,
            number: 1,
            retry_after: retry_after.map(Duration::from_secs),
            remaining: Duration::from_secs(30),
        }
    }

    #[test]
    fn outcomes_decide_whether_a_request_is_repeated() {
        let table = [
            // outcome, Retry-After, idempotent, once
            (Status(400), None, false, false),
            (Status(401), None, false, false),
            (Status(402), None, false, false),
            (Status(404), None, false, false),
            (Status(408), None, false, false),
            (Status(409), None, false, false),
            (Status(422), None, false, false),
            (Status(400), Some(1), false, false),
            (Status(429), None, true, true),
            (Status(429), Some(1), true, true),
            (Status(500), None, true, false),
            (Status(500), Some(1), true, false),
            (Status(501), None, false, false),
            (Status(502), None, true, false),
            (Status(502), Some(1), true, false),
            (Status(503), None, true, false),
            (Status(503), Some(1), true, false),
            (Status(504), None, true, false),
            (Status(504), Some(1), true, false),
            (Status(302), None, false, false),
            (Status(200), None, false, false),
            (Transport(Phase::Dns), None, true, true),
            (Transport(Phase::Connect), None, true, true),
            (Transport(Phase::Tls), None, false, false),
            (Transport(Phase::Send), None, true, false),
            (Transport(Phase::Receive), None, true, false),
            (Transport(Phase::Timeout), None, true, false),
            (Final, None, false, false),
        ];
        for (outcome, retry_after, idempotent, once) in table {
            for (is_idempotent, expected) in [(true, idempotent), (false, once)] {
                let attempt = first(is_idempotent, outcome, retry_after);
                let wait = wait_before_retry(&attempt, &POLICY, 0.5);
                assert_eq!(wait.is_some(), expected, "{is_idempotent} {outcome:?} {retry_after:?}");
            }
        }
    }

    #[test]
    fn waits_grow_within_the_deadline() {
        let ms = |ms| Some(Duration::from_millis(ms));
        let table = [
            // attempt, Retry-After in s, remaining s, jitter, wait
            (1, None, 30, 1.0, ms(500)),
            (1, None, 30, 0.0, ms(0)),
            (1, None, 30, 0.5, ms(250)),
            (2, None, 30, 1.0, ms(1_000)),
            (3, None, 30, 1.0, ms(2_000)),
            (4, None, 30, 1.0, None),
            (5, None, 30, 1.0, None),
            (3, None, 2, 1.0, None),
            (3, None, 3, 1.0, ms(2_000)),
            (1, Some(0), 30, 0.0, ms(0)),
            (1, Some(20), 30, 0.0, ms(20_000)),
            (1, Some(20), 30, 1.0, ms(20_500)),
            (1, Some(30), 30, 0.0, None),
            (1, Some(u64::MAX), 30, 1.0, None),
            (1, None, 0, 0.0, None),
            (1, None, 30, f64::NAN, ms(500)),
            (1, None, 30, 7.0, ms(500)),
            (1, None, 30, -7.0, ms(0)),
        ];
        for (number, retry_after, remaining, jitter, expected) in table {
            let attempt = FailedAttempt {
                number,
                remaining: Duration::from_secs(remaining),
                ..first(true, Status(503), retry_after)
            };
            assert_eq!(
                wait_before_retry(&attempt, &POLICY, jitter),
                expected,
                "{attempt:?} {jitter}"
            );
        }
    }

    #[test]
    fn no_wait_is_longer_than_the_ceiling() {
        let patient = RetryPolicy { max_attempts: u32::MAX, ..POLICY };
        for number in [5, 6, 40, u32::MAX - 1] {
            let attempt = FailedAttempt { number, ..first(true, Status(500), None) };
            assert_eq!(wait_before_retry(&attempt, &patient, 1.0), Some(patient.ceiling));
        }
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now: jiff::Timestamp = "1994-11-06T08:49:07Z".parse().unwrap();
        let table = [
            ("120", Some(120)),
            (" 0 ", Some(0)),
            ("99999999999999999999999", Some(u64::MAX)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(30)),
            ("Sun, 06 Nov 1994 08:00:00 GMT", Some(0)),
            ("", None),
            ("-1", None),
            ("soon", None),
            ("1.5", None),
        ];
        for (value, seconds) in table {
            let expected = seconds.map(Duration::from_secs);
            assert_eq!(parse_retry_after(value, now), expected, "{value:?}");
        }
    }
}
