//! The toolset `webhooks`. Off unless asked for.

mod deliveries;
mod endpoints;

pub(super) use deliveries::{GetWebhookDelivery, ListWebhookDeliveries, RedeliverWebhook};
pub(super) use endpoints::{
    CreateWebhook, DeleteWebhook, GetWebhook, ListWebhooks, RotateWebhookSecret, UpdateWebhook,
};

use crate::mcp::reply::answer::Reply;
use crate::mcp::reply::text;

/// A webhook endpoint or a delivery, as a tool returns it.
trait WebhookRecord: Sized {
    /// The record in a list.
    fn summary_line(&self) -> String;

    /// What a tool that returns this record alone adds to the line.
    fn fields(&self) -> Vec<(&'static str, Option<String>)>;

    fn is_simulated(&self) -> bool;

    /// This as a reply, after a description of the change.
    fn into_reply(self, done: &str) -> Reply<Self> {
        let mut text = format!("{done}{}", self.summary_line());
        for (name, value) in self.fields() {
            if let Some(value) = value {
                text.push_str(&format!("\n{name}: {}", text::one_line(&value, 2_048)));
            }
        }
        let simulated = self.is_simulated();
        Reply::new(self, text).with_simulated(simulated)
    }
}
