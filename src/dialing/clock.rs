//! The two clocks of dialing. In the sandbox the simulator's clock decides about hours, windows and limits, while leases
//! and time-outs are those of this machine. A live account has one clock for both, which is compared with other clocks.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

/// How far the clocks may drift apart.
const MAX_DRIFT: SignedDuration = SignedDuration::from_mins(2);
/// How long the clocks must agree after they did not.
const AGREEMENT_PERIOD: Duration = Duration::from_secs(60);

/// The clock by which an account dials cannot be read. Nothing is dialed by another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the simulator's clock cannot be read, and hours and limits go by it")]
pub struct UnreadableClock;

/// Reads the clock of a simulator; `None` if it cannot be read.
pub type ReadClock = Arc<dyn Fn() -> BoxFuture<'static, Option<Timestamp>> + Send + Sync>;

/// The clock by which an account dials.
#[derive(Clone, Default)]
pub struct DialingClock {
    simulated: Option<ReadClock>,
    speed: Option<f64>,
}

impl DialingClock {
    /// The clock of this machine.
    #[must_use]
    pub fn machine() -> Self {
        Self::default()
    }

    /// The clock of a simulator, which runs `speed` times as fast as real time, or is moved by hand.
    #[must_use]
    pub fn simulated(read: ReadClock, speed: f64) -> Self {
        Self { simulated: Some(read), speed: Some(speed) }
    }

    /// The present time on both clocks.
    ///
    /// # Errors
    /// The simulator's clock cannot be read.
    pub async fn read(&self) -> Result<ClockReading, UnreadableClock> {
        let simulated = match &self.simulated {
            Some(read) => Some(read().await.ok_or(UnreadableClock)?),
            None => None,
        };
        let machine = Timestamp::now();
        Ok(ClockReading { dialing: simulated.unwrap_or(machine), machine })
    }

    /// How many times faster than real time the dialing clock runs.
    #[must_use]
    pub fn speed(&self) -> f64 {
        self.speed.unwrap_or(1.0)
    }

    /// Whether the clock is a simulator's, which may also be moved by hand.
    #[must_use]
    pub const fn is_simulated(&self) -> bool {
        self.simulated.is_some()
    }
}

impl fmt::Debug for DialingClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DialingClock").field("speed", &self.speed).finish_non_exhaustive()
    }
}

/// One moment on both clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClockReading {
    /// By the dialing clock: hours, windows, limits, repeats.
    pub dialing: Timestamp,
    /// By the clock of this machine: leases and time-outs.
    pub machine: Timestamp,
}

/// A moment of a live account, whose clocks are one.
impl From<Timestamp> for ClockReading {
    fn from(now: Timestamp) -> Self {
        Self { dialing: now, machine: now }
    }
}

/// What a clock showed at a moment of the monotonic clock.
#[derive(Debug, Clone, Copy)]
pub struct ClockReference {
    time: Timestamp,
    read_at: Instant,
}

impl ClockReference {
    #[must_use]
    pub const fn new(time: Timestamp, read_at: Instant) -> Self {
        Self { time, read_at }
    }

    /// What this clock shows now, by the monotonic clock.
    #[must_use]
    pub fn time_at(&self, monotonic: Instant) -> Timestamp {
        let passed = monotonic.saturating_duration_since(self.read_at);
        let passed = SignedDuration::try_from(passed).unwrap_or(SignedDuration::MAX);
        self.time.checked_add(passed).unwrap_or(Timestamp::MAX)
    }

    /// Whether the wall clock differs too much from what this clock shows now.
    fn disagrees(&self, wall: Timestamp, monotonic: Instant) -> bool {
        self.time_at(monotonic).duration_since(wall).abs() > MAX_DRIFT
    }
}

/// Compares the wall clock with the monotonic clock and with other clocks. A wall clock that jumps moves every hour and
/// window with it.
#[derive(Debug)]
pub struct ClockCheck {
    /// The wall clock at the start, or after its last jump.
    own: ClockReference,
    /// The other clocks.
    pub others: Vec<ClockReference>,
    /// Since when the clocks have agreed after they did not.
    agreed_since: Option<Instant>,
}

impl ClockCheck {
    #[must_use]
    pub const fn new(wall: Timestamp, monotonic: Instant) -> Self {
        let own = ClockReference::new(wall, monotonic);
        Self { own, others: Vec::new(), agreed_since: None }
    }

    /// Whether the clocks agree, and have agreed for a minute since they last did not.
    pub fn check(&mut self, wall: Timestamp, monotonic: Instant) -> bool {
        let has_jumped = self.own.disagrees(wall, monotonic);
        if has_jumped {
            self.own = ClockReference::new(wall, monotonic);
        }
        if has_jumped || self.others.iter().any(|other| other.disagrees(wall, monotonic)) {
            self.agreed_since = Some(monotonic);
            return false;
        }
        let since = self
            .agreed_since
            .filter(|since| monotonic.saturating_duration_since(*since) < AGREEMENT_PERIOD);
        self.agreed_since = since;
        since.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_jumps_disagrees_until_the_clocks_agree_for_a_minute() {
        for jump in [SignedDuration::from_hours(24), SignedDuration::from_hours(-24)] {
            let (wall, monotonic) = (Timestamp::now(), Instant::now());
            let mut clocks = ClockCheck::new(wall, monotonic);
            let mut check = |seconds: u64, jump: SignedDuration| {
                let passed = Duration::from_secs(seconds);
                let wall = wall + SignedDuration::try_from(passed).unwrap() + jump;
                clocks.check(wall, monotonic + passed)
            };
            assert!(check(15, SignedDuration::ZERO));
            assert!(check(30, SignedDuration::from_secs(119)), "clocks are adjusted");
            assert!(!check(45, jump));
            assert!(!check(100, jump));
            assert!(check(106, jump));
            assert!(!check(120, SignedDuration::ZERO), "it jumps back");
            assert!(!check(179, SignedDuration::ZERO));
            assert!(check(181, SignedDuration::ZERO));
        }
    }

    #[test]
    fn a_clock_that_was_wrong_from_the_start_disagrees_with_another_one() {
        let monotonic = Instant::now();
        for (seconds, agrees) in [(119, true), (121, false), (-119, true), (-121, false)] {
            let wall = Timestamp::now();
            let mut clocks = ClockCheck::new(wall, monotonic);
            clocks.others =
                vec![ClockReference::new(wall + SignedDuration::from_secs(seconds), monotonic)];
            for minutes in [0, 1, 60] {
                let passed = Duration::from_secs(minutes * 60);
                let now = wall + SignedDuration::try_from(passed).unwrap();
                assert_eq!(clocks.check(now, monotonic + passed), agrees, "{seconds} {minutes}");
            }
        }
    }
}
