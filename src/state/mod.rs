//! State that the replicas of one server share in one Redis or Valkey: request rates, the ids of webhook events
//! already received, and messages between replicas. The ledger of [`crate::dialing`] uses the same connection.
//!
//! Knows keys, bytes and durations, and nothing of MCP or telephony. Every wait is bounded. A value that cannot be
//! had in time is an error ([`StateUnavailable`]), and the caller decides what is safe without it.
//!
//! Whoever can write to the Redis is as trusted as the server itself; what is read from it is parsed all the same as
//! if anyone could have written it.

mod connection;
mod endpoint;
mod namespace;
mod pubsub;
mod rate;
mod shared;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

pub(crate) use self::connection::describe_error;
pub use self::connection::{RedisConnection, StateUnavailable};
pub use self::endpoint::{InvalidRedisUrl, RedisEndpoint};
pub use self::namespace::{KEY_PREFIX, StateNamespace};
pub use self::pubsub::MAX_MESSAGE_BYTES;
pub use self::rate::RateDecision;
pub use self::shared::SharedState;
