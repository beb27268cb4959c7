//! The toolset `webhooks`. Off unless asked for.

mod deliveries;
mod endpoints;

pub(super) use deliveries::{GetWebhookDelivery, ListWebhookDeliveries, RedeliverWebhook};
pub(super) use endpoints::{
    CreateWebhook, DeleteWebhook, GetWebhook, ListWebhooks, RotateWebhookSecret, UpdateWebhook,
};

use crate::mcp::reply::text;

/// A line, and the fields that are known below it.
fn append_fields<const N: usize>(line: String, fields: [(&str, Option<String>); N]) -> String {
    fields.into_iter().fold(line, |text, (name, value)| match value {
        Some(value) => format!("{text}\n{name}: {}", text::one_line(&value, 2_048)),
        None => text,
    })
}
