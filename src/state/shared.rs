//! The shared state as the rest of the program sees it.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use redis::{AsyncCommands, ExistenceCheck, SetExpiry, SetOptions};

use super::connection::{RedisConnection, StateUnavailable, within};
use super::endpoint::{InvalidRedisUrl, RedisEndpoint};
use super::namespace::{KEY_PREFIX, short_hex};

/// The longest wait of a request for something that it needs.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(1);

/// The shared state, cheap to clone.
#[derive(Clone)]
pub struct SharedState(Arc<Inner>);

struct Inner {
    endpoint: RedisEndpoint,
    connection: RedisConnection,
    is_subscribed: AtomicBool,
}

impl SharedState {
    /// The state at this address (see [`RedisEndpoint::parse`]). Nothing is sent yet, because a server that is away
    /// may come back. Call it within a tokio runtime.
    ///
    /// # Errors
    /// The address is invalid.
    pub fn open(address: &str) -> Result<Self, InvalidRedisUrl> {
        let endpoint = RedisEndpoint::parse(address)?;
        let connection = RedisConnection::new(&endpoint).map_err(|_| InvalidRedisUrl::Malformed)?;
        Ok(Self(Arc::new(Inner { endpoint, connection, is_subscribed: AtomicBool::new(false) })))
    }

    #[must_use]
    pub fn connection(&self) -> RedisConnection {
        self.0.connection.clone()
    }

    pub(super) fn endpoint(&self) -> &RedisEndpoint {
        &self.0.endpoint
    }

    /// Checks that the server replies.
    ///
    /// # Errors
    /// It does not.
    pub async fn ping(&self) -> Result<(), StateUnavailable> {
        let mut connection = self.connection();
        let ping = redis::cmd("PING");
        within(REQUEST_TIMEOUT, ping.query_async::<String>(&mut connection)).await?;
        Ok(())
    }

    /// Checks that the server replies and that this replica receives messages.
    ///
    /// # Errors
    /// The server does not reply, or there is no subscription.
    pub async fn check(&self) -> Result<(), StateUnavailable> {
        self.ping().await?;
        if self.is_subscribed() {
            Ok(())
        } else {
            Err(StateUnavailable("no subscription".to_owned()))
        }
    }

    /// Whether this replica receives messages, as far as is known without asking the server.
    #[must_use]
    pub fn is_subscribed(&self) -> bool {
        self.0.is_subscribed.load(Ordering::Relaxed)
    }

    /// Sets [`Self::is_subscribed`] and returns its last value.
    pub(super) fn set_subscribed(&self, is_subscribed: bool) -> bool {
        self.0.is_subscribed.swap(is_subscribed, Ordering::Relaxed)
    }

    /// Inserts a hash for `lifetime`. `false`: a replica has inserted it before.
    ///
    /// # Errors
    /// The server did not reply in time.
    pub async fn insert_if_absent(
        &self,
        hash: &[u8; 32],
        lifetime: Duration,
    ) -> Result<bool, StateUnavailable> {
        let options = SetOptions::default()
            .conditional_set(ExistenceCheck::NX)
            .with_expiration(SetExpiry::EX(lifetime.as_secs().max(1)));
        let key = format!("{KEY_PREFIX}:seen:{}", short_hex(hash));
        let mut connection = self.connection();
        let set = connection.set_options(key, 1, options);
        let set: Option<String> = within(REQUEST_TIMEOUT, set).await?;
        Ok(set.is_some())
    }
}

impl PartialEq for SharedState {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for SharedState {}

impl fmt::Debug for SharedState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedState").finish_non_exhaustive()
    }
}
