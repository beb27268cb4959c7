//! The toolset `webhooks`: where CallingBox sends the events of all calls. Off unless asked for.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::api::{
    CallId, Change, DeliveryFilter, DeliveryId, DeliveryStatus, EndpointId, EndpointStatus,
    EventSubscription, SigningSecret, WebhookCreate, WebhookDelivery, WebhookEndpoint,
    WebhookUpdate,
};
use crate::mcp::arguments::{HttpsUrl, List, Text, Whole};
use crate::mcp::catalogue::{Kind, Stop, Tool};
use crate::mcp::error::ToolError;
use crate::mcp::gate::ToolContext;
use crate::mcp::present::{self, Reply};
use crate::mcp::toolset::Toolset;

/// One line: id, address, state.
fn endpoint_line(endpoint: &WebhookEndpoint) -> String {
    let events: Vec<String> = endpoint.enabled_events.iter().flatten().map(super::word).collect();
    let reason = endpoint.disabled_reason.as_deref().map(|reason| format!(" ({reason})"));
    format!(
        "webhook_id {}: {} {}{}, events {}",
        endpoint.id,
        endpoint.url.as_deref().unwrap_or("no address"),
        endpoint.status.as_ref().map(super::word).unwrap_or_default(),
        reason.unwrap_or_default(),
        if events.is_empty() { "not said".to_owned() } else { events.join(" ") }
    )
}

/// One line: id, event, state, last error.
fn delivery_line(delivery: &WebhookDelivery) -> String {
    let error = delivery.last_error.as_deref().map(|error| present::one_line(error, 200));
    format!(
        "delivery_id {}: {} {} after {} attempt(s){}",
        delivery.id,
        delivery.event_type.as_deref().unwrap_or("event"),
        delivery.status.as_ref().map(super::word).unwrap_or_default(),
        delivery.attempt_count.unwrap_or_default(),
        error.map(|error| format!(", last error: {error}")).unwrap_or_default()
    )
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NoInput {}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct WebhookInput {
    /// The webhook endpoint.
    webhook_id: EndpointId,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct DeliveryInput {
    /// The delivery.
    delivery_id: DeliveryId,
}

pub(super) struct ListWebhooks;

#[derive(Serialize, JsonSchema)]
pub(super) struct ListWebhooksOutput {
    webhooks: Vec<WebhookEndpoint>,
}

impl Tool for ListWebhooks {
    const NAME: &'static str = "list_webhooks";
    const TITLE: &'static str = "List webhooks";
    const DESCRIPTION: &'static str = "Lists the webhook endpoints that receive the events of all the account's calls, without their secrets. get_webhook returns one.";
    const TOOLSET: Toolset = Toolset::Webhooks;
    const KIND: Kind = Kind::Reads;
    const OPEN_WORLD: bool = false;
    type Input = NoInput;
    type Output = ListWebhooksOutput;

    async fn run(NoInput {}: NoInput, cx: &ToolContext) -> Result<Reply<Self::Output>, Stop> {
        let webhooks = cx.account.api()?.list_webhooks().await?;
        let text = if webhooks.is_empty() {
            cx.offer.fitting("There are no webhook endpoints yet. create_webhook makes one.")
        } else {
            webhooks.iter().map(|endpoint| endpoint_line(endpoint) + "\n").collect()
        };
        Ok(Reply::new(ListWebhooksOutput { webhooks }, text))
    }
}

pub(super) struct GetWebhook;

impl Tool for GetWebhook {
    const NAME: &'static str = "get_webhook";
    const TITLE: &'static str = "Get a webhook";
    const DESCRIPTION: &'static str = "Returns one webhook endpoint: address, events, whether it is enabled and why not, failures in a row. Its secret is shown only by create_webhook and rotate_webhook_secret.";
    const TOOLSET: Toolset = Toolset::Webhooks;
    const KIND: Kind = Kind::Reads;
    const OPEN_WORLD: bool = false;
    type Input = WebhookInput;
    type Output = WebhookEndpoint;

    async fn run(input: Self::Input, cx: &ToolContext) -> Result<Reply<Self::Output>, Stop> {
        let endpoint = cx.account.api()?.get_webhook(&input.webhook_id).await?;
        let text = endpoint_line(&endpoint);
        Ok(Reply::new(endpoint, text))
    }
}

/// An endpoint with the secret that is shown this once.
#[derive(Serialize, JsonSchema)]
pub(super) struct WithSecret {
    webhook_id: EndpointId,
    #[serde(skip_serializing_if = "Option::is_none")]
    url: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    signing_secret: Option<String>,
}

impl WithSecret {
    fn reply(endpoint: WebhookEndpoint, what: &str) -> Reply<Self> {
        let line = endpoint_line(&endpoint);
        let secret = endpoint.signing_secret.as_ref().map(SigningSecret::expose);
        let text = match secret {
            Some(secret) => format!(
                "{what} {line}. Signing secret, shown only now: {secret}. Whoever has it can forge events."
            ),
            None => format!("{what} {line}. CallingBox sent no signing secret with it."),
        };
        let signing_secret = secret.map(str::to_owned);
        Reply::new(Self { webhook_id: endpoint.id, url: endpoint.url, signing_secret }, text)
    }
}

pub(super) struct CreateWebhook;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CreateWebhookInput {
    /// Public https address that receives the events.
    url: HttpsUrl,
    /// Note for people.
    description: Option<Text<1, 500>>,
    /// Events to receive. Default: all.
    enabled_events: Option<List<EventSubscription, 9>>,
}

impl Tool for CreateWebhook {
    const NAME: &'static str = "create_webhook";
    const TITLE: &'static str = "Create a webhook";
    const DESCRIPTION: &'static str = "Registers an address that will receive the events of all the account's calls, with numbers and results in them. Returns its signing secret, which is shown only once. For one call or one agent use their webhook_url instead.";
    const TOOLSET: Toolset = Toolset::Webhooks;
    const KIND: Kind = Kind::Writes { destructive: false, idempotent: false };
    const OPEN_WORLD: bool = true;
    type Input = CreateWebhookInput;
    type Output = WithSecret;

    async fn run(input: Self::Input, cx: &ToolContext) -> Result<Reply<Self::Output>, Stop> {
        let webhook = WebhookCreate {
            url: input.url.into_string(),
            description: input.description.map(Text::into_string),
            enabled_events: input.enabled_events.map(List::into_vec),
        };
        let endpoint = cx.account.api()?.create_webhook(&webhook).await?;
        Ok(WithSecret::reply(endpoint, "Created"))
    }
}

pub(super) struct UpdateWebhook;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct UpdateWebhookInput {
    /// The webhook endpoint.
    webhook_id: EndpointId,
    /// New public https address.
    url: Option<HttpsUrl>,
    /// New note for people; an empty one clears it.
    description: Option<Text<0, 500>>,
    /// New list of events in place of the old one.
    enabled_events: Option<List<EventSubscription, 9>>,
    /// enabled also resets the count of failures.
    status: Option<EndpointStatus>,
}

impl Tool for UpdateWebhook {
    const NAME: &'static str = "update_webhook";
    const TITLE: &'static str = "Change a webhook";
    const DESCRIPTION: &'static str = "Changes a webhook endpoint, or switches it on or off; what is left out keeps its value. Returns the endpoint.";
    const TOOLSET: Toolset = Toolset::Webhooks;
    const KIND: Kind = Kind::Writes { destructive: true, idempotent: true };
    const OPEN_WORLD: bool = true;
    type Input = UpdateWebhookInput;
    type Output = WebhookEndpoint;

    async fn run(input: Self::Input, cx: &ToolContext) -> Result<Reply<Self::Output>, Stop> {
        let UpdateWebhookInput { webhook_id, url, description, enabled_events, status } = input;
        let update = WebhookUpdate {
            url: url.map(HttpsUrl::into_string),
            description: match description.map(Text::into_string) {
                None => Change::Keep,
                Some(text) if text.is_empty() => Change::Clear,
                Some(text) => Change::Set(text),
            },
            enabled_events: enabled_events.map(List::into_vec),
            status,
        };
        if update == WebhookUpdate::default() {
            return Err(ToolError::invalid_argument(
                "there is nothing to change: give at least one field besides `webhook_id`",
            )
            .into());
        }
        let endpoint = cx.account.api()?.update_webhook(&webhook_id, &update).await?;
        let text = format!("Changed {}", endpoint_line(&endpoint));
        Ok(Reply::new(endpoint, text))
    }
}

pub(super) struct DeleteWebhook;

#[derive(Serialize, JsonSchema)]
pub(super) struct DeleteWebhookOutput {
    webhook_id: EndpointId,
    deleted: bool,
}

impl Tool for DeleteWebhook {
    const NAME: &'static str = "delete_webhook";
    const TITLE: &'static str = "Delete a webhook";
    const DESCRIPTION: &'static str = "Deletes a webhook endpoint for good; it receives no more events. To pause it use update_webhook with status disabled.";
    const TOOLSET: Toolset = Toolset::Webhooks;
    const KIND: Kind = Kind::Writes { destructive: true, idempotent: true };
    const OPEN_WORLD: bool = false;
    type Input = WebhookInput;
    type Output = DeleteWebhookOutput;

    async fn run(input: Self::Input, cx: &ToolContext) -> Result<Reply<Self::Output>, Stop> {
        cx.account.api()?.delete_webhook(&input.webhook_id).await?;
        let text = format!("Deleted webhook {}.", input.webhook_id);
        Ok(Reply::new(DeleteWebhookOutput { webhook_id: input.webhook_id, deleted: true }, text))
    }
}

pub(super) struct RotateWebhookSecret;

impl Tool for RotateWebhookSecret {
    const NAME: &'static str = "rotate_webhook_secret";
    const TITLE: &'static str = "Rotate a webhook's secret";
    const DESCRIPTION: &'static str = "Replaces the signing secret of a webhook endpoint. The old one stops at once, so its receiver refuses events until it has the new one. Returns the new secret, shown only once.";
    const TOOLSET: Toolset = Toolset::Webhooks;
    const KIND: Kind = Kind::Writes { destructive: true, idempotent: false };
    const OPEN_WORLD: bool = false;
    type Input = WebhookInput;
    type Output = WithSecret;

    async fn run(input: Self::Input, cx: &ToolContext) -> Result<Reply<Self::Output>, Stop> {
        let endpoint = cx.account.api()?.rotate_webhook_secret(&input.webhook_id).await?;
        Ok(WithSecret::reply(endpoint, "Rotated the secret of"))
    }
}

pub(super) struct ListWebhookDeliveries;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ListWebhookDeliveriesInput {
    /// Only to this endpoint.
    webhook_id: Option<EndpointId>,
    /// Only about this call.
    call_id: Option<CallId>,
    /// Only in this state; exhausted ones failed for good.
    status: Option<DeliveryStatus>,
    /// How many. Default: 50.
    limit: Option<Whole<1, 200>>,
}

#[derive(Serialize, JsonSchema)]
pub(super) struct ListWebhookDeliveriesOutput {
    deliveries: Vec<WebhookDelivery>,
}

impl Tool for ListWebhookDeliveries {
    const NAME: &'static str = "list_webhook_deliveries";
    const TITLE: &'static str = "List webhook deliveries";
    const DESCRIPTION: &'static str = "Lists attempts to deliver call events, newest first, with their errors. Use it to find out why a receiver missed an event; redeliver_webhook sends one again.";
    const TOOLSET: Toolset = Toolset::Webhooks;
    const KIND: Kind = Kind::Reads;
    const OPEN_WORLD: bool = false;
    type Input = ListWebhookDeliveriesInput;
    type Output = ListWebhookDeliveriesOutput;

    async fn run(input: Self::Input, cx: &ToolContext) -> Result<Reply<Self::Output>, Stop> {
        let ListWebhookDeliveriesInput { webhook_id, call_id, status, limit } = input;
        let filter = DeliveryFilter {
            endpoint_id: webhook_id,
            call_id,
            status,
            limit: limit.map(|limit| u8::try_from(limit.get()).unwrap_or(200)),
        };
        let deliveries = cx.account.api()?.list_webhook_deliveries(&filter).await?;
        let text = if deliveries.is_empty() {
            "No delivery fits. Deliveries are made only for calls with a webhook_url or while a webhook endpoint is enabled.".to_owned()
        } else {
            deliveries.iter().map(|delivery| delivery_line(delivery) + "\n").collect()
        };
        Ok(Reply::new(ListWebhookDeliveriesOutput { deliveries }, text))
    }
}

pub(super) struct GetWebhookDelivery;

impl Tool for GetWebhookDelivery {
    const NAME: &'static str = "get_webhook_delivery";
    const TITLE: &'static str = "Get a webhook delivery";
    const DESCRIPTION: &'static str = "Returns one delivery: event, address, attempts, last error, when the next attempt is due. list_webhook_deliveries finds ids.";
    const TOOLSET: Toolset = Toolset::Webhooks;
    const KIND: Kind = Kind::Reads;
    const OPEN_WORLD: bool = false;
    type Input = DeliveryInput;
    type Output = WebhookDelivery;

    async fn run(input: Self::Input, cx: &ToolContext) -> Result<Reply<Self::Output>, Stop> {
        let delivery = cx.account.api()?.get_webhook_delivery(&input.delivery_id).await?;
        let text = delivery_line(&delivery);
        Ok(Reply::new(delivery, text))
    }
}

pub(super) struct RedeliverWebhook;

impl Tool for RedeliverWebhook {
    const NAME: &'static str = "redeliver_webhook";
    const TITLE: &'static str = "Deliver a webhook again";
    const DESCRIPTION: &'static str = "Sends one delivery again to its receiver, under the same event id. Use it after the receiver was mended. Returns the delivery.";
    const TOOLSET: Toolset = Toolset::Webhooks;
    const KIND: Kind = Kind::Writes { destructive: false, idempotent: false };
    const OPEN_WORLD: bool = true;
    type Input = DeliveryInput;
    type Output = WebhookDelivery;

    async fn run(input: Self::Input, cx: &ToolContext) -> Result<Reply<Self::Output>, Stop> {
        let delivery = cx.account.api()?.redeliver_webhook(&input.delivery_id).await?;
        let text = format!("Sent again: {}", delivery_line(&delivery));
        Ok(Reply::new(delivery, text))
    }
}
