//! When to ask again: one pure function from what happened to stop or wait. No clock, no I/O.

use std::time::Duration;

use super::error::{Outcome, Phase};

/// One attempt, as the decision sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attempt {
    /// Whether a second request has no further effect.
    pub idempotent: bool,
    /// What became of it.
    pub outcome: Outcome,
    /// Which attempt it was, from 1.
    pub number: u32,
    /// What the answer's `Retry-After` asked for.
    pub retry_after: Option<Duration>,
    /// What is left until the overall deadline.
    pub left: Duration,
}

/// How often and how patiently to ask again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    /// The most attempts, the first included.
    pub max_attempts: u32,
    /// The longest wait before the second attempt; doubled for each further one.
    pub base: Duration,
    /// The longest wait of our own choosing.
    pub ceiling: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self { max_attempts: 4, base: Duration::from_millis(500), ceiling: Duration::from_secs(8) }
    }
}

impl RetryPolicy {
    /// Never asks again.
    pub const NEVER: Self = Self { max_attempts: 1, base: Duration::ZERO, ceiling: Duration::ZERO };
}

/// What to do after an attempt that did not succeed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Give the error to the caller.
    Stop,
    /// Ask again after this wait.
    After(Duration),
}

/// Decides whether to ask again. `jitter` is a random number from 0 to 1.
///
/// A request that must not be done twice is repeated only where it provably never left (the host was
/// not found, the connection was not made) or where the answer proves that nothing was done (429). A 503
/// proves nothing, `Retry-After` or not: proxies say so too of an upstream that has the request already
/// and is slow. The wait is exponential with full jitter; a `Retry-After` is waited out whole, plus a jitter of at most `base`
/// so that many clients do not return at once. A wait beyond the deadline is not begun.
#[must_use]
pub fn decide(attempt: &Attempt, policy: &RetryPolicy, jitter: f64) -> Decision {
    if attempt.number >= policy.max_attempts || !worth_repeating(attempt) {
        return Decision::Stop;
    }
    let doublings = attempt.number.saturating_sub(1).min(16);
    let backoff = policy.base.saturating_mul(1 << doublings).min(policy.ceiling);
    let jitter = if jitter.is_finite() { jitter.clamp(0.0, 1.0) } else { 1.0 };
    let wait = match attempt.retry_after {
        Some(asked) => asked.saturating_add(policy.base.mul_f64(jitter)),
        None => backoff.mul_f64(jitter),
    };
    if wait < attempt.left { Decision::After(wait) } else { Decision::Stop }
}

/// Whether the outcome allows another attempt at all.
fn worth_repeating(attempt: &Attempt) -> bool {
    match (attempt.idempotent, attempt.outcome) {
        (_, Outcome::Final | Outcome::Transport(Phase::Tls)) => false,
        (_, Outcome::Status(429) | Outcome::Transport(Phase::Dns | Phase::Connect)) => true,
        (false, Outcome::Status(_) | Outcome::Transport(_)) => false,
        (true, Outcome::Status(status)) => matches!(status, 500 | 502..=504),
        (true, Outcome::Transport(_)) => true,
    }
}

/// Reads a `Retry-After` header: whole seconds or an HTTP date (RFC 9110 section 10.2.3).
#[must_use]
pub fn parse_retry_after(value: &str, now: jiff::Timestamp) -> Option<Duration> {
    let value = value.trim();
    if !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit()) {
        return Some(Duration::from_secs(value.parse().unwrap_or(u64::MAX)));
    }
    let at = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(value).ok()?;
    Some(Duration::try_from(at.duration_since(now)).unwrap_or(Duration::ZERO))
}

#[cfg(test)]
mod tests {
    use super::Outcome::{Final, Status, Transport};
    use super::*;

    const POLICY: RetryPolicy = RetryPolicy {
        max_attempts: 4,
        base: Duration::from_millis(500),
        ceiling: Duration::from_secs(8),
    };

    fn first(idempotent: bool, outcome: Outcome, retry_after: Option<u64>) -> Attempt {
        Attempt {
            idempotent,
            outcome,
            number: 1,
            retry_after: retry_after.map(Duration::from_secs),
            left: Duration::from_secs(30),
        }
    }

    #[test]
    fn which_outcomes_are_repeated() {
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
                let decision = decide(&first(is_idempotent, outcome, retry_after), &POLICY, 0.5);
                let repeated = matches!(decision, Decision::After(_));
                assert_eq!(repeated, expected, "{is_idempotent} {outcome:?} {retry_after:?}");
            }
        }
    }

    #[test]
    fn how_long_it_waits() {
        let ms = |ms| Decision::After(Duration::from_millis(ms));
        let table = [
            // attempt, Retry-After s, left s, jitter, decision
            (1, None, 30, 1.0, ms(500)),
            (1, None, 30, 0.0, ms(0)),
            (1, None, 30, 0.5, ms(250)),
            (2, None, 30, 1.0, ms(1_000)),
            (3, None, 30, 1.0, ms(2_000)),
            (4, None, 30, 1.0, Decision::Stop),
            (5, None, 30, 1.0, Decision::Stop),
            (3, None, 2, 1.0, Decision::Stop),
            (3, None, 3, 1.0, ms(2_000)),
            (1, Some(0), 30, 0.0, ms(0)),
            (1, Some(20), 30, 0.0, ms(20_000)),
            (1, Some(20), 30, 1.0, ms(20_500)),
            (1, Some(30), 30, 0.0, Decision::Stop),
            (1, Some(u64::MAX), 30, 1.0, Decision::Stop),
            (1, None, 0, 0.0, Decision::Stop),
            (1, None, 30, f64::NAN, ms(500)),
            (1, None, 30, 7.0, ms(500)),
            (1, None, 30, -7.0, ms(0)),
        ];
        for (number, retry_after, left, jitter, expected) in table {
            let attempt = Attempt {
                number,
                left: Duration::from_secs(left),
                ..first(true, Status(503), retry_after)
            };
            assert_eq!(decide(&attempt, &POLICY, jitter), expected, "{attempt:?} {jitter}");
        }
    }

    #[test]
    fn no_wait_passes_the_ceiling() {
        let patient = RetryPolicy { max_attempts: u32::MAX, ..POLICY };
        for number in [5, 6, 40, u32::MAX - 1] {
            let attempt = Attempt { number, ..first(true, Status(500), None) };
            assert_eq!(decide(&attempt, &patient, 1.0), Decision::After(patient.ceiling));
        }
    }

    #[test]
    fn reads_retry_after() {
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
