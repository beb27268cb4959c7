//! When a batch starts no calls for now: the reason, and until when. Knows no rows, no ledger, and no clock: the times are those
//! of the dialing clock. The pause because of the clock itself is decided elsewhere.

use jiff::{SignedDuration, Timestamp};

use crate::dialing::ledger::PauseReason;

/// How long a batch without credit waits before it tries one row.
pub(super) const CREDIT_PAUSE: SignedDuration = SignedDuration::from_mins(5);
/// How many failures of the API in a row pause the batch.
const MAX_FAILURES: u32 = 5;
/// The longest pause after failures of the API.
const MAX_FAILURE_PAUSE: SignedDuration = SignedDuration::from_mins(30);

/// A pause, and when to try again; `None`: only a person ends it.
#[derive(Debug, Clone, Copy)]
struct Pause {
    reason: PauseReason,
    until: Option<Timestamp>,
}

/// The pauses of a batch.
#[derive(Debug, Default)]
pub(super) struct Pauses {
    current: Option<Pause>,
    /// Failures of the API in a row.
    failures: u32,
    /// How often such failures have paused the batch since a call was placed.
    failure_pauses: u32,
    /// A pause is over, and no call was placed since: one row is tried at a time.
    is_trial: bool,
}

impl Pauses {
    /// Why the batch pauses; `None`: it does not.
    pub(super) fn reason(&self) -> Option<PauseReason> {
        self.current.map(|pause| pause.reason)
    }

    /// When the pause ends by itself.
    pub(super) fn until(&self) -> Option<Timestamp> {
        self.current.and_then(|pause| pause.until)
    }

    /// Whether one row is tried at a time.
    pub(super) const fn is_trial(&self) -> bool {
        self.is_trial
    }

    /// Pauses until a person resumes the batch.
    pub(super) fn wait_for_person(&mut self, reason: PauseReason) {
        self.current = Some(Pause { reason, until: None });
    }

    /// Pauses because the account has too little credit.
    pub(super) fn wait_for_credit(&mut self, now: Timestamp) {
        let until = Some(add(now, CREDIT_PAUSE));
        self.current = Some(Pause { reason: PauseReason::Credit, until });
    }

    /// Counts a failure of the API. Five in a row pause the batch, for 1, 2, 4 … minutes, and then each failure until a call is
    /// placed.
    pub(super) fn count_failure(&mut self, now: Timestamp) {
        self.failures += 1;
        if self.failures >= MAX_FAILURES || self.is_trial {
            let until = Some(add(now, failure_pause(self.failure_pauses)));
            self.failures = 0;
            self.failure_pauses += 1;
            self.current = Some(Pause { reason: PauseReason::Api, until });
        }
    }

    /// CallingBox has answered as documented, without a call.
    pub(super) fn record_answer(&mut self) {
        self.failures = 0;
        self.is_trial = false;
    }

    /// A call was placed.
    pub(super) fn record_placed(&mut self) {
        self.record_answer();
        self.failure_pauses = 0;
    }

    /// Ends a pause whose time has come.
    pub(super) fn end_expired(&mut self, now: Timestamp) {
        if self.until().is_some_and(|until| until <= now) {
            self.current = None;
            self.is_trial = true;
        }
    }
}

/// How long failures pause a batch that they have paused so often before.
fn failure_pause(pauses: u32) -> SignedDuration {
    SignedDuration::from_mins(1_i64 << pauses.min(5)).min(MAX_FAILURE_PAUSE)
}

/// The time so much later.
pub(super) fn add(at: Timestamp, duration: SignedDuration) -> Timestamp {
    at.checked_add(duration).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_pause_for_1_2_4_and_at_most_30_minutes() {
        let mut pauses = Pauses::default();
        let mut now = Timestamp::UNIX_EPOCH;
        let mut pause_after = |pauses: &mut Pauses, failures: u32| {
            for _ in 0..failures {
                assert_eq!(pauses.reason(), None);
                pauses.count_failure(now);
            }
            assert_eq!(pauses.reason(), Some(PauseReason::Api));
            let until = pauses.until().unwrap();
            let length = until.duration_since(now).as_mins();
            now = until;
            pauses.end_expired(now);
            length
        };
        let mut lengths = vec![pause_after(&mut pauses, MAX_FAILURES)];
        // From then on each trial that fails.
        lengths.extend((0..7).map(|_| pause_after(&mut pauses, 1)));
        assert_eq!(lengths, [1, 2, 4, 8, 16, 30, 30, 30]);
        pauses.record_placed();
        assert_eq!([pause_after(&mut pauses, MAX_FAILURES), pause_after(&mut pauses, 1)], [1, 2]);
    }

    #[test]
    fn a_pause_that_waits_for_a_person_has_no_end() {
        let mut pauses = Pauses::default();
        pauses.wait_for_credit(Timestamp::UNIX_EPOCH);
        pauses.wait_for_person(PauseReason::Key);
        pauses.end_expired(Timestamp::MAX);
        assert_eq!((pauses.reason(), pauses.is_trial()), (Some(PauseReason::Key), false));
    }
}
