//! Withholds a request whose dispatch another process may have taken over. A process can be stopped between the renewal
//! of its lease and the request, by a signal, a closed lid or a suspended machine, for longer than the lease lasts.
//!
//! Right before the body of the request is written, the wall clock and the monotonic clock must both say that the lease
//! was renewed less than five seconds ago. Otherwise it is renewed again, which fails if another process holds it. Both
//! clocks are needed: one stands still while a machine is suspended, and the other can be set.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;
use tokio::time::Instant;

use super::clock::{ClockReading, DialingClock};
use super::dialer::saturating_add;
use super::ledger::{AccountId, DispatchId, DispatchRecord, LeaseRenewal, Ledger, LedgerError};
use callingbox::SendGuard;

/// How old a renewal may be when the request is written.
const MAX_RENEWAL_AGE: Duration = Duration::from_secs(5);
/// How often the lease is renewed for one request. A machine that is stopped again and again gives up.
const MAX_RENEWALS: usize = 3;

/// The lease of one dispatch, which is kept until its request is written.
#[derive(Debug)]
pub(super) struct Lease {
    ledger: Arc<dyn Ledger>,
    account: AccountId,
    dispatch: DispatchId,
    generation: u32,
    clock: DialingClock,
    duration: SignedDuration,
    renewal: Mutex<Option<Renewal>>,
}

/// The moment before the lease was renewed, on both clocks.
#[derive(Debug, Clone, Copy)]
struct Renewal {
    wall: Timestamp,
    monotonic: Instant,
}

impl Renewal {
    fn now() -> Self {
        Self { wall: Timestamp::now(), monotonic: Instant::now() }
    }

    /// Whether the renewal is recent on both clocks. A wall clock that was set back says nothing.
    fn is_recent(self, now: Self) -> bool {
        let wall = Duration::try_from(now.wall.duration_since(self.wall));
        wall.is_ok_and(|age| age < MAX_RENEWAL_AGE)
            && now.monotonic.saturating_duration_since(self.monotonic) < MAX_RENEWAL_AGE
    }
}

impl Lease {
    pub(super) fn new(
        ledger: Arc<dyn Ledger>,
        record: &DispatchRecord,
        clock: DialingClock,
        duration: SignedDuration,
    ) -> Arc<Self> {
        Arc::new(Self {
            ledger,
            account: record.account_id.clone(),
            dispatch: record.dispatch_id,
            generation: record.generation,
            clock,
            duration,
            renewal: Mutex::default(),
        })
    }

    /// The check that the client makes right before it writes the request.
    pub(super) fn to_send_guard(self: &Arc<Self>) -> SendGuard {
        let lease = Arc::clone(self);
        SendGuard::new(move || {
            let lease = Arc::clone(&lease);
            async move { lease.may_send().await }.boxed()
        })
    }

    /// Renews the lease. After any other answer than [`LeaseRenewal::Renewed`] the order must not be placed.
    pub(super) async fn renew(&self) -> Result<LeaseRenewal, LedgerError> {
        let before = Renewal::now();
        let expires_at = saturating_add(before.wall, self.duration);
        let now = ClockReading { machine: before.wall, ..self.clock.read().await? };
        let renewal = self
            .ledger
            .renew_lease(&self.account, self.dispatch, self.generation, now, expires_at)
            .await?;
        *self.renewal.lock() = (renewal == LeaseRenewal::Renewed).then_some(before);
        Ok(renewal)
    }

    async fn may_send(&self) -> bool {
        for _ in 0..MAX_RENEWALS {
            let renewal = *self.renewal.lock();
            if renewal.is_some_and(|renewal| renewal.is_recent(Renewal::now())) {
                return true;
            }
            let dispatch = self.dispatch;
            tracing::warn!(%dispatch, "this process was stopped before it sent a request; renewing the lease");
            match self.renew().await {
                Ok(LeaseRenewal::Renewed) => {}
                Ok(LeaseRenewal::Lost | LeaseRenewal::OptedOut | LeaseRenewal::Stopped(_)) => {
                    return false;
                }
                Err(error) => {
                    tracing::error!(%dispatch, %error, "the lease could not be renewed; the request is withheld");
                    return false;
                }
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_renewal_is_recent_only_if_both_clocks_say_so() {
        let renewal = Renewal::now();
        let after = |wall: i64, monotonic: u64| Renewal {
            wall: renewal.wall + SignedDuration::from_millis(wall),
            monotonic: renewal.monotonic + Duration::from_millis(monotonic),
        };
        for (wall, monotonic, expected) in [
            (0, 0, true),
            (4_999, 4_999, true),
            // Stopped.
            (5_000, 5_000, false),
            // Suspended: the monotonic clock stood still.
            (86_400_000, 1, false),
            // The wall clock was set back by a day, and the process was stopped.
            (-86_400_000, 5_000, false),
            (-86_400_000, 1, false),
            (1, 86_400_000, false),
        ] {
            assert_eq!(renewal.is_recent(after(wall, monotonic)), expected, "{wall} {monotonic}");
        }
    }
}
