//! The ledger: what was dialed, written down before it is dialed.
//!
//! It answers one question that memory cannot: *has this been dialed already?* - by another tool call,
//! another process, another machine, or by a process that died before it could say so. [`Ledger`] is
//! the contract; [`sqlite`] keeps it in a file that several processes share, [`redis`] in a server that
//! several machines share. Both pass one suite of tests.
//!
//! The life of a record: [`Ledger::begin`] writes the intent in one atomic step that also looks for
//! repetitions and enforces the limits. Then exactly one of [`Ledger::placed`],
//! [`Ledger::not_placed`] or [`Ledger::unknown`] says what came of the request, and
//! [`Ledger::finished`] how the call ended. A process that dies in between leaves an intent whose lease
//! runs out; whoever finds it ([`Earlier::Unsettled`], [`Ledger::unsettled`]) takes it over with
//! [`Ledger::take_over`], searches for the call, and settles it.
//!
//! No method reads the clock: every time is an argument, so that tests move it.

mod error;
mod ids;
mod record;
pub mod redis;
pub mod sqlite;

#[cfg(test)]
mod conformance;

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};

pub use self::error::LedgerError;
pub use self::ids::{
    DestinationHash, DispatchId, Fingerprint, IdempotencyKey, NotAKey, Tenant, TenantId,
};
pub use self::record::{
    Begin, Callee, ConfirmedBy, Cursor, Earlier, Filter, Lookup, NewIntent, Record, Standing,
    State, Terms,
};

use crate::dialing::call_outcome::CallEnd;
use crate::dialing::limits::{Limits, Usage};
use callingbox::money::MilliCents;

/// How long an idempotency key is honored.
pub const KEY_LIFETIME: SignedDuration = SignedDuration::from_hours(24);
/// The most records that one answer holds.
pub const MAX_PAGE: u32 = 1_000;
/// The longest reason that is kept, in characters.
pub const MAX_REASON: usize = 300;

/// What every ledger can do. See the module's page for the order of the steps.
///
/// # Errors
/// Every method fails with a [`LedgerError`] when the ledger cannot be read or written. Whoever gets
/// one must not dial.
#[async_trait]
pub trait Ledger: Send + Sync + std::fmt::Debug {
    /// The earlier one that stands in the way, if any. Only looks, so that it may be asked before anybody
    /// has judged.
    ///
    /// In this order: the idempotency key (within [`KEY_LIFETIME`]; a key that named something else
    /// is a conflict), an identical request whose fate is open (of any age, even with
    /// `allow_repeat`), an identical request placed within the window (unless `allow_repeat`).
    ///
    /// An identical request that was certainly not placed stands in nobody's way, even under the same
    /// key.
    async fn look(&self, lookup: Lookup) -> Result<Option<Earlier>, LedgerError>;

    /// Writes the intent, unless an earlier one stands in the way, as [`Ledger::look`] would say, or a
    /// limit. One atomic step among all processes; on [`Begin::Begun`] the intent survives a crash.
    async fn begin(&self, intent: NewIntent, terms: Terms) -> Result<Begin, LedgerError>;

    /// Extends the lease of a dispatch that is alive. `false` means that somebody else has taken it
    /// over or settled it: stop, and do not dial.
    async fn renew(
        &self,
        tenant: &TenantId,
        dispatch: DispatchId,
        generation: u32,
        lease_until: Timestamp,
    ) -> Result<bool, LedgerError>;

    /// Becomes the one who settles a record in [`State::Intent`] or [`State::Unknown`] whose lease has
    /// run out. Of several who try, one gets the record, with its new generation.
    async fn take_over(
        &self,
        tenant: &TenantId,
        dispatch: DispatchId,
        now: Timestamp,
        lease_until: Timestamp,
    ) -> Result<Option<Record>, LedgerError>;

    /// It was dialed (or bought), and this is its id. Answers with the record as it then stands.
    async fn placed(
        &self,
        tenant: &TenantId,
        dispatch: DispatchId,
        id: &str,
    ) -> Result<Record, LedgerError>;

    /// It was certainly not dialed. Answers with the record as it then stands.
    async fn not_placed(
        &self,
        tenant: &TenantId,
        dispatch: DispatchId,
        reason: &str,
    ) -> Result<Record, LedgerError>;

    /// Nobody can say. Ends the lease, so that the next identical request may take it over.
    async fn unknown(
        &self,
        tenant: &TenantId,
        dispatch: DispatchId,
        now: Timestamp,
    ) -> Result<Record, LedgerError>;

    /// The call (or purchase) with this id has ended. May be repeated when more is known: a later
    /// outcome replaces the earlier, a missing cost keeps the known one. `None` when the ledger has
    /// no such call.
    async fn finished(
        &self,
        tenant: &TenantId,
        id: &str,
        end: CallEnd,
    ) -> Result<Option<Record>, LedgerError>;

    /// What has been used, measured against these limits.
    async fn usage(
        &self,
        tenant: &TenantId,
        callee: Option<&DestinationHash>,
        limits: &Limits,
        hold: MilliCents,
        now: Timestamp,
    ) -> Result<Usage, LedgerError>;

    /// Whether this destination was ever called: a call to it was placed.
    async fn known_destination(
        &self,
        tenant: &TenantId,
        callee: &DestinationHash,
    ) -> Result<bool, LedgerError>;

    /// The records in [`State::Intent`] or [`State::Unknown`], oldest first, at most [`MAX_PAGE`].
    async fn unsettled(&self, tenant: &TenantId) -> Result<Vec<Record>, LedgerError>;

    /// One record by its dispatch id.
    async fn find(
        &self,
        tenant: &TenantId,
        dispatch: DispatchId,
    ) -> Result<Option<Record>, LedgerError>;

    /// One record by the id of its call or number.
    async fn find_by_call(
        &self,
        tenant: &TenantId,
        id: &str,
    ) -> Result<Option<Record>, LedgerError>;

    /// Whether it can be read now: looks for one record, which is not there, however many are.
    async fn check(&self) -> Result<(), LedgerError> {
        let nobody = TenantId(String::new());
        self.find(&nobody, DispatchId::new()).await.map(|_| ())
    }

    /// A page of records, newest first.
    async fn list(&self, filter: Filter) -> Result<Vec<Record>, LedgerError>;

    /// Uses a confirmation token up. `true` the first time and before it expires, else `false`.
    async fn redeem_token(
        &self,
        tenant: &TenantId,
        token_id: &str,
        expires_at: Timestamp,
        now: Timestamp,
    ) -> Result<bool, LedgerError>;

    /// A random key, made once per ledger and shared by all who open it.
    async fn secret(&self) -> Result<[u8; 32], LedgerError>;
}

/// A reason as it is kept: one line, bounded.
fn short(reason: &str) -> String {
    reason.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MAX_REASON).collect()
}
