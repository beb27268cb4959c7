//! What the replicas of one server share in one Redis or Valkey: counters, sessions, what has been
//! seen, and a way to tell each other something. The ledger of [`crate::dialing`] goes over the same
//! connection.
//!
//! Knows keys, texts and times, and nothing of what they mean to MCP or to telephones. Every wait is
//! bounded, and short where a request waits: what cannot be learned in time is an error ([`Gone`]),
//! and the caller says what is safe without it.
//!
//! Whoever can write there is trusted as the server itself is; what is read from there is parsed all
//! the same as if anybody could have written it.

mod breaker;
mod bus;
mod link;
mod place;
mod rate;
mod seen;
mod sessions;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use redis::RedisError;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use self::breaker::Breaker;
pub use self::bus::{MOST_BYTES, To};
pub use self::link::Link;
pub(crate) use self::link::told;
pub use self::place::{BadPlace, Place};
pub use self::rate::Counted;
pub use self::sessions::{MOST_SESSION_BYTES, STREAM_RENEWAL};

/// What every key begins with: the program and the layout of what follows. A layout that older
/// programs cannot read gets another number.
pub const PREFIX: &str = "callingbox-mcp:v1";

/// The longest that a request waits for something it can do without.
const SHORT: Duration = Duration::from_millis(100);
/// The longest that it waits for something it needs.
const LONG: Duration = Duration::from_secs(1);

/// The shared state. Cheap to clone; two that were opened apart are two replicas.
#[derive(Clone)]
pub struct Shared(Arc<Inner>);

struct Inner {
    place: Place,
    link: Link,
    replica: ReplicaId,
    /// Opened when the server is too slow for what a request can do without.
    slow: Breaker,
    /// Whether what others tell is heard.
    listening: AtomicBool,
}

/// The shared state cannot be used now. Never holds what was sent, nor the address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the shared state cannot be reached: {0}")]
pub struct Gone(String);

impl From<RedisError> for Gone {
    fn from(error: RedisError) -> Self {
        Self(told(&error))
    }
}

/// One replica: a process, from its start to its end.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ReplicaId(u64);

impl ReplicaId {
    fn new() -> Self {
        Self(rand::random())
    }
}

impl fmt::Display for ReplicaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for ReplicaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ReplicaId({self})")
    }
}

/// A text that names no replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this names no replica")]
pub struct NotAReplica;

impl FromStr for ReplicaId {
    type Err = NotAReplica;

    fn from_str(text: &str) -> Result<Self, NotAReplica> {
        let number = u64::from_str_radix(text, 16).map(Self).map_err(|_| NotAReplica)?;
        // One text for one replica: no signs, no capitals, no other length.
        if number.to_string() == text { Ok(number) } else { Err(NotAReplica) }
    }
}

impl TryFrom<String> for ReplicaId {
    type Error = NotAReplica;

    fn try_from(text: String) -> Result<Self, NotAReplica> {
        text.parse()
    }
}

impl From<ReplicaId> for String {
    fn from(id: ReplicaId) -> Self {
        id.to_string()
    }
}

/// To whom something belongs: a hash, from which nothing can be found. What belongs to one cannot be
/// named by another.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Scope(String);

impl Scope {
    /// The scope of these parts together.
    #[must_use]
    pub fn of(parts: &[&[u8]]) -> Self {
        let mut hash = Sha256::new_with_prefix(b"callingbox-mcp scope");
        for part in parts {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        Self(half(&hash.finalize().into()))
    }

    /// A key of this scope. All of one scope lie in one slot of a cluster.
    fn key(&self, rest: &str) -> String {
        format!("{PREFIX}:{{{}}}:{rest}", self.0)
    }
}

/// The first half of a hash, in digits.
fn half(hash: &[u8; 32]) -> String {
    crate::hex::encode(&hash[..16])
}

impl Shared {
    /// The state at this address (see [`Place::parse`]). Nothing is sent yet: a server that is gone
    /// may come back. To be called within a tokio runtime.
    ///
    /// # Errors
    /// The address cannot be used.
    pub fn open(address: &str) -> Result<Self, BadPlace> {
        let place = Place::parse(address)?;
        let link = Link::new(place.clone()).map_err(|_| BadPlace::Unreadable)?;
        Ok(Self(Arc::new(Inner {
            place,
            link,
            replica: ReplicaId::new(),
            slow: Breaker::default(),
            listening: AtomicBool::new(false),
        })))
    }

    fn inner(&self) -> &Inner {
        &self.0
    }

    fn place(&self) -> &Place {
        &self.0.place
    }

    /// The connection.
    #[must_use]
    pub fn link(&self) -> Link {
        self.0.link.clone()
    }

    /// Which replica this is.
    #[must_use]
    pub fn replica(&self) -> ReplicaId {
        self.0.replica
    }

    /// Whether it answers.
    ///
    /// # Errors
    /// It does not.
    pub async fn ping(&self) -> Result<(), Gone> {
        let mut link = self.link();
        within(LONG, redis::cmd("PING").query_async::<String>(&mut link)).await?;
        Ok(())
    }

    /// Whether it answers, and this replica hears the others.
    ///
    /// # Errors
    /// It does not.
    pub async fn check(&self) -> Result<(), Gone> {
        self.ping().await?;
        if self.is_heard() { Ok(()) } else { Err(Gone("no subscription".to_owned())) }
    }

    /// Whether this replica hears the others, as far as is known without asking.
    #[must_use]
    pub fn is_heard(&self) -> bool {
        self.0.listening.load(Ordering::Relaxed)
    }

    /// Does what a request can do without: after it took too long once, it is left out for a moment.
    async fn briefly<T>(
        &self,
        work: impl Future<Output = redis::RedisResult<T>>,
    ) -> Result<T, Gone> {
        let left_out = || Gone("it was too slow a moment ago".to_owned());
        let attempt = self.0.slow.attempt().ok_or_else(left_out)?;
        let done = within(SHORT, work).await;
        match &done {
            Ok(_) => attempt.answered(),
            Err(_) => attempt.failed(),
        }
        done
    }
}

async fn within<T>(
    time: Duration,
    work: impl Future<Output = redis::RedisResult<T>>,
) -> Result<T, Gone> {
    let late = |_| Gone("it did not answer in time".to_owned());
    Ok(tokio::time::timeout(time, work).await.map_err(late)??)
}

impl PartialEq for Shared {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Shared {}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("replica", &self.0.replica).finish_non_exhaustive()
    }
}
