//! The tools, one folder for each toolset.

pub(super) mod agents;
mod calls;
pub(super) mod numbers;
mod ordering;
mod sandbox;
mod shared;
mod webhooks;

use crate::mcp::tool::ToolEntry;

/// All tools, in the order in which they are listed.
pub(super) fn all() -> Vec<ToolEntry> {
    vec![
        ToolEntry::of::<calls::PlaceCall>(),
        ToolEntry::of::<calls::GetCallResult>(),
        ToolEntry::of::<calls::GetCallTranscript>(),
        ToolEntry::of::<calls::ListCalls>(),
        ToolEntry::of::<agents::ListAgents>(),
        ToolEntry::of::<agents::GetAgent>(),
        ToolEntry::of::<agents::CreateAgent>(),
        ToolEntry::of::<agents::UpdateAgent>(),
        ToolEntry::of::<agents::SetAgentNumbers>(),
        ToolEntry::of::<agents::ArchiveAgent>(),
        ToolEntry::of::<numbers::ListNumbers>(),
        ToolEntry::of::<numbers::SearchNumbers>(),
        ToolEntry::of::<numbers::PurchaseNumber>(),
        ToolEntry::of::<webhooks::ListWebhooks>(),
        ToolEntry::of::<webhooks::GetWebhook>(),
        ToolEntry::of::<webhooks::CreateWebhook>(),
        ToolEntry::of::<webhooks::UpdateWebhook>(),
        ToolEntry::of::<webhooks::DeleteWebhook>(),
        ToolEntry::of::<webhooks::RotateWebhookSecret>(),
        ToolEntry::of::<webhooks::ListWebhookDeliveries>(),
        ToolEntry::of::<webhooks::GetWebhookDelivery>(),
        ToolEntry::of::<webhooks::RedeliverWebhook>(),
        ToolEntry::of::<sandbox::SimulateInboundCall>(),
    ]
}
