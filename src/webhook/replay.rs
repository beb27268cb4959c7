//! Which events have been seen: for as long as a signature can still be fresh, and not more of them
//! than fit. Replicas share what they have seen; while that cannot be reached, each remembers for
//! itself, and an event may be taken twice: it only makes those who wait look once more.

use std::collections::{HashSet, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use sha2::{Digest, Sha256};

use super::signature::TOLERANCE;
use crate::state::Shared;

/// Events that are remembered, at 48 bytes each. Beyond, the oldest are forgotten.
const MOST: usize = 100_000;

/// The memory. Ids are kept as hashes: they are as long as the sender likes.
#[derive(Debug, Default)]
pub(super) struct Seen {
    memory: Mutex<Memory>,
    shared: Option<Shared>,
}

#[derive(Debug, Default)]
struct Memory {
    known: HashSet<[u8; 16]>,
    order: VecDeque<(i64, [u8; 16])>,
}

/// How long an event is remembered, in seconds: signed ahead of our clock by the tolerance, a delivery
/// stays fresh for twice that.
const LIFETIME: i64 = 2 * TOLERANCE + 1;

impl Seen {
    /// Nothing yet, but for what other replicas have seen.
    pub(super) fn new(shared: Option<Shared>) -> Self {
        Self { memory: Mutex::default(), shared }
    }

    /// Whether this event was not seen before; from now on it was.
    pub(super) async fn is_new(&self, id: &str, now: Timestamp) -> bool {
        let hash: [u8; 32] = Sha256::digest(id.as_bytes()).into();
        if !self.is_new_here(&hash, now) {
            return false;
        }
        let Some(shared) = &self.shared else { return true };
        match shared.is_new(&hash, Duration::from_secs(LIFETIME.unsigned_abs() + 1)).await {
            Ok(new) => new,
            Err(error) => {
                tracing::warn!(%error, "whether another replica has seen an event is not known");
                true
            }
        }
    }

    fn is_new_here(&self, hash: &[u8; 32], now: Timestamp) -> bool {
        let mut short = [0; 16];
        short.iter_mut().zip(hash).for_each(|(to, from)| *to = *from);
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        let oldest = now.as_second() - LIFETIME;
        while let Some((at, old)) = memory.order.front().copied() {
            if at >= oldest && memory.order.len() < MOST {
                break;
            }
            memory.order.pop_front();
            memory.known.remove(&old);
        }
        let new = memory.known.insert(short);
        if new {
            memory.order.push_back((now.as_second(), short));
        }
        new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_event_is_new_once_while_its_signature_can_be_fresh() {
        let seen = Seen::default();
        let at = |second: i64| Timestamp::from_second(1_800_000_000 + second).unwrap();
        assert!(seen.is_new("a", at(0)).await);
        assert!(!seen.is_new("a", at(0)).await);
        assert!(seen.is_new("b", at(1)).await);
        assert!(!seen.is_new("a", at(601)).await);
        assert!(seen.is_new("a", at(602)).await);
    }

    #[tokio::test]
    async fn the_memory_is_bounded() {
        let seen = Seen::default();
        for number in 0..MOST + 10 {
            assert!(seen.is_new(&number.to_string(), Timestamp::UNIX_EPOCH).await);
        }
        let memory = seen.memory.lock().unwrap();
        assert!(memory.known.len() <= MOST && memory.order.len() == memory.known.len());
    }
}
