//! The tools, one folder for each toolset.

pub(super) mod agents;
mod calls;
pub(super) mod numbers;
mod ordering;
mod sandbox;
mod shared;
mod webhooks;

use crate::mcp::tool::Entry;

/// All tools, in the order in which they are listed.
pub(super) fn all() -> Vec<Entry> {
    vec![
        Entry::of::<calls::PlaceCall>(),
        Entry::of::<calls::GetCallResult>(),
        Entry::of::<calls::GetCallTranscript>(),
        Entry::of::<calls::ListCalls>(),
        Entry::of::<agents::ListAgents>(),
        Entry::of::<agents::GetAgent>(),
        Entry::of::<agents::CreateAgent>(),
        Entry::of::<agents::UpdateAgent>(),
        Entry::of::<agents::SetAgentNumbers>(),
        Entry::of::<agents::ArchiveAgent>(),
        Entry::of::<numbers::ListNumbers>(),
        Entry::of::<numbers::SearchNumbers>(),
        Entry::of::<numbers::PurchaseNumber>(),
        Entry::of::<webhooks::ListWebhooks>(),
        Entry::of::<webhooks::GetWebhook>(),
        Entry::of::<webhooks::CreateWebhook>(),
        Entry::of::<webhooks::UpdateWebhook>(),
        Entry::of::<webhooks::DeleteWebhook>(),
        Entry::of::<webhooks::RotateWebhookSecret>(),
        Entry::of::<webhooks::ListWebhookDeliveries>(),
        Entry::of::<webhooks::GetWebhookDelivery>(),
        Entry::of::<webhooks::RedeliverWebhook>(),
        Entry::of::<sandbox::SimulateInboundCall>(),
    ]
}
