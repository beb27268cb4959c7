//! What every end-to-end test stands on: a simulator with a clock that is moved by hand, the real
//! binary in an empty home, and a client that speaks JSON-RPC lines. Nothing waits without a limit.

mod binary;
mod control;
mod session;

use std::time::Duration;

pub(crate) use binary::Home;
pub(crate) use control::{Control, simulator};
pub(crate) use session::{Era, Session};

/// The longest that anything may take.
pub(crate) const LIMIT: Duration = Duration::from_secs(20);

/// Waits for something, but not for ever.
pub(crate) async fn soon<T>(what: &str, work: impl Future<Output = T>) -> T {
    match tokio::time::timeout(LIMIT, work).await {
        Ok(done) => done,
        Err(_) => panic!("{what} did not happen within {LIMIT:?}"),
    }
}
