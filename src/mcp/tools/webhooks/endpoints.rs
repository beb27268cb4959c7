//! The tools for webhook endpoints: where CallingBox sends the events of all calls.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_with::skip_serializing_none;

use super::WebhookRecord;
use crate::account::Environment;
use crate::mcp::input::arguments::{HttpsUrl, List, Text};
use crate::mcp::reply::error::ToolError;
use crate::mcp::reply::text;
use crate::mcp::tool::{
    Always, Reply, Sentence, Tool, ToolContext, ToolEffect, ToolExit, ToolName, With,
};
use crate::mcp::tools::shared::{NoInput, check_webhook_hosts, take_simulated, wire_word};
use callingbox::{
    Change, EndpointId, EndpointStatus, EventSubscription, SigningSecret, WebhookCreate,
    WebhookEndpoint, WebhookUpdate,
};

/// A webhook endpoint, under the names that the tools take.
#[skip_serializing_none]
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(inline)]
pub(in crate::mcp::tools) struct WebhookReport {
    webhook_id: EndpointId,
    url: Option<String>,
    description: Option<String>,
    enabled_events: Option<Vec<String>>,
    status: Option<String>,
    disabled_reason: Option<String>,
    disabled_at: Option<String>,
    consecutive_failures: Option<u64>,
    created_at: Option<String>,
    updated_at: Option<String>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    simulated: bool,
}

impl From<WebhookEndpoint> for WebhookReport {
    fn from(endpoint: WebhookEndpoint) -> Self {
        let words = |events: Vec<_>| events.iter().map(wire_word).collect();
        Self {
            simulated: text::is_simulated(&endpoint.extra),
            webhook_id: endpoint.id,
            url: endpoint.url,
            description: endpoint.description,
            enabled_events: endpoint.enabled_events.map(words),
            status: endpoint.status.as_ref().map(wire_word),
            disabled_reason: endpoint.disabled_reason,
            disabled_at: endpoint.disabled_at.as_ref().map(text::format_time),
            consecutive_failures: endpoint.consecutive_failures,
            created_at: endpoint.created_at.as_ref().map(text::format_time),
            updated_at: endpoint.updated_at.as_ref().map(text::format_time),
        }
    }
}

impl WebhookRecord for WebhookReport {
    /// One line: id, address, state, events.
    fn summary_line(&self) -> String {
        let reason = self.disabled_reason.as_deref();
        let reason = reason.map(|reason| format!(" ({})", text::one_line(reason, 200)));
        format!(
            "webhook_id {}: {} {}{}, events {}",
            self.webhook_id,
            text::one_line(self.url.as_deref().unwrap_or("no address"), 2_048),
            self.status.as_deref().unwrap_or_default(),
            reason.unwrap_or_default(),
            match self.enabled_events.as_deref() {
                None => "not said".to_owned(),
                Some([]) => "none".to_owned(),
                Some(events) => events.join(" "),
            }
        )
    }

    fn fields(&self) -> Vec<(&'static str, Option<String>)> {
        vec![
            ("description", self.description.clone()),
            ("disabled_at", self.disabled_at.clone()),
            ("consecutive_failures", self.consecutive_failures.map(|count| count.to_string())),
        ]
    }

    fn is_simulated(&self) -> bool {
        self.simulated
    }
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::mcp::tools) struct WebhookInput {
    /// The webhook endpoint.
    webhook_id: EndpointId,
}

pub(in crate::mcp::tools) struct ListWebhooks;

#[derive(Serialize, JsonSchema)]
pub(in crate::mcp::tools) struct ListWebhooksOutput {
    webhooks: Vec<WebhookReport>,
    has_more: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    simulated: bool,
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
    const EFFECT: ToolEffect = ToolEffect::Reads;
    const OPEN_WORLD: bool = false;
    type Input = NoInput;
    type Output = ListWebhooksOutput;

    async fn run(NoInput {}: NoInput, cx: &ToolContext) -> Result<Reply<Self::Output>, ToolExit> {
        let page = cx.account.api()?.list_webhooks().await?;
        let has_more = page.has_more;
        let mut webhooks: Vec<WebhookReport> = page.data.into_iter().map(Into::into).collect();
        let mut text = if webhooks.is_empty() {
            "There are no webhook endpoints.".to_owned()
        } else {
            webhooks.iter().map(|webhook| webhook.summary_line() + "\n").collect()
        };
        if has_more {
            text.push_str(
                "There are more than CallingBox returns in one list; there is no next page.",
            );
        }
        let simulated = take_simulated(webhooks.iter_mut().map(|webhook| &mut webhook.simulated));
        let output = ListWebhooksOutput { webhooks, has_more, simulated };
        Ok(Reply::new(output, text).with_simulated(simulated))
    }
}

pub(in crate::mcp::tools) struct GetWebhook;

impl Tool for GetWebhook {
    const NAME: ToolName = ToolName::GET_WEBHOOK;
    const TITLE: &'static str = "Get a webhook";
    const DESCRIPTION: &'static [Sentence] = &[Always(
        "Returns one webhook endpoint: address, events, status with its reason, consecutive failures. Its secret is returned only when it is created or rotated.",
    )];
    const EFFECT: ToolEffect = ToolEffect::Reads;
    const OPEN_WORLD: bool = false;
    type Input = WebhookInput;
    type Output = WebhookReport;

    async fn run(input: Self::Input, cx: &ToolContext) -> Result<Reply<Self::Output>, ToolExit> {
        let endpoint = cx.account.api()?.get_webhook(&input.webhook_id).await?;
        Ok(WebhookReport::from(endpoint).into_reply(""))
    }
}

/// An endpoint with the secret that is shown this once.
#[skip_serializing_none]
#[derive(Serialize, JsonSchema)]
pub(in crate::mcp::tools) struct WebhookSecret {
    webhook_id: EndpointId,
    url: Option<String>,
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

pub(in crate::mcp::tools) struct CreateWebhook;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::mcp::tools) struct CreateWebhookInput {
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
    const EFFECT: ToolEffect = ToolEffect::Writes { destructive: false, idempotent: false };
    const OPEN_WORLD: bool = true;
    type Input = CreateWebhookInput;
    type Output = WebhookSecret;

    async fn run(input: Self::Input, cx: &ToolContext) -> Result<Reply<Self::Output>, ToolExit> {
        let url = input.url.into_string();
        check_webhook_hosts(cx, [url.as_str()])?;
        let webhook = WebhookCreate {
            url,
            description: input.description.map(Text::into_string),
            enabled_events: input.enabled_events.map(List::into_vec),
        };
        let endpoint = cx.account.api()?.create_webhook(&webhook).await?;
        Ok(WebhookSecret::reply(endpoint, "Created"))
    }
}

pub(in crate::mcp::tools) struct UpdateWebhook;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::mcp::tools) struct UpdateWebhookInput {
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
    const EFFECT: ToolEffect = ToolEffect::Writes { destructive: true, idempotent: true };
    const OPEN_WORLD: bool = true;
    type Input = UpdateWebhookInput;
    type Output = WebhookReport;

    async fn run(input: Self::Input, cx: &ToolContext) -> Result<Reply<Self::Output>, ToolExit> {
        let UpdateWebhookInput { webhook_id, url, description, enabled_events, status } = input;
        let url = url.map(HttpsUrl::into_string);
        check_webhook_hosts(cx, url.as_deref())?;
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
        Ok(WebhookReport::from(endpoint).into_reply("Changed "))
    }
}

pub(in crate::mcp::tools) struct DeleteWebhook;

#[derive(Serialize, JsonSchema)]
pub(in crate::mcp::tools) struct DeleteWebhookOutput {
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

pub(in crate::mcp::tools) struct RotateWebhookSecret;

impl Tool for RotateWebhookSecret {
    const NAME: ToolName = ToolName::ROTATE_WEBHOOK_SECRET;
    const TITLE: &'static str = "Rotate a webhook's secret";
    const DESCRIPTION: &'static [Sentence] = &[Always(
        "Replaces the signing secret of a webhook endpoint. The old secret stops immediately, so the receiver refuses events until it has the new one. Returns the new secret, shown only once.",
    )];
    const EFFECT: ToolEffect = ToolEffect::Writes { destructive: true, idempotent: false };
    const OPEN_WORLD: bool = false;
    type Input = WebhookInput;
    type Output = WebhookSecret;

    async fn run(input: Self::Input, cx: &ToolContext) -> Result<Reply<Self::Output>, ToolExit> {
        let endpoint = cx.account.api()?.rotate_webhook_secret(&input.webhook_id).await?;
        Ok(WebhookSecret::reply(endpoint, "Rotated the secret of"))
    }
}
