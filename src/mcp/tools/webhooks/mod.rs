//! The toolset `webhooks`: where CallingBox sends the events of all calls. Off unless asked for.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::account::Environment;
use crate::mcp::input::arguments::{BoundedInteger, HttpsUrl, List, Text};
use crate::mcp::registry::description::Sentence::{self, Always, With};
use crate::mcp::registry::effect::ToolEffect;
use crate::mcp::registry::name::ToolName;
use crate::mcp::reply::answer::Reply;
use crate::mcp::reply::error::ToolError;
use crate::mcp::reply::next_step::{NextStep, with_steps};
use crate::mcp::reply::text::{self};
use crate::mcp::request::context::ToolContext;
use crate::mcp::tool::{Tool, ToolExit};
use crate::toolset::Toolset;
use callingbox::{
    CallId, Change, DeliveryFilter, DeliveryId, DeliveryStatus, EndpointId, EndpointStatus,
    EventSubscription, SigningSecret, Timestamp, WebhookCreate, WebhookDelivery, WebhookEndpoint,
    WebhookUpdate,
};

/// A webhook endpoint, under the names that the tools take.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(inline)]
pub(super) struct WebhookReport {
    webhook_id: EndpointId,
    #[serde(skip_serializing_if = "Option::is_none")]
    url: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    enabled_events: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    disabled_reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    disabled_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    consecutive_failures: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    created_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    updated_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    simulated: bool,
}

impl From<WebhookEndpoint> for WebhookReport {
    fn from(endpoint: WebhookEndpoint) -> Self {
        let words = |events: Vec<_>| events.iter().map(super::shared::wire_word).collect();
        Self {
            simulated: text::is_simulated(&endpoint.extra),
            webhook_id: endpoint.id,
            url: endpoint.url,
            description: endpoint.description,
            enabled_events: endpoint.enabled_events.map(words),
            status: endpoint.status.as_ref().map(super::shared::wire_word),
            disabled_reason: endpoint.disabled_reason,
            disabled_at: endpoint.disabled_at,
            consecutive_failures: endpoint.consecutive_failures,
            created_at: endpoint.created_at,
            updated_at: endpoint.updated_at,
        }
    }
}

impl WebhookReport {
    /// One line: id, address, state, events.
    fn summary_line(&self) -> String {
        let reason = self.disabled_reason.as_deref().map(|reason| format!(" ({reason})"));
        format!(
            "webhook_id {}: {} {}{}, events {}",
            self.webhook_id,
            self.url.as_deref().unwrap_or("no address"),
            self.status.as_deref().unwrap_or_default(),
            reason.unwrap_or_default(),
            match self.enabled_events.as_deref() {
                None => "not said".to_owned(),
                Some([]) => "none".to_owned(),
                Some(events) => events.join(" "),
            }
        )
    }

    /// All fields except the times of creation and change.
    fn text(&self) -> String {
        append_fields(
            self.summary_line(),
            [
                ("description", self.description.clone()),
                ("disabled_at", self.disabled_at.as_ref().map(ToString::to_string)),
                ("consecutive_failures", self.consecutive_failures.map(|count| count.to_string())),
            ],
        )
    }
}

/// A line, and the fields that are known below it.
fn append_fields<const N: usize>(line: String, fields: [(&str, Option<String>); N]) -> String {
    fields.into_iter().fold(line, |text, (name, value)| match value {
        Some(value) => format!("{text}\n{name}: {}", text::one_line(&value, 2_048)),
        None => text,
    })
}

/// A delivery, under the names that the tools take.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(inline)]
pub(super) struct DeliveryReport {
    delivery_id: DeliveryId,
    #[serde(skip_serializing_if = "Option::is_none")]
    webhook_id: Option<EndpointId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    call_id: Option<CallId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    event_type: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    url: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    attempt_count: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    manual_retry_count: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_attempt_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_error: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_response_status: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    delivered_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    created_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    updated_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    simulated: bool,
}

impl From<WebhookDelivery> for DeliveryReport {
    fn from(delivery: WebhookDelivery) -> Self {
        Self {
            simulated: text::is_simulated(&delivery.extra),
            delivery_id: delivery.id,
            webhook_id: delivery.endpoint_id,
            call_id: delivery.call_id,
            event_type: delivery.event_type,
            url: delivery.url,
            status: delivery.status.as_ref().map(super::shared::wire_word),
            attempt_count: delivery.attempt_count,
            manual_retry_count: delivery.manual_retry_count,
            next_attempt_at: delivery.next_attempt_at,
            last_error: delivery.last_error,
            last_response_status: delivery.last_response_status,
            delivered_at: delivery.delivered_at,
            created_at: delivery.created_at,
            updated_at: delivery.updated_at,
        }
    }
}

impl DeliveryReport {
    /// One line: ids, event, state, last error.
    fn summary_line(&self) -> String {
        let call = self.call_id.as_ref().map(|id| format!(" of call_id {id}"));
        let webhook = self.webhook_id.as_ref().map(|id| format!(" to webhook_id {id}"));
        let error = self.last_error.as_deref().map(|error| text::one_line(error, 200));
        format!(
            "delivery_id {}: {}{}{} {} after {} attempt(s){}",
            self.delivery_id,
            self.event_type.as_deref().unwrap_or("event"),
            call.unwrap_or_default(),
            webhook.unwrap_or_default(),
            self.status.as_deref().unwrap_or_default(),
            self.attempt_count.unwrap_or_default(),
            error.map(|error| format!(", last error: {error}")).unwrap_or_default()
        )
    }

    /// All fields except the times of creation and change.
    fn text(&self) -> String {
        let to_come = self.status.as_deref() == Some("pending");
        let next_attempt_at = self.next_attempt_at.as_ref().filter(|_| to_come);
        append_fields(
            self.summary_line(),
            [
                ("url", self.url.clone()),
                ("manual_retry_count", self.manual_retry_count.map(|count| count.to_string())),
                ("last_response_status", self.last_response_status.map(|code| code.to_string())),
                ("next_attempt_at", next_attempt_at.map(ToString::to_string)),
                ("delivered_at", self.delivered_at.as_ref().map(ToString::to_string)),
            ],
        )
    }
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
    webhooks: Vec<WebhookReport>,
    has_more: bool,
}

impl Tool for ListWebhooks {
    const NAME: ToolName = ToolName::LIST_WEBHOOKS;
    const TITLE: &'static str = "List webhooks";
    const DESCRIPTION: &'static [Sentence] = &[
        Always(
            "Lists the webhook endpoints that receive the events of all the account's calls, without their secrets.",
        ),
        With(ToolName::GET_WEBHOOK, "get_webhook returns one."),
    ];
    const TOOLSET: Toolset = Toolset::Webhooks;
    const EFFECT: ToolEffect = ToolEffect::Reads;
    const OPEN_WORLD: bool = false;
    type Input = NoInput;
    type Output = ListWebhooksOutput;

    async fn run(NoInput {}: NoInput, cx: &ToolContext) -> Result<Reply<Self::Output>, ToolExit> {
        let page = cx.account.api()?.list_webhooks().await?;
        let has_more = page.has_more;
        let webhooks: Vec<WebhookReport> = page.data.into_iter().map(Into::into).collect();
        let mut text = if webhooks.is_empty() {
            let step = NextStep::tool(ToolName::CREATE_WEBHOOK, "creates one");
            with_steps("There are no webhook endpoints yet.", &[step], &cx.tools)
        } else {
            webhooks.iter().map(|webhook| webhook.summary_line() + "\n").collect()
        };
        if has_more {
            text.push_str(
                "There are more than CallingBox returns in one list; there is no next page.",
            );
        }
        let simulated = webhooks.iter().any(|webhook| webhook.simulated);
        Ok(Reply::new(ListWebhooksOutput { webhooks, has_more }, text).with_simulated(simulated))
    }
}

pub(super) struct GetWebhook;

impl Tool for GetWebhook {
    const NAME: ToolName = ToolName::GET_WEBHOOK;
    const TITLE: &'static str = "Get a webhook";
    const DESCRIPTION: &'static [Sentence] = &[Always(
        "Returns one webhook endpoint: address, events, status with its reason, consecutive failures. Its secret is returned only when it is created or rotated.",
    )];
    const TOOLSET: Toolset = Toolset::Webhooks;
    const EFFECT: ToolEffect = ToolEffect::Reads;
    const OPEN_WORLD: bool = false;
    type Input = WebhookInput;
    type Output = WebhookReport;

    async fn run(input: Self::Input, cx: &ToolContext) -> Result<Reply<Self::Output>, ToolExit> {
        let endpoint = cx.account.api()?.get_webhook(&input.webhook_id).await?;
        let report = WebhookReport::from(endpoint);
        let text = report.text();
        let simulated = report.simulated;
        Ok(Reply::new(report, text).with_simulated(simulated))
    }
}

/// An endpoint with the secret that is shown this once.
#[derive(Serialize, JsonSchema)]
pub(super) struct WebhookSecret {
    webhook_id: EndpointId,
    #[serde(skip_serializing_if = "Option::is_none")]
    url: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    signing_secret: Option<String>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    simulated: bool,
}

impl WebhookSecret {
    fn reply(mut endpoint: WebhookEndpoint, what: &str) -> Reply<Self> {
        let secret = endpoint.signing_secret.take();
        let secret = secret.as_ref().map(SigningSecret::expose);
        let report = WebhookReport::from(endpoint);
        let line = report.summary_line();
        let text = match secret {
            Some(secret) => format!(
                "{what} {line}. Signing secret, shown only now: {secret}. Keep it secret: it can be used to forge events."
            ),
            None => format!("{what} {line}. CallingBox sent no signing secret with it."),
        };
        let WebhookReport { webhook_id, url, simulated, .. } = report;
        let signing_secret = secret.map(str::to_owned);
        let endpoint = Self { webhook_id, url, signing_secret, simulated };
        Reply::new(endpoint, text).with_simulated(simulated)
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
    const NAME: ToolName = ToolName::CREATE_WEBHOOK;
    const TITLE: &'static str = "Create a webhook";
    const DESCRIPTION: &'static [Sentence] = &[Always(
        "Registers an address that receives the events of all the account's calls, with numbers and results in them. Every call ends in exactly one of completed, failed, no_answer, busy, canceled. Returns its signing secret, which is shown only once. For one call or one agent use their webhook_url instead.",
    )];
    const TOOLSET: Toolset = Toolset::Webhooks;
    const EFFECT: ToolEffect = ToolEffect::Writes { destructive: false, idempotent: false };
    const OPEN_WORLD: bool = true;
    type Input = CreateWebhookInput;
    type Output = WebhookSecret;

    async fn run(input: Self::Input, cx: &ToolContext) -> Result<Reply<Self::Output>, ToolExit> {
        let url = input.url.into_string();
        super::shared::check_webhook_hosts(cx, [url.as_str()])?;
        let webhook = WebhookCreate {
            url,
            description: input.description.map(Text::into_string),
            enabled_events: input.enabled_events.map(List::into_vec),
        };
        let endpoint = cx.account.api()?.create_webhook(&webhook).await?;
        Ok(WebhookSecret::reply(endpoint, "Created"))
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
    const NAME: ToolName = ToolName::UPDATE_WEBHOOK;
    const TITLE: &'static str = "Change a webhook";
    const DESCRIPTION: &'static [Sentence] = &[Always(
        "Changes a webhook endpoint, or switches it on or off; what is left out keeps its value. Every call ends in exactly one of completed, failed, no_answer, busy, canceled. Returns the endpoint.",
    )];
    const TOOLSET: Toolset = Toolset::Webhooks;
    const EFFECT: ToolEffect = ToolEffect::Writes { destructive: true, idempotent: true };
    const OPEN_WORLD: bool = true;
    type Input = UpdateWebhookInput;
    type Output = WebhookReport;

    async fn run(input: Self::Input, cx: &ToolContext) -> Result<Reply<Self::Output>, ToolExit> {
        let UpdateWebhookInput { webhook_id, url, description, enabled_events, status } = input;
        let url = url.map(HttpsUrl::into_string);
        super::shared::check_webhook_hosts(cx, url.as_deref())?;
        let update = WebhookUpdate {
            url,
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
                "there is nothing to change: set at least one field besides `webhook_id`",
            )
            .into());
        }
        let endpoint = cx.account.api()?.update_webhook(&webhook_id, &update).await?;
        let report = WebhookReport::from(endpoint);
        let text = format!("Changed {}", report.text());
        let simulated = report.simulated;
        Ok(Reply::new(report, text).with_simulated(simulated))
    }
}

pub(super) struct DeleteWebhook;

#[derive(Serialize, JsonSchema)]
pub(super) struct DeleteWebhookOutput {
    webhook_id: EndpointId,
    deleted: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    simulated: bool,
}

impl Tool for DeleteWebhook {
    const NAME: ToolName = ToolName::DELETE_WEBHOOK;
    const TITLE: &'static str = "Delete a webhook";
    const DESCRIPTION: &'static [Sentence] = &[
        Always("Deletes a webhook endpoint permanently; it receives no more events."),
        With(ToolName::UPDATE_WEBHOOK, "To pause it use update_webhook with status disabled."),
    ];
    const TOOLSET: Toolset = Toolset::Webhooks;
    const EFFECT: ToolEffect = ToolEffect::Writes { destructive: true, idempotent: true };
    const OPEN_WORLD: bool = false;
    type Input = WebhookInput;
    type Output = DeleteWebhookOutput;

    async fn run(input: Self::Input, cx: &ToolContext) -> Result<Reply<Self::Output>, ToolExit> {
        cx.account.api()?.delete_webhook(&input.webhook_id).await?;
        let WebhookInput { webhook_id } = input;
        let simulated = cx.account.environment() == Environment::Sandbox;
        let text = format!("Deleted webhook_id {webhook_id}.");
        Ok(Reply::new(DeleteWebhookOutput { webhook_id, deleted: true, simulated }, text))
    }
}

pub(super) struct RotateWebhookSecret;

impl Tool for RotateWebhookSecret {
    const NAME: ToolName = ToolName::ROTATE_WEBHOOK_SECRET;
    const TITLE: &'static str = "Rotate a webhook's secret";
    const DESCRIPTION: &'static [Sentence] = &[Always(
        "Replaces the signing secret of a webhook endpoint. The old secret stops immediately, so the receiver refuses events until it has the new one. Returns the new secret, shown only once.",
    )];
    const TOOLSET: Toolset = Toolset::Webhooks;
    const EFFECT: ToolEffect = ToolEffect::Writes { destructive: true, idempotent: false };
    const OPEN_WORLD: bool = false;
    type Input = WebhookInput;
    type Output = WebhookSecret;

    async fn run(input: Self::Input, cx: &ToolContext) -> Result<Reply<Self::Output>, ToolExit> {
        let endpoint = cx.account.api()?.rotate_webhook_secret(&input.webhook_id).await?;
        Ok(WebhookSecret::reply(endpoint, "Rotated the secret of"))
    }
}

/// The maximum number of deliveries that the API lists.
const MAX_DELIVERIES: u8 = 200;

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
    /// Number of entries. Default: 50.
    limit: Option<BoundedInteger<1, 200>>,
}

#[derive(Serialize, JsonSchema)]
pub(super) struct ListWebhookDeliveriesOutput {
    deliveries: Vec<DeliveryReport>,
    has_more: bool,
}

impl Tool for ListWebhookDeliveries {
    const NAME: ToolName = ToolName::LIST_WEBHOOK_DELIVERIES;
    const TITLE: &'static str = "List webhook deliveries";
    const DESCRIPTION: &'static [Sentence] = &[
        Always(
            "Lists attempts to deliver call events, newest first, with their errors. Use it to find out why a receiver missed an event.",
        ),
        With(ToolName::REDELIVER_WEBHOOK, "redeliver_webhook sends one again."),
    ];
    const TOOLSET: Toolset = Toolset::Webhooks;
    const EFFECT: ToolEffect = ToolEffect::Reads;
    const OPEN_WORLD: bool = false;
    type Input = ListWebhookDeliveriesInput;
    type Output = ListWebhookDeliveriesOutput;

    async fn run(input: Self::Input, cx: &ToolContext) -> Result<Reply<Self::Output>, ToolExit> {
        let ListWebhookDeliveriesInput { webhook_id, call_id, status, limit } = input;
        let limit = limit.map_or(50, |limit| u8::try_from(limit.get()).unwrap_or(MAX_DELIVERIES));
        let filter = DeliveryFilter {
            endpoint_id: webhook_id,
            call_id,
            status,
            // One additional entry shows whether there are more, if the list itself does not.
            limit: Some(limit.saturating_add(1).min(MAX_DELIVERIES)),
        };
        let page = cx.account.api()?.list_webhook_deliveries(&filter).await?.limit_to(limit.into());
        let has_more = page.has_more;
        let deliveries: Vec<DeliveryReport> = page.data.into_iter().map(Into::into).collect();
        let mut text = if deliveries.is_empty() {
            "No delivery matches. Deliveries exist only for calls with a webhook_url or while a webhook endpoint is enabled.".to_owned()
        } else {
            deliveries.iter().map(|delivery| delivery.summary_line() + "\n").collect()
        };
        if has_more {
            let given = [
                ("webhook_id", filter.endpoint_id.is_some()),
                ("call_id", filter.call_id.is_some()),
                ("status", filter.status.is_some()),
            ];
            let unused: Vec<&str> = given
                .into_iter()
                .filter_map(|(name, is_given)| (!is_given).then_some(name))
                .collect();
            text.push_str(&super::shared::more_results_hint(
                limit < MAX_DELIVERIES,
                "list",
                &unused,
            ));
        }
        let simulated = deliveries.iter().any(|delivery| delivery.simulated);
        let output = ListWebhookDeliveriesOutput { deliveries, has_more };
        Ok(Reply::new(output, text).with_simulated(simulated))
    }
}

pub(super) struct GetWebhookDelivery;

impl Tool for GetWebhookDelivery {
    const NAME: ToolName = ToolName::GET_WEBHOOK_DELIVERY;
    const TITLE: &'static str = "Get a webhook delivery";
    const DESCRIPTION: &'static [Sentence] = &[
        Always(
            "Returns one delivery: event, address, attempts, last error, when the next attempt is due.",
        ),
        With(ToolName::LIST_WEBHOOK_DELIVERIES, "list_webhook_deliveries finds ids."),
    ];
    const TOOLSET: Toolset = Toolset::Webhooks;
    const EFFECT: ToolEffect = ToolEffect::Reads;
    const OPEN_WORLD: bool = false;
    type Input = DeliveryInput;
    type Output = DeliveryReport;

    async fn run(input: Self::Input, cx: &ToolContext) -> Result<Reply<Self::Output>, ToolExit> {
        let delivery = cx.account.api()?.get_webhook_delivery(&input.delivery_id).await?;
        let report = DeliveryReport::from(delivery);
        let text = report.text();
        let simulated = report.simulated;
        Ok(Reply::new(report, text).with_simulated(simulated))
    }
}

pub(super) struct RedeliverWebhook;

impl Tool for RedeliverWebhook {
    const NAME: ToolName = ToolName::REDELIVER_WEBHOOK;
    const TITLE: &'static str = "Deliver a webhook again";
    const DESCRIPTION: &'static [Sentence] = &[Always(
        "Sends one delivery again to its receiver, under the same event id, and counts the attempt. Use it after the receiver was repaired. Returns the delivery.",
    )];
    const TOOLSET: Toolset = Toolset::Webhooks;
    const EFFECT: ToolEffect = ToolEffect::Writes { destructive: false, idempotent: false };
    const OPEN_WORLD: bool = true;
    type Input = DeliveryInput;
    type Output = DeliveryReport;

    async fn run(input: Self::Input, cx: &ToolContext) -> Result<Reply<Self::Output>, ToolExit> {
        let delivery = cx.account.api()?.redeliver_webhook(&input.delivery_id).await?;
        let report = DeliveryReport::from(delivery);
        let text = format!("Queued for another delivery: {}", report.text());
        let simulated = report.simulated;
        Ok(Reply::new(report, text).with_simulated(simulated))
    }
}
