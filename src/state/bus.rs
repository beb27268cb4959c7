//! Replicas tell each other something by publish and subscribe. What is told may be lost, with the
//! server or while a subscription is made anew: nothing may depend on it that cannot be learned
//! otherwise, or be asked for again. What it means is no matter here.

use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use redis::{AsyncCommands, RedisError, RedisResult};
use tokio::sync::mpsc;
use tokio::time::{interval, timeout};

use super::{Gone, PREFIX, ReplicaId, Shared};

/// The most bytes that are told at once.
pub const MOST_BYTES: usize = 1024 * 1024 + 4096;
/// How often a silent subscription is asked whether it lives, and how long that may take.
const PING_EVERY: Duration = Duration::from_secs(5);
const PATIENCE: Duration = Duration::from_secs(3);
/// How soon a lost subscription is made anew.
const PAUSE: Duration = Duration::from_millis(500);

/// Who is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum To {
    /// All replicas, the one that tells among them.
    All,
    /// One.
    One(ReplicaId),
}

impl To {
    fn channel(self) -> String {
        match self {
            Self::All => format!("{PREFIX}:all"),
            Self::One(replica) => format!("{PREFIX}:replica:{replica}"),
        }
    }
}

impl Shared {
    /// Tells something. `false`: surely nobody heard it.
    ///
    /// # Errors
    /// The server cannot be reached, or it is too much to tell.
    pub async fn tell(&self, to: To, payload: &[u8]) -> Result<bool, Gone> {
        if payload.len() > MOST_BYTES {
            return Err(Gone("too much to tell".to_owned()));
        }
        let heard: u64 = self.link().publish(to.channel(), payload).await?;
        // In a cluster each node knows of its own subscribers only.
        Ok(heard > 0 || self.place().is_cluster())
    }

    /// Puts what is told to this replica, or to all, into `inbox`, until nobody empties it any more.
    /// What does not fit is lost. A lost subscription is made anew.
    pub async fn listen(self, inbox: mpsc::Sender<Bytes>) {
        let mut well = true;
        while !inbox.is_closed() {
            let ended = tokio::select! {
                ended = self.subscribed(&inbox) => ended,
                () = inbox.closed() => return,
            };
            let heard = self.inner().listening.swap(false, Ordering::Relaxed);
            if let Err(error) = ended
                && (well || heard)
            {
                let error = super::link::told(&error);
                tracing::warn!(error, "what other replicas tell is not heard; trying again");
            }
            well = false;
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn subscribed(&self, inbox: &mpsc::Sender<Bytes>) -> RedisResult<()> {
        let channels = [To::All, To::One(self.replica())].map(To::channel);
        let (mut sink, mut told) = self.subscription().await?.split();
        within(sink.subscribe(&channels)).await?;
        self.inner().listening.store(true, Ordering::Relaxed);
        self.link().heard_of();
        tracing::debug!("listening to other replicas");
        let mut ping = interval(PING_EVERY);
        loop {
            tokio::select! {
                message = told.next() => {
                    let Some(message) = message else { return Ok(()) };
                    let payload = Bytes::copy_from_slice(message.get_payload_bytes());
                    if payload.len() > MOST_BYTES || inbox.try_send(payload).is_err() {
                        tracing::warn!("something that a replica told was too much");
                    }
                }
                _ = ping.tick() => within(sink.ping::<redis::Value>()).await.map(|_| ())?,
            }
        }
    }

    /// In a cluster any node will do: what is published at one is heard at all.
    async fn subscription(&self) -> RedisResult<redis::aio::PubSub> {
        let mut failed: Option<RedisError> = None;
        for client in self.place().clients() {
            match within(client?.get_async_pubsub()).await {
                Ok(subscription) => return Ok(subscription),
                Err(error) => failed = Some(error),
            }
        }
        Err(failed.unwrap_or_else(|| (redis::ErrorKind::InvalidClientConfig, "no address").into()))
    }
}

async fn within<T>(work: impl Future<Output = RedisResult<T>>) -> RedisResult<T> {
    let late = || RedisError::from((redis::ErrorKind::Io, "it did not answer in time"));
    timeout(PATIENCE, work).await.map_err(|_| late())?
}
