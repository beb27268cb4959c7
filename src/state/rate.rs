//! The request rate of one owner over all replicas.

use std::num::NonZeroU32;
use std::sync::LazyLock;
use std::time::Duration;

use redis::Script;

use super::connection::{StateUnavailable, within};
use super::namespace::StateNamespace;
use super::shared::SharedState;

/// The longest wait for the count of one request, which can go on without it.
const COUNT_TIMEOUT: Duration = Duration::from_millis(100);

static SCRIPT: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("rate.lua")));

/// The result of counting a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RateDecision {
    /// The request may go on, and this many more would be allowed immediately.
    Allowed { remaining: u32 },
    /// Too many requests.
    Limited { retry_after: Duration },
}

impl SharedState {
    /// Counts a request in this namespace, of at most `per_second` on average and `burst` at the same time.
    ///
    /// # Errors
    /// The server did not reply in time.
    pub async fn count_request(
        &self,
        namespace: &StateNamespace,
        per_second: NonZeroU32,
        burst: NonZeroU32,
    ) -> Result<RateDecision, StateUnavailable> {
        let interval = (1_000_000 / u64::from(per_second.get())).max(1);
        let max_ahead = interval.saturating_mul(u64::from(burst.get()));
        let mut connection = self.connection();
        let mut script = SCRIPT.key(namespace.key("rate"));
        script.arg(interval).arg(max_ahead);
        let (wait, remaining): (u64, u32) =
            within(COUNT_TIMEOUT, script.invoke_async(&mut connection)).await?;
        Ok(match wait {
            0 => RateDecision::Allowed { remaining },
            _ => RateDecision::Limited { retry_after: Duration::from_micros(wait) },
        })
    }
}
