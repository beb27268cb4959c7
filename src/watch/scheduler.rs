//! When a call is polled: its progress, the wait until the next poll, the queue of polls that are due, and the request
//! rate of the account. Pure except for the API's types: no clock, no I/O, no randomness.
//!
//! The wait is a fraction of the time that the call has spent in its stage, so that a short call is answered quickly and
//! a long one costs little: 3.2 s in the first six minutes of a conversation, 5 s at ten minutes, 10 s from twenty
//! minutes on. Once webhooks arrive for the call, polling is only the safety net.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

use callingbox::{Call, CallId, CallStatus, ResultStatus};

/// How far a call has advanced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CallProgress {
    /// Created, handed over to the carrier or ringing.
    Dialing,
    /// Answered; the conversation is live.
    Talking,
    /// The conversation is over, and its result is being extracted.
    Extracting,
    /// Over; the record will not change any more.
    Finished,
    /// A status that is not in the contract. It does not count as an end.
    Unknown,
}

impl CallProgress {
    /// How long a pending extraction is awaited after the call was first seen to be over. The contract names no limit;
    /// an extraction takes seconds.
    pub const EXTRACTION_LIMIT: Duration = Duration::from_secs(120);

    /// The same limit by the call's own `ended_at`, for calls that ended long ago. It is much longer, since the clocks
    /// of the API and of this machine may differ.
    pub const EXTRACTION_LIMIT_BY_RECORD: Duration = Duration::from_secs(3_600);

    /// Reads the progress of a call. `over_for` is how long ago the call was first seen to be over (zero at first
    /// sight); `now` is this machine's time.
    ///
    /// Extraction follows only a completed call with a schema: without a conversation the API leaves `result_status`
    /// pending forever, and without a schema there is no result.
    #[must_use]
    pub fn from_call(call: &Call, over_for: Duration, now: jiff::Timestamp) -> Self {
        match call.status {
            CallStatus::Queued | CallStatus::Initiated | CallStatus::Ringing => Self::Dialing,
            CallStatus::InProgress => Self::Talking,
            CallStatus::Completed if is_extraction_expected(call) => {
                let ended = call.ended_at.as_ref().and_then(|at| at.instant());
                let ended_for =
                    ended.and_then(|at| Duration::try_from(now.duration_since(at)).ok());
                // The times of a simulated call are those of the simulator, whose clock may be days away.
                let is_simulated = call.extra.get("simulated").is_some_and(|it| it == true);
                let long_ago = !is_simulated
                    && ended_for.is_some_and(|it| it >= Self::EXTRACTION_LIMIT_BY_RECORD);
                let given_up = over_for >= Self::EXTRACTION_LIMIT || long_ago;
                if given_up { Self::Finished } else { Self::Extracting }
            }
            CallStatus::Completed
            | CallStatus::NoAnswer
            | CallStatus::Busy
            | CallStatus::Canceled
            | CallStatus::Failed => Self::Finished,
            CallStatus::Other(_) => Self::Unknown,
        }
    }

    /// Whether the conversation is over, so that the transcript is final.
    #[must_use]
    pub fn is_over(self) -> bool {
        matches!(self, Self::Extracting | Self::Finished)
    }
}

/// Whether the record of a completed call promises a result that is not there yet. A `result_status` that is not in the
/// contract is treated as a pending one.
fn is_extraction_expected(call: &Call) -> bool {
    let has_schema = call.returns.as_ref().is_some_and(|returns| !returns.is_empty());
    let has_ended =
        matches!(call.result_status, None | Some(ResultStatus::Completed | ResultStatus::Failed));
    has_schema && !has_ended && call.answered_by.as_deref() != Some("machine")
}

/// The part of a call that is polled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum CallPart {
    Record,
    Transcript,
}

/// What the wait until the next poll depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PollInputs {
    pub(super) progress: CallProgress,
    /// How long the call has been at this progress, as seen from here.
    pub(super) progress_for: Duration,
    /// Whether webhooks arrive for this call.
    pub(super) has_webhooks: bool,
    /// How many polls in a row have failed.
    pub(super) failures: u32,
    /// The `Retry-After` of the last answer.
    pub(super) retry_after: Option<Duration>,
}

/// The longest wait after failures, unless the API asks for a longer one.
const MAX_BACKOFF: Duration = Duration::from_secs(30);

/// The longest `Retry-After` that is honored.
pub(super) const MAX_RETRY_AFTER: Duration = Duration::from_secs(3_600);

/// How long to wait until the next poll; `None` when there is nothing to poll: a finished record, or a transcript before
/// the conversation.
///
/// `jitter` is a random number from 0 to 1. It changes the wait by up to a tenth in either direction, and is added in
/// whole, as seconds, to a `Retry-After`.
pub(super) fn next_poll_delay(
    part: CallPart,
    inputs: &PollInputs,
    jitter: f64,
) -> Option<Duration> {
    let jitter = if jitter.is_finite() { jitter.clamp(0.0, 1.0) } else { 1.0 };
    let progress_for = inputs.progress_for.as_secs_f64();
    let seconds = match (part, inputs.progress) {
        (CallPart::Record, CallProgress::Finished) => return None,
        (CallPart::Record, CallProgress::Extracting) if inputs.has_webhooks => 5.0,
        (CallPart::Record, CallProgress::Extracting) => (progress_for / 8.0).clamp(1.0, 5.0),
        (CallPart::Record, _) if inputs.has_webhooks => 20.0,
        (CallPart::Record, CallProgress::Dialing) => (progress_for / 15.0).clamp(1.5, 10.0),
        (CallPart::Record, CallProgress::Talking) => (progress_for / 120.0).clamp(3.2, 10.0),
        (CallPart::Record, CallProgress::Unknown) => (progress_for / 15.0).clamp(2.0, 10.0),
        (CallPart::Transcript, CallProgress::Dialing) => return None,
        (CallPart::Transcript, CallProgress::Talking) => (progress_for / 120.0).clamp(3.0, 10.0),
        (CallPart::Transcript, CallProgress::Unknown) => 10.0,
        // The last transcript, which is polled again only if it fails.
        (CallPart::Transcript, CallProgress::Extracting | CallProgress::Finished) => 0.7,
    };
    let regular = Duration::from_secs_f64(seconds);
    let backed_off = if inputs.failures == 0 {
        regular
    } else {
        regular.saturating_mul(1 << inputs.failures.min(10)).min(MAX_BACKOFF)
    };
    let wait = backed_off.mul_f64(0.9 + jitter / 5.0);
    Some(match inputs.retry_after {
        Some(asked) => wait.max(asked.min(MAX_RETRY_AFTER) + Duration::from_secs_f64(jitter)),
        None => wait,
    })
}

/// The calls that are to be polled, each at no more than one time.
#[derive(Default)]
pub(super) struct PollQueue {
    order: BTreeSet<(Instant, CallId)>,
    times: HashMap<CallId, Instant>,
}

impl PollQueue {
    /// Sets the time of a call and replaces its earlier time.
    pub(super) fn set(&mut self, id: &CallId, due_at: Instant) {
        self.remove(id);
        self.times.insert(id.clone(), due_at);
        self.order.insert((due_at, id.clone()));
    }

    pub(super) fn remove(&mut self, id: &CallId) {
        if let Some((id, due_at)) = self.times.remove_entry(id) {
            self.order.remove(&(due_at, id));
        }
    }

    pub(super) fn due_at(&self, id: &CallId) -> Option<Instant> {
        self.times.get(id).copied()
    }

    pub(super) fn first_due_at(&self) -> Option<Instant> {
        self.order.first().map(|(due_at, _)| *due_at)
    }

    /// The calls that are due by a time, including that time, the earliest first.
    pub(super) fn due_by(&self, time: Instant) -> impl Iterator<Item = &CallId> {
        self.order.iter().take_while(move |(due_at, _)| *due_at <= time).map(|(_, id)| id)
    }
}

const RATE_WINDOW: Duration = Duration::from_secs(1);

/// Limits the requests in any one second over all calls of an account. A quarter of them is reserved for calls for which
/// a webhook arrived, which must not wait.
pub(super) struct RateLimiter {
    per_second: usize,
    /// The latest requests, oldest first.
    latest: VecDeque<Instant>,
}

impl RateLimiter {
    pub(super) fn new(per_second: u32) -> Self {
        Self { per_second: per_second.max(1) as usize, latest: VecDeque::new() }
    }

    /// When the next ordinary request may be made.
    pub(super) fn ordinary_ready_at(&self, now: Instant) -> Instant {
        self.ready_at(self.per_second - self.per_second / 4, now)
    }

    /// When the next urgent request may be made.
    pub(super) fn urgent_ready_at(&self, now: Instant) -> Instant {
        self.ready_at(self.per_second, now)
    }

    /// When the last second has fewer than `limit` requests.
    fn ready_at(&self, limit: usize, now: Instant) -> Instant {
        let nth_latest = self.latest.len().checked_sub(limit).and_then(|n| self.latest.get(n));
        nth_latest.map_or(now, |made_at| *made_at + RATE_WINDOW)
    }

    pub(super) fn record_request(&mut self, now: Instant) {
        if self.latest.len() >= self.per_second {
            self.latest.pop_front();
        }
        self.latest.push_back(now);
    }
}
