//! Reads the bodies of deliveries, few at the same time. Nobody knows before the end of a body whether its signature is
//! right, so a place is never kept for the first who came: when all are taken, the delivery that has been read for the
//! longest time is given up. A genuine one arrives within milliseconds.

use std::time::Duration;

use axum::body::{Body, HttpBody as _};
use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use super::outcome::Rejection;
use crate::peer_address::PeerAddress;

/// The largest delivery, in bytes. A call with its results is far smaller.
pub(super) const MAX_BODY_BYTES: usize = 1024 * 1024;
/// How long a delivery may take to arrive.
const READ_TIMEOUT: Duration = Duration::from_secs(2);
/// How many deliveries are read at the same time, and how many of them for one peer.
const MAX_READS: usize = 32;
const MAX_READS_PER_PEER: usize = 16;

/// The deliveries that are being read, the oldest first.
#[derive(Debug, Default)]
pub(super) struct BodyReads(Mutex<Vec<BodyRead>>);

#[derive(Debug)]
struct BodyRead {
    peer: PeerAddress,
    given_up: CancellationToken,
}

/// The place of one read, which is free again when this is dropped.
struct ReadPlace<'a> {
    reads: &'a BodyReads,
    given_up: CancellationToken,
}

impl BodyReads {
    /// Reads a body.
    ///
    /// # Errors
    /// It is too large, incomplete or slow, or was given up for a newer one.
    pub(super) async fn read(&self, peer: PeerAddress, body: Body) -> Result<Bytes, Rejection> {
        if body.size_hint().lower() > MAX_BODY_BYTES as u64 {
            return Err(Rejection::Oversized);
        }
        let place = self.take_place(peer);
        let read = tokio::time::timeout(READ_TIMEOUT, Limited::new(body, MAX_BODY_BYTES).collect());
        tokio::select! {
            biased;
            read = read => match read {
                Ok(Ok(body)) => Ok(body.to_bytes()),
                Ok(Err(error)) if error.is::<LengthLimitError>() => Err(Rejection::Oversized),
                Ok(Err(_)) | Err(_) => Err(Rejection::Unreadable),
            },
            () = place.given_up.cancelled() => Err(Rejection::Busy),
        }
    }

    fn take_place(&self, peer: PeerAddress) -> ReadPlace<'_> {
        let mut reads = self.0.lock();
        let of_peer = reads.iter().filter(|read| read.peer == peer).count();
        let oldest = match (of_peer >= MAX_READS_PER_PEER, reads.len() >= MAX_READS) {
            (true, _) => reads.iter().position(|read| read.peer == peer),
            (false, true) => Some(0),
            (false, false) => None,
        };
        if let Some(oldest) = oldest {
            reads.remove(oldest).given_up.cancel();
        }
        let given_up = CancellationToken::new();
        reads.push(BodyRead { peer, given_up: given_up.clone() });
        ReadPlace { reads: self, given_up }
    }
}

impl Drop for ReadPlace<'_> {
    fn drop(&mut self) {
        // Cancelled, which distinguishes it from the others.
        self.given_up.cancel();
        self.reads.0.lock().retain(|read| !read.given_up.is_cancelled());
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    fn never() -> Body {
        Body::from_stream(futures::stream::pending::<Result<Bytes, std::io::Error>>())
    }

    fn peer(number: u8) -> PeerAddress {
        PeerAddress::from(std::net::IpAddr::from([192, 0, 2, number]))
    }

    #[tokio::test]
    async fn a_body_is_read_beside_any_number_of_idle_ones() {
        let reads = BodyReads::default();
        let mut idle = Vec::new();
        for number in 0..100 {
            idle.push(Box::pin(reads.read(peer(number % 10), never())));
            assert_eq!(idle.last_mut().unwrap().now_or_never(), None);
            let genuine = reads.read(peer(1), Body::from("genuine")).now_or_never();
            assert_eq!(genuine, Some(Ok(Bytes::from("genuine"))));
            assert!(reads.0.lock().len() <= MAX_READS);
        }
        let ended: Vec<_> = idle.iter_mut().map(FutureExt::now_or_never).collect();
        let given_up = ended.iter().filter(|read| **read == Some(Err(Rejection::Busy))).count();
        assert_eq!(given_up, 100 - MAX_READS + 1);
        // Those that came first.
        assert!(ended[..given_up].iter().all(Option::is_some));
        drop(idle);
        assert!(reads.0.lock().is_empty());
    }

    #[tokio::test]
    async fn a_peer_at_its_limit_takes_no_place_of_another() {
        let reads = BodyReads::default();
        let mut other = Box::pin(reads.read(peer(1), never()));
        assert_eq!((&mut other).now_or_never(), None);
        let mut many: Vec<_> = (0..100).map(|_| Box::pin(reads.read(peer(2), never()))).collect();
        many.iter_mut().for_each(|read| drop(read.now_or_never()));
        assert_eq!(reads.0.lock().len(), MAX_READS_PER_PEER + 1);
        assert_eq!((&mut other).now_or_never(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_is_limited_in_size_and_time() {
        let reads = BodyReads::default();
        let large = Body::from(vec![b' '; MAX_BODY_BYTES + 1]);
        assert_eq!(reads.read(peer(1), large).now_or_never(), Some(Err(Rejection::Oversized)));
        let started = tokio::time::Instant::now();
        assert_eq!(reads.read(peer(1), never()).await, Err(Rejection::Unreadable));
        assert_eq!(started.elapsed(), READ_TIMEOUT);
    }
}
