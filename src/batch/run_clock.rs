//! The two clocks of a process that runs a batch. Rows, windows and pauses go by the dialing clock, and wait while it cannot be
//! trusted. The lease goes by the monotonic clock, which cannot be set. Knows no rows and no ledger.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

use crate::dialing::clock::{ClockCheck, ClockReading, ClockReference};

/// How long a process holds a batch without renewing its lease.
const LEASE: SignedDuration = SignedDuration::from_secs(60);
/// How often the lease is renewed.
pub(super) const RENEWAL_PERIOD: Duration = Duration::from_secs(15);

/// The dialing clock of a run. Its time stands still while it cannot be trusted: then nothing is due, and nothing is too late.
#[derive(Debug)]
pub(super) struct RunClock {
    check: ClockCheck,
    /// A simulator's clock may be moved at will.
    is_simulated: bool,
    is_trusted: bool,
    now: ClockReading,
}

impl RunClock {
    pub(super) fn new(now: ClockReading, is_simulated: bool) -> Self {
        let check = ClockCheck::new(Timestamp::now(), Instant::now());
        Self { check, is_simulated, is_trusted: true, now }
    }

    /// The present time, after this reading (`None`: the clock cannot be read).
    pub(super) fn update(&mut self, read: Option<ClockReading>) -> ClockReading {
        let machine = Timestamp::now();
        self.is_trusted = match self.is_simulated {
            true => read.is_some(),
            false => self.check.check(machine, Instant::now()),
        };
        self.now = match read.filter(|_| self.is_trusted) {
            Some(now) => now,
            None => ClockReading { machine, ..self.now },
        };
        self.now
    }

    /// Whether the machine's clock has not jumped since the last reading.
    pub(super) fn check_again(&mut self) -> bool {
        let is_simulated = self.is_simulated;
        self.is_trusted &= is_simulated || self.check.check(Timestamp::now(), Instant::now());
        self.is_trusted
    }

    /// Compares the machine's clock with these from now on.
    pub(super) fn compare_with(&mut self, others: Vec<ClockReference>) {
        self.check.others = others;
    }

    /// Whether the clock could be read and agreed with others when it was last read.
    pub(super) const fn is_trusted(&self) -> bool {
        self.is_trusted
    }

    pub(super) const fn is_simulated(&self) -> bool {
        self.is_simulated
    }
}

/// For how long this process holds its batch. The ledger and other processes know the wall clock's time at which the lease
/// expires, and a wall clock may be set. The process that holds the lease counts by the monotonic clock from when it wrote it:
/// it loses the batch if it was stopped for too long, or if another process has resumed the batch, and not because a clock
/// jumped.
#[derive(Debug, Clone, Copy)]
pub(super) struct BatchLease {
    written_at: Timestamp,
    written: ClockReference,
}

impl BatchLease {
    /// A lease that is written now.
    pub(super) fn new() -> Self {
        let written_at = Timestamp::now();
        Self { written_at, written: ClockReference::new(written_at, Instant::now()) }
    }

    /// When it expires, by the wall clock at which it was written.
    pub(super) fn expires_at(&self) -> Timestamp {
        self.written_at.checked_add(LEASE).unwrap_or(Timestamp::MAX)
    }

    /// The present time of the lease.
    pub(super) fn now(&self) -> Timestamp {
        self.written.time_at(Instant::now())
    }

    /// Whether others see something else than this process: by the wall clock the lease has expired, or was written in the
    /// future.
    pub(super) fn differs_for_others(&self) -> bool {
        let now = Timestamp::now();
        self.expires_at() <= now || now < self.written_at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_lease_goes_by_the_monotonic_clock() {
        let lease = BatchLease::new();
        tokio::time::advance(Duration::from_secs(59)).await;
        assert!(lease.now() < lease.expires_at());
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(lease.now() >= lease.expires_at());
        assert!(!lease.differs_for_others());
        let jumped = |seconds: i64| {
            let written_at = lease.written_at + SignedDuration::from_secs(seconds);
            BatchLease { written_at, ..lease }
        };
        assert!(jumped(-61).differs_for_others());
        assert!(jumped(10).differs_for_others());
    }

    #[tokio::test(start_paused = true)]
    async fn the_time_of_a_run_stands_still_while_its_clock_cannot_be_trusted() {
        let start = ClockReading::from(Timestamp::now());
        let at = |minutes: i64| ClockReading {
            dialing: start.dialing + SignedDuration::from_mins(minutes),
            ..start
        };
        let mut clock = RunClock::new(start, true);
        assert_eq!(clock.update(Some(at(600))).dialing, at(600).dialing);
        assert_eq!(clock.update(None).dialing, at(600).dialing);
        assert!(!clock.is_trusted());
        assert_eq!(clock.update(Some(at(601))).dialing, at(601).dialing);
        assert!(clock.is_trusted());

        let mut clock = RunClock::new(start, false);
        assert_eq!(clock.update(Some(at(1))).dialing, at(1).dialing);
        let slow =
            ClockReference::new(start.machine - SignedDuration::from_hours(1), Instant::now());
        clock.compare_with(vec![slow]);
        assert_eq!(clock.update(Some(at(2))).dialing, at(1).dialing);
        assert!(!clock.is_trusted());
        clock.compare_with(Vec::new());
        tokio::time::advance(Duration::from_secs(61)).await;
        assert_eq!(clock.update(Some(at(3))).dialing, at(3).dialing);
        assert!(clock.is_trusted());
    }
}
