//! Simulated time: moments in whole milliseconds, and a clock that runs at a chosen speed or moves only on
//! command. Knows nothing of calls.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

/// How simulated time passes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum ClockMode {
    /// The clock runs at this many simulated seconds per real second. The speed must be finite, above 0 and at
    /// most 1,000,000.
    Speed(f64),
    /// The clock stands still until `POST /sandbox/clock` moves it.
    Manual,
}

pub(crate) const MAX_SPEED: f64 = 1_000_000.0;

/// The longest single step of the clock: ten years of 365 days, in seconds.
pub(crate) const MAX_ADVANCE_SECONDS: f64 = 315_360_000.0;

impl ClockMode {
    pub(crate) fn is_valid(self) -> bool {
        match self {
            Self::Manual => true,
            Self::Speed(speed) => speed.is_finite() && speed > 0.0 && speed <= MAX_SPEED,
        }
    }
}

/// A point of simulated time, in milliseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Moment(i64);

/// 9000-01-01: the clock stops here, inside the range that timestamps can show.
const MAX_MOMENT: i64 = 221_845_392_000_000;

impl Moment {
    pub(crate) fn plus_millis(self, millis: i64) -> Self {
        Self(self.0.saturating_add(millis).clamp(0, MAX_MOMENT))
    }

    /// Milliseconds from this moment to `later`; 0 when `later` is in fact earlier.
    pub(crate) fn millis_until(self, later: Self) -> i64 {
        later.0.saturating_sub(self.0).max(0)
    }

    pub(crate) fn as_unix_seconds(self) -> i64 {
        self.0.div_euclid(1_000)
    }

    /// ISO 8601 in UTC, with a fraction only where there is one.
    pub(crate) fn to_iso8601(self) -> String {
        Timestamp::from_millisecond(self.0).unwrap_or(Timestamp::UNIX_EPOCH).to_string()
    }
}

impl From<Timestamp> for Moment {
    fn from(timestamp: Timestamp) -> Self {
        Self(timestamp.as_millisecond().clamp(0, MAX_MOMENT))
    }
}

/// The simulated clock: a base moment, and the real time since it was set.
#[derive(Debug)]
pub(crate) struct Clock {
    mode: ClockMode,
    base: Moment,
    base_set_at: Instant,
}

impl Clock {
    /// A clock that shows `start` now.
    pub(crate) fn new(mode: ClockMode, start: Moment) -> Self {
        Self { mode, base: start, base_set_at: Instant::now() }
    }

    pub(crate) fn now(&self) -> Moment {
        match self.mode {
            ClockMode::Manual => self.base,
            ClockMode::Speed(speed) => {
                let passed = self.base_set_at.elapsed().as_secs_f64() * 1_000.0 * speed;
                self.base.plus_millis(round_to_millis(passed))
            }
        }
    }

    pub(crate) fn mode(&self) -> ClockMode {
        self.mode
    }

    pub(crate) fn advance(&mut self, seconds: f64) {
        self.rebase();
        self.base = self.base.plus_millis(round_to_millis(seconds * 1_000.0));
    }

    /// Changes how the clock moves from its present time on.
    pub(crate) fn set_mode(&mut self, mode: ClockMode) {
        self.rebase();
        self.mode = mode;
    }

    /// Real time until the clock shows `moment`; `None` when only a command can bring it there.
    pub(crate) fn real_time_until(&self, moment: Moment) -> Option<Duration> {
        let ClockMode::Speed(speed) = self.mode else { return None };
        let ahead = u64::try_from(self.now().millis_until(moment)).unwrap_or(0);
        // One more millisecond, so that rounding never wakes the sleeper too early.
        let wait = Duration::from_millis(ahead).as_secs_f64() / speed + 0.001;
        Some(Duration::from_secs_f64(wait.min(86_400.0)))
    }

    fn rebase(&mut self) {
        self.base = self.now();
        self.base_set_at = Instant::now();
    }
}

/// Rounds to whole milliseconds. A cast from float to integer saturates, so no input can wrap.
fn round_to_millis(millis: f64) -> i64 {
    millis.round() as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start() -> Moment {
        "2026-04-15T14:30:05Z".parse::<Timestamp>().unwrap().into()
    }

    #[test]
    fn moments_are_shown_in_utc() {
        assert_eq!(start().to_iso8601(), "2026-04-15T14:30:05Z");
        assert_eq!(start().plus_millis(250).to_iso8601(), "2026-04-15T14:30:05.25Z");
        assert_eq!(start().plus_millis(i64::MAX).to_iso8601(), "9000-01-01T00:00:00Z");
        assert_eq!(start().plus_millis(1_999).as_unix_seconds() - start().as_unix_seconds(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_running_clock_keeps_its_speed_and_a_manual_clock_stands_still() {
        let mut clock = Clock::new(ClockMode::Speed(60.0), start());
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(start().millis_until(clock.now()), 60_000);
        let in_a_minute = clock.now().plus_millis(60_000);
        assert_eq!(clock.real_time_until(in_a_minute).map(|d| d.as_millis()), Some(1_001));
        clock.set_mode(ClockMode::Manual);
        tokio::time::advance(Duration::from_secs(9)).await;
        assert_eq!(start().millis_until(clock.now()), 60_000);
        assert_eq!(clock.real_time_until(clock.now()), None);
        clock.advance(1_800.5);
        assert_eq!(start().millis_until(clock.now()), 60_000 + 1_800_500);
    }
}
