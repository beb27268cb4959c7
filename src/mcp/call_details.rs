//! What a report on a call says beyond the call's record: its agent, the time, and words from the transcript. What
//! cannot be read is left out, because the record alone is an answer too.

use std::sync::Arc;

use jiff::Timestamp;

use crate::account::Account;
use crate::dialing::call_outcome::CallOutcome;
use crate::dialing::ledger::OptOut;
use crate::dialing::opt_outs::asks_not_to_be_called;
use crate::mcp::registry::available::AvailableTools;
use crate::mcp::registry::surface::DataSurface;
use callingbox::{Agent, Call, CallStatus, TranscriptSegment};

/// What a report on a call says beyond the call's record.
#[derive(Debug, Clone, Default)]
pub struct CallDetails {
    pub agent: Option<Arc<Agent>>,
    /// The account's present time, for a call that has not ended.
    pub now: Option<Timestamp>,
    /// The transcript of a conversation that goes on, or of a call that a machine answered.
    pub lines: Option<Vec<TranscriptSegment>>,
    /// The entry of the do-not-call list, if the result of the call asks for one.
    pub opt_out: Option<OptOutEntry>,
}

/// What became of a wish not to be called again.
#[derive(Debug, Clone)]
pub enum OptOutEntry {
    /// The number is on the list.
    Listed(Box<OptOut>),
    /// A person has corrected the list since.
    Corrected,
    /// The list cannot be read, or the number is not on it.
    Missing,
}

impl CallDetails {
    /// Reads what this caller may see.
    pub async fn load(account: &Account, tools: &AvailableTools, call: &Call) -> Self {
        let is_running = CallOutcome::from_call(call) == CallOutcome::InProgress;
        let now = async { if is_running { Some(account.now().await) } else { None } };
        let lines = async {
            let has_lines = call.status == CallStatus::InProgress
                || asks_not_to_be_called(call)
                || CallOutcome::from_call(call) == CallOutcome::Voicemail;
            let api = account.api().ok()?;
            if !has_lines || !DataSurface::Transcript.is_visible(tools) {
                return None;
            }
            Some(api.get_transcript(&call.id).await.ok()?.segments)
        };
        let (agent, now, lines, opt_out) =
            tokio::join!(find_agent(account, tools, call), now, lines, find_opt_out(account, call));
        Self { agent, now, lines, opt_out }
    }
}

async fn find_opt_out(account: &Account, call: &Call) -> Option<OptOutEntry> {
    if !asks_not_to_be_called(call) {
        return None;
    }
    let found = account.dialer().ok()?.find_opt_out_of_call(call).await;
    Some(match found {
        Ok(Some(entry)) if entry.removal.is_some() => OptOutEntry::Corrected,
        Ok(Some(entry)) => OptOutEntry::Listed(Box::new(entry)),
        Ok(None) | Err(_) => OptOutEntry::Missing,
    })
}

/// The agent of a call, if this caller may see agents.
pub(crate) async fn find_agent(
    account: &Account,
    tools: &AvailableTools,
    call: &Call,
) -> Option<Arc<Agent>> {
    let id = call.agent_id.as_ref().filter(|_| DataSurface::Agents.is_visible(tools))?;
    account.find_agent(id).await
}
