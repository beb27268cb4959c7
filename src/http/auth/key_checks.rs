//! The queue for checks of new API keys. A check takes as long as CallingBox takes to answer, and anyone can send a wrong
//! key, so few run at the same time, fewer of them for one peer, and the others wait in the order in which they came.
//! Knows nothing about keys.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::super::tenant::Identity;
use crate::peer_address::PeerAddress;

/// Checks that run at the same time: of all peers, and of one.
const MAX_CHECKS: usize = 8;
const MAX_CHECKS_PER_PEER: usize = 4;
/// Requests in the queue, those included whose check runs.
const MAX_WAITING: usize = 512;
const MAX_WAITING_PER_PEER: usize = 64;
/// How long a request may wait for its turn.
const MAX_WAIT: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(super) struct KeyChecks {
    waiting: Arc<Semaphore>,
    waiting_of_peers: Turns<PeerAddress>,
    keys: Turns<Identity>,
    peers: Turns<PeerAddress>,
    all: Arc<Semaphore>,
}

/// The right to check a key, until it is dropped.
pub(super) type KeyCheckTurn = [OwnedSemaphorePermit; 5];

impl KeyChecks {
    pub(super) fn new() -> Self {
        Self {
            waiting: Arc::new(Semaphore::new(MAX_WAITING)),
            waiting_of_peers: Turns::new(MAX_WAITING_PER_PEER),
            keys: Turns::new(1),
            peers: Turns::new(MAX_CHECKS_PER_PEER),
            all: Arc::new(Semaphore::new(MAX_CHECKS)),
        }
    }

    /// Waits for the turn of a request. Requests with the same key have their turns one after another. `None`: too many
    /// are waiting.
    pub(super) async fn wait_for_turn(
        &self,
        key: Identity,
        peer: PeerAddress,
    ) -> Option<KeyCheckTurn> {
        let waiting = Arc::clone(&self.waiting).try_acquire_owned().ok()?;
        let waiting_of_peer = self.waiting_of_peers.get(peer).try_acquire_owned().ok()?;
        let turn = async {
            let key = self.keys.get(key).acquire_owned().await.ok()?;
            let peer = self.peers.get(peer).acquire_owned().await.ok()?;
            let any = Arc::clone(&self.all).acquire_owned().await.ok()?;
            Some([waiting, waiting_of_peer, key, peer, any])
        };
        timeout(MAX_WAIT, turn).await.ok()?
    }
}

/// A fair semaphore for each key that is in use.
#[derive(Debug)]
struct Turns<K> {
    permits: usize,
    in_use: Mutex<HashMap<K, Arc<Semaphore>>>,
}

impl<K: Eq + Hash> Turns<K> {
    fn new(permits: usize) -> Self {
        Self { permits, in_use: Mutex::default() }
    }

    fn get(&self, key: K) -> Arc<Semaphore> {
        let mut in_use = self.in_use.lock();
        // There are as many as requests wait, which are few.
        in_use.retain(|_, semaphore| Arc::strong_count(semaphore) > 1);
        let new = || Arc::new(Semaphore::new(self.permits));
        Arc::clone(in_use.entry(key).or_insert_with(new))
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use futures::FutureExt;

    use super::*;

    fn key(number: usize) -> Identity {
        Identity::from_parts(&[&number.to_be_bytes()])
    }

    fn peer(number: u8) -> PeerAddress {
        PeerAddress::from(IpAddr::from([192, 0, 2, number]))
    }

    #[tokio::test(start_paused = true)]
    async fn slow_checks_of_one_peer_delay_no_other_peer_and_its_own_ones_wait_their_turn() {
        let checks = KeyChecks::new();
        let take = |number: usize, of: u8| Box::pin(checks.wait_for_turn(key(number), peer(of)));
        let mut slow: Vec<_> = (0..8).map(|number| take(number, 1)).collect();
        let mut turns = Vec::new();
        for slow in &mut slow {
            turns.extend(slow.now_or_never());
        }
        assert_eq!(turns.len(), MAX_CHECKS_PER_PEER);
        let mut same_peer = take(100, 1);
        assert!((&mut same_peer).now_or_never().is_none());
        assert!(take(101, 2).now_or_never().is_some_and(|turn| turn.is_some()));
        // First come, first served.
        turns.clear();
        for slow in slow.iter_mut().skip(MAX_CHECKS_PER_PEER) {
            turns.push(slow.now_or_never().unwrap());
        }
        assert!((&mut same_peer).now_or_never().is_none());
        turns.clear();
        assert!(same_peer.await.is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn the_queue_is_short_and_a_wait_ends() {
        let checks = KeyChecks::new();
        let take = |number: usize, of: u8| Box::pin(checks.wait_for_turn(key(number), peer(of)));
        let mut waits: Vec<_> = (0..MAX_WAITING_PER_PEER).map(|number| take(number, 1)).collect();
        let turns: Vec<_> = waits.iter_mut().filter_map(FutureExt::now_or_never).collect();
        assert_eq!(turns.len(), MAX_CHECKS_PER_PEER);
        assert!(take(1_000, 1).now_or_never().is_some_and(|turn| turn.is_none()), "it is full");
        let started = tokio::time::Instant::now();
        assert!(waits.pop().unwrap().await.is_none());
        assert_eq!(started.elapsed(), MAX_WAIT);
        drop((turns, waits));
        assert!(take(1_000, 1).await.is_some());
        assert_eq!(checks.keys.in_use.lock().len(), 1, "what is not in use is forgotten");
    }

    #[tokio::test]
    async fn one_key_is_checked_once_at_a_time() {
        let checks = KeyChecks::new();
        let first = checks.wait_for_turn(key(1), peer(1)).await.unwrap();
        let mut second = Box::pin(checks.wait_for_turn(key(1), peer(2)));
        assert!((&mut second).now_or_never().is_none());
        drop(first);
        assert!(second.await.is_some());
    }
}
