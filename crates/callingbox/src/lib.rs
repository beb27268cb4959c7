//! The typed client of the CallingBox REST API. Knows HTTP and the contract, nothing of MCP.
//!
//! [`Client`] has one method for each endpoint; models and endpoints stand together, one file for
//! each resource. Answers are read leniently ([`model`]), requests are written strictly, failures say
//! what became of the request ([`Error`]), and [`retry`] alone decides what is asked twice.
#![warn(missing_docs)]

pub mod agents;
pub mod calls;
mod client;
pub mod config;
pub mod e164;
pub mod error;
pub mod error_ext;
pub mod http_client;
pub mod ids;
pub mod key;
pub mod metrics;
pub mod model;
pub mod money;
pub mod numbers;
pub mod operation;
pub mod page;
pub mod probe;
mod redact;
mod refusal;

pub mod retry;
pub mod tls;
pub mod webhooks;

pub use agents::{
    Agent, AgentCreate, AgentType, AgentUpdate, BuiltinTool, HttpTool, InCallTool, ReturnType,
    ReturnsSchema, ToolPolicy, VoicemailAction,
};
pub use calls::{
    Call, CallCreate, CallDirection, CallStatus, CallWebhookStatus, ReservationStatus,
    ResultStatus, Transcript, TranscriptSegment,
};
pub use client::Client;
pub use config::{BaseUrl, ClientConfig, InvalidBaseUrl, Timeouts};
pub use error::{Effect, Error, ErrorKind, Phase};
pub use ids::{AgentId, CallId, DeliveryId, EndpointId, NumberId};
pub use key::{ApiKey, InvalidKey, SigningSecret};
pub use model::{Change, Open, Timestamp};
pub use numbers::{AvailableNumber, NumberSearch, NumberType, PhoneNumber};
pub use operation::{ApiOperation, Method};
pub use page::{Cursor, Page, PageRequest};
pub use probe::Probe;
pub use redact::redact;
pub use refusal::clean;

pub use retry::RetryPolicy;
pub use webhooks::{
    DeliveryFilter, DeliveryStatus, EndpointStatus, EventSubscription, WebhookCreate,
    WebhookDelivery, WebhookEndpoint, WebhookUpdate,
};
