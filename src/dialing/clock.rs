//! The two clocks of dialing. In the sandbox the simulator's clock decides about hours, windows and limits, while leases
//! and time-outs are those of this machine. A live account has one clock for both.

use std::fmt;
use std::sync::Arc;

use futures::future::BoxFuture;
use jiff::Timestamp;

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
    pub async fn read(&self) -> ClockReading {
        let simulated = match &self.simulated {
            Some(read) => read().await,
            None => None,
        };
        let machine = Timestamp::now();
        ClockReading { dialing: simulated.unwrap_or(machine), machine }
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
