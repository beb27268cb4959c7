//! The part of `tests/it/harness` that the tests of both folders use.

#[path = "../it/harness/control.rs"]
#[expect(dead_code, reason = "other tests need the rest")]
mod control;

pub(crate) use control::{Control, simulator};

use crate::deployment::TIMEOUT;

/// Waits for `work`, and panics with `what` if it takes too long.
pub(crate) async fn within_limit<T>(what: &str, work: impl Future<Output = T>) -> T {
    match tokio::time::timeout(TIMEOUT, work).await {
        Ok(done) => done,
        Err(_) => panic!("{what} did not happen within {TIMEOUT:?}"),
    }
}
