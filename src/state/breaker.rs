//! Remembers for a moment that something did not answer, so that not everybody waits for it: while it
//! is gone, one at a time finds out whether it is back, and the others are told at once.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// How long nobody tries after a failure; twice as long after each further one, up to the longest.
const PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(4);

/// The memory.
#[derive(Debug, Default)]
pub(super) struct Breaker(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// When it failed last, and how long nobody tries since.
    failed: Option<(Instant, Duration)>,
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
            Some((at, pause)) if at.elapsed() < pause || state.probing => return None,
            Some(_) => true,
        };
        state.probing |= probe;
        Some(Attempt { breaker: self, probe })
    }

    /// It was heard of: whoever comes next may try.
    pub(super) fn forget(&self) {
        self.state().failed = None;
    }
}

impl Attempt<'_> {
    /// It answered.
    pub(super) fn answered(self) {
        self.breaker.forget();
    }

    /// It did not.
    pub(super) fn failed(self) {
        let mut state = self.breaker.state();
        // Those that were under way together failed once.
        let pause = match state.failed {
            Some((_, pause)) if self.probe => (pause * 2).min(LONGEST_PAUSE),
            Some((_, pause)) => pause,
            None => PAUSE,
        };
        state.failed = Some((Instant::now(), pause));
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
        assert!(breaker.attempt().is_none());
        tokio::time::advance(PAUSE).await;
        breaker.attempt().unwrap().answered();
        assert!(breaker.attempt().is_some() && breaker.attempt().is_some());
        drop(other);
    }

    #[tokio::test(start_paused = true)]
    async fn the_longer_it_is_gone_the_less_often_somebody_tries_until_it_is_heard_of() {
        let breaker = Breaker::default();
        breaker.attempt().unwrap().failed();
        let mut tries = 0;
        for _ in 0..600 {
            tokio::time::advance(Duration::from_millis(100)).await;
            if let Some(attempt) = breaker.attempt() {
                attempt.failed();
                tries += 1;
            }
        }
        assert!((15..=20).contains(&tries), "{tries}");
        assert!(breaker.attempt().is_none());
        breaker.forget();
        breaker.attempt().unwrap().failed();
        tokio::time::advance(PAUSE).await;
        assert!(breaker.attempt().is_some());
    }
}
