//! The ends of calls that this process has recorded in the ledger within the last minute, so that reading the same
//! call several times writes to the ledger once.
//!
//! The cache is cleared when the process records a new call: the ledger may know a call now that it did not know when
//! the end was reported.

use std::time::Duration;

use parking_lot::Mutex;

use super::call_outcome::CallEnd;
use crate::ttl_cache::TtlCache;
use callingbox::CallId;

const TTL: Duration = Duration::from_secs(60);
const MAX_ENTRIES: usize = 64;

/// The recorded ends, by call.
#[derive(Debug)]
pub(super) struct RecordedOutcomes(Mutex<TtlCache<CallId, CallEnd>>);

impl Default for RecordedOutcomes {
    fn default() -> Self {
        Self(Mutex::new(TtlCache::new(TTL, MAX_ENTRIES)))
    }
}

impl RecordedOutcomes {
    /// Whether exactly this end of the call was recorded within the last minute.
    pub(super) fn contains(&self, call: &CallId, end: CallEnd) -> bool {
        self.0.lock().get(call) == Some(&end)
    }

    pub(super) fn insert(&self, call: CallId, end: CallEnd) {
        self.0.lock().insert(call, end);
    }

    pub(super) fn clear(&self) {
        self.0.lock().clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialing::call_outcome::CallOutcome;
    use callingbox::MilliCents;

    fn end(cost: Option<u64>) -> CallEnd {
        CallEnd {
            outcome: CallOutcome::Completed,
            cost: cost.map(MilliCents),
            is_result_final: true,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_end_is_known_for_a_minute_and_a_different_one_replaces_it() {
        let recorded = RecordedOutcomes::default();
        let (call, other) = (CallId::new("call_1"), CallId::new("call_2"));
        assert!(!recorded.contains(&call, end(None)));
        recorded.insert(call.clone(), end(None));
        assert!(recorded.contains(&call, end(None)));
        assert!(!recorded.contains(&other, end(None)));
        assert!(!recorded.contains(&call, end(Some(7_500))), "the cost is new");
        recorded.insert(call.clone(), end(Some(7_500)));
        assert!(!recorded.contains(&call, end(None)), "the last end counts");
        tokio::time::advance(TTL).await;
        assert!(!recorded.contains(&call, end(Some(7_500))));
        recorded.insert(call.clone(), end(None));
        recorded.clear();
        assert!(!recorded.contains(&call, end(None)));
    }
}
