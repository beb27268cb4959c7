//! Which events were seen already: for as long as a signature can be fresh, and a bounded number of them. Replicas
//! share the events they saw. While Redis cannot be reached, each replica remembers its own, and an event may be
//! accepted twice: that only makes waiting clients fetch the call once more.

use std::time::Duration;

use jiff::Timestamp;
use parking_lot::Mutex;
use sha2::{Digest, Sha256};

use crate::state::SharedState;
use crate::ttl_cache::TtlCache;
use callingbox::webhook_signature::TOLERANCE;

/// Events that are remembered, at about 50 bytes each. Beyond that number the oldest are forgotten.
const MAX_EVENTS: usize = 100_000;

/// How long an event is remembered. A delivery that was signed ahead of this machine's clock by the tolerance stays
/// fresh for twice the tolerance; two seconds more cover the rounding of both times.
const LIFETIME: Duration = Duration::from_secs(2 * TOLERANCE.unsigned_abs() + 2);

/// The events seen. Ids are kept as hashes, because a sender may make them as long as it likes. Time is the wall clock,
/// by which the freshness of signatures is judged too.
#[derive(Debug)]
pub(super) struct SeenEvents {
    local: Mutex<TtlCache<[u8; 16], (), Timestamp>>,
    shared: Option<SharedState>,
}

impl SeenEvents {
    /// No events of this process yet; with `shared`, those of other replicas.
    pub(super) fn new(shared: Option<SharedState>) -> Self {
        Self { local: Mutex::new(TtlCache::new(LIFETIME, MAX_EVENTS)), shared }
    }

    /// Remembers an event. Returns whether it is new.
    pub(super) async fn insert(&self, id: &str, now: Timestamp) -> bool {
        let hash: [u8; 32] = Sha256::digest(id.as_bytes()).into();
        if !self.insert_locally(&hash, now) {
            return false;
        }
        let Some(shared) = &self.shared else { return true };
        match shared.insert_if_absent(&hash, LIFETIME).await {
            Ok(new) => new,
            Err(error) => {
                tracing::warn!(%error, "webhook replay check: Redis unavailable; the event is accepted");
                true
            }
        }
    }

    fn insert_locally(&self, hash: &[u8; 32], now: Timestamp) -> bool {
        let mut key = [0; 16];
        key.iter_mut().zip(hash).for_each(|(to, from)| *to = *from);
        let mut seen = self.local.lock();
        let new = seen.get_at(&key, now).is_none();
        if new {
            seen.insert_at(key, (), now);
        }
        new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_event_is_new_once_while_its_signature_can_be_fresh() {
        let seen = SeenEvents::new(None);
        let at = |second: i64| Timestamp::from_second(1_800_000_000 + second).unwrap();
        assert!(seen.insert("a", at(0)).await);
        assert!(!seen.insert("a", at(0)).await);
        assert!(seen.insert("b", at(1)).await);
        assert!(!seen.insert("a", at(601)).await);
        assert!(seen.insert("a", at(602)).await);
    }

    #[tokio::test]
    async fn the_number_of_events_is_bounded() {
        let seen = SeenEvents::new(None);
        for number in 0..MAX_EVENTS + 10 {
            assert!(seen.insert(&number.to_string(), Timestamp::UNIX_EPOCH).await);
        }
        assert_eq!(seen.local.lock().len(), MAX_EVENTS);
    }
}
