//! The ends of calls that the ledger was told a moment ago, so that it is not told again at once:
//! clients read an ended call several times over, and each time would cost a turn of the ledger.
//!
//! Only for a minute, and until this process records the next call: what the ledger did not know then
//! it may know later.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::ledger::Outcome;
use callingbox::CallId;
use callingbox::money::MilliCents;

/// How long an end is not told again.
const WHILE: Duration = Duration::from_secs(60);

/// How many are remembered.
const MOST: usize = 64;

/// How a call ended and what it cost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct End {
    pub(super) call: CallId,
    pub(super) outcome: Outcome,
    pub(super) cost: Option<MilliCents>,
}

/// What was told lately, oldest first.
#[derive(Debug, Default)]
pub(super) struct Noted(Mutex<VecDeque<(Instant, End)>>);

impl Noted {
    /// Whether exactly this was told within the last minute.
    pub(super) fn has(&self, end: &End) -> bool {
        let told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        told.iter().rev().any(|(at, known)| known == end && at.elapsed() < WHILE)
    }

    /// Remembers that this was told.
    pub(super) fn add(&self, end: End) {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        told.retain(|(at, known)| known.call != end.call && at.elapsed() < WHILE);
        if told.len() == MOST {
            told.pop_front();
        }
        told.push_back((Instant::now(), end));
    }

    /// Forgets all of it.
    pub(super) fn forget(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end(call: usize, cost: Option<u64>) -> End {
        let call = serde_json::from_value(format!("call_{call}").into()).unwrap();
        End { call, outcome: Outcome::Completed, cost: cost.map(MilliCents) }
    }

    #[tokio::test(start_paused = true)]
    async fn the_same_end_is_known_for_a_minute_and_another_replaces_it() {
        let noted = Noted::default();
        assert!(!noted.has(&end(1, None)));
        noted.add(end(1, None));
        assert!(noted.has(&end(1, None)));
        assert!(!noted.has(&end(2, None)));
        assert!(!noted.has(&end(1, Some(7_500))), "the cost is news");
        noted.add(end(1, Some(7_500)));
        assert!(!noted.has(&end(1, None)), "what was told last counts");
        tokio::time::advance(WHILE).await;
        assert!(!noted.has(&end(1, Some(7_500))));
        noted.add(end(1, None));
        noted.forget();
        assert!(!noted.has(&end(1, None)));
    }

    #[tokio::test(start_paused = true)]
    async fn the_oldest_is_forgotten_first() {
        let noted = Noted::default();
        for number in 0..=MOST {
            noted.add(end(number, None));
        }
        let known = (0..=MOST).filter(|number| noted.has(&end(*number, None)));
        assert_eq!(known.collect::<Vec<_>>(), (1..=MOST).collect::<Vec<_>>());
    }
}
