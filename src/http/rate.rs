//! The request rate of one tenant: counted by this replica, and over all replicas where they share their state.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use governor::clock::{Clock, MonotonicClock};
use governor::middleware::NoOpMiddleware;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::state::{RateDecision, SharedState, StateNamespace};

/// How long a count over all replicas is believed.
const COUNT_LIFETIME: Duration = Duration::from_secs(10);
/// How long requests are counted by this replica alone after the shared state failed.
const FAILURE_PAUSE: Duration = Duration::from_secs(1);

type Limiter = RateLimiter<
    NotKeyed,
    InMemoryState,
    MonotonicClock,
    NoOpMiddleware<<MonotonicClock as Clock>::Instant>,
>;

/// The limit of one tenant.
pub struct RequestRate {
    local: Limiter,
    shared: Option<Arc<SharedRate>>,
}

/// The same limit over all replicas.
struct SharedRate {
    state: SharedState,
    namespace: StateNamespace,
    per_second: NonZeroU32,
    burst: NonZeroU32,
    last: Mutex<LastCount>,
}

/// The result of the last count.
enum LastCount {
    /// This many more requests were allowed, less those since.
    Allowed {
        remaining: u32,
        at: Instant,
    },
    Limited,
    Failed {
        at: Instant,
    },
}

impl RequestRate {
    /// At most `per_second` requests on average and ten times as many at the same time; over all replicas, if there
    /// is a shared state and a namespace in it.
    #[must_use]
    pub fn new(per_second: NonZeroU32, shared: Option<(SharedState, StateNamespace)>) -> Self {
        let burst = per_second.saturating_mul(NonZeroU32::MIN.saturating_add(9));
        let quota = Quota::per_second(per_second).allow_burst(burst);
        let local = RateLimiter::direct_with_clock(quota, MonotonicClock);
        let shared = shared.map(|(state, namespace)| {
            let last = Mutex::new(LastCount::Limited);
            Arc::new(SharedRate { state, namespace, per_second, burst, last })
        });
        Self { local, shared }
    }

    /// Counts a request. If counting over all replicas fails, the request is allowed.
    ///
    /// Far from the limit no request waits for the count. That may allow each replica up to a quarter of a burst too
    /// many.
    ///
    /// # Errors
    /// Too many requests; how long to wait.
    pub async fn count_request(&self) -> Result<(), Duration> {
        self.local.check().map_err(|early| early.wait_time_from(MonotonicClock.now()))?;
        let Some(shared) = &self.shared else { return Ok(()) };
        if shared.is_far_from_limit() {
            let shared = Arc::clone(shared);
            tokio::spawn(async move { shared.count().await });
            return Ok(());
        }
        shared.count().await
    }
}

impl SharedRate {
    fn is_far_from_limit(&self) -> bool {
        match &mut *self.last.lock() {
            LastCount::Allowed { remaining, at } if at.elapsed() < COUNT_LIFETIME => {
                let is_far = u64::from(*remaining) * 4 > u64::from(self.burst.get()) * 3;
                *remaining = remaining.saturating_sub(1);
                is_far
            }
            _ => false,
        }
    }

    fn failed_lately(&self) -> bool {
        matches!(*self.last.lock(), LastCount::Failed { at } if at.elapsed() < FAILURE_PAUSE)
    }

    async fn count(&self) -> Result<(), Duration> {
        if self.failed_lately() {
            return Ok(());
        }
        let Self { state, namespace, per_second, burst, .. } = self;
        let decision = state.count_request(namespace, *per_second, *burst).await;
        let at = Instant::now();
        let (last, result) = match decision {
            Ok(RateDecision::Allowed { remaining }) => {
                (LastCount::Allowed { remaining, at }, Ok(()))
            }
            Ok(RateDecision::Limited { retry_after }) => (LastCount::Limited, Err(retry_after)),
            Err(error) => {
                tracing::debug!(%error, "requests are counted by this replica alone for a second");
                (LastCount::Failed { at }, Ok(()))
            }
        };
        *self.last.lock() = last;
        result
    }
}
