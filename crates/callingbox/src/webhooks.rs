//! Webhook endpoints and the deliveries to them.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::client::Client;
use super::error::Error;
use super::ids::{CallId, DeliveryId, EndpointId};
use super::key::SigningSecret;
use super::model::{Change, Open, Timestamp, model};
use super::operation::ApiOperation;
use super::page::Page;

/// An event that an endpoint may subscribe to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub enum EventSubscription {
    /// All events.
    #[serde(rename = "*")]
    All,
    /// A call was created and its credit held.
    #[serde(rename = "call.queued")]
    Queued,
    /// The destination rings.
    #[serde(rename = "call.ringing")]
    Ringing,
    /// Picked up.
    #[serde(rename = "call.answered")]
    Answered,
    /// Ended normally, extraction done.
    #[serde(rename = "call.completed")]
    Completed,
    /// Ended by an error.
    #[serde(rename = "call.failed")]
    Failed,
    /// Not picked up, or by a machine.
    #[serde(rename = "call.no_answer")]
    NoAnswer,
    /// Busy.
    #[serde(rename = "call.busy")]
    Busy,
    /// Canceled before it was picked up.
    #[serde(rename = "call.canceled")]
    Canceled,
}

/// Whether an endpoint receives events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum EndpointStatus {
    /// It does.
    Enabled,
    /// It does not.
    Disabled,
}

/// The state of a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum DeliveryStatus {
    /// Waiting for a receiver to answer with 2xx.
    Pending,
    /// Received.
    Delivered,
    /// The last attempt failed.
    Exhausted,
}

impl DeliveryStatus {
    /// The API's own word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Delivered => "delivered",
            Self::Exhausted => "exhausted",
        }
    }
}

model! {
    /// An address that receives the organization's call events.
    pub struct WebhookEndpoint, key id: EndpointId {
        /// Owning organization.
        org_id: Option<String>,
        /// Address that receives the events.
        url: Option<String>,
        /// Note for people.
        description: Option<String>,
        /// Subscribed events; `*` is all.
        enabled_events: Option<Vec<Open<EventSubscription>>>,
        /// Whether it receives events.
        status: Option<Open<EndpointStatus>>,
        /// Why it is off.
        disabled_reason: Option<String>,
        /// When it was switched off.
        disabled_at: Option<Timestamp>,
        /// Exhausted deliveries in a row; ten switch it off.
        consecutive_failures: Option<u64>,
        /// When it was made.
        created_at: Option<Timestamp>,
        /// When it was last changed.
        updated_at: Option<Timestamp>,
        /// What signs its deliveries; shown once, on creation and rotation.
        signing_secret: Option<SigningSecret>,
    }
}

model! {
    /// One event on its way to one address.
    pub struct WebhookDelivery, key id: DeliveryId {
        /// Owning organization.
        org_id: Option<String>,
        /// Target endpoint; absent when the event went to a `webhook_url`.
        endpoint_id: Option<EndpointId>,
        /// The call that the event is about.
        call_id: Option<CallId>,
        /// What happened.
        event_type: Option<String>,
        /// Address as it stood when the delivery was queued.
        url: Option<String>,
        /// State of the delivery.
        status: Option<Open<DeliveryStatus>>,
        /// Automatic attempts so far.
        attempt_count: Option<u64>,
        /// Replays so far.
        manual_retry_count: Option<u64>,
        /// When the next attempt is due.
        next_attempt_at: Option<Timestamp>,
        /// Error of the last attempt.
        last_error: Option<String>,
        /// HTTP status of the last attempt.
        last_response_status: Option<u64>,
        /// First success.
        delivered_at: Option<Timestamp>,
        /// When it was queued.
        created_at: Option<Timestamp>,
        /// When it was last changed.
        updated_at: Option<Timestamp>,
    }
}

/// A new webhook endpoint. Absent fields are not sent.
#[derive(Clone, PartialEq, Eq, Serialize)]
pub struct WebhookCreate {
    /// Public HTTPS address.
    pub url: String,
    /// Note for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Events to subscribe to; all when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enabled_events: Option<Vec<EventSubscription>>,
}

/// What to change about an endpoint. Only what is set or cleared is sent.
#[derive(Clone, PartialEq, Eq, Default, Serialize)]
pub struct WebhookUpdate {
    /// New address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// New note.
    #[serde(skip_serializing_if = "Change::is_keep")]
    pub description: Change<String>,
    /// New subscription, in place of the old one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enabled_events: Option<Vec<EventSubscription>>,
    /// On or off; on resets the failure count.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<EndpointStatus>,
}

/// Without the address, which may hold a secret.
impl fmt::Debug for WebhookCreate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let events = &self.enabled_events;
        f.debug_struct("WebhookCreate").field("enabled_events", events).finish_non_exhaustive()
    }
}

/// Without the address, which may hold a secret.
impl fmt::Debug for WebhookUpdate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebhookUpdate").field("status", &self.status).finish_non_exhaustive()
    }
}

/// Which deliveries to list. Absent fields are not sent.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DeliveryFilter {
    /// To this endpoint.
    pub endpoint_id: Option<EndpointId>,
    /// About this call.
    pub call_id: Option<CallId>,
    /// In this state.
    pub status: Option<DeliveryStatus>,
    /// How many at most, up to 200; 50 when absent.
    pub limit: Option<u8>,
}

impl Client {
    /// Makes an endpoint. The answer alone holds its signing secret.
    ///
    /// # Errors
    /// [`Error`]; with [`super::Effect::Unknown`] the endpoint may exist.
    pub async fn create_webhook(&self, webhook: &WebhookCreate) -> Result<WebhookEndpoint, Error> {
        self.send_json(ApiOperation::CreateWebhook, &[], webhook).await?.one()
    }

    /// The organization's endpoints. There is no next page to ask for.
    ///
    /// # Errors
    /// [`Error`] when no readable list comes back.
    pub async fn list_webhooks(&self) -> Result<Page<WebhookEndpoint>, Error> {
        self.get(ApiOperation::ListWebhooks, &[], &[]).await?.page()
    }

    /// One endpoint.
    ///
    /// # Errors
    /// [`Error`] when there is none with this id, or no readable answer comes back.
    pub async fn get_webhook(&self, id: &EndpointId) -> Result<WebhookEndpoint, Error> {
        self.get(ApiOperation::GetWebhook, &[id.as_str()], &[]).await?.one()
    }

    /// Changes an endpoint.
    ///
    /// # Errors
    /// [`Error`] when the API refuses or no readable answer comes back.
    pub async fn update_webhook(
        &self,
        id: &EndpointId,
        update: &WebhookUpdate,
    ) -> Result<WebhookEndpoint, Error> {
        let answer = self.send_json(ApiOperation::UpdateWebhook, &[id.as_str()], update).await?;
        match answer.the(|endpoint: &WebhookEndpoint| endpoint.id == *id) {
            Ok(endpoint) => Ok(endpoint),
            Err(unreadable) => self.get_webhook(id).await.map_err(|_| unreadable),
        }
    }

    /// Deletes an endpoint. Any success will do: what it answers is not documented.
    ///
    /// # Errors
    /// [`Error`] when the API refuses or no answer comes back.
    pub async fn delete_webhook(&self, id: &EndpointId) -> Result<(), Error> {
        match self.send(ApiOperation::DeleteWebhook, &[id.as_str()]).await {
            Err(error) if error.is_own_removal() => Ok(()),
            other => other.map(drop),
        }
    }

    /// Replaces an endpoint's signing secret; the old one stops at once. The answer alone holds the
    /// new one.
    ///
    /// # Errors
    /// [`Error`]; with [`super::Effect::Unknown`] the old secret may be gone.
    pub async fn rotate_webhook_secret(&self, id: &EndpointId) -> Result<WebhookEndpoint, Error> {
        self.send(ApiOperation::RotateWebhookSecret, &[id.as_str()]).await?.one()
    }

    /// Deliveries, newest first. There is no next page to ask for.
    ///
    /// # Errors
    /// [`Error`] when no readable list comes back.
    pub async fn list_webhook_deliveries(
        &self,
        filter: &DeliveryFilter,
    ) -> Result<Page<WebhookDelivery>, Error> {
        let query: Vec<_> = [
            ("endpoint_id", filter.endpoint_id.as_ref().map(ToString::to_string)),
            ("call_id", filter.call_id.as_ref().map(ToString::to_string)),
            ("status", filter.status.map(|status| status.as_str().to_owned())),
            ("limit", filter.limit.map(|limit| limit.to_string())),
        ]
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)))
        .collect();
        self.get(ApiOperation::ListWebhookDeliveries, &[], &query).await?.page()
    }

    /// One delivery.
    ///
    /// # Errors
    /// [`Error`] when there is none with this id, or no readable answer comes back.
    pub async fn get_webhook_delivery(&self, id: &DeliveryId) -> Result<WebhookDelivery, Error> {
        self.get(ApiOperation::GetWebhookDelivery, &[id.as_str()], &[]).await?.one()
    }

    /// Sends a delivery again, under the same id.
    ///
    /// # Errors
    /// [`Error`]; with [`super::Effect::Unknown`] it may be under way.
    pub async fn redeliver_webhook(&self, id: &DeliveryId) -> Result<WebhookDelivery, Error> {
        self.send(ApiOperation::RedeliverWebhook, &[id.as_str()]).await?.one()
    }
}
