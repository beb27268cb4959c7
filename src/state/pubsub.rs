//! Messages between replicas, by publish and subscribe on one channel. A message can be lost, with the server or
//! while the subscription is renewed, so nothing may depend on one. What a message means is not known here.

use std::time::Duration;

use futures::StreamExt;
use redis::aio::PubSub;
use redis::{AsyncCommands, Client, RedisError, RedisResult};
use tokio::time::{interval, sleep};

use super::connection::{StateUnavailable, describe_error, within};
use super::shared::SharedState;

/// The most bytes of one message.
pub const MAX_MESSAGE_BYTES: usize = 512 * 1024;
/// How often an idle subscription is checked, and how long the check may take.
const PING_INTERVAL: Duration = Duration::from_secs(5);
const PING_TIMEOUT: Duration = Duration::from_secs(3);
/// The pause before a lost subscription is renewed.
const RENEWAL_PAUSE: Duration = Duration::from_millis(500);

const CHANNEL: &str = "callingbox-mcp:v1:calls";

impl SharedState {
    /// Sends a message to all replicas, this one included.
    ///
    /// # Errors
    /// The message is too large, or the server is unavailable.
    pub async fn publish(&self, message: &[u8]) -> Result<(), StateUnavailable> {
        if message.len() > MAX_MESSAGE_BYTES {
            return Err(StateUnavailable("the message is too large".to_owned()));
        }
        Ok(self.connection().publish(CHANNEL, message).await?)
    }

    /// Gives every message that arrives to `on_message`, until it is dropped. Renews a lost subscription.
    pub async fn subscribe(self, on_message: impl Fn(&[u8])) {
        let mut is_first_failure = true;
        loop {
            let ended = self.receive(&on_message).await;
            let was_subscribed = self.set_subscribed(false);
            if let Err(error) = ended
                && (is_first_failure || was_subscribed)
            {
                let error = describe_error(&error);
                tracing::warn!(error, "lost the Redis subscription; reconnecting");
            }
            is_first_failure = false;
            sleep(RENEWAL_PAUSE).await;
        }
    }

    async fn receive(&self, on_message: impl Fn(&[u8])) -> RedisResult<()> {
        let (mut sink, mut messages) = self.open_subscription().await?.split();
        within(PING_TIMEOUT, sink.subscribe(CHANNEL)).await?;
        self.set_subscribed(true);
        tracing::debug!("subscribed to the messages of other replicas");
        let mut ping = interval(PING_INTERVAL);
        loop {
            tokio::select! {
                message = messages.next() => {
                    let Some(message) = message else { return Ok(()) };
                    let payload = message.get_payload_bytes();
                    if payload.len() > MAX_MESSAGE_BYTES {
                        tracing::warn!("a message from another replica is too large; ignored");
                    } else {
                        on_message(payload);
                    }
                }
                _ = ping.tick() => within(PING_TIMEOUT, sink.ping::<redis::Value>()).await.map(|_| ())?,
            }
        }
    }

    /// A subscription to any node: a cluster forwards messages from one node to all.
    async fn open_subscription(&self) -> RedisResult<PubSub> {
        let mut failed = RedisError::from((redis::ErrorKind::InvalidClientConfig, "no address"));
        for node in &self.endpoint().nodes {
            let client = Client::open(node.clone())?;
            match within(PING_TIMEOUT, client.get_async_pubsub()).await {
                Ok(subscription) => return Ok(subscription),
                Err(error) => failed = error,
            }
        }
        Err(failed)
    }
}
