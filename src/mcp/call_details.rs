//! What a report on a call says beyond the call's record: its agent, the time, and words from the transcript. What
//! cannot be read is left out, because the record alone is an answer too.

use std::sync::Arc;

use jiff::Timestamp;

use crate::account::Account;
use crate::dialing::call_outcome::CallOutcome;
use crate::dialing::disclosure::SpokenDisclosure;
use crate::dialing::ledger::OptOut;
use crate::dialing::opt_outs::asks_not_to_be_called;
use crate::mcp::registry::available::AvailableTools;
use crate::mcp::registry::surface::DataSurface;
use callingbox::{Agent, Call, CallDirection, CallStatus, TranscriptSegment};

/// The role of the agent in a transcript.
const AGENT: &str = "agent";

/// What a report on a call says beyond the call's record.
#[derive(Debug, Clone, Default)]
pub struct CallDetails {
    pub agent: Option<Arc<Agent>>,
    /// The account's present time, for a call that has not ended.
    pub now: Option<Timestamp>,
    /// The transcript of a conversation that goes on, of a call that a machine answered, or of one on which something must be
    /// found.
    pub lines: Option<Vec<TranscriptSegment>>,
    /// The entry of the do-not-call list, if the result of the call asks for one.
    pub opt_out: Option<OptOutEntry>,
    /// Whether the agent said that it is an AI, if the configuration demands it.
    pub disclosure: Option<SpokenDisclosure>,
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
        let outcome = CallOutcome::from_call(call);
        let is_running = outcome == CallOutcome::InProgress;
        let must_disclose = must_disclose(account, call, outcome);
        let now = async { if is_running { account.now().await } else { None } };
        let lines = async {
            let has_lines = call.status == CallStatus::InProgress
                || must_disclose
                || asks_not_to_be_called(call)
                || outcome == CallOutcome::Voicemail;
            let api = account.api().ok()?;
            if !has_lines || !DataSurface::Transcript.is_visible(tools) {
                return None;
            }
            Some(api.get_transcript(&call.id).await.ok()?.segments)
        };
        let (agent, now, lines, opt_out) =
            tokio::join!(find_agent(account, tools, call), now, lines, find_opt_out(account, call));
        let disclosure = must_disclose.then(|| {
            let lines = lines.iter().flatten();
            let of_agent = lines.filter(|line| line.role.as_deref() == Some(AGENT));
            SpokenDisclosure::from_agent_lines(of_agent.map(|line| line.text.as_str()))
        });
        Self { agent, now, lines, opt_out, disclosure }
    }
}

/// Whether the agent of a call that was answered had to say that it is an AI, by the present configuration.
fn must_disclose(account: &Account, call: &Call, outcome: CallOutcome) -> bool {
    let is_binding = || account.dialer().is_ok_and(|dialer| dialer.rules().disclosure.is_binding());
    call.direction == Some(CallDirection::Outbound)
        && matches!(outcome, CallOutcome::Completed | CallOutcome::Voicemail)
        && is_binding()
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
