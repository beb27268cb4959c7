//! A map whose entries expire after a fixed time, and that evicts its oldest entry when it is full. Knows nothing
//! about what it holds. It starts no task: expired entries leave at the next insertion or [`TtlCache::purge`].

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::ops::Add;
use std::time::Duration;

use tokio::time::Instant;

/// A cache on the clock `T`: tokio's, whose methods read the time themselves, or another one, whose time is passed to
/// the `…_at` methods.
#[derive(Debug, Clone)]
pub struct TtlCache<K, V, T = Instant> {
    ttl: Duration,
    max_entries: usize,
    entries: HashMap<K, Entry<V, T>>,
    /// All keys, the oldest first. The time to live is the same for all, so this is the order of expiry.
    order: VecDeque<K>,
}

#[derive(Debug, Clone)]
struct Entry<V, T> {
    value: V,
    expires_at: T,
}

impl<K: Clone + Eq + Hash, V> TtlCache<K, V> {
    /// The value of this key, unless it has expired.
    #[must_use]
    pub fn get(&self, key: &K) -> Option<&V> {
        self.get_at(key, Instant::now())
    }

    /// Stores a value. An earlier value of the key is replaced, and its lifetime starts again.
    pub fn insert(&mut self, key: K, value: V) {
        self.insert_at(key, value, Instant::now());
    }

    /// Removes the expired entries. Returns when the next one expires; `None` if the cache is empty.
    pub fn purge(&mut self) -> Option<Instant> {
        self.purge_at(Instant::now())
    }
}

impl<K: Clone + Eq + Hash, V, T: Copy + Ord + Add<Duration, Output = T>> TtlCache<K, V, T> {
    /// An empty cache whose entries live for `ttl`, and that holds at most `max_entries` of them.
    #[must_use]
    pub fn new(ttl: Duration, max_entries: usize) -> Self {
        Self { ttl, max_entries, entries: HashMap::new(), order: VecDeque::new() }
    }

    /// [`TtlCache::get`] at this time.
    #[must_use]
    pub fn get_at(&self, key: &K, now: T) -> Option<&V> {
        self.entries.get(key).filter(|entry| entry.expires_at > now).map(|entry| &entry.value)
    }

    /// [`TtlCache::insert`] at this time. Replacing a value takes time in proportion to the number of entries.
    pub fn insert_at(&mut self, key: K, value: V, now: T) {
        self.purge_at(now);
        let entry = Entry { value, expires_at: now + self.ttl };
        if self.entries.insert(key.clone(), entry).is_some() {
            self.order.retain(|known| *known != key);
        }
        self.order.push_back(key);
        if self.order.len() > self.max_entries {
            self.remove_oldest();
        }
    }

    /// [`TtlCache::purge`] at this time.
    pub fn purge_at(&mut self, now: T) -> Option<T> {
        while let Some(expires_at) = self.next_expiry() {
            if expires_at > now {
                return Some(expires_at);
            }
            self.remove_oldest();
        }
        None
    }

    /// Removes all entries.
    pub fn clear(&mut self) {
        self.entries.clear();
        self.order.clear();
    }

    /// Whether it holds no entry, expired or not.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// How many entries it holds, those included that have expired and were not removed yet.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    fn next_expiry(&self) -> Option<T> {
        self.order.front().and_then(|key| self.entries.get(key)).map(|entry| entry.expires_at)
    }

    fn remove_oldest(&mut self) {
        if let Some(key) = self.order.pop_front() {
            self.entries.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TTL: Duration = Duration::from_secs(60);

    #[tokio::test(start_paused = true)]
    async fn an_entry_expires_and_replacing_it_restarts_its_lifetime() {
        let mut cache = TtlCache::new(TTL, 10);
        cache.insert("a", 1);
        tokio::time::advance(TTL / 2).await;
        cache.insert("b", 2);
        tokio::time::advance(TTL / 2).await;
        assert_eq!((cache.get(&"a"), cache.get(&"b"), cache.get(&"c")), (None, Some(&2), None));
        cache.insert("b", 3);
        assert_eq!(cache.len(), 1, "an insertion removes what has expired");
        tokio::time::advance(TTL - Duration::from_nanos(1)).await;
        assert_eq!(cache.get(&"b"), Some(&3));
        tokio::time::advance(Duration::from_nanos(1)).await;
        assert_eq!(cache.get(&"b"), None);
    }

    #[tokio::test(start_paused = true)]
    async fn purging_returns_the_next_expiry() {
        let mut cache = TtlCache::new(TTL, 10);
        assert_eq!(cache.purge(), None);
        let start = Instant::now();
        cache.insert("a", ());
        tokio::time::advance(TTL / 2).await;
        cache.insert("b", ());
        assert_eq!(cache.purge(), Some(start + TTL));
        tokio::time::advance(TTL / 2).await;
        assert_eq!((cache.purge(), cache.len()), (Some(start + TTL * 3 / 2), 1));
        tokio::time::advance(TTL / 2).await;
        assert_eq!((cache.purge(), cache.is_empty()), (None, true));
    }

    #[test]
    fn the_oldest_entry_makes_room_for_a_new_one() {
        let mut cache = TtlCache::new(TTL, 3);
        for key in [1, 2, 3, 1, 4] {
            cache.insert(key, key * 10);
        }
        let found = [1, 2, 3, 4].map(|key| cache.get(&key).copied());
        assert_eq!(found, [Some(10), None, Some(30), Some(40)]);
        assert_eq!((cache.len(), cache.order.len()), (3, 3));
        cache.clear();
        assert_eq!((cache.get(&1), cache.is_empty()), (None, true));
    }

    #[test]
    fn another_clock_may_be_used() {
        let mut cache = TtlCache::new(TTL, 10);
        let at = |second| jiff::Timestamp::from_second(second).unwrap();
        cache.insert_at("a", 1, at(100));
        assert_eq!(cache.get_at(&"a", at(159)), Some(&1));
        assert_eq!(cache.get_at(&"a", at(160)), None);
        assert_eq!(cache.get_at(&"a", at(50)), Some(&1), "the clock was set back");
        assert_eq!(cache.purge_at(at(159)), Some(at(160)));
    }
}
