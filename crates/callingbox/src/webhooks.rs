//! Webhook endpoints and the deliveries to them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use serde_with::skip_serializing_none;

use crate::client::ApiClient;
use crate::error::Error;
use crate::ids::{CallId, DeliveryId, EndpointId};
use crate::key::SigningSecret;
use crate::lenient::lenient_record;
use crate::model::{Change, OpenEnum, Timestamp, debug_fields};
use crate::operation::ApiOperation;
use crate::page::Page;

/// An event that an endpoint can subscribe to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub enum EventSubscription {
    /// All events.
    #[serde(rename = "*")]
    All,
    /// A call was created, and credit is held for it.
    #[serde(rename = "call.queued")]
    Queued,
    /// The callee's telephone rings.
    #[serde(rename = "call.ringing")]
    Ringing,
    /// The call was answered.
    #[serde(rename = "call.answered")]
    Answered,
    /// The call ended normally, and its results are extracted.
    #[serde(rename = "call.completed")]
    Completed,
    /// An error ended the call.
    #[serde(rename = "call.failed")]
    Failed,
    /// The call was not answered, or answered by a machine.
    #[serde(rename = "call.no_answer")]
    NoAnswer,
    /// The line was busy.
    #[serde(rename = "call.busy")]
    Busy,
    /// The call was canceled before it was answered.
    #[serde(rename = "call.canceled")]
    Canceled,
}

/// Whether an endpoint receives events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum EndpointStatus {
    /// It receives events.
    Enabled,
    /// It receives none.
    Disabled,
}

/// The status of a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum DeliveryStatus {
    /// The receiver has not answered with a 2xx status yet.
    Pending,
    /// The receiver answered with a 2xx status.
    Delivered,
    /// All eight attempts failed.
    Exhausted,
}

impl DeliveryStatus {
    /// The word on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Delivered => "delivered",
            Self::Exhausted => "exhausted",
        }
    }
}

/// A URL that receives the organization's call events. Every field but the id may be absent.
#[skip_serializing_none]
#[derive(Clone, PartialEq, Serialize, JsonSchema)]
pub struct WebhookEndpoint {
    /// The id.
    pub id: EndpointId,
    /// The organization that owns it.
    pub org_id: Option<String>,
    /// The URL that receives the events.
    pub url: Option<String>,
    /// A note for its users.
    pub description: Option<String>,
    /// The subscribed events; `*` stands for all.
    pub enabled_events: Option<Vec<OpenEnum<EventSubscription>>>,
    /// Whether it receives events.
    pub status: Option<OpenEnum<EndpointStatus>>,
    /// Why it is disabled.
    pub disabled_reason: Option<String>,
    /// When it was disabled.
    pub disabled_at: Option<Timestamp>,
    /// Exhausted deliveries in a row. After ten, CallingBox disables the endpoint.
    pub consecutive_failures: Option<u64>,
    /// When it was created.
    pub created_at: Option<Timestamp>,
    /// When it was last changed.
    pub updated_at: Option<Timestamp>,
    /// The secret that signs its deliveries. The API sends it only when it creates or rotates the secret.
    pub signing_secret: Option<SigningSecret>,
    /// Fields that are unknown or do not fit their type, as they came.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

lenient_record!(WebhookEndpoint {
    id;
    org_id, url, description, enabled_events, status, disabled_reason, disabled_at,
    consecutive_failures, created_at, updated_at, signing_secret,
});

/// The delivery of an event to a URL. Every field but the id may be absent.
#[skip_serializing_none]
#[derive(Clone, PartialEq, Serialize, JsonSchema)]
pub struct WebhookDelivery {
    /// The id.
    pub id: DeliveryId,
    /// The organization that owns it.
    pub org_id: Option<String>,
    /// The endpoint. Absent if the event went to the `webhook_url` of an agent or a call.
    pub endpoint_id: Option<EndpointId>,
    /// The call that the event is about.
    pub call_id: Option<CallId>,
    /// The type of the event, such as `call.completed`.
    pub event_type: Option<String>,
    /// The URL, as it was when the delivery was queued.
    pub url: Option<String>,
    /// Its status.
    pub status: Option<OpenEnum<DeliveryStatus>>,
    /// The number of automatic attempts.
    pub attempt_count: Option<u64>,
    /// The number of replays.
    pub manual_retry_count: Option<u64>,
    /// When the next attempt is due.
    pub next_attempt_at: Option<Timestamp>,
    /// The error of the last attempt.
    pub last_error: Option<String>,
    /// The HTTP status of the last attempt.
    pub last_response_status: Option<u64>,
    /// When it first succeeded.
    pub delivered_at: Option<Timestamp>,
    /// When it was queued.
    pub created_at: Option<Timestamp>,
    /// When it was last changed.
    pub updated_at: Option<Timestamp>,
    /// Fields that are unknown or do not fit their type, as they came.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

lenient_record!(WebhookDelivery {
    id;
    org_id, endpoint_id, call_id, event_type, url, status, attempt_count, manual_retry_count,
    next_attempt_at, last_error, last_response_status, delivered_at, created_at, updated_at,
});

/// A new webhook endpoint. Absent fields are not sent.
#[skip_serializing_none]
#[derive(Clone, PartialEq, Eq, Serialize)]
pub struct WebhookCreate {
    /// The URL that receives the events: public, and `https`.
    pub url: String,
    /// A note for its users.
    pub description: Option<String>,
    /// The events to subscribe to; all if absent.
    pub enabled_events: Option<Vec<EventSubscription>>,
}

/// Changes to an endpoint. Fields that are neither set nor cleared are not sent.
#[skip_serializing_none]
#[derive(Clone, PartialEq, Eq, Default, Serialize)]
pub struct WebhookUpdate {
    /// The new URL.
    pub url: Option<String>,
    /// The new note.
    #[serde(skip_serializing_if = "Change::is_keep")]
    pub description: Change<String>,
    /// The new events, in place of all old ones.
    pub enabled_events: Option<Vec<EventSubscription>>,
    /// The new status. Enabling an endpoint resets its failure count.
    pub status: Option<EndpointStatus>,
}

// Leaves out the URL, which may hold a secret.
debug_fields!(WebhookCreate { enabled_events });

// Leaves out the URL, which may hold a secret.
debug_fields!(WebhookUpdate { status });

/// Which deliveries to list. Absent fields are not sent.
#[skip_serializing_none]
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct DeliveryFilter {
    /// Only those to this endpoint.
    pub endpoint_id: Option<EndpointId>,
    /// Only those about this call.
    pub call_id: Option<CallId>,
    /// Only those with this status.
    pub status: Option<DeliveryStatus>,
    /// The largest number of results, 1 to 200; 50 if absent.
    pub limit: Option<u8>,
}

impl ApiClient {
    /// Creates an endpoint (`POST /v1/webhook_endpoints`). Only this response holds its signing secret.
    ///
    /// # Errors
    /// [`Error`]. With [`crate::Effect::Unknown`] the endpoint may exist.
    pub async fn create_webhook(&self, webhook: &WebhookCreate) -> Result<WebhookEndpoint, Error> {
        self.send_json(ApiOperation::CreateWebhook, &[], webhook).await?.record()
    }

    /// Lists the organization's endpoints (`GET /v1/webhook_endpoints`). The list has no further pages.
    ///
    /// # Errors
    /// [`Error`] if no readable list comes back.
    pub async fn list_webhooks(&self) -> Result<Page<WebhookEndpoint>, Error> {
        self.get(ApiOperation::ListWebhooks, &[], &()).await?.page()
    }

    /// Fetches an endpoint (`GET /v1/webhook_endpoints/{id}`).
    ///
    /// # Errors
    /// [`Error`] if there is no such endpoint, or no readable response comes back.
    pub async fn get_webhook(&self, id: &EndpointId) -> Result<WebhookEndpoint, Error> {
        self.get(ApiOperation::GetWebhook, &[id.as_str()], &()).await?.record()
    }

    /// Changes an endpoint (`PATCH /v1/webhook_endpoints/{id}`).
    ///
    /// # Errors
    /// [`Error`] if the API rejects the change, or no readable response comes back.
    pub async fn update_webhook(
        &self,
        id: &EndpointId,
        update: &WebhookUpdate,
    ) -> Result<WebhookEndpoint, Error> {
        let response = self.send_json(ApiOperation::UpdateWebhook, &[id.as_str()], update).await?;
        match response.record_matching(|endpoint: &WebhookEndpoint| endpoint.id == *id) {
            Ok(endpoint) => Ok(endpoint),
            Err(unreadable) => self.get_webhook(id).await.map_err(|_| unreadable),
        }
    }

    /// Deletes an endpoint (`DELETE /v1/webhook_endpoints/{id}`). The body of the response is not documented and not read.
    ///
    /// # Errors
    /// [`Error`] if the API rejects the request, or no response comes back.
    pub async fn delete_webhook(&self, id: &EndpointId) -> Result<(), Error> {
        match self.send(ApiOperation::DeleteWebhook, &[id.as_str()]).await {
            Err(error) if error.is_repeated_delete() => Ok(()),
            other => other.map(drop),
        }
    }

    /// Replaces an endpoint's signing secret (`POST /v1/webhook_endpoints/{id}/rotate_secret`). The old one is invalid
    /// immediately, and only this response holds the new one.
    ///
    /// # Errors
    /// [`Error`]. With [`crate::Effect::Unknown`] the old secret may be invalid.
    pub async fn rotate_webhook_secret(&self, id: &EndpointId) -> Result<WebhookEndpoint, Error> {
        self.send(ApiOperation::RotateWebhookSecret, &[id.as_str()]).await?.record()
    }

    /// Lists deliveries, the newest first (`GET /v1/webhook_deliveries`). The list has no further pages.
    ///
    /// # Errors
    /// [`Error`] if no readable list comes back.
    pub async fn list_webhook_deliveries(
        &self,
        filter: &DeliveryFilter,
    ) -> Result<Page<WebhookDelivery>, Error> {
        self.get(ApiOperation::ListWebhookDeliveries, &[], filter).await?.page()
    }

    /// Fetches a delivery (`GET /v1/webhook_deliveries/{id}`).
    ///
    /// # Errors
    /// [`Error`] if there is no such delivery, or no readable response comes back.
    pub async fn get_webhook_delivery(&self, id: &DeliveryId) -> Result<WebhookDelivery, Error> {
        self.get(ApiOperation::GetWebhookDelivery, &[id.as_str()], &()).await?.record()
    }

    /// Sends a delivery again under the same id (`POST /v1/webhook_deliveries/{id}/redeliver`).
    ///
    /// # Errors
    /// [`Error`]. With [`crate::Effect::Unknown`] it may be on its way.
    pub async fn redeliver_webhook(&self, id: &DeliveryId) -> Result<WebhookDelivery, Error> {
        self.send(ApiOperation::RedeliverWebhook, &[id.as_str()]).await?.record()
    }
}
