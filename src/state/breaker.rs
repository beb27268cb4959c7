//! Remembers for a moment that something did not answer, so that not everybody waits for it: while it
//! is gone, one at a time finds out whether it is back, and the others are told at once.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// How long nobody tries after a failure.
const PAUSE: Duration = Duration::from_millis(500);

/// The memory.
#[derive(Debug, Default)]
pub(super) struct Breaker(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    failed: Option<Instant>,
    probing: bool,
}

/// Leave to try. Dropped without a verdict, it changes nothing.
#[derive(Debug)]
pub(super) struct Attempt<'a> {
    breaker: &'a Breaker,
    probe: bool,
}

impl Breaker {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Leave to try; none while it is surely still gone.
    pub(super) fn attempt(&self) -> Option<Attempt<'_>> {
        let mut state = self.state();
        let probe = match state.failed {
            None => false,
            Some(at) if at.elapsed() < PAUSE || state.probing => return None,
            Some(_) => true,
        };
        state.probing |= probe;
        Some(Attempt { breaker: self, probe })
    }
}

impl Attempt<'_> {
    /// It answered.
    pub(super) fn answered(self) {
        self.breaker.state().failed = None;
    }

    /// It did not.
    pub(super) fn failed(self) {
        self.breaker.state().failed = Some(Instant::now());
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        if self.probe {
            self.breaker.state().probing = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn after_a_failure_one_at_a_time_finds_out() {
        let breaker = Breaker::default();
        let other = breaker.attempt().unwrap();
        breaker.attempt().unwrap().failed();
        assert!(breaker.attempt().is_none());
        tokio::time::advance(PAUSE).await;
        let probe = breaker.attempt().unwrap();
        assert!(breaker.attempt().is_none());
        drop(probe);
        let probe = breaker.attempt().unwrap();
        probe.failed();
        assert!(breaker.attempt().is_none());
        tokio::time::advance(PAUSE).await;
        breaker.attempt().unwrap().answered();
        assert!(breaker.attempt().is_some() && breaker.attempt().is_some());
        drop(other);
    }
}
