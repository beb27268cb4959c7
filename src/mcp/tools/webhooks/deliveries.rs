//! The tools for webhook deliveries: what was sent to a receiver, and what became of it.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_with::skip_serializing_none;

use super::WebhookRecord;
use crate::mcp::input::arguments::BoundedInteger;
use crate::mcp::reply::next_step::{NextStep, with_steps};
use crate::mcp::reply::text;
use crate::mcp::tool::{
    Always, Reply, Sentence, Tool, ToolContext, ToolEffect, ToolExit, ToolName, With,
};
use crate::mcp::tools::shared::{more_results_hint, take_simulated, wire_word};
use callingbox::{
    ApiClient, CallId, DeliveryFilter, DeliveryId, DeliveryStatus, EndpointId, OpenEnum,
    WebhookDelivery,
};

/// A delivery, under the names that the tools take.
#[skip_serializing_none]
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(inline)]
pub(in crate::mcp::tools) struct DeliveryReport {
    delivery_id: DeliveryId,
    webhook_id: Option<EndpointId>,
    call_id: Option<CallId>,
    event_type: Option<String>,
    url: Option<String>,
    status: Option<String>,
    attempt_count: Option<u64>,
    manual_retry_count: Option<u64>,
    next_attempt_at: Option<String>,
    last_error: Option<String>,
    last_response_status: Option<u64>,
    delivered_at: Option<String>,
    created_at: Option<String>,
    updated_at: Option<String>,
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
            status: delivery.status.as_ref().map(wire_word),
            attempt_count: delivery.attempt_count,
            manual_retry_count: delivery.manual_retry_count,
            next_attempt_at: delivery.next_attempt_at.as_ref().map(text::format_time),
            last_error: delivery.last_error,
            last_response_status: delivery.last_response_status,
            delivered_at: delivery.delivered_at.as_ref().map(text::format_time),
            created_at: delivery.created_at.as_ref().map(text::format_time),
            updated_at: delivery.updated_at.as_ref().map(text::format_time),
        }
    }
}

impl WebhookRecord for DeliveryReport {
    /// One line: ids, event, state, last error.
    fn summary_line(&self) -> String {
        let call = self.call_id.as_ref().map(|id| format!(" of call_id {id}"));
        let webhook = self.webhook_id.as_ref().map(|id| format!(" to webhook_id {id}"));
        let error = self.last_error.as_deref().map(|error| text::one_line(error, 300));
        format!(
            "delivery_id {}: {}{}{} {} after {} attempt(s){}",
            self.delivery_id,
            text::one_line(self.event_type.as_deref().unwrap_or("event"), 100),
            call.unwrap_or_default(),
            webhook.unwrap_or_default(),
            self.status.as_deref().unwrap_or_default(),
            self.attempt_count.unwrap_or_default(),
            error.map(|error| format!(", last error: {error}")).unwrap_or_default()
        )
    }

    fn fields(&self) -> Vec<(&'static str, Option<String>)> {
        let to_come = self.status.as_deref() == Some("pending");
        let next_attempt_at = self.next_attempt_at.as_ref().filter(|_| to_come);
        vec![
            ("url", self.url.clone()),
            ("manual_retry_count", self.manual_retry_count.map(|count| count.to_string())),
            ("last_response_status", self.last_response_status.map(|code| code.to_string())),
            ("next_attempt_at", next_attempt_at.cloned()),
            ("delivered_at", self.delivered_at.clone()),
        ]
    }

    fn is_simulated(&self) -> bool {
        self.simulated
    }
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::mcp::tools) struct DeliveryInput {
    /// The delivery.
    delivery_id: DeliveryId,
}

/// The maximum number of deliveries that the API lists.
const MAX_DELIVERIES: u8 = 200;

pub(in crate::mcp::tools) struct ListWebhookDeliveries;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::mcp::tools) struct ListWebhookDeliveriesInput {
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
pub(in crate::mcp::tools) struct ListWebhookDeliveriesOutput {
    deliveries: Vec<DeliveryReport>,
    has_more: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    simulated: bool,
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
        let mut deliveries: Vec<DeliveryReport> = page.data.into_iter().map(Into::into).collect();
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
            text.push_str(&more_results_hint(limit < MAX_DELIVERIES, "list", &unused));
        }
        let simulated =
            take_simulated(deliveries.iter_mut().map(|delivery| &mut delivery.simulated));
        let output = ListWebhookDeliveriesOutput { deliveries, has_more, simulated };
        Ok(Reply::new(output, text).with_simulated(simulated))
    }
}

pub(in crate::mcp::tools) struct GetWebhookDelivery;

impl Tool for GetWebhookDelivery {
    const NAME: ToolName = ToolName::GET_WEBHOOK_DELIVERY;
    const TITLE: &'static str = "Get a webhook delivery";
    const DESCRIPTION: &'static [Sentence] = &[
        Always(
            "Returns one delivery: event, address, attempts, last error, when the next attempt is due.",
        ),
        With(ToolName::LIST_WEBHOOK_DELIVERIES, "list_webhook_deliveries finds ids."),
    ];
    const EFFECT: ToolEffect = ToolEffect::Reads;
    const OPEN_WORLD: bool = false;
    type Input = DeliveryInput;
    type Output = DeliveryReport;

    async fn run(input: Self::Input, cx: &ToolContext) -> Result<Reply<Self::Output>, ToolExit> {
        let delivery = cx.account.api()?.get_webhook_delivery(&input.delivery_id).await?;
        Ok(DeliveryReport::from(delivery).into_reply(""))
    }
}

pub(in crate::mcp::tools) struct RedeliverWebhook;

/// How long the answer waits for the new attempt, and between two looks at it. A receiver that takes longer is slow.
const ATTEMPT_WAIT: Duration = Duration::from_secs(5);
const ATTEMPT_POLL: Duration = Duration::from_millis(500);

/// The delivery after its new attempt, if that ends in time.
async fn await_attempt(api: &ApiClient, queued: WebhookDelivery) -> (WebhookDelivery, bool) {
    // Not every attempt counts in `attempt_count`, but each has an effect on one of these.
    let outcome = |delivery: &WebhookDelivery| {
        let WebhookDelivery { status, attempt_count, last_error, last_response_status, .. } =
            delivery.clone();
        let next_attempt_at = delivery.next_attempt_at.clone();
        (status, attempt_count, last_error, last_response_status, next_attempt_at)
    };
    let before = outcome(&queued);
    let look = async {
        loop {
            tokio::time::sleep(ATTEMPT_POLL).await;
            match api.get_webhook_delivery(&queued.id).await {
                Ok(delivery) if outcome(&delivery) == before => {}
                Ok(delivery) => return Some(delivery),
                // It was queued, which is what was asked for.
                Err(_) => return None,
            }
        }
    };
    match tokio::time::timeout(ATTEMPT_WAIT, look).await {
        Ok(Some(delivery)) => (delivery, true),
        Ok(None) | Err(_) => (queued, false),
    }
}

impl Tool for RedeliverWebhook {
    const NAME: ToolName = ToolName::REDELIVER_WEBHOOK;
    const TITLE: &'static str = "Deliver a webhook again";
    const DESCRIPTION: &'static [Sentence] = &[Always(
        "Sends one delivery again to its receiver, under the same event id, and counts the attempt. Use it after the receiver was repaired. Returns the delivery.",
    )];
    const EFFECT: ToolEffect = ToolEffect::Writes { destructive: false, idempotent: false };
    const OPEN_WORLD: bool = true;
    type Input = DeliveryInput;
    type Output = DeliveryReport;

    async fn run(input: Self::Input, cx: &ToolContext) -> Result<Reply<Self::Output>, ToolExit> {
        let api = cx.account.api()?;
        let queued = api.redeliver_webhook(&input.delivery_id).await?;
        let (delivery, is_attempted) = await_attempt(api, queued).await;
        let said = match delivery.status {
            Some(OpenEnum::Known(DeliveryStatus::Delivered)) if is_attempted => {
                "Sent again: the receiver accepted it.".to_owned()
            }
            _ if is_attempted => "Sent again: the receiver did not accept it.".to_owned(),
            _ => {
                let step = NextStep::tool(
                    ToolName::GET_WEBHOOK_DELIVERY,
                    "shows whether the receiver accepted it",
                );
                let said = "Queued to be sent again; the attempt has not ended yet.";
                with_steps(said, &[step], &cx.tools)
            }
        };
        let delivery = DeliveryReport::from(delivery);
        let count =
            delivery.manual_retry_count.map(|count| format!(" This is manual retry {count}."));
        Ok(delivery.into_reply(&format!("{said}{}\n", count.unwrap_or_default())))
    }
}
