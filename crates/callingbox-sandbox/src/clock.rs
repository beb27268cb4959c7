//! Simulated time: moments in whole milliseconds, and a clock that runs at a chosen speed or only
//! when it is told to. Knows nothing of calls.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

/// How the simulated clock moves.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum ClockMode {
    /// Simulated seconds for each real second; must be finite, above 0 and at most 1,000,000.
    Speed(f64),
    /// The clock stands still until `POST /sandbox/clock` moves it.
    Manual,
}

/// The fastest speed that is taken.
pub(super) const MAX_SPEED: f64 = 1_000_000.0;
/// The longest single step of the clock: ten years of 365 days, in seconds.
pub(super) const MAX_ADVANCE_SECONDS: f64 = 315_360_000.0;

impl ClockMode {
    /// Whether the mode can be run.
    pub(super) fn is_sound(self) -> bool {
        match self {
            Self::Manual => true,
            Self::Speed(speed) => speed.is_finite() && speed > 0.0 && speed <= MAX_SPEED,
        }
    }
}

/// A point of simulated time, in milliseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Moment(i64);

/// 9000-01-01: the clock stops here rather than leave the range that timestamps can show.
const LAST: i64 = 221_845_392_000_000;

impl Moment {
    /// The moment a number of milliseconds later.
    pub(super) fn after(self, milliseconds: i64) -> Self {
        Self(self.0.saturating_add(milliseconds).clamp(0, LAST))
    }

    /// Milliseconds from this moment to a later one; 0 when that is in fact earlier.
    pub(super) fn until(self, later: Self) -> i64 {
        later.0.saturating_sub(self.0).max(0)
    }

    /// Whole seconds since 1970.
    pub(super) fn unix_seconds(self) -> i64 {
        self.0.div_euclid(1_000)
    }

    /// ISO 8601 in UTC, with a fraction only where there is one.
    pub(super) fn text(self) -> String {
        Timestamp::from_millisecond(self.0).unwrap_or(Timestamp::UNIX_EPOCH).to_string()
    }
}

impl From<Timestamp> for Moment {
    fn from(timestamp: Timestamp) -> Self {
        Self(timestamp.as_millisecond().clamp(0, LAST))
    }
}

/// The clock itself.
#[derive(Debug)]
pub(super) struct Clock {
    mode: ClockMode,
    base: Moment,
    since: Instant,
}

impl Clock {
    /// A clock that shows `start` now.
    pub(super) fn new(mode: ClockMode, start: Moment) -> Self {
        Self { mode, base: start, since: Instant::now() }
    }

    /// The present simulated time.
    pub(super) fn now(&self) -> Moment {
        match self.mode {
            ClockMode::Manual => self.base,
            ClockMode::Speed(speed) => {
                let passed = self.since.elapsed().as_secs_f64() * 1_000.0 * speed;
                self.base.after(whole(passed))
            }
        }
    }

    /// How the clock moves.
    pub(super) fn mode(&self) -> ClockMode {
        self.mode
    }

    /// Moves the clock forward at once.
    pub(super) fn advance(&mut self, seconds: f64) {
        self.rebase();
        self.base = self.base.after(whole(seconds * 1_000.0));
    }

    /// Changes how the clock moves, from its present time on.
    pub(super) fn set_mode(&mut self, mode: ClockMode) {
        self.rebase();
        self.mode = mode;
    }

    /// Real time until the clock shows `moment`; `None` when only a command can bring it there.
    pub(super) fn wait_for(&self, moment: Moment) -> Option<Duration> {
        let ClockMode::Speed(speed) = self.mode else { return None };
        let ahead = u64::try_from(self.now().until(moment)).unwrap_or(0);
        // A millisecond more, so that rounding never wakes the sleeper just too early.
        let wait = Duration::from_millis(ahead).as_secs_f64() / speed + 0.001;
        Some(Duration::from_secs_f64(wait.min(86_400.0)))
    }

    fn rebase(&mut self) {
        self.base = self.now();
        self.since = Instant::now();
    }
}

/// Rounds to whole milliseconds; a float-to-integer cast saturates, so no input can wrap.
fn whole(milliseconds: f64) -> i64 {
    milliseconds.round() as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start() -> Moment {
        "2026-04-15T14:30:05Z".parse::<Timestamp>().unwrap().into()
    }

    #[test]
    fn moments_are_shown_in_utc() {
        assert_eq!(start().text(), "2026-04-15T14:30:05Z");
        assert_eq!(start().after(250).text(), "2026-04-15T14:30:05.25Z");
        assert_eq!(start().after(i64::MAX).text(), "9000-01-01T00:00:00Z");
        assert_eq!(start().after(1_999).unix_seconds() - start().unix_seconds(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_running_clock_keeps_its_speed_and_a_manual_one_stands() {
        let mut clock = Clock::new(ClockMode::Speed(60.0), start());
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(start().until(clock.now()), 60_000);
        assert_eq!(clock.wait_for(clock.now().after(60_000)).map(|d| d.as_millis()), Some(1_001));
        clock.set_mode(ClockMode::Manual);
        tokio::time::advance(Duration::from_secs(9)).await;
        assert_eq!(start().until(clock.now()), 60_000);
        assert_eq!(clock.wait_for(clock.now()), None);
        clock.advance(1_800.5);
        assert_eq!(start().until(clock.now()), 60_000 + 1_800_500);
    }
}
