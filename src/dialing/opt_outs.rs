//! People who asked not to be called again: reads it in the results of calls, keeps their numbers in the ledger, and refuses
//! to call them. The checks that count are in the atomic steps of the ledger; those here answer before a person is asked.

use std::sync::atomic::Ordering;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;

use super::call_outcome::CallEnd;
use super::caller::CallerName;
use super::destination::canonical_form;
use super::dialer::Dialer;
use super::ledger::{
    AccountRef, Callee, DestinationHash, Ledger, LedgerError, OptOut, OptOutSource,
    RecordOptOutResult,
};
use super::organization::UnknownAccount;
use super::outcome::DialError;
use super::policy::{PolicyRefusal, format_utc, refuse_opted_out};
use callingbox::{Call, CallDirection, CallId, E164, Error, ErrorKind, ResultStatus};

/// The result field of an agent that says whether the person asked not to be called again.
pub const RESULT_FIELD: &str = "do_not_call";
/// How long the reader of a call waits for the ledger to record the call's end.
const RECORD_TIMEOUT: Duration = Duration::from_secs(1);
/// How many results of earlier calls are read before a number is dialed.
const MAX_READ_BEFORE_DIALING: u32 = 5;
/// Why a row of a batch is refused.
pub const OPTED_OUT: &str = "the person asked not to be called again";
/// What is recorded as the reason of an opt-out that a result names.
const RESULT_REASON: &str = "asked on the call not to be called again";

/// Whether the result of a call says that the person asked not to be called again. Only JSON `true` counts.
#[must_use]
pub fn asks_not_to_be_called(call: &Call) -> bool {
    let result = call.result.as_ref().and_then(Value::as_object);
    call.result_status != Some(ResultStatus::Failed)
        && result.and_then(|result| result.get(RESULT_FIELD)) == Some(&Value::Bool(true))
}

/// The number of the person on the other side of a call.
#[must_use]
pub fn other_party(call: &Call) -> Option<&E164> {
    match call.direction {
        Some(CallDirection::Inbound) => call.from_number.as_ref(),
        _ => call.to_number.as_ref(),
    }
}

/// The refusal of a call to a number of the do-not-call list.
#[must_use]
pub fn refuse_call(entry: &OptOut) -> PolicyRefusal {
    let origin = match (entry.source, &entry.remote_id) {
        (OptOutSource::Call, Some(call)) => format!("on the call {call}"),
        (OptOutSource::Tool, Some(call)) => format!("on the call {call}, as a client recorded"),
        (OptOutSource::Call | OptOutSource::Tool, None) => "as a client recorded".to_owned(),
        (OptOutSource::Terminal, _) => "as a person recorded at the terminal".to_owned(),
        (OptOutSource::Import, _) => "as an imported list says".to_owned(),
    };
    let reason = format!(
        "this number is on the do-not-call list since {}: the person asked not to be called again, {origin}",
        format_utc(entry.recorded_at)
    );
    refuse_opted_out(reason, entry.expires_at)
}

/// A request to record an opt-out.
#[derive(Debug)]
pub struct OptOutRequest {
    pub number: E164,
    pub source: OptOutSource,
    /// The call in which it was said.
    pub call: Option<CallId>,
    pub caller: CallerName,
    pub reason: String,
    /// `None`: for good.
    pub expires_at: Option<Timestamp>,
}

/// Whether a failed read may succeed a moment later. An answer that cannot be understood may remain so.
fn is_passing(error: &Error) -> bool {
    error.is_transient() && !matches!(error.kind(), ErrorKind::Unreadable { .. })
}

impl Dialer {
    /// Puts a number on the do-not-call list of the organization.
    ///
    /// # Errors
    /// The organization is not known, or the ledger cannot be written.
    pub async fn record_opt_out(
        &self,
        request: OptOutRequest,
    ) -> Result<RecordOptOutResult, UnknownAccount> {
        let account = self.account().await?;
        let ledger = self.ledger().await?.as_ref();
        Ok(self.write_opt_out(ledger, &account, request).await?)
    }

    async fn write_opt_out(
        &self,
        ledger: &dyn Ledger,
        account: &AccountRef,
        request: OptOutRequest,
    ) -> Result<RecordOptOutResult, LedgerError> {
        let OptOutRequest { number, source, call, caller, reason, expires_at } = request;
        let now = self.now().await?.dialing;
        // Calls are dialed by the one form that a telephone's number has.
        let number = canonical_form(&number);
        let mut entry = OptOut::new(account, number, source, caller, &reason, now);
        entry.remote_id = call.map(|call| call.as_str().to_owned());
        entry.expires_at = expires_at;
        let result = ledger.record_opt_out(entry).await?;
        if let RecordOptOutResult::Recorded(entry) = &result {
            self.opt_out_version.fetch_add(1, Ordering::Relaxed);
            let (number, source) = (entry.number.masked(), entry.source);
            tracing::info!(%number, %source, "a number was put on the do-not-call list");
        }
        Ok(result)
    }

    /// How many opt-outs this process has recorded.
    #[must_use]
    pub fn opt_out_version(&self) -> u64 {
        self.opt_out_version.load(Ordering::Relaxed)
    }

    /// Records the end of a call that the ledger knows, and of any call what its result says of calling again. A failure is
    /// only logged: the next reader of the call tries again.
    pub async fn record_call_end(&self, call: &Call) {
        let Some(end) = CallEnd::from_call(call) else { return };
        if self.recorded_outcomes.contains(&call.id, end) {
            return;
        }
        // A key without an account has placed no call, so that nothing but an opt-out is lost.
        if self.is_account_missing() && !asks_not_to_be_called(call) {
            return;
        }
        let record = async {
            let account = self.account().await?;
            let ledger = self.ledger().await?.as_ref();
            self.record_result(ledger, &account, call, end).await?;
            Ok::<(), UnknownAccount>(())
        };
        match tokio::time::timeout(RECORD_TIMEOUT, record).await {
            Ok(Ok(())) => self.recorded_outcomes.insert(call.id.clone(), end),
            Ok(Err(error)) => {
                tracing::warn!(%error, "could not record the end of a call in the ledger")
            }
            Err(_) => tracing::warn!("recording the end of a call in the ledger timed out"),
        }
    }

    /// Records the end of a call that the ledger knows, and first what its result says of calling again.
    pub(super) async fn record_result(
        &self,
        ledger: &dyn Ledger,
        account: &AccountRef,
        call: &Call,
        end: CallEnd,
    ) -> Result<(), LedgerError> {
        if asks_not_to_be_called(call) {
            self.record_opt_out_of_result(ledger, account, call).await?;
        }
        ledger.record_end(account.id(), call.id.as_str(), end).await?;
        Ok(())
    }

    async fn record_opt_out_of_result(
        &self,
        ledger: &dyn Ledger,
        account: &AccountRef,
        call: &Call,
    ) -> Result<(), LedgerError> {
        let Some(number) = other_party(call) else {
            tracing::warn!(call_id = %call.id, "a caller without a number asked not to be called again");
            return Ok(());
        };
        let record = ledger.find_by_remote_id(account.id(), call.id.as_str()).await?;
        let request = OptOutRequest {
            number: number.clone(),
            source: OptOutSource::Call,
            call: Some(call.id.clone()),
            caller: record.map_or_else(CallerName::anonymous, |record| record.caller),
            reason: RESULT_REASON.to_owned(),
            expires_at: None,
        };
        self.write_opt_out(ledger, account, request).await?;
        Ok(())
    }

    /// The entry of the do-not-call list for this call: the one that its result recorded, else one that is in force.
    ///
    /// # Errors
    /// The organization is not known, or the ledger cannot be read.
    pub async fn find_opt_out_of_call(
        &self,
        call: &Call,
    ) -> Result<Option<OptOut>, UnknownAccount> {
        let Some(number) = other_party(call) else { return Ok(None) };
        let account = self.account().await?;
        let ledger = self.ledger().await?;
        let callee = account.hash(&canonical_form(number));
        let entries = ledger.list_opt_outs_of(account.id(), &callee).await?;
        let now = self.now().await?.dialing;
        let is_of_call = |entry: &&OptOut| entry.remote_id.as_deref() == Some(call.id.as_str());
        let listed = entries.iter().rev().find(|entry| entry.is_in_force(now));
        Ok(listed.or_else(|| entries.iter().rev().find(is_of_call)).cloned())
    }

    /// The refusal of a call to a number of the do-not-call list; `None` if the number is not on it. The unread
    /// results of earlier calls to the number are read first.
    pub(super) async fn check_opt_out(
        &self,
        ledger: &dyn Ledger,
        account: &AccountRef,
        callee: Option<&Callee>,
    ) -> Result<Option<PolicyRefusal>, DialError> {
        let Some(callee) = callee else { return Ok(None) };
        self.read_earlier_results(ledger, account, &callee.hash).await?;
        let now = self.now().await?.dialing;
        let entry = ledger.find_opt_out(account.id(), &callee.hash, now).await?;
        Ok(entry.as_ref().map(refuse_call))
    }

    /// The refusal of a call that the ledger did not begin, or withheld, because of the do-not-call list.
    pub(super) async fn opt_out_refusal(
        &self,
        ledger: &dyn Ledger,
        account: &AccountRef,
        callee: Option<&Callee>,
    ) -> Result<PolicyRefusal, LedgerError> {
        let now = self.now().await?.dialing;
        let entry = match callee {
            Some(callee) => ledger.find_opt_out(account.id(), &callee.hash, now).await?,
            None => None,
        };
        // Without an entry, it was corrected a moment ago.
        let refuse =
            || refuse_opted_out("this number was on the do-not-call list".to_owned(), None);
        Ok(entry.as_ref().map_or_else(refuse, refuse_call))
    }

    /// Reads the results, not read so far, of the newest calls to a number.
    async fn read_earlier_results(
        &self,
        ledger: &dyn Ledger,
        account: &AccountRef,
        callee: &DestinationHash,
    ) -> Result<(), DialError> {
        let unread =
            ledger.list_unread_calls(account.id(), callee, MAX_READ_BEFORE_DIALING).await?;
        for id in unread.iter().filter_map(|record| record.state.id()) {
            match self.api.get_call(&CallId::new(id)).await {
                Ok(call) => {
                    if let Some(end) = CallEnd::from_call(&call) {
                        self.record_result(ledger, account, &call, end).await?;
                    }
                }
                // Nothing was dialed, and what the person said can be read a moment later.
                Err(error) if is_passing(&error) => return Err(DialError::NotPlaced(error)),
                Err(error) => {
                    tracing::warn!(call_id = id, %error, "the result of an earlier call to a number cannot be read");
                }
            }
        }
        Ok(())
    }
}
