//! Numbers whose people asked not to be called again: the entries of one number, and what becomes of a new one. Knows no
//! storage. A ledger reads the entries of the number, asks here, and writes the result in the same atomic step.

use std::fmt;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::ids::{AccountId, AccountRef, DestinationHash};
use super::record::truncate_to_millis;
use super::truncate_reason;
use crate::dialing::caller::CallerName;
use callingbox::E164;

/// How many opt-outs the tools may record in 24 hours.
pub const MAX_TOOL_OPT_OUTS: u32 = 50;
/// The window of [`MAX_TOOL_OPT_OUTS`].
const TOOL_WINDOW: SignedDuration = SignedDuration::from_hours(24);

/// How an opt-out became known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OptOutSource {
    /// The result of a call.
    Call,
    /// A tool, which a model called.
    Tool,
    /// A person at the terminal.
    Terminal,
    /// A file.
    Import,
}

impl fmt::Display for OptOutSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}

/// When and why a person removed an opt-out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OptOutRemoval {
    pub removed_at: Timestamp,
    pub reason: String,
}

impl OptOutRemoval {
    pub(super) fn new(now: Timestamp, reason: &str) -> Self {
        Self { removed_at: truncate_to_millis(now), reason: truncate_reason(reason) }
    }

    /// Removes the entries that are in force. Returns how many there were.
    pub(super) fn apply(&self, entries: &mut [OptOut]) -> usize {
        let in_force = entries.iter_mut().filter(|entry| entry.is_in_force(self.removed_at));
        in_force.map(|entry| entry.removal = Some(self.clone())).count()
    }
}

/// One entry: a number that is not called.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OptOut {
    pub account_id: AccountId,
    /// The whole number: the list must also work in another program.
    pub number: E164,
    /// The hash by which calls to the number are counted.
    pub callee: DestinationHash,
    /// By the dialing clock, to the millisecond.
    pub recorded_at: Timestamp,
    pub source: OptOutSource,
    /// The call in which it was said.
    pub remote_id: Option<String>,
    /// Who recorded it.
    pub caller: CallerName,
    pub reason: String,
    /// When the number may be called again; `None`: never.
    pub expires_at: Option<Timestamp>,
    pub removal: Option<OptOutRemoval>,
}

impl OptOut {
    /// An opt-out for good.
    #[must_use]
    pub fn new(
        account: &AccountRef,
        number: E164,
        source: OptOutSource,
        caller: CallerName,
        reason: &str,
        now: Timestamp,
    ) -> Self {
        Self {
            account_id: account.id().clone(),
            callee: account.hash(&number),
            number,
            recorded_at: truncate_to_millis(now),
            source,
            remote_id: None,
            caller,
            reason: truncate_reason(reason),
            expires_at: None,
            removal: None,
        }
    }

    /// Whether the number must not be called at this time of the dialing clock.
    #[must_use]
    pub fn is_in_force(&self, now: Timestamp) -> bool {
        self.holds_until().is_some_and(|until| until > now)
    }

    /// Until when the number must not be called; `None` if the entry was removed.
    pub(super) fn holds_until(&self) -> Option<Timestamp> {
        self.removal.is_none().then(|| self.expires_at.unwrap_or(Timestamp::MAX))
    }
}

/// The result of [`super::OptOutLedger::record_opt_out`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RecordOptOutResult {
    Recorded(OptOut),
    /// The number was on the list already, at least as long.
    Known(OptOut),
    /// This call was recorded before, and a person has removed the entry since.
    Removed(OptOut),
    /// The tools recorded [`MAX_TOOL_OPT_OUTS`] within 24 hours.
    LimitReached,
}

/// What becomes of a new entry beside those that its number has, oldest first. `None`: it is to be written.
pub(super) fn find_known(entries: &[OptOut], new: &OptOut) -> Option<RecordOptOutResult> {
    let is_same_call = |entry: &&OptOut| {
        new.source == OptOutSource::Call
            && entry.source == OptOutSource::Call
            && entry.remote_id == new.remote_id
    };
    let lasts = |entry: &&OptOut| entry.holds_until() >= new.holds_until();
    if let Some(entry) = entries.iter().rev().find(lasts) {
        return Some(RecordOptOutResult::Known(entry.clone()));
    }
    // The result of a call is read many times. What a person has removed since stays removed.
    let earlier = entries.iter().rev().find(is_same_call)?;
    Some(match earlier.removal {
        Some(_) => RecordOptOutResult::Removed(earlier.clone()),
        None => RecordOptOutResult::Known(earlier.clone()),
    })
}

/// The instant of a new entry: later than those that the number has.
pub(super) fn next_instant(entries: &[OptOut], at: Timestamp) -> Timestamp {
    let latest = entries.iter().map(|entry| entry.recorded_at).max();
    let next = latest.and_then(|latest| latest.checked_add(SignedDuration::from_millis(1)).ok());
    next.map_or(at, |next| next.max(at))
}

/// Since when the opt-outs of tools count.
pub(super) fn tool_window_start(now: Timestamp) -> i64 {
    now.checked_sub(TOOL_WINDOW).unwrap_or(Timestamp::MIN).as_millisecond()
}
