//! The tools, one folder for each toolset.

mod account;
pub(super) mod agents;
pub(super) mod calls;
mod card;
pub(super) mod numbers;
mod ordering;
mod sandbox;
mod shared;
mod webhooks;

use crate::mcp::tool::ToolEntry;

/// All tools, in the order in which they are listed.
pub(super) fn all() -> Vec<ToolEntry> {
    vec![
        ToolEntry::new::<calls::PlaceCall>(),
        ToolEntry::new::<calls::GetCallResult>(),
        ToolEntry::new::<calls::GetCallTranscript>(),
        ToolEntry::new::<calls::ListCalls>(),
        ToolEntry::new::<calls::PlaceCalls>(),
        ToolEntry::new::<calls::GetBatch>(),
        ToolEntry::new::<calls::CancelBatch>(),
        ToolEntry::new::<calls::RecordOptOut>(),
        ToolEntry::new::<card::FollowCall>(),
        ToolEntry::new::<card::ConfirmCall>(),
        ToolEntry::new::<account::GetAccount>(),
        ToolEntry::new::<agents::ListAgents>(),
        ToolEntry::new::<agents::GetAgent>(),
        ToolEntry::new::<agents::CreateAgent>(),
        ToolEntry::new::<agents::UpdateAgent>(),
        ToolEntry::new::<agents::SetAgentNumbers>(),
        ToolEntry::new::<agents::ArchiveAgent>(),
        ToolEntry::new::<numbers::ListNumbers>(),
        ToolEntry::new::<numbers::SearchNumbers>(),
        ToolEntry::new::<numbers::PurchaseNumber>(),
        ToolEntry::new::<webhooks::ListWebhooks>(),
        ToolEntry::new::<webhooks::GetWebhook>(),
        ToolEntry::new::<webhooks::CreateWebhook>(),
        ToolEntry::new::<webhooks::UpdateWebhook>(),
        ToolEntry::new::<webhooks::DeleteWebhook>(),
        ToolEntry::new::<webhooks::RotateWebhookSecret>(),
        ToolEntry::new::<webhooks::ListWebhookDeliveries>(),
        ToolEntry::new::<webhooks::GetWebhookDelivery>(),
        ToolEntry::new::<webhooks::RedeliverWebhook>(),
        ToolEntry::new::<sandbox::SimulateInboundCall>(),
    ]
}
