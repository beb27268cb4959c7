//! Which events have been seen: for as long as a signature can still be fresh, and not more of them
//! than fit.

use std::collections::{HashSet, VecDeque};
use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;
use sha2::{Digest, Sha256};

use super::signature::TOLERANCE;

/// Events that are remembered, at 48 bytes each. Beyond, the oldest are forgotten.
const MOST: usize = 100_000;

/// The memory. Ids are kept as hashes: they are as long as the sender likes.
#[derive(Debug, Default)]
pub(super) struct Seen(Mutex<Memory>);

#[derive(Debug, Default)]
struct Memory {
    known: HashSet<[u8; 16]>,
    order: VecDeque<(i64, [u8; 16])>,
}

impl Seen {
    /// Whether this event was not seen before; from now on it was.
    pub(super) fn is_new(&self, id: &str, now: Timestamp) -> bool {
        let hash: [u8; 32] = Sha256::digest(id.as_bytes()).into();
        let mut short = [0; 16];
        short.iter_mut().zip(hash).for_each(|(to, from)| *to = from);
        let mut memory = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Signed 300 s ahead of our clock, a delivery stays fresh for twice the tolerance.
        let oldest = now.as_second() - 2 * TOLERANCE - 1;
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

    #[test]
    fn an_event_is_new_once_while_its_signature_can_be_fresh() {
        let seen = Seen::default();
        let at = |second: i64| Timestamp::from_second(1_800_000_000 + second).unwrap();
        assert!(seen.is_new("a", at(0)));
        assert!(!seen.is_new("a", at(0)));
        assert!(seen.is_new("b", at(1)));
        assert!(!seen.is_new("a", at(601)));
        assert!(seen.is_new("a", at(602)));
    }

    #[test]
    fn the_memory_is_bounded() {
        let seen = Seen::default();
        for number in 0..MOST + 10 {
            assert!(seen.is_new(&number.to_string(), Timestamp::UNIX_EPOCH));
        }
        let memory = seen.0.lock().unwrap();
        assert!(memory.known.len() <= MOST && memory.order.len() == memory.known.len());
    }
}
