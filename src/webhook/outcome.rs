//! What became of deliveries, counted and logged. Anyone can send one, so each reason is logged once a second at most.

use std::sync::atomic::{AtomicU64, Ordering};

use http::StatusCode;

use crate::telemetry::log_throttle::LogThrottle;

/// Why a delivery was not passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Rejection {
    /// It has no signature, a malformed one, or one made with an unknown secret.
    Forged,
    /// It was signed too long ago, or in the future.
    Stale,
    /// The event was seen before. The answer is 200, so that the sender does not repeat it again.
    Replayed,
    /// It is too large.
    Oversized,
    /// The body did not arrive as a whole.
    Unreadable,
    /// It is signed, but not an event of a call, such as a test of the endpoint. The answer is 200: CallingBox would not
    /// send anything else the next time, and would count a failure of the endpoint.
    Unknown,
    /// Too many deliveries are being read or handled. CallingBox delivers it again later.
    Busy,
}

impl Rejection {
    /// All reasons.
    pub const ALL: [Self; 7] = [
        Self::Forged,
        Self::Stale,
        Self::Replayed,
        Self::Oversized,
        Self::Unreadable,
        Self::Unknown,
        Self::Busy,
    ];

    /// The reason in one word, for metrics, logs and the response.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Forged => "forged",
            Self::Stale => "stale",
            Self::Replayed => "replayed",
            Self::Oversized => "oversized",
            Self::Unreadable => "unreadable",
            Self::Unknown => "unknown",
            Self::Busy => "busy",
        }
    }

    pub(super) const fn status(self) -> StatusCode {
        match self {
            Self::Forged => StatusCode::UNAUTHORIZED,
            Self::Stale | Self::Unreadable => StatusCode::BAD_REQUEST,
            Self::Replayed | Self::Unknown => StatusCode::OK,
            Self::Oversized => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Busy => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

/// How many deliveries were accepted and rejected.
#[derive(Debug, Default)]
pub struct DeliveryCounts {
    accepted: AtomicU64,
    rejected: [RejectionCount; Rejection::ALL.len()],
}

#[derive(Debug, Default)]
struct RejectionCount {
    deliveries: AtomicU64,
    log: LogThrottle,
}

impl DeliveryCounts {
    /// The number of accepted deliveries.
    #[must_use]
    pub fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::Relaxed)
    }

    /// The number of deliveries rejected for this reason.
    #[must_use]
    pub fn rejected(&self, reason: Rejection) -> u64 {
        self.count_of(reason).map_or(0, |count| count.deliveries.load(Ordering::Relaxed))
    }

    pub(super) fn record_accepted(&self) {
        self.accepted.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn record_rejection(&self, reason: Rejection) {
        let Some(count) = self.count_of(reason) else { return };
        count.deliveries.fetch_add(1, Ordering::Relaxed);
        if let Some(left_out) = count.log.count_event() {
            tracing::warn!(reason = reason.as_str(), left_out, "webhook delivery rejected");
        }
    }

    fn count_of(&self, reason: Rejection) -> Option<&RejectionCount> {
        let index = Rejection::ALL.iter().position(|known| *known == reason)?;
        self.rejected.get(index)
    }
}
